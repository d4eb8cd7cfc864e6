"""PostgresPartition: the tables of a day, or of a part of one, for their one writer.

``log_store`` fills the newest. The invariant: what a batch brings is written in one transaction, in
which the writer sees that nobody else has written since its last one; so every line is in the
store exactly once, whoever is killed, also while the server says that it was done.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any, Final

import psycopg
from psycopg import sql
from typing_extensions import override

from sluicegate.audit.search.query import in_lower_case
from sluicegate.audit.search.sql import COLUMNS
from sluicegate.audit.search.words import searched_text
from sluicegate.errors import ConfigError
from sluicegate.log_limits import (
    POSTGRES_ANALYZE_RECORDS,
    POSTGRES_VALUE_CHARACTERS_MAX,
    POSTGRES_WORD_CHARACTERS_MAX,
    POSTGRES_WORDS_MAX,
)

from .chain import Checkpoint
from .entry import Entry
from .partition import Batch, Partition, PartitionName
from .place import PostgresPlace
from .position import LogPosition
from .postgres_connection import Connection, connect, telling
from .postgres_schema import TABLES, migrate, suffix_of
from .row import KEYS, texts_of
from .totals import Counted

__all__ = ["PostgresPartition", "PostgresPartitions", "word_index"]

_COLUMNS: Final = (
    *("day", "piece", "seq", "time"),
    *COLUMNS,
    *(f"{name}_key" for name in KEYS),
    *("request", "parent", "words", "searched", "fields", "body"),
)


class PostgresPartitions:
    """The partitions of one schema; satisfies ``Partitions``."""

    def __init__(self, place: PostgresPlace) -> None:
        """Connect, and be the one who writes there.

        Raises:
            ConfigError: The server cannot be used, or somebody else writes there.
        """
        self._place = place
        self._connection = connect(place, is_writer=True)
        try:
            with telling(place):
                self._lock()
                migrate(self._connection, place)
        except BaseException:
            self._connection.close()
            raise

    def names(self) -> list[PartitionName]:
        """As in ``Partitions``."""
        rows = self._ask("SELECT day, piece FROM partitions ORDER BY day, piece")
        return [PartitionName(day.isoformat(), piece) for day, piece in rows]

    def open(self, name: PartitionName) -> PostgresPartition:
        """As in ``Partitions``."""
        return PostgresPartition(self._connection, self._place, name)

    def make(
        self, name: PartitionName, first: int, before: bytes, position: LogPosition
    ) -> PostgresPartition:
        """As in ``Partitions``."""
        suffix = suffix_of(name)
        with telling(self._place), self._connection.transaction():
            execute = self._connection.execute
            for table in TABLES:
                execute(
                    sql.SQL(
                        "CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}, {}) TO ({}, {})"
                    ).format(
                        sql.Identifier(table + suffix),
                        sql.Identifier(table),
                        *(name.day, name.number, name.day, name.number + 1),
                    )
                )
            execute("INSERT INTO partitions VALUES (%s, %s, %s, %s)", (*name, first, before))
            execute(
                "INSERT INTO state (last, link, at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (first - 1, before, position.text),
            )
        return self.open(name)

    def size(self, name: PartitionName) -> int:
        """As in ``Partitions``."""
        return self.open(name).bytes_used

    def first_of(self, name: PartitionName) -> int:
        """As in ``Partitions``."""
        ((first,),) = self._ask("SELECT first FROM partitions WHERE day = %s AND piece = %s", name)
        return int(first)

    def remove(self, name: PartitionName) -> str:
        """As in ``Partitions``; a reader that holds it for long makes this fail, and is left."""
        suffix = suffix_of(name)
        with telling(self._place), self._connection.transaction():
            for table in TABLES:
                dropped = sql.Identifier(table + suffix)
                self._connection.execute(sql.SQL("DROP TABLE {}").format(dropped))
            self._connection.execute("DELETE FROM partitions WHERE day = %s AND piece = %s", name)
        return f"{self._place.schema}.records{suffix}"

    def close(self) -> None:
        """As in ``Partitions``; who writes next need not wait for the server to end the session."""
        with contextlib.suppress(psycopg.Error):  # it has ended, and its lock with it
            self._connection.execute("SELECT pg_advisory_unlock_all()")
        self._connection.close()

    def _lock(self) -> None:
        """Be the only writer, as long as the session lasts.

        Raises:
            ConfigError: Somebody else is.
        """
        ((is_ours,),) = self._ask(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
            (f"sluicegate store {self._place.schema}",),
        )
        if not is_ours:
            cause = f"another process stores records in schema {self._place.schema}"
            raise ConfigError(self._place.name, cause, "two gates have two: schema_name")

    def _ask(self, text: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with telling(self._place):
            return self._connection.execute(text.encode(), values).fetchall()


class PostgresPartition(Partition):
    """One partition, open for its writer."""

    is_outdated = False
    """Its tables were brought up to date with all others."""

    def __init__(self, connection: Connection, place: PostgresPlace, name: PartitionName) -> None:
        """Open one that is there.

        Raises:
            ConfigError: It cannot be asked.
        """
        self._connection = connection
        self._place = place
        self._name = name
        self._suffix = suffix_of(name)
        ((first,),) = self._ask("SELECT first FROM partitions WHERE day = %s AND piece = %s", name)
        ((last, link),) = self._ask("SELECT last, link FROM state")
        super().__init__(int(first), int(last), bytes(link))
        self._analyze_at = POSTGRES_ANALYZE_RECORDS
        records = sql.Identifier(f"records{self._suffix}")
        columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN").format(records, columns)

    @property
    @override
    def position(self) -> LogPosition:
        ((text,),) = self._ask("SELECT at FROM state")
        return LogPosition.from_text(text)

    @property
    @override
    def signed_last(self) -> int:
        ((last,),) = self._ask(
            "SELECT max(last) FROM checkpoints WHERE day = %s AND piece = %s", self._name
        )
        return int(last or 0)

    @property
    @override
    def bytes_used(self) -> int:
        ((size,),) = self._ask(
            "SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint"
            " FROM unnest(%s::text[]) AS name",
            ([f"{table}{self._suffix}" for table in TABLES],),
        )
        return int(size or 0)

    @override
    def append(
        self, lines: Sequence[bytes], entries: Sequence[Entry], position: LogPosition
    ) -> None:
        super().append(lines, entries, position)
        if self.last - self.first >= self._analyze_at:
            self._analyze()

    @override
    def move(self, position: LogPosition) -> None:
        with telling(self._place), self._connection.transaction():
            self._move(self.last, self.link, position)

    @override
    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        with telling(self._place):
            self._connection.execute(
                "INSERT INTO checkpoints (day, piece, last, link, time, first, signature)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (*self._name, *astuple(checkpoint)),
            )

    @override
    def close(self) -> None:
        """Do nothing: the connection is that of all of them."""

    @override
    def _store(self, batch: Batch) -> None:
        with telling(self._place), self._connection.transaction():
            with self._connection.cursor() as cursor:
                with cursor.copy(self._copy) as copy:
                    for one in batch.numbered:
                        copy.write_row(self._row(*one))
                cursor.execute(
                    "INSERT INTO links VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (*self._name, *batch.link_row),
                )
                self._add_totals(self._totals.count(batch.entries))
            self._move(batch.last, batch.link, batch.position)

    def _move(self, last: int, link: bytes, position: LogPosition) -> None:
        """Say where the store ends, if it still ends where we left it.

        Raises:
            ConfigError: Somebody else has written.
        """
        moved = self._connection.execute(
            "UPDATE state SET last = %s, link = %s, at = %s WHERE last = %s AND link = %s",
            (last, link, position.text, self.last, self.link),
        )
        if moved.rowcount != 1:
            cause = "the store does not end where we left it: somebody else writes there"
            raise ConfigError(self._place.name, cause)

    def _add_totals(self, counted: Counted) -> None:
        _upsert(self._connection, "minutes", _MINUTES, self._name, counted.minutes)
        _upsert(self._connection, "hours", _HOURS, self._name, _bounded(counted))
        _upsert(self._connection, "latencies", _LATENCIES, self._name, counted.latencies)

    @override
    def _values_of(self, hour: int, subject: str) -> list[str]:
        rows = self._ask(
            "SELECT DISTINCT value FROM hours"
            " WHERE hour = %s AND subject = %s AND day = %s AND piece = %s",
            (hour, subject, *self._name),
        )
        return [value for (value,) in rows]

    def _analyze(self) -> None:
        """Have the server look what is in there, so that it plans for that."""
        self._analyze_at *= 4
        with telling(self._place):
            table = sql.Identifier(f"records{self._suffix}")
            self._connection.execute(sql.SQL("ANALYZE {}").format(table))

    def _row(self, seq: int, entry: Entry) -> tuple[object, ...]:
        texts = [_without_nul(in_lower_case(text)) for text in texts_of(entry)]
        words, searched = word_index(searched_text(entry.searched))
        line, address = entry.line, self._addresses.of
        return (
            *self._name,
            seq,
            entry.time,
            *texts,
            *(address(one).key for one in (entry.client, entry.server, entry.peer)),
            *(_known(one) for one in (entry.request, entry.parent)),
            words,
            searched,
            _NUL.sub(r"\1\\ufffd", line) if "\\u0000" in line else None,
            line,
        )

    def _ask(self, text: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with telling(self._place):
            return self._connection.execute(text.encode(), values).fetchall()


_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A character that no text of PostgreSQL has, as JSON writes it."""


