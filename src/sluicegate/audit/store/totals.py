"""Totals: what is counted of records while they are stored, so that nobody counts them later.

Partitions keep them in the transaction of their records; ``reader`` adds them up. The invariant:
they are as many as the records say, and their rows are bounded whatever clients send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.log_limits import TOTALS_VALUES_MAX

from .entry import Entry
from .row import Addresses

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

    def __init__(
        self, values_of: Callable[[int, str], Iterable[str]], addresses: Addresses
    ) -> None:
        """Begin.

        Args:
            values_of: Tells which values of a subject an hour has already.
            addresses: Of clients.
        """
        self._values_of = values_of
        self._addresses = addresses
        self._known: dict[tuple[int, str], set[str]] = {}

    def forget(self) -> None:
        """Ask anew which values there are: a batch was not stored."""
        self._known.clear()

    def count(self, entries: Sequence[Entry]) -> Counted:
        """Count the records of a batch."""
        minutes: dict[tuple[int, str, str, str], list[int]] = {}
        hours: dict[tuple[int, str, str, str, str], list[int]] = {}
        latencies: dict[tuple[int, str, int], int] = {}
        address = self._addresses.of
        for entry in entries:
            kind, time = entry.kind, entry.time
            # Two of a kind: what was decided, and what became of it.
            result = entry.outcome or entry.verdict
            down, up = entry.bytes_to_client, entry.bytes_to_server
            key = int(time // MINUTE_S), kind, result, entry.rule
            row = minutes.get(key)
            if row is None:
                row = minutes[key] = [0, 0, 0]
            row[0] += 1
            row[1] += down
            row[2] += up
            if kind not in COUNTED:
                continue
            hour = int(time // HOUR_S)
            subjects = [("client", address(entry.client).host), ("host", entry.host)]
            if entry.user:
                subjects.append(("user", entry.user))
            if entry.filter:
                subjects.append(("filter", entry.filter))
            for subject, value in subjects:
                if value:
                    self._add(hours, (hour, subject, value, kind, result), down + up)
            if entry.outcome == "refused" or entry.verdict in _REFUSALS:
                self._add(hours, (hour, "reason", entry.ended, kind, result), down + up)
            if kind == "request":
                bucket = hour, kind, latency_bucket(entry.duration_ms)
                latencies[bucket] = latencies.get(bucket, 0) + 1
        return Counted(
            [(*key, row[0], row[1], row[2]) for key, row in minutes.items()],
            [(*key, row[0], row[1]) for key, row in hours.items()],
            [(*key, count) for key, count in latencies.items()],
        )

    def _add(
        self,
        hours: dict[tuple[int, str, str, str, str], list[int]],
        key: tuple[int, str, str, str, str],
        size: int,
    ) -> None:
        counts = hours.get(key)
        if counts is None:
            hour, subject, value, kind, result = key
            known = self._bounded(hour, subject, value)
            counts = hours.setdefault((hour, subject, known, kind, result), [0, 0])
        counts[0] += 1
        counts[1] += size

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


_REFUSALS: Final = frozenset({"denied", "refused"})
