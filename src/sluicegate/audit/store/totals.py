"""Totals: what is counted of records while they are stored, so that nobody counts them later.

Partitions keep them in the transaction of their records; ``reader`` adds them up. The invariant:
they are as many as the records say, and their rows are bounded whatever clients send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


class _Total:
    """What is counted of one value of a subject."""

    __slots__ = ("records", "size")

    def __init__(self) -> None:
        self.records = self.size = 0

    def add(self, size: int) -> None:
        """Count one of so many bytes."""
        self.records += 1
        self.size += size


class _Alike:
    """Records of an hour that are alike in kind and result."""

    __slots__ = ("clients", "hosts", "latencies", "of", "totals")

    def __init__(self, of: tuple[int, str, str]) -> None:
        self.of = of
        self.totals: dict[str, dict[str, _Total]] = {subject: {} for subject in SUBJECTS}
        self.clients, self.hosts = self.totals["client"], self.totals["host"]
        self.latencies: dict[int, int] = {}


class _Minute:
    """Records of a minute that are alike, also in their rule."""

    __slots__ = ("alike", "bytes_to_client", "bytes_to_server", "records")

    def __init__(self, alike: _Alike) -> None:
        self.alike = alike
        self.records = self.bytes_to_client = self.bytes_to_server = 0


def _counted(
    minutes: Mapping[tuple[int, str, str, str], _Minute], alike: Iterable[_Alike]
) -> Counted:
    """Return the rows of what was counted."""
    found = Counted(
        [
            (*key, one.records, one.bytes_to_client, one.bytes_to_server)
            for key, one in minutes.items()
        ],
        [],
        [],
    )
    for same in alike:
        hour, kind, result = same.of
        found.hours.extend(
            (hour, subject, value, kind, result, total.records, total.size)
            for subject, totals in same.totals.items()
            for value, total in totals.items()
        )
        found.latencies.extend((hour, kind, *one) for one in same.latencies.items())
    return found


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
        minutes: dict[tuple[int, str, str, str], _Minute] = {}
        alike: dict[tuple[int, str, str], _Alike] = {}
        address = self._addresses.of
        for entry in entries:
            kind, time = entry.kind, entry.time
            # Two of a kind: what was decided, and what became of it. What follows is written out,
            # for a call for each record and subject takes as long as all the rest.
            result = entry.outcome or entry.verdict
            key = int(time // MINUTE_S), kind, result, entry.rule
            minute = minutes.get(key)
            if minute is None:
                hour = int(time // HOUR_S), kind, result
                minute = minutes[key] = _Minute(alike.setdefault(hour, _Alike(hour)))
            down, up, same = entry.bytes_to_client, entry.bytes_to_server, minute.alike
            minute.records += 1
            minute.bytes_to_client += down
            minute.bytes_to_server += up
            if kind not in COUNTED:
                continue
            size = down + up
            client, host = address(entry.client).host, entry.host
            if client:
                total = same.clients.get(client) or self._total(same, "client", client)
                total.records += 1
                total.size += size
            if host:
                total = same.hosts.get(host) or self._total(same, "host", host)
                total.records += 1
                total.size += size
            if entry.user:
                self._total(same, "user", entry.user).add(size)
            if entry.filter:
                self._total(same, "filter", entry.filter).add(size)
            if entry.outcome == "refused" or entry.verdict in _REFUSALS:
                self._total(same, "reason", entry.ended).add(size)
            if kind == "request":
                bucket = latency_bucket(entry.duration_ms)
                same.latencies[bucket] = same.latencies.get(bucket, 0) + 1
        return _counted(minutes, alike.values())

    def _total(self, alike: _Alike, subject: str, value: str) -> _Total:
        """Return what counts a value; all that came too late in an hour are counted together."""
        hour, _, _ = alike.of
        known = self._bounded(hour, subject, value)
        totals = alike.totals[subject]
        total = totals.get(known)
        if total is None:
            total = totals[known] = _Total()
        return total

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
