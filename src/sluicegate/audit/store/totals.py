"""Totals: what is counted of records while they are stored, so that nobody counts them later.

Partitions keep them in the transaction of their records; ``reader`` adds them up. The invariant:
they are as many as the records say, and their rows are bounded whatever clients send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sluicegate.audit.search.words import host_of_record
from sluicegate.log_limits import TOTALS_VALUES_MAX

__all__ = [
    "COUNTED",
    "HOUR_S",
    "MINUTE_S",
    "OTHERS",
    "SUBJECTS",
    "Counted",
    "Totals",
    "latency_bucket",
]

MINUTE_S: Final = 60
HOUR_S: Final = 3600

OTHERS: Final = ""
"""Stands for whatever came when an hour had ``TOTALS_VALUES_MAX`` values of a subject."""

SUBJECTS: Final = ("client", "host", "user", "filter", "reason")
"""What is counted by its values."""

COUNTED: Final = frozenset({"decision", "connection", "request", "transfer"})

Fields: TypeAlias = Mapping[str, object]


def latency_bucket(milliseconds: float) -> int:
    """Return how many bits whole microseconds need: each bucket is twice the one before."""
    return max(0, int(milliseconds * 1000)).bit_length()


@dataclass(frozen=True, slots=True)
class Counted:
    """What a batch adds to the totals: rows, the columns of their keys first."""

    minutes: list[tuple[int, str, str, str, int, int, int]]
    """Minute, kind, result, rule; records, bytes to the client, bytes to the server."""
    hours: list[tuple[int, str, str, str, str, int, int]]
    """Hour, subject, value, kind, result; records, bytes."""
    latencies: list[tuple[int, str, int, int]]
    """Hour, kind, bucket; records."""


class Totals:
    """What one partition counts; its own table of the values that each hour has."""

    def __init__(self, values_of: Callable[[int, str], Iterable[str]]) -> None:
        """Begin.

        Args:
            values_of: Tells which values of a subject an hour has already.
        """
        self._values_of = values_of
        self._known: dict[tuple[int, str], set[str]] = {}

    def forget(self) -> None:
        """Ask anew which values there are: a batch was not stored."""
        self._known.clear()

    def count(self, records: list[dict[str, object]]) -> Counted:
        """Count the records of a batch."""
        minutes: defaultdict[tuple[int, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        hours: defaultdict[tuple[int, str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        latencies: defaultdict[tuple[int, str, int], int] = defaultdict(int)
        for fields in records:
            kind = _text(fields, "kind")
            # Two of a kind: what was decided, and what became of it.
            outcome, verdict = _text(fields, "outcome"), _text(fields, "verdict")
            result = outcome or verdict
            time = _number(fields, "time")
            minute, hour = int(time // MINUTE_S), int(time // HOUR_S)
            down = up = 0
            if "bytes_to_client" in fields or "bytes_to_server" in fields:
                down = int(_number(fields, "bytes_to_client"))
                up = int(_number(fields, "bytes_to_server"))
            row = minutes[minute, kind, result, _text(fields, "rule")]
            row[0] += 1
            row[1] += down
            row[2] += up
            if kind not in COUNTED:
                continue
            is_refused = outcome == "refused" or verdict in _REFUSALS
            for subject, value in _subjects(fields, is_refused=is_refused):
                known = self._bounded(hour, subject, value)
                counts = hours[hour, subject, known, kind, result]
                counts[0] += 1
                counts[1] += down + up
            if kind == "request":
                latencies[hour, kind, latency_bucket(_number(fields, "duration_ms"))] += 1
        return Counted(
            [(*key, row[0], row[1], row[2]) for key, row in minutes.items()],
            [(*key, row[0], row[1]) for key, row in hours.items()],
            [(*key, count) for key, count in latencies.items()],
        )

    def _bounded(self, hour: int, subject: str, value: str) -> str:
        """Return the value, or what stands for all that came too late in an hour."""
        known = self._known.get((hour, subject))
        if known is None:
            if len(self._known) > _HOURS_KNOWN_MAX:
                self._known.clear()
            known = self._known[hour, subject] = set(self._values_of(hour, subject))
        if value in known:
            return value
        if len(known) >= TOTALS_VALUES_MAX:
            return OTHERS
        known.add(value)
        return value


_HOURS_KNOWN_MAX: Final = 64
"""Records come in the order of time but for seconds; a log that is read in has hours in a row."""


def _subjects(fields: Fields, *, is_refused: bool) -> Iterator[tuple[str, str]]:
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
    if is_refused:
        yield "reason", _text(fields, "ended") or _text(fields, "reason")


_REFUSALS: Final = frozenset({"denied", "refused"})


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: Fields, name: str) -> float:
    value = fields.get(name)
    # No database takes greater ones, and no record that we wrote has them.
    return min(value, _NUMBER_MAX) if isinstance(value, int | float) else 0


_NUMBER_MAX: Final = 1 << 53
