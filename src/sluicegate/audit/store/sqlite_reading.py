"""SqliteReadings: the files of a folder, open for questions, whoever writes the newest meanwhile.

``reader`` has one where the store is SQLite's. The invariant: what is asked for the newest first is
walked in that order, or found by an index that leaves little to sort.
"""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

from typing_extensions import override

from sluicegate.audit.search.query import (
    All,
    Compare,
    Network,
    Operator,
    Pattern,
    Query,
    Words,
)
from sluicegate.audit.search.sql import (
    Dialect,
    Parameter,
    SqliteDialect,
    WalkingDialect,
)
from sluicegate.audit.search.words import SEARCHED, words_of
from sluicegate.errors import ConfigError
from sluicegate.log_limits import SEARCH_INDEXED_RECORDS, SEARCH_TERMS_MAX

from .position import LogPosition
from .reading import Rows, SqlReading, StoredRecord
from .sqlite_partition import open_to_read, partition_files
from .terms import host_term, identifier_term, network_terms, user_term

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
        if not self._has_terms:
            return None
        rows = self.ask(
            f"SELECT seq, body FROM {_FOUND} WHERE words MATCH ?"  # noqa: S608 - our own words
            " AND (connection = ? OR request = ? OR parent = ?) ORDER BY words.rowid",
            [SqliteDialect.quoted(identifier_term(identifier)), *[identifier] * 3],
        )
        return [StoredRecord(*row) for row in rows]

    @override
    def select(
        self, query: Query, numbers: tuple[int, int], limit: int, *, newest_first: bool
    ) -> list[StoredRecord]:
        return self._find("", query, numbers, limit, newest_first=newest_first)

    @override
    def older(
        self, query: Query, numbers: tuple[int, int], limit: int
    ) -> Iterator[tuple[list[StoredRecord], int]]:
        match = self._match_for(query, numbers)
        if match:
            yield self._find(match, query, numbers, limit, newest_first=True), numbers[0]
        else:
            yield from super().older(query, numbers, limit)

    @override
    def oldest(self, query: Query, numbers: tuple[int, int]) -> Iterator[StoredRecord]:
        match = self._match_for(query, numbers)
        if match:
            yield from self._find(match, query, numbers, -1, newest_first=False)
        else:
            yield from super().oldest(query, numbers)

    def _find(
        self,
        match: str,
        query: Query,
        numbers: tuple[int, int],
        limit: int,
        *,
        newest_first: bool,
    ) -> list[StoredRecord]:
        """Return what a query chooses, among what the index of words finds or among all."""
        condition = WalkingDialect().condition(query)
        source, number = (_FOUND, "words.rowid") if match else ("records", "seq")
        found, matched = ("words MATCH ? AND", [match]) if match else ("", [])
        order = "DESC" if newest_first else "ASC"
        rows = self.ask(
            f"SELECT seq, body FROM {source} WHERE {found} {number} BETWEEN ? AND ?"  # noqa: S608 - our own words
            f" AND ({condition.text}) ORDER BY {number} {order} LIMIT ?",
            [*matched, *numbers, *condition.values, limit],
        )
        return [StoredRecord(*row) for row in rows]

    def _match_for(self, query: Query, numbers: tuple[int, int]) -> str:
        """Return what the index of words finds the fewest records by; empty: never a few."""
        bound = SEARCH_INDEXED_RECORDS
        counted = [
            (count, number, match)
            for number, match in enumerate(_matches(query, has_terms=self._has_terms))
            if (count := self._count(match, numbers, bound)) < bound
        ]
        return min(counted)[2] if counted else ""

    def _count(self, match: str, numbers: tuple[int, int], bound: int) -> int:
        """Return how many records the index of words finds, counted to a bound."""
        rows = self.ask(
            "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ?"  # noqa: S608 - our own words
            f" AND rowid BETWEEN ? AND ? LIMIT {bound:d})",
            [match, *numbers],
        )
        return int(rows[0][0]) if rows else 0

    @property
    def _has_terms(self) -> bool:
        """Whether the index of words has more than words."""
        ((version,),) = self.ask("PRAGMA user_version") or [(0,)]
        return int(version) >= _TERMS_SINCE


_TERMS_SINCE: Final = 3
"""The version of partitions whose index of words finds hosts, clients and identifiers."""

_FOUND: Final = "words CROSS JOIN records ON seq = words.rowid"


def _matches(query: Query, *, has_terms: bool) -> Iterator[str]:
    """Yield what the index of words can be asked for: all that a query chooses has it."""
    words: list[tuple[str, ...]] = []
    for part in query.parts if isinstance(query, All) else (query,):
        if isinstance(part, Words):
            words.append(part.words)
        elif isinstance(part, Compare) and part.operator is Operator.IS:
            found = _words_in(part)
            if found:
                words.append(found)
            terms = _terms_in(part) if has_terms else []
            if 0 < len(terms) <= SEARCH_TERMS_MAX:
                yield " OR ".join(map(SqliteDialect.quoted, terms))
    matches = [match for found in words for match in SqliteDialect.terms(found)]
    yield from dict.fromkeys([*matches, " AND ".join(matches)] if matches else ())


_TERM_OF: Final[dict[str, Callable[[str], str]]] = {
    "host": host_term,
    "user": user_term,
    "connection": identifier_term,
    "session": identifier_term,
}


def _terms_in(query: Compare) -> list[str]:
    """Return terms of which each record has one that a comparison chooses; none: there are none."""
    term_of = _TERM_OF.get(query.field.name)
    terms: list[str] = []
    for value in query.values:
        if isinstance(value, Network) and query.field.name == "client":
            found = list(network_terms(value))
        elif isinstance(value, Pattern) and value.is_exact and value.pieces[0] and term_of:
            found = [term_of(value.pieces[0])]
        else:
            found = []
        if not found:
            return []
        terms += found
    return terms


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
