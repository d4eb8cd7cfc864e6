"""PostgresReadings: the partitions of a schema, open for questions.

``reader`` has one where the store is PostgreSQL's. The invariant: over its connection nothing can
be changed, and a server that was started anew is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import psycopg
from psycopg import errors
from typing_extensions import override

from sluicegate.audit.search.query import Query
from sluicegate.audit.search.sql import INDEXED_CHARACTERS, Dialect, Parameter, PostgresDialect
from sluicegate.errors import ConfigError

from .partition import PartitionName
from .place import PostgresPlace
from .position import LogPosition
from .postgres_connection import Connection, connect, said_of, telling
from .postgres_schema import check_version, suffix_of
from .reading import Rows, SqlReading, StoredRecord

__all__ = ["PostgresReading", "PostgresReadings", "has_tables"]


class PostgresReading(SqlReading):
    """The tables of one partition."""

    dialect: ClassVar[Dialect] = PostgresDialect()
    arrival: ClassVar[str] = "number"

    def __init__(self, all_: PostgresReadings, name: PartitionName) -> None:
        self.suffix = suffix_of(name)
        self.name = f"records{self.suffix}"
        self._all = all_
        self._partition = name

    @override
    def ask(self, text: str, values: Sequence[Parameter] = ()) -> Rows:
        return self._all.ask(text.replace("?", "%s"), values, self._partition)

    @override
    def begin(self) -> tuple[int, bytes] | None:
        rows = self._all.ask(
            "SELECT first, before FROM partitions WHERE day = %s AND piece = %s", self._partition
        )
        return (int(rows[0][0]), bytes(rows[0][1])) if rows else None

    @override
    def holding(
        self, texts: Sequence[str], numbers: tuple[int, int], *, newest_first: bool
    ) -> list[StoredRecord]:
        condition = " OR ".join("strpos(body, ?) > 0" for _ in texts) or "true"
        return self._records(condition, list(texts), numbers, -1, newest_first=newest_first)

    @override
    def about(self, identifier: str) -> list[StoredRecord] | None:
        tests = [
            f'left("{name}", {INDEXED_CHARACTERS}) = ? AND "{name}" = ?'
            for name in ("connection", "request", "parent")
        ]
        text = identifier.lower().replace("\0", "")
        found = [f"SELECT seq FROM records{self.suffix} WHERE {test}" for test in tests]  # noqa: S608 - our own words
        rows = self.ask(
            f"SELECT seq, body FROM records{self.suffix}"  # noqa: S608 - our own words
            f" WHERE seq IN ({' UNION '.join(found)}) ORDER BY seq",
            [text[:INDEXED_CHARACTERS], text] * len(tests),
        )
        return [StoredRecord(*row) for row in rows]

    @override
    def select(
        self, query: Query, numbers: tuple[int, int], limit: int, *, newest_first: bool
    ) -> list[StoredRecord]:
        condition = self.dialect.condition(query)
        return self._records(
            condition.text, condition.values, numbers, limit, newest_first=newest_first
        )

    def _records(
        self,
        condition: str,
        values: Sequence[Parameter],
        numbers: tuple[int, int],
        limit: int,
        *,
        newest_first: bool,
    ) -> list[StoredRecord]:
        order = "DESC" if newest_first else "ASC"
        bound = f" LIMIT {limit:d}" if limit >= 0 else ""
        rows = self.ask(
            f"SELECT seq, body FROM records{self.suffix} WHERE seq BETWEEN ? AND ?"  # noqa: S608 - our own words
            f" AND ({condition}) ORDER BY seq {order}{bound}",
            [*numbers, *values],
        )
        return [StoredRecord(*row) for row in rows]


class PostgresReadings:
    """The partitions of a schema; satisfies ``Readings``."""

    def __init__(self, place: PostgresPlace) -> None:
        """Connect.

        Raises:
            ConfigError: The server cannot be asked, or has no store.
        """
        self._place = place
        self._connection: Connection | None = None
        try:
            if not self._has_store():
                raise ConfigError(place.name, "there is no store of records", _CURE)
        except BaseException:
            self.close()
            raise

    def newest_first(self) -> Iterator[PostgresReading]:
        """As in ``Readings``."""
        rows = self.ask("SELECT day, piece FROM partitions ORDER BY day DESC, piece DESC")
        for day, piece in rows:
            yield PostgresReading(self, PartitionName(day.isoformat(), piece))

    def end(self) -> tuple[int, LogPosition]:
        """As in ``Readings``."""
        rows = self.ask("SELECT last, at FROM state")
        if not rows:
            raise ConfigError(self._place.name, "there is no store of records", _CURE)
        return int(rows[0][0]), LogPosition.from_text(rows[0][1])

    def ask(
        self, text: str, values: Sequence[object] = (), partition: PartitionName | None = None
    ) -> Rows:
        """Return the rows that the server answers with; none of a partition that was let go.

        Raises:
            ConfigError: It cannot be asked.
        """
        is_old = self._connection is not None
        try:
            return self._ask(text, values, partition)
        except (psycopg.OperationalError, errors.InsufficientPrivilege):
            if not is_old or not self._is_lost:
                with telling(self._place):
                    raise
            # The server was started anew since the last question, say: it is asked once more.
            self.close()
            with telling(self._place):
                return self._ask(text, values, partition)
        except psycopg.Error as error:
            cause, _ = said_of(error)
            where = self._place.name
            raise ConfigError(where, f"cannot be read: {cause}", _DAMAGED) from error

    def close(self) -> None:
        """As in ``Readings``."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, text: str, values: Sequence[object], partition: PartitionName | None) -> Rows:
        if self._connection is None:
            self._connection = connect(self._place, is_writer=False)
        try:
            return self._connection.execute(text.encode(), values).fetchall()
        except errors.UndefinedTable:
            if partition is None or self._is_there(partition):
                raise
            return []

    @property
    def _is_lost(self) -> bool:
        return self._connection is not None and self._connection.closed

    def _is_there(self, partition: PartitionName) -> bool:
        text = "SELECT 1 FROM partitions WHERE day = %s AND piece = %s"
        return bool(self._ask(text, partition, None))

    def _has_store(self) -> bool:
        if self._connection is None:
            self._connection = connect(self._place, is_writer=False)
        with telling(self._place):
            return check_version(self._connection, self._place)


def has_tables(place: PostgresPlace) -> bool:
    """Tell whether a store was ever begun there.

    Raises:
        ConfigError: The server cannot be asked.
    """
    connection = connect(place, is_writer=False)
    try:
        with telling(place):
            return check_version(connection, place)
    finally:
        connection.close()


_DAMAGED: Final = "what is wrong with it is said by: sluicegate log verify"
_CURE: Final = 'the gate makes one with store = "postgresql" in [log]'
