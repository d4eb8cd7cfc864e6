"""SqliteReadings: the files of a folder, open for questions, whoever writes the newest meanwhile.

``reader`` has one where the store is SQLite's. The invariant: what is asked for the newest first is
walked in that order, or found by an index that leaves little to sort.
"""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from typing_extensions import override

from sluicegate.audit.search.query import (
    All,
    Compare,
    Network,
    Operator,
    Pattern,
    Query,
    Value,
    Words,
)
from sluicegate.audit.search.sql import (
    Dialect,
    Parameter,
    SqliteDialect,
    Statement,
    WalkingDialect,
)
from sluicegate.audit.search.words import SEARCHED, words_of
from sluicegate.errors import ConfigError
from sluicegate.log_limits import (
    SEARCH_INDEXED_RECORDS,
)

from .position import LogPosition
from .reading import Rows, SqlReading, StoredRecord
from .sqlite_partition import open_to_read, partition_files

__all__ = ["SqliteReading", "SqliteReadings", "has_files"]


class SqliteReading(SqlReading):
    """One file."""

    dialect: ClassVar[Dialect] = SqliteDialect()
    suffix = ""
    arrival: ClassVar[str] = "rowid"

    def __init__(self, path: pathlib.Path) -> None:
        self.name = path.name
        self._path = path
        self._database: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @override
    def ask(self, text: str, values: Sequence[Parameter] = ()) -> Rows:
        try:
            if self._database is None:
                self._database = open_to_read(self._path)
                for name, function in SqliteDialect.functions.items():
                    self._database.create_function(name, 2, function, deterministic=True)
            return self._database.execute(text, values).fetchall()
        except sqlite3.Error as error:
            if self._database is None and not self._path.exists():
                return []  # let go meanwhile
            cure = _CURE if self._database is None else _DAMAGED
            raise ConfigError(str(self._path), f"cannot be read: {error}", cure) from error

    @override
    def begin(self) -> tuple[int, bytes] | None:
        facts: dict[str, Any] = dict(self.ask("SELECT name, value FROM facts"))
        return (int(facts["first"]), bytes(facts["before"])) if facts else None

    def end(self) -> tuple[int, LogPosition]:
        """Return the number of its newest record, and where in the log that record ends."""
        # One statement: both are of one moment.
        rows = self.ask(
            "SELECT coalesce((SELECT max(seq) FROM records), first.value - 1), position.value"
            " FROM facts AS first, facts AS position"
            " WHERE first.name = 'first' AND position.name = 'position'"
        )
        if not rows:
            raise _no_store(self._path.parent)
        ((last, text),) = rows
        return int(last), LogPosition.from_text(text)

    @override
    def holding(
        self, texts: Sequence[str], numbers: tuple[int, int], *, newest_first: bool
    ) -> list[StoredRecord]:
        condition = " OR ".join("instr(body, ?)" for _ in texts) or "1=1"
        order = "DESC" if newest_first else "ASC"
        rows = self.ask(
            f"SELECT seq, body FROM records WHERE seq BETWEEN ? AND ? AND ({condition})"  # noqa: S608 - our own words
            f" ORDER BY seq {order}",
            [*numbers, *texts],
        )
        return [StoredRecord(*row) for row in rows]

    @override
    def about(self, identifier: str) -> list[StoredRecord] | None:
        ((version,),) = self.ask("PRAGMA user_version") or [(0,)]
        if version < _INDEXED_SINCE:
            return None
        rows = self.ask(
            "SELECT seq, body FROM records WHERE seq IN ("
            "SELECT seq FROM records WHERE connection = ? AND connection <> ''"
            " UNION SELECT seq FROM records WHERE request = ?"
            " UNION SELECT seq FROM records WHERE parent = ?) ORDER BY seq",
            [identifier] * 3,
        )
        return [StoredRecord(*row) for row in rows]

    @override
    def select(
        self, query: Query, numbers: tuple[int, int], limit: int, *, newest_first: bool
    ) -> list[StoredRecord]:
        return self._find(_WALK, query, numbers, limit, newest_first=newest_first)

    @override
    def older(
        self, query: Query, numbers: tuple[int, int], limit: int
    ) -> Iterator[tuple[list[StoredRecord], int]]:
        index = self._index_for(query, numbers)
        if index is not None:
            yield self._find(index, query, numbers, limit, newest_first=True), numbers[0]
        else:
            yield from super().older(query, numbers, limit)

    @override
    def oldest(self, query: Query, numbers: tuple[int, int]) -> Iterator[StoredRecord]:
        index = self._index_for(query, numbers)
        if index is not None:
            yield from self._find(index, query, numbers, -1, newest_first=False)
        else:
            yield from super().oldest(query, numbers)

    def _find(
        self,
        index: _Index,
        query: Query,
        numbers: tuple[int, int],
        limit: int,
        *,
        newest_first: bool,
    ) -> list[StoredRecord]:
        condition = WalkingDialect().condition(query)
        order = "DESC" if newest_first else "ASC"
        rows = self.ask(
            f"SELECT seq, body FROM {index.source} WHERE {index.condition.text}"  # noqa: S608 - our own words
            f" AND {index.number} BETWEEN ? AND ? AND ({condition.text})"
            f" ORDER BY {index.number} {order} LIMIT ?",
            [*index.condition.values, *numbers, *condition.values, limit],
        )
        return [StoredRecord(*row) for row in rows]

    def _index_for(self, query: Query, numbers: tuple[int, int]) -> _Index | None:
        """Return the index that finds the fewest records for a query; None: none finds a few."""
        bound = SEARCH_INDEXED_RECORDS
        counted = [
            (count, number, index)
            for number, index in enumerate(_indexes(query))
            if (count := self._count(index, numbers, bound)) < bound
        ]
        return min(counted)[2] if counted else None

    def _count(self, index: _Index, numbers: tuple[int, int], bound: int) -> int:
        """Return how many records an index finds, counted to a bound."""
        rows = self.ask(
            f"SELECT count(*) FROM (SELECT 1 FROM {index.counted} WHERE {index.condition.text}"  # noqa: S608 - our own words
            f" AND {index.counted_number} BETWEEN ? AND ? LIMIT {bound:d})",
            [*index.condition.values, *numbers],
        )
        return int(rows[0][0]) if rows else 0