def _known(text: str) -> str | None:
    return _without_nul(in_lower_case(text)) if text else None


def _without_nul(text: str) -> str:
    return text.replace("\0", "\ufffd") if "\0" in text else text


def word_index(searched: str) -> tuple[str | None, str | None]:
    """Return what is searched as words with their places, or, if that is too much, as it is.

    An index of words has limits (postgresql.org/docs/current/textsearch-limitations.html): 16,383
    places, 256 of them for a word. Records beyond are few, and looked through as they are.
    """
    fields = [part.split() for part in searched.split(_BARRIER)]
    if sum(map(len, fields)) > POSTGRES_WORDS_MAX or any(
        len(word) > POSTGRES_WORD_CHARACTERS_MAX for part in fields for word in part
    ):
        return None, searched
    at, found = 0, list[str]()
    for part in fields:
        for word in part:
            at += 1
            found.append(f"'{word}':{at}")
        at += 1  # so that no phrase goes from one field into the next
    return " ".join(found), None


_BARRIER: Final = "\ue000"

_MINUTES: Final = ("bigint", "text", "text", "text", "bigint", "bigint", "bigint")
_HOURS: Final = ("bigint", "text", "text", "text", "text", "bigint", "bigint")
_LATENCIES: Final = ("bigint", "text", "integer", "bigint")
_KEYS_OF: Final = {
    "minutes": ("minute, kind, result, rule", ("count", "bytes_to_client", "bytes_to_server")),
    "hours": ("hour, subject, value, kind, result", ("count", "bytes")),
    "latencies": ("hour, kind, bucket", ("count",)),
}


