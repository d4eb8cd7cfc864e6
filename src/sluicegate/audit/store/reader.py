"""StoreReader: questions to a store, whoever writes it meanwhile.

Commands, the API and the console use it. The invariant: a question costs bounded time: an answer
that is not complete says how far it looked, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sluicegate.audit.search.bounds import TimeBounds, time_bounds
from sluicegate.audit.search.query import Query
from sluicegate.clock import Clock
from sluicegate.log_limits import SEARCH_SLICE_RECORDS

from .place import PostgresPlace, StorePlace, require_psycopg
from .position import LogPosition
from .reading import Readings, SqlReading, StoredRecord
from .sqlite_reading import SqliteReadings, has_files
from .totals import HOUR_S, MINUTE_S, SUBJECTS

__all__ = [
    "Found",
    "Latency",
    "MinuteTotal",
    "StoreReader",
    "StoredRecord",
    "SubjectTotal",
    "has_store",
    "open_readings",
]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, the newest first, and where to go on."""

    records: list[StoredRecord]
    before: int
    """What ``search`` is told to go on."""
    is_complete: bool
    """Whether there is nothing left to look through."""
    searched_to: float
    """The time of the oldest record that was looked at; infinity: none was."""


class MinuteTotal(NamedTuple):
    """Records alike in some minutes."""

    time: int
    """When the step began, in seconds since the Unix epoch."""
    kind: str
    result: str
    """The outcome, or the verdict where there is none."""
    rule: str
    records: int
    bytes_to_client: int
    bytes_to_server: int


class SubjectTotal(NamedTuple):
    """One value of a subject, over some hours."""

    value: str
    records: int
    bytes_moved: int


class Latency(NamedTuple):
    """Requests that took less than so long, and at least half of it."""

    below_ms: float
    records: int


_ANY_TIME: Final = TimeBounds()


