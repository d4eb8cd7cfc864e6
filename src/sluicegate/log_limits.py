"""What the log and whoever reads it may take: fixed numbers, each with its unit and its reason.

``audit`` and operators' commands use them. The invariant: what asks the log costs time that grows
with what is read, and with nothing else.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CHECKPOINT_RECORDS_MAX",
    "CHECKPOINT_S",
    "LOG_ROTATION_LOOK_S",
    "PARTITION_BYTES_MAX",
    "POSTGRES_ANALYZE_RECORDS",
    "POSTGRES_CONNECT_S",
    "POSTGRES_LOCK_S",
    "POSTGRES_QUESTION_S",
    "POSTGRES_SILENCE_S",
    "POSTGRES_VALUE_CHARACTERS_MAX",
    "POSTGRES_WORDS_MAX",
    "POSTGRES_WORD_CHARACTERS_MAX",
    "QUERY_BYTES_MAX",
    "QUERY_DEPTH_MAX",
    "QUERY_STARS_MAX",
    "QUERY_TERMS_MAX",
    "QUERY_VALUES_MAX",
    "RECORD_LINE_BYTES_MAX",
    "SEARCH_FIRST_RECORDS",
    "SEARCH_INDEXED_RECORDS",
    "SEARCH_SLICE_RECORDS",
    "SEARCH_TERMS_MAX",
    "SINK_ANSWER_BYTES_MAX",
    "SINK_END_S",
    "SINK_LOOK_S",
    "SINK_TIMEOUT_S",
    "STORE_BATCH_RECORDS_MAX",
    "STORE_CACHE_BYTES",
    "STORE_KEYS_KNOWN_MAX",
    "STORE_LOOK_S",
    "STORE_READ_BYTES_MAX",
    "STORE_REPORT_S",
    "STORE_RETAIN_S",
    "STORE_RETRY_MAX_S",
    "STORE_RETRY_S",
    "STORE_WAIT_MS",
    "TERMS_KNOWN_MAX",
    "TOTALS_VALUES_MAX",
    "TRACE_STEPS_PER_S_MAX",
    "WORDS_KNOWN_MAX",
]

QUERY_BYTES_MAX: Final = 4096
"""The text of one query: more than anybody writes, and it fits into a URL."""

QUERY_TERMS_MAX: Final = 64
"""Comparisons and words of one query: each is tried on every record that is read."""

QUERY_VALUES_MAX: Final = 256
"""Values that one comparison lists: the clients of a small office."""

QUERY_DEPTH_MAX: Final = 16
"""Parentheses and negations inside one another: no reader of a query goes deeper on its stack."""

QUERY_STARS_MAX: Final = 4
"""Stars in one value: a database tries every way to place them."""

PARTITION_BYTES_MAX: Final = 2 << 30
"""One file of the store, some four million records: what is let go at a time, and small enough to
be copied away."""

LOG_ROTATION_LOOK_S: Final = 2.0
"""How often the gate looks whether the log's file is too large or too old, or stored: as often as
the store says how far it is."""

STORE_READ_BYTES_MAX: Final = 2 << 20
"""What is read of the log at a time: some three thousand records, and more than the longest."""

STORE_BATCH_RECORDS_MAX: Final = 2_000
"""Records of one transaction: what is lost with a store's process, and read again."""

STORE_LOOK_S: Final = 0.25
"""How often the store looks for new records: as old are pages that follow it, at most."""

STORE_RETAIN_S: Final = 600.0
"""How often the store looks whether something is too old or too much."""

STORE_REPORT_S: Final = 2.0
"""How often the store says how far it is."""

STORE_RETRY_S: Final = 1.0
"""How long after a failure the store tries again, and each time after twice as long."""

STORE_RETRY_MAX_S: Final = 30.0
"""The most between two attempts: a disk that has room again is noticed."""

STORE_CACHE_BYTES: Final = 64 << 20
"""Pages that the writer of the store keeps in memory: the upper levels of its indexes."""

STORE_KEYS_KNOWN_MAX: Final = 65_536
"""Addresses whose keys the writer remembers; beyond it, it begins anew."""

STORE_WAIT_MS: Final = 10_000
"""How long one waits for another one that writes: a batch takes a tenth of a second."""

POSTGRES_CONNECT_S: Final = 10
"""How long a PostgreSQL server may take to let us in."""

POSTGRES_SILENCE_S: Final = 20
"""How long one may say nothing at all, not even that it got something, before it counts as gone."""

POSTGRES_QUESTION_S: Final = 60
"""How long one may work on a statement: a slice of a search takes a second where it is slow."""

POSTGRES_LOCK_S: Final = 10
"""How long we wait for somebody who holds our tables, a copy being made of them, say."""

POSTGRES_ANALYZE_RECORDS: Final = 20_000
"""Records of a partition with which the server looks what is in it, and again at four times as
many: a plan for an empty table reads all of a full one."""

POSTGRES_WORDS_MAX: Final = 255
"""Words of a record that its index of words takes: of one word it keeps so many places."""

POSTGRES_WORD_CHARACTERS_MAX: Final = 500
"""The longest word that the index takes: 2,000 bytes, of the 2,046 of a lexeme."""

POSTGRES_VALUE_CHARACTERS_MAX: Final = 500
"""Of a client, a host or a reason that an hour counts: an entry of an index has 2,700 bytes."""

RECORD_LINE_BYTES_MAX: Final = 1 << 20
"""One line of the log: a record with the longest names that parsers let pass, many times over."""

CHECKPOINT_RECORDS_MAX: Final = 100_000
"""Records that no signature covers yet, at most about."""

CHECKPOINT_S: Final = 60.0
"""How long records go without a signature while there are new ones."""

TOTALS_VALUES_MAX: Final = 5_000
"""Clients, hosts and the like that one hour counts by their names; the others are counted together.
Random names of one client must not fill the disk."""

TERMS_KNOWN_MAX: Final = 4096
"""Hosts and users of which the store remembers how its index finds them."""

WORDS_KNOWN_MAX: Final = 1024
"""Texts of records of which the store remembers the words."""

SEARCH_SLICE_RECORDS: Final = 200_000
"""Records that a search looks through before it looks at the clock: some tenths of a second where
nothing but the records themselves can tell."""

SEARCH_FIRST_RECORDS: Final = 20_000
"""The newest records of a day, which are looked through before anything else is tried: what many
records have is found among them in some milliseconds, and what is not is rare."""

SEARCH_INDEXED_RECORDS: Final = 10_000
"""Records that an index finds, at most, to be looked at one by one: a tenth of a second. Where it
would be more, going through all in their order is cheaper."""

SEARCH_TERMS_MAX: Final = 256
"""Clients, networks or hosts that are looked for at once by the index of words: all addresses of a
network of IPv4 with 24 bits. It looks at each of them for every record that it finds."""

SINK_LOOK_S: Final = 0.5
"""How often a sink looks for new records."""

SINK_TIMEOUT_S: Final = 10.0
"""How long another system may take to be connected to, and to take or answer something."""

SINK_END_S: Final = 2.0
"""How long sinks go on at the end of the gate; what is not sent then, the next gate sends."""

SINK_ANSWER_BYTES_MAX: Final = 1 << 16
"""What is read of a collector's answer: it says how many records it refused, and why."""

TRACE_STEPS_PER_S_MAX: Final = 1_000
"""Steps of traced connections that a worker records each second: a tenth of what it records when it
is busy. Filters may be asked of every message, so that one connection could fill the log."""
