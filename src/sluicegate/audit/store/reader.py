"""StoreReader: questions to a store, whoever writes it meanwhile.

Commands, the API and the console use it. The invariant: a question costs bounded time: an answer
that is not complete says how far it looked, and goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sluicegate.audit.search.bounds import TimeBounds, time_bounds
from sluicegate.audit.search.query import All, Compare, Operator, Pattern, Query, Words
from sluicegate.audit.search.sql import Parameter, SqliteDialect
from sluicegate.audit.search.words import SEARCHED, words_of
from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.log_limits import SEARCH_SLICE_RECORDS

from .partition import LogPosition, open_to_read, partition_files
from .totals import HOUR_S, MINUTE_S, SUBJECTS

__all__ = ["Found", "Latency", "MinuteTotal", "StoreReader", "StoredRecord", "SubjectTotal"]


class StoredRecord(NamedTuple):
    """One record of the store."""

    seq: int
    """Its number; later ones have greater numbers."""
    line: str
    """As it stands in the log."""


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


class StoreReader:
    """A store, open for questions; used by one thread at a time."""

    def __init__(self, folder: pathlib.Path, clock: Clock) -> None:
        """Open it.

        Raises:
            ConfigError: There is none, or it cannot be read.
        """
        self._folder = folder
        self._clock = clock
        self._dialect = SqliteDialect()
        self._open: dict[pathlib.Path, sqlite3.Connection] = {}
        if not self._files():
            raise ConfigError(str(folder), "there is no store of records", _CURE)

    def close(self) -> None:
        """Close every partition."""
        for database in self._open.values():
            database.close()
        self._open.clear()

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
        for database in self._newest_first():
            first, last = self._range_of(database, bounds)
            last = min(last, at - 1)
            while first <= last:
                begin = max(first, last - SEARCH_SLICE_RECORDS + 1)
                found += self._select(database, query, (begin, last), limit - len(found), "DESC")
                is_full = len(found) >= limit
                at = found[-1].seq if is_full else begin
                searched_to = self._time_of(database, at)
                if is_full or self._clock.monotonic() >= due:
                    return Found(found, at, is_complete=False, searched_to=searched_to)
                last = begin - 1
        return Found(found, at, is_complete=True, searched_to=searched_to)

    def read(self, query: Query, *, after: int = 0) -> Iterator[StoredRecord]:
        """Yield all records that a query chooses, the oldest first; for exports, without a bound.

        Raises:
            ConfigError: A partition cannot be read.
        """
        bounds = time_bounds(query)
        for database in reversed(list(self._newest_first())):
            first, last = self._range_of(database, bounds)
            first = max(first, after + 1)
            while first <= last:
                end = min(last, first + SEARCH_SLICE_RECORDS - 1)
                yield from self._select(database, query, (first, end), -1, "ASC")
                first = end + 1

    def holding(
        self, texts: Sequence[str], *, before: int, newest_first: bool = False
    ) -> Iterator[StoredRecord]:
        """Yield the records in whose lines one of these texts stands; of no texts: all.

        Args:
            texts: As they stand in lines.
            before: Only those with smaller numbers.
            newest_first: In this order; else the oldest first.

        Raises:
            ConfigError: A partition cannot be read.
        """
        condition = " OR ".join("instr(body, ?)" for _ in texts) or "1=1"
        order, databases = "DESC" if newest_first else "ASC", list(self._newest_first())
        for database in databases if newest_first else reversed(databases):
            first, last = self._range_of(database, TimeBounds())
            begins = range(first, min(last, before - 1) + 1, SEARCH_SLICE_RECORDS)
            for begin in reversed(begins) if newest_first else begins:
                end = min(last, before - 1, begin + SEARCH_SLICE_RECORDS - 1)
                rows = self._ask(
                    database,
                    f"SELECT seq, body FROM records WHERE seq BETWEEN ? AND ? AND ({condition})"  # noqa: S608 - our own words
                    f" ORDER BY seq {order}",
                    [begin, end, *texts],
                )
                yield from (StoredRecord(*row) for row in rows)

    @property
    def first(self) -> int:
        """The number of the oldest record, there or to come."""
        *_, database = self._newest_first()
        ((first,),) = self._ask(database, "SELECT value FROM facts WHERE name = 'first'")
        return int(first)

    @property
    def count(self) -> int:
        """How many records there are."""
        return self.end[0] - self.first + 1

    @property
    def end(self) -> tuple[int, LogPosition]:
        """The number of the newest record, and where in the log that record ends."""
        database = next(iter(self._newest_first()))
        # One statement: both are of one moment.
        ((last, text),) = self._ask(
            database,
            "SELECT coalesce((SELECT max(seq) FROM records), first.value - 1), position.value"
            " FROM facts AS first, facts AS position"
            " WHERE first.name = 'first' AND position.name = 'position'",
        )
        return int(last), LogPosition(*json.loads(text))

    def _select(
        self,
        database: sqlite3.Connection,
        query: Query,
        numbers: tuple[int, int],
        limit: int,
        order: str,
    ) -> list[StoredRecord]:
        driver, rest = _driving_words(query)
        condition = self._dialect.condition(rest)
        values: list[Parameter]
        if driver is None:
            source, number = "records", "seq"
            values = []
        else:
            # The index of words is walked in the order of numbers, so nothing is sorted.
            source, number = "words JOIN records ON seq = words.rowid", "words.rowid"
            values = [SqliteDialect.phrase(driver.words)]
        matches = "words MATCH ? AND " if driver is not None else ""
        rows = self._ask(
            database,
            f"SELECT seq, body FROM {source} WHERE {matches}{number} BETWEEN ? AND ?"  # noqa: S608 - our own words
            f" AND ({condition.text}) ORDER BY {number} {order} LIMIT ?",
            [*values, *numbers, *condition.values, limit],
        )
        return [StoredRecord(*row) for row in rows]

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
        for database in self._newest_first():
            rows = self._ask(
                database,
                "SELECT minute / ? * ? * 60, kind, result, rule, sum(count), sum(bytes_to_client),"
                " sum(bytes_to_server) FROM minutes WHERE minute >= ? AND minute < ?"
                " GROUP BY 1, 2, 3, 4",
                (minutes, minutes, int(since // MINUTE_S), int(until // MINUTE_S)),
            )
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
        chosen = "".join(
            f" AND {column} IN ({', '.join('?' * len(values))})"
            for column, values in (("kind", kinds), ("result", results))
            if values
        )
        sums: dict[str, list[int]] = {}
        for database in self._newest_first():
            rows = self._ask(
                database,
                "SELECT value, sum(count), sum(bytes) FROM hours"  # noqa: S608 - our own words
                f" WHERE hour BETWEEN ? AND ? AND subject = ?{chosen} GROUP BY value",
                (int(since // HOUR_S), int(until // HOUR_S), subject, *kinds, *results),
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
        for database in self._newest_first():
            rows = self._ask(
                database,
                "SELECT bucket, sum(count) FROM latencies WHERE hour BETWEEN ? AND ? GROUP BY 1",
                (int(since // HOUR_S), int(until // HOUR_S)),
            )
            for bucket, count in rows:
                sums[bucket] = sums.get(bucket, 0) + count
        return [Latency(2**bucket / 1000, count) for bucket, count in sorted(sums.items())]

    def _range_of(self, database: sqlite3.Connection, bounds: TimeBounds) -> tuple[int, int]:
        """Return a partition's first and last record that may lie within bounds of time."""
        ((low, high),) = self._ask(
            database,
            "SELECT min(first), max(last) FROM links WHERE time_max >= ? AND time_min <= ?",
            (bounds.low, bounds.high),
        )
        return (low, high) if low is not None else (1, 0)

    def _time_of(self, database: sqlite3.Connection, number: int) -> float:
        ((time,),) = self._ask(database, "SELECT time FROM records WHERE seq = ?", (number,))
        return float(time)

    def _ask(
        self, database: sqlite3.Connection, text: str, values: Sequence[Parameter] = ()
    ) -> list[Any]:
        """Return the rows that a partition answers with.

        Raises:
            ConfigError: It is damaged, or cannot be read.
        """
        try:
            return database.execute(text, values).fetchall()
        except sqlite3.Error as error:
            path = next(one for one, opened in self._open.items() if opened is database)
            raise ConfigError(str(path), f"cannot be read: {error}", _DAMAGED) from error

    # -- partitions ----------------------------------------------------------------------------

    def _files(self) -> list[pathlib.Path]:
        try:
            return [path for _, _, path in partition_files(self._folder)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(
                str(self._folder), f"cannot be read: {error.strerror}", _CURE
            ) from error

    def _newest_first(self) -> Iterator[sqlite3.Connection]:
        """Yield the partitions that are there now; those that went are closed."""
        files = self._files()
        for path in [path for path in self._open if path not in files]:
            self._open.pop(path).close()
        for path in reversed(files):
            with contextlib.suppress(FileNotFoundError):
                yield self._opened(path)

    def _opened(self, path: pathlib.Path) -> sqlite3.Connection:
        database = self._open.get(path)
        if database is None:
            try:
                database = open_to_read(path)
            except sqlite3.Error as error:
                if not path.exists():
                    raise FileNotFoundError(path) from error  # let go meanwhile
                raise ConfigError(str(path), f"cannot be read: {error}", _CURE) from error
            self._open[path] = database
        return database


_BEYOND: Final = 1 << 62
_DAMAGED: Final = "what is wrong with it is said by: sluicegate log verify"
_CURE: Final = 'the gate makes one with store = "sqlite" in [log]; its group may read it'


def _driving_words(query: Query) -> tuple[Words | None, Query]:
    """Return words that all it chooses must have, and what is left to ask; None: there are none."""
    parts = query.parts if isinstance(query, All) else (query,)
    for index, part in enumerate(parts):
        if isinstance(part, Words):
            return part, All((*parts[:index], *parts[index + 1 :]))
    for part in parts:
        words = _words_in(part)
        if words:
            return Words(words), query
    return None, query


def _words_in(query: Query) -> tuple[str, ...]:
    """Return words that stand one behind the other wherever a text with stars is found."""
    if not isinstance(query, Compare) or query.operator is not Operator.IS:
        return ()
    pattern = query.values[0]
    if query.field.name not in {"host", *SEARCHED} or len(query.values) > 1:
        return ()
    if not isinstance(pattern, Pattern) or pattern.is_exact:
        return ()
    found: list[tuple[str, ...]] = []
    for index, piece in enumerate(pattern.pieces):
        words = tuple(words_of(piece))
        begins_whole = index == 0 or not piece[:1].isalnum()
        found.append(words if begins_whole else words[1:])
    return max(found, key=lambda words: len("".join(words)))
