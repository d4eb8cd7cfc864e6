"""What scanners may take, in bytes, connections and time: fixed numbers, each with its reason.

``scan`` and ``[[scanner]]`` use them. The invariant: what is above one of them is not scanned, and
what is not scanned is never clean.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLAMD_CHUNK_BYTES",
    "CLAMD_OBJECT_BYTES_MAX",
    "CLAMD_PROBE_S",
    "CLAMD_REPLY_BYTES_MAX",
    "ICAP_CHUNK_BYTES",
    "ICAP_CHUNK_LINE_BYTES_MAX",
    "ICAP_FIELDS_MAX",
    "ICAP_HEAD_BYTES_MAX",
    "ICAP_IDLE_S",
    "ICAP_INNER_BYTES_MAX",
    "ICAP_OPTIONS_S",
    "ICAP_OPTIONS_TTL_S_MAX",
    "ICAP_PREVIEW_BYTES_MAX",
    "ICAP_RECEIVE_BYTES",
    "RULES_LOOK_S",
    "RULE_FILES_MAX",
    "SCANNER_CONNECTIONS_MAX",
    "SCANNER_RETRY_S",
    "SCAN_ANSWERS_KEPT_MAX",
    "SCAN_MEMBER_BYTES_MAX",
    "SCAN_NICENESS",
    "SCAN_OBJECT_BYTES_MAX",
    "SCAN_PARTS_MAX",
    "SCAN_PROCESSES_MAX",
    "SCAN_START_TIMEOUT_S",
]

CLAMD_REPLY_BYTES_MAX: Final = 4096
"""One answer of clamd; names of signatures have some 60 bytes, errors name a file at most."""

CLAMD_CHUNK_BYTES: Final = 256 << 10
"""What of an object is read and sent at a time where no descriptor can be passed."""

CLAMD_OBJECT_BYTES_MAX: Final = (2 << 30) - 1
"""ClamAV looks at no file of 2 GiB or more, whatever its configuration says."""

CLAMD_PROBE_S: Final = 60.0
"""For how long it is believed that clamd says when it reaches a limit: its configuration may have
changed with a restart that nobody noticed."""

SCANNER_RETRY_S: Final = 0.25
"""Between two attempts to reach a scanner that restarts."""

SCANNER_CONNECTIONS_MAX: Final = 64
"""Scans at once that a worker may be told to ask one scanner for; clamd has 10 threads."""

RULES_BYTES_MAX: Final = 64 << 20
"""Sources of YARA rules; the largest public collection has some 20 MiB."""

RULE_FILES_MAX: Final = 10_000
"""Files of YARA rules in one folder."""

RULES_LOOK_S: Final = 5.0
"""Between two looks at whether the files of rules have changed: one directory listing."""

SCAN_ANSWERS_KEPT_MAX: Final = 256
"""Answers about objects that a scanner remembers, so that the second filter that asks about an
object does not have it unpacked again."""

SCAN_OBJECT_BYTES_MAX: Final = 2 << 30
"""An object is looked at in the memory of a process; beyond this nobody has that much."""

SCAN_MEMBER_BYTES_MAX: Final = 1 << 30
"""One member of an archive in memory, at most; the default is far below."""

SCAN_NICENESS: Final = 5
"""Of scanner processes: relaying comes first, and who waits for a scan waits anyway."""

SCAN_PARTS_MAX: Final = 200
"""Kinds of parts (content, name, traits) that are told of one object, in one message; there are
some 120 kinds, and what has so many of them was made to exhaust somebody."""

SCAN_PROCESSES_MAX: Final = 64
"""Processes of one scanner and worker."""

SCAN_START_TIMEOUT_S: Final = 60.0
"""For a process to start and compile its rules; 5,000 rules take 1 s."""

ICAP_HEAD_BYTES_MAX: Final = 16 << 10
"""The head of an answer, or its trailers; c-icap's have some 500 bytes, with a long list of
extensions a few thousand."""

ICAP_FIELDS_MAX: Final = 100
"""Fields of one head."""

ICAP_INNER_BYTES_MAX: Final = 64 << 10
"""Heads of the HTTP message inside an answer: what servers let in of one, twice."""

ICAP_CHUNK_LINE_BYTES_MAX: Final = 256
"""The size of a chunk with what it says beside; ``use-original-body`` has 40 bytes."""

ICAP_CHUNK_BYTES: Final = 64 << 10
"""What of an object is read and sent at a time."""

ICAP_RECEIVE_BYTES: Final = 64 << 10
"""What of an answer is received at a time."""

ICAP_PREVIEW_BYTES_MAX: Final = 64 << 10
"""The longest preview that is sent, whatever a service asks for; Squid's bound. c-icap asks for
1,024 bytes."""

ICAP_OPTIONS_TTL_S_MAX: Final = 86_400
"""A service may be told anew each day, whatever it says."""

ICAP_OPTIONS_S: Final = 60.0
"""For how long what a service says of itself is believed, at most: it may have been restarted with
other limits or signatures, and only its next answer would tell."""

ICAP_IDLE_S: Final = 20.0
"""For how long a connection is kept that nobody uses; c-icap closes them after a minute or more."""