@dataclass(frozen=True, slots=True)
class _Index:
    """A way to records: what a statement reads, and what the index can tell by itself."""

    source: str
    number: str
    """The column with the records' numbers."""
    condition: Statement
    counted: str
    """What is read to count them: the index alone."""
    counted_number: str


_INDEXED_SINCE: Final = 2
"""The version of partitions that have columns for requests and for connections beside."""

_WALK: Final = _Index("records NOT INDEXED", "seq", Statement("1=1"), "records", "seq")


def _indexes(query: Query) -> Iterator[_Index]:
    """Yield the ways to all records that a query chooses, and to others."""
    dialect = SqliteDialect()
    words: list[tuple[str, ...]] = []
    for part in query.parts if isinstance(query, All) else (query,):
        if isinstance(part, Words):
            words.append(part.words)
        elif isinstance(part, Compare) and part.operator is Operator.IS:
            found = _words_in(part)
            if found:
                words.append(found)
            name = _BY_FIELD.get(part.field.name)
            if name is not None and all(map(_is_found, part.values)):
                source = f"records INDEXED BY {name}"
                yield _Index(source, "seq", dialect.test(part), source, "seq")
    source, number = "words CROSS JOIN records ON seq = words.rowid", "words.rowid"
    terms = [term for found in words for term in SqliteDialect.terms(found).split(" AND ")]
    for match in dict.fromkeys([*terms, " AND ".join(terms)] if terms else ()):
        condition = Statement("words MATCH ?", [match])
        yield _Index(source, number, condition, "words", "rowid")


_BY_FIELD: Final = {"client": "by_client", "host": "by_host", "connection": "by_connection"}


def _is_found(value: Value) -> bool:
    """Tell whether an index finds a value: addresses, and whole texts that are not empty."""
    if isinstance(value, Pattern):
        return value.is_exact and bool(value.pieces[0])
    return isinstance(value, Network)


def has_files(folder: pathlib.Path) -> bool:
    """Tell whether there is a store in a folder.

    Raises:
        ConfigError: It may not be looked into.
    """
    try:
        return folder.is_dir() and bool(partition_files(folder))
    except OSError as error:
        raise ConfigError(str(folder), f"cannot be read: {error.strerror}") from error


class SqliteReadings:
    """The files of a folder; satisfies ``Readings``."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Look for them.

        Raises:
            ConfigError: There is none, or the folder cannot be read.
        """
        self._folder = folder
        self._open: dict[pathlib.Path, SqliteReading] = {}
        if not self._files():
            raise _no_store(folder)

    def newest_first(self) -> Iterator[SqliteReading]:
        """As in ``Readings``."""
        files = self._files()
        for path in [path for path in self._open if path not in files]:
            self._open.pop(path).close()
        for path in reversed(files):
            yield self._open.setdefault(path, SqliteReading(path))

    def end(self) -> tuple[int, LogPosition]:
        """As in ``Readings``."""
        for reading in self.newest_first():
            return reading.end()
        raise _no_store(self._folder)

    def close(self) -> None:
        """As in ``Readings``."""
        for reading in self._open.values():
            reading.close()
        self._open.clear()

    def _files(self) -> list[pathlib.Path]:
        try:
            return [path for _, _, path in partition_files(self._folder)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(
                str(self._folder), f"cannot be read: {error.strerror}", _CURE
            ) from error


def _no_store(folder: pathlib.Path) -> ConfigError:
    return ConfigError(str(folder), "there is no store of records", _CURE)


_DAMAGED: Final = "what is wrong with it is said by: sluicegate log verify"
_CURE: Final = 'the gate makes one with store = "sqlite" in [log]; its group may read it'


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
