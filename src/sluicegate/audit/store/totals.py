"""Totals: what is counted of records while they are stored, so that nobody counts them later.

``partition`` keeps them in the transaction of their records; ``reader`` adds them up. The
invariant: they are as many as the records say, and their rows are bounded whatever clients send.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from sluicegate.audit.search.words import host_of_record
from sluicegate.log_limits import TOTALS_VALUES_MAX

__all__ = ["HOUR_S", "MINUTE_S", "OTHERS", "SCHEMA", "SUBJECTS", "Totals", "latency_bucket"]

MINUTE_S: Final = 60
HOUR_S: Final = 3600

OTHERS: Final = ""
"""Stands for whatever came when an hour had ``TOTALS_VALUES_MAX`` values of a subject."""

SUBJECTS: Final = ("client", "host", "user", "filter", "reason")
"""What is counted by its values."""

SCHEMA: Final = (
    (
        "CREATE TABLE minutes (minute INTEGER, kind TEXT, result TEXT, rule TEXT, count INTEGER,"
        " bytes_to_client INTEGER, bytes_to_server INTEGER,"
        " PRIMARY KEY (minute, kind, result, rule)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE hours (hour INTEGER, subject TEXT, value TEXT, kind TEXT, result TEXT,"
        " count INTEGER, bytes INTEGER,"
        " PRIMARY KEY (hour, subject, value, kind, result)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE latencies (hour INTEGER, kind TEXT, bucket INTEGER, count INTEGER,"
        " PRIMARY KEY (hour, kind, bucket)) WITHOUT ROWID"
    ),
)

_COUNTED: Final = frozenset({"decision", "connection", "request", "transfer"})

_ADD_MINUTE: Final = (
    "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " count = count + excluded.count,"
    " bytes_to_client = bytes_to_client + excluded.bytes_to_client,"
    " bytes_to_server = bytes_to_server + excluded.bytes_to_server"
)
_ADD_HOUR: Final = (
    "INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " count = count + excluded.count, bytes = bytes + excluded.bytes"
)
_ADD_LATENCY: Final = (
    "INSERT INTO latencies VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " count = count + excluded.count"
)

Fields: TypeAlias = Mapping[str, object]


def latency_bucket(milliseconds: float) -> int:
    """Return how many bits whole microseconds need: each bucket is twice the one before."""
    return max(0, int(milliseconds * 1000)).bit_length()


class Totals:
    """What one partition counts; its own table of the values that each hour has."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._known: dict[tuple[int, str], set[str]] = {}

    def add(self, records: list[dict[str, object]]) -> None:
        """Count records, within the transaction that is open."""
        minutes: defaultdict[tuple[int, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        hours: defaultdict[tuple[int, str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        latencies: defaultdict[tuple[int, str, int], int] = defaultdict(int)
        for fields in records:
            kind = _text(fields, "kind")
            time = _number(fields, "time")
            # Two of a kind: what was decided, and what became of it.
            result = _text(fields, "outcome") or _text(fields, "verdict")
            minute, hour = int(time // MINUTE_S), int(time // HOUR_S)
            down = int(_number(fields, "bytes_to_client"))
            up = int(_number(fields, "bytes_to_server"))
            row = minutes[minute, kind, result, _text(fields, "rule")]
            row[0] += 1
            row[1] += down
            row[2] += up
            if kind not in _COUNTED:
                continue
            for subject, value in _subjects(fields):
                known = self._bounded(hour, subject, value)
                counts = hours[hour, subject, known, kind, result]
                counts[0] += 1
                counts[1] += down + up
            if kind == "request":
                latencies[hour, kind, latency_bucket(_number(fields, "duration_ms"))] += 1
        execute = self._database.executemany
        execute(_ADD_MINUTE, [(*key, *row) for key, row in minutes.items()])
        execute(_ADD_HOUR, [(*key, *row) for key, row in hours.items()])
        execute(_ADD_LATENCY, [(*key, count) for key, count in latencies.items()])

    def _bounded(self, hour: int, subject: str, value: str) -> str:
        """Return the value, or what stands for all that came too late in an hour."""
        known = self._known.get((hour, subject))
        if known is None:
            rows = self._database.execute(
                "SELECT DISTINCT value FROM hours WHERE hour = ? AND subject = ?", (hour, subject)
            )
            if len(self._known) > _HOURS_KNOWN_MAX:
                self._known.clear()
            known = self._known[hour, subject] = {found for (found,) in rows}
        if value in known:
            return value
        if len(known) >= TOTALS_VALUES_MAX:
            return OTHERS
        known.add(value)
        return value


_HOURS_KNOWN_MAX: Final = 64
"""Records come in the order of time but for seconds; a log that is read in has hours in a row."""


def _subjects(fields: Fields) -> Iterator[tuple[str, str]]:
    client = _text(fields, "client")
    if client:
        host, colon, port = client.rpartition(":")
        yield "client", host.strip("[]") if colon and port.isdigit() else client
    site = host_of_record(fields)
    if site:
        yield "host", site
    user = _text(fields, "user")
    if user:
        yield "user", user
    stopped = _text(fields, "filter")
    if stopped:
        yield "filter", stopped
    if _text(fields, "outcome") == "refused" or _text(fields, "verdict") in _REFUSALS:
        yield "reason", _text(fields, "ended") or _text(fields, "reason")


_REFUSALS: Final = frozenset({"denied", "refused"})


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: Fields, name: str) -> float:
    value = fields.get(name)
    return value if isinstance(value, int | float) else 0