def _upsert(
    connection: Connection,
    table: str,
    types: tuple[str, ...],
    name: PartitionName,
    rows: Iterable[tuple[object, ...]],
) -> None:
    """Add rows to the totals, all in one statement."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if not columns:
        return
    keys, sums = _KEYS_OF[table]
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    added = ", ".join(f"{one} = {table}.{one} + excluded.{one}" for one in sums)
    text = (
        f"INSERT INTO {table} (day, piece, {keys}, {', '.join(sums)})"  # noqa: S608 - our own words
        f" SELECT %s::date, %s::integer, given.* FROM unnest({arrays}) AS given"
        f" ON CONFLICT ({keys}, day, piece) DO UPDATE SET {added}"
    )
    connection.execute(text.encode(), (*name, *columns))


def _bounded(counted: Counted) -> list[tuple[object, ...]]:
    """Return the rows of hours with values that an index takes: long ones by their beginnings."""
    sums: dict[tuple[object, ...], list[int]] = {}
    for hour, subject, value, kind, result, records, size in counted.hours:
        bounded = _without_nul(value[:POSTGRES_VALUE_CHARACTERS_MAX])
        known = sums.setdefault((hour, subject, bounded, kind, result), [0, 0])
        known[0] += records
        known[1] += size
    return [(*key, *numbers) for key, numbers in sums.items()]