class StoreReader:
    """A store, open for questions; used by one thread at a time."""

    def __init__(self, place: StorePlace, clock: Clock) -> None:
        """Open it.

        Raises:
            ConfigError: There is none, or it cannot be read.
        """
        self._clock = clock
        self._readings = open_readings(place)

    def close(self) -> None:
        """Close every partition."""
        self._readings.close()

    # -- records -------------------------------------------------------------------------------

    def search(
        self, query: Query, limit: int, *, before: int | None = None, seconds_max: float
    ) -> Found:
        """Return the newest records that a query chooses.

        Args:
            query: Which ones.
            limit: At most so many.
            before: Only those with smaller numbers; None: from the newest on.
            seconds_max: After so long the answer is what was found by then.

        Raises:
            ConfigError: A partition cannot be read.
        """
        due = self._clock.monotonic() + seconds_max
        bounds = time_bounds(query)
        found: list[StoredRecord] = []
        searched_to = float("inf")
        at = before if before is not None else _BEYOND
        for partition in self._readings.newest_first():
            first, last = partition.range_of(bounds)
            last = min(last, at - 1)
            if first > last:
                continue
            for part, begin in partition.newest(query, (first, last), limit - len(found)):
                found += part
                is_full = len(found) >= limit
                at = found[-1].seq if is_full else begin
                time = partition.time_of(at)
                searched_to = searched_to if time is None else time
                if is_full or self._clock.monotonic() >= due:
                    return Found(found, at, is_complete=False, searched_to=searched_to)
        return Found(found, at, is_complete=True, searched_to=searched_to)

    def read(self, query: Query, *, after: int = 0) -> Iterator[StoredRecord]:
        """Yield all records that a query chooses, the oldest first; for exports, without a bound.

        Raises:
            ConfigError: A partition cannot be read.
        """
        bounds = time_bounds(query)
        for partition in self._oldest_first():
            first, last = partition.range_of(bounds)
            first = max(first, after + 1)
            if first <= last:
                yield from partition.oldest(query, (first, last))

    def about(self, identifier: str, *, before: int) -> Iterator[StoredRecord]:
        """Yield what is about a connection or a request, the oldest first.

        What an earlier version has stored without such indexes is found by its text, so that a
        record that is given need not be about it.

        Args:
            identifier: Of a connection or a request.
            before: Only records with smaller numbers.

        Raises:
            ConfigError: A partition cannot be read.
        """
        for partition in self._oldest_first():
            found = partition.about(identifier)
            if found is None:
                first, last = partition.range_of(TimeBounds())
                numbers = (first, min(last, before - 1))
                found = partition.holding([identifier], numbers, newest_first=False)
            yield from (record for record in found if record.seq < before)

    def holding(
        self,
        texts: Sequence[str],
        *,
        before: int,
        newest_first: bool = False,
        bounds: TimeBounds = _ANY_TIME,
    ) -> Iterator[StoredRecord]:
        """Yield the records in whose lines one of these texts stands; of no texts: all.

        Args:
            texts: As they stand in lines.
            before: Only those with smaller numbers.
            newest_first: In this order; else the oldest first.
            bounds: Only what may lie within these times.

        Raises:
            ConfigError: A partition cannot be read.
        """
        partitions = self._readings.newest_first() if newest_first else self._oldest_first()
        for partition in partitions:
            first, last = partition.range_of(bounds)
            begins = range(first, min(last, before - 1) + 1, SEARCH_SLICE_RECORDS)
            for begin in reversed(begins) if newest_first else begins:
                end = min(last, before - 1, begin + SEARCH_SLICE_RECORDS - 1)
                yield from partition.holding(texts, (begin, end), newest_first=newest_first)

    @property
    def first(self) -> int:
        """The number of the oldest record, there or to come."""
        for partition in self._oldest_first():
            begun = partition.begin()
            if begun is not None:
                return begun[0]
        return 1

    @property
    def count(self) -> int:
        """How many records there are."""
        return self.end[0] - self.first + 1

    @property
    def end(self) -> tuple[int, LogPosition]:
        """The number of the newest record, and where in the log that record ends."""
        return self._readings.end()

    # -- totals --------------------------------------------------------------------------------

    def minutes(self, since: float, until: float, step_s: int = MINUTE_S) -> list[MinuteTotal]:
        """Return totals by time, kind, result and rule.

        Args:
            since: From the minute on that this time is in.
            until: Up to the minute that this time is in, without it.
            step_s: Minutes are put together to steps of this length; a multiple of 60.

        Raises:
            ConfigError: A partition cannot be read.
        """
        assert step_s % MINUTE_S == 0, "minutes are not cut"
        minutes = step_s // MINUTE_S
        sums: dict[tuple[int, str, str, str], list[int]] = {}
        for partition in self._readings.newest_first():
            rows = partition.minutes(int(since // MINUTE_S), int(until // MINUTE_S), minutes)
            for time, kind, result, rule, *numbers in rows:
                total = sums.setdefault((time, kind, result, rule), [0, 0, 0])
                for index, number in enumerate(numbers):
                    total[index] += number
        return [MinuteTotal(*key, *numbers) for key, numbers in sorted(sums.items())]

    def top(
        self,
        subject: str,
        since: float,
        until: float,
        limit: int,
        *,
        kinds: tuple[str, ...] = (),
        results: tuple[str, ...] = (),
    ) -> list[SubjectTotal]:
        """Return the values of a subject that most records have, by count and then by bytes.

        Args:
            subject: One of ``SUBJECTS``.
            since: From the hour on that this time is in.
            until: Up to the hour that this time is in, with it.
            limit: At most so many.
            kinds: Of these kinds of records; none: of all.
            results: With these results; none: with any.

        Raises:
            ConfigError: A partition cannot be read.
        """
        assert subject in SUBJECTS, subject
        sums: dict[str, list[int]] = {}
        for partition in self._readings.newest_first():
            rows = partition.top(
                subject, int(since // HOUR_S), int(until // HOUR_S), kinds, results
            )
            for value, count, size in rows:
                total = sums.setdefault(value, [0, 0])
                total[0] += count
                total[1] += size
        ordered = sorted(sums.items(), key=lambda one: (-one[1][0], -one[1][1], one[0]))
        return [SubjectTotal(value, *numbers) for value, numbers in ordered[:limit]]

    def latencies(self, since: float, until: float) -> list[Latency]:
        """Return how long requests took, the shortest first.

        Raises:
            ConfigError: A partition cannot be read.
        """
        sums: dict[int, int] = {}
        for partition in self._readings.newest_first():
            rows = partition.latencies(int(since // HOUR_S), int(until // HOUR_S))
            for bucket, count in rows:
                sums[bucket] = sums.get(bucket, 0) + count
        return [Latency(2**bucket / 1000, count) for bucket, count in sorted(sums.items())]

    def _oldest_first(self) -> Iterator[SqlReading]:
        return reversed(list(self._readings.newest_first()))


def has_store(place: StorePlace) -> bool:
    """Tell whether there is a store at a place: whether one was ever begun.

    Raises:
        ConfigError: It cannot be looked at.
    """
    if isinstance(place, PostgresPlace):
        require_psycopg(place.name)
        from .postgres_reading import has_tables  # noqa: PLC0415 - psycopg is optional

        return has_tables(place)
    return has_files(place.path)


def open_readings(place: StorePlace) -> Readings:
    """Open the partitions of a store.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    if isinstance(place, PostgresPlace):
        require_psycopg(place.name)
        from .postgres_reading import PostgresReadings  # noqa: PLC0415 - psycopg is optional

        return PostgresReadings(place)
    return SqliteReadings(place.path)


_BEYOND: Final = 1 << 62
