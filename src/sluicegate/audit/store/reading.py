"""Reading: questions to one partition of a store, in the words of its database.

``reader`` asks them of each partition in turn; ``sqlite_reading`` and ``postgres_reading`` are the
two kinds. The invariant: a partition that was let go meanwhile answers with nothing, and one that
cannot be read is an error that says which.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from sluicegate.audit.search.bounds import TimeBounds
from sluicegate.audit.search.matching import address_key
from sluicegate.audit.search.query import All, Compare, Network, Operator, Pattern, Query
from sluicegate.audit.search.sql import Dialect, Parameter
from sluicegate.log_limits import SEARCH_FIRST_RECORDS, SEARCH_SLICE_RECORDS

from .chain import Checkpoint
from .position import LogPosition
from .totals import COUNTED, OTHERS

__all__ = ["Link", "Readings", "Rows", "SqlReading", "StoredRecord"]

Rows: TypeAlias = list[tuple[Any, ...]]


class StoredRecord(NamedTuple):
    """One record of the store."""

    seq: int
    """Its number; later ones have greater numbers."""
    line: str
    """As it stands in the log."""


class Link(NamedTuple):
    """One link of the chain: the records of a batch."""

    first: int
    last: int
    link: bytes


class SqlReading(abc.ABC):
    """One partition, open for questions."""

    name: str
    """What people call it."""
    dialect: ClassVar[Dialect]
    suffix: str
    """What the names of its tables end with."""
    arrival: ClassVar[str]
    """The column that says in which order checkpoints came."""

    # -- what differs --------------------------------------------------------------------------

    @abc.abstractmethod
    def ask(self, text: str, values: Sequence[Parameter] = ()) -> Rows:
        """Return the rows that it answers with; ``?`` in the text stands for each value.

        There are none if it was let go meanwhile.

        Raises:
            ConfigError: It is damaged, or cannot be read.
        """

    @abc.abstractmethod
    def begin(self) -> tuple[int, bytes] | None:
        """Return the number of its first record, there or to come, and the link before that.

        None: it was let go meanwhile.

        Raises:
            ConfigError: It cannot be read.
        """

    @abc.abstractmethod
    def select(
        self, query: Query, numbers: tuple[int, int], limit: int, *, newest_first: bool
    ) -> list[StoredRecord]:
        """Return records that a query chooses, in order.

        Args:
            query: Which ones.
            numbers: The first and the last that are looked at.
            limit: At most so many; -1: all.
            newest_first: In this order; else the oldest first.

        Raises:
            ConfigError: It cannot be read.
        """

    @abc.abstractmethod
    def holding(
        self, texts: Sequence[str], numbers: tuple[int, int], *, newest_first: bool
    ) -> list[StoredRecord]:
        """Return the records in whose lines one of these texts stands; of no texts: all.

        Raises:
            ConfigError: It cannot be read.
        """

    def newest(
        self, query: Query, numbers: tuple[int, int], limit: int
    ) -> Iterator[tuple[list[StoredRecord], int]]:
        """Yield what a query chooses, the newest first, a slice at a time.

        Args:
            query: Which ones.
            numbers: The first and the last that are looked at.
            limit: At most so many, of all slices together.

        Yields:
            Records, and the number down to which all were looked at.

        Raises:
            ConfigError: It cannot be read.
        """
        first, last = numbers
        begin = max(first, last - min(SEARCH_FIRST_RECORDS, SEARCH_SLICE_RECORDS) + 1)
        found = self.select(query, (begin, last), limit, newest_first=True)
        yield found, begin
        limit -= len(found)
        if begin > first and limit > 0:
            yield from self.older(query, (first, begin - 1), limit)

    def older(
        self, query: Query, numbers: tuple[int, int], limit: int
    ) -> Iterator[tuple[list[StoredRecord], int]]:
        """Go on as ``newest``, where the first slice did not have enough."""
        first, last = numbers
        if self.rules_out(query):
            yield [], first
            return
        while first <= last and limit > 0:
            begin = max(first, last - SEARCH_SLICE_RECORDS + 1)
            found = self.select(query, (begin, last), limit, newest_first=True)
            yield found, begin
            limit, last = limit - len(found), begin - 1

    def oldest(self, query: Query, numbers: tuple[int, int]) -> Iterator[StoredRecord]:
        """Yield all that a query chooses, the oldest first, without a bound.

        Raises:
            ConfigError: It cannot be read.
        """
        first, last = numbers
        for begin in range(first, last + 1, SEARCH_SLICE_RECORDS):
            end = min(last, begin + SEARCH_SLICE_RECORDS - 1)
            yield from self.select(query, (begin, end), -1, newest_first=False)

    def rules_out(self, query: Query) -> bool:
        """Tell by the totals that nothing in it can be chosen: no such rule, no such client."""
        parts = query.parts if isinstance(query, All) else (query,)
        asked = {
            part.field.name: part
            for part in parts
            if isinstance(part, Compare) and part.operator is Operator.IS
        }
        kinds, rules = _exact(asked.get("kind")), _exact(asked.get("rule"))
        if rules:
            text = f"SELECT 1 FROM {{}} WHERE lower(rule) IN ({_marks(rules)})"  # noqa: S608 - our own words
            if kinds:
                text += f" AND kind IN ({_marks(kinds)})"
            if not self._from("minutes", f"{text} LIMIT 1", [*rules, *kinds]):
                return True
        client = asked.get("client")
        if client is None or not kinds or not COUNTED.issuperset(kinds):
            return False
        networks = [one for one in client.values if isinstance(one, Network)]
        rows = self._from(
            "hours",
            "SELECT DISTINCT value FROM {} WHERE subject = 'client'"  # noqa: S608 - our own words
            f" AND kind IN ({_marks(kinds)})",
            kinds,
        )
        return not any(_may_be_in(value, networks) for (value,) in rows)

    @abc.abstractmethod
    def about(self, identifier: str) -> list[StoredRecord] | None:
        """Return the records of a connection or a request, and those of others about it.

        Found by indexes, the oldest first. None: it has no such indexes.

        Raises:
            ConfigError: It cannot be read.
        """

    # -- what is common ------------------------------------------------------------------------

    def range_of(self, bounds: TimeBounds) -> tuple[int, int]:
        """Return its first and last record that may lie within bounds of time."""
        rows = self._from(
            "links",
            "SELECT min(first), max(last) FROM {} WHERE time_max >= ? AND time_min <= ?",
            (bounds.low, bounds.high),
        )
        return (rows[0][0], rows[0][1]) if rows and rows[0][0] is not None else (1, 0)

    def time_of(self, number: int) -> float | None:
        """Return the time of a record; None: it is not there."""
        rows = self._from("records", "SELECT time FROM {} WHERE seq = ?", (number,))
        return float(rows[0][0]) if rows else None

    def records(self, first: int, last: int) -> list[StoredRecord]:
        """Return all records from one number to another, the oldest first."""
        rows = self._from(
            "records",
            "SELECT seq, body FROM {} WHERE seq BETWEEN ? AND ? ORDER BY seq",
            (first, last),
        )
        return [StoredRecord(*row) for row in rows]

    def minutes(self, first: int, end: int, step: int) -> Rows:
        """Return totals of steps of so many minutes: time, kind, result, rule and three numbers."""
        return self._from(
            "minutes",
            "SELECT minute / ? * ? * 60, kind, result, rule, CAST(sum(count) AS bigint),"
            " CAST(sum(bytes_to_client) AS bigint), CAST(sum(bytes_to_server) AS bigint)"
            " FROM {} WHERE minute >= ? AND minute < ? GROUP BY 1, 2, 3, 4",
            (step, step, first, end),
        )

    def top(
        self, subject: str, first: int, last: int, kinds: Sequence[str], results: Sequence[str]
    ) -> Rows:
        """Return the values of a subject in some hours, with records and bytes."""
        chosen = "".join(
            f" AND {column} IN ({', '.join('?' * len(values))})"
            for column, values in (("kind", kinds), ("result", results))
            if values
        )
        return self._from(
            "hours",
            "SELECT value, CAST(sum(count) AS bigint), CAST(sum(bytes) AS bigint) FROM {}"  # noqa: S608 - our own words
            f" WHERE hour BETWEEN ? AND ? AND subject = ?{chosen} GROUP BY value",
            (first, last, subject, *kinds, *results),
        )

    def latencies(self, first: int, last: int) -> Rows:
        """Return the buckets of requests in some hours, with their numbers of records."""
        return self._from(
            "latencies",
            "SELECT bucket, CAST(sum(count) AS bigint) FROM {} WHERE hour BETWEEN ? AND ?"
            " GROUP BY 1",
            (first, last),
        )

    def links(self) -> Iterator[Link]:
        """Yield its links, the oldest first."""
        for first, last, link in self._from(
            "links", "SELECT first, last, link FROM {} ORDER BY first"
        ):
            yield Link(int(first), int(last), bytes(link))

    def count_outside(self, first: int, end: int) -> int:
        """Return how many records it has before one number, or from another on."""
        rows = self._from(
            "records", "SELECT count(*) FROM {} WHERE seq >= ? OR seq < ?", (end, first)
        )
        return int(rows[0][0]) if rows else 0

    def checkpoints(self) -> list[Checkpoint]:
        """Return its checkpoints, the oldest first."""
        rows = self._from(
            "checkpoints",
            f"SELECT last, link, time, first, signature FROM {{}} ORDER BY {self.arrival}",  # noqa: S608 - our own words
        )
        return [
            Checkpoint(int(last), bytes(link), float(time), int(first), bytes(signature))
            for last, link, time, first, signature in rows
        ]

    def _from(self, table: str, text: str, values: Sequence[Parameter] = ()) -> Rows:
        """Return the rows of a statement about one of its tables."""
        return self.ask(text.format(table + self.suffix), values)


def _exact(asked: Compare | None) -> list[str]:
    """Return the texts one of which a field has to have; none: it may have others."""
    found = [
        one.pieces[0]
        for one in (asked.values if asked is not None else ())
        if isinstance(one, Pattern) and one.is_exact and one.pieces[0]
    ]
    return found if asked is not None and len(found) == len(asked.values) else []


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _may_be_in(client: str, networks: Sequence[Network]) -> bool:
    """Tell whether a client, or one of those that were counted together, may be in networks."""
    if client == OTHERS:
        return True
    key = address_key(client)
    return key is not None and any(one.first <= key <= one.last for one in networks)


class Readings(Protocol):
    """All partitions of a store, for questions; used by one thread at a time."""

    def newest_first(self) -> Iterator[SqlReading]:
        """Yield the partitions that are there now; those that went are closed.

        Raises:
            ConfigError: The store cannot be read.
        """
        ...

    def end(self) -> tuple[int, LogPosition]:
        """Return the number of the newest record, and where in the log that record ends.

        Raises:
            ConfigError: The store cannot be read, or there is none.
        """
        ...

    def close(self) -> None:
        """Let go of all."""
        ...
