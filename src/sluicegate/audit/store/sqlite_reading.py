"""SqliteReadings: the files of a folder, open for questions, whoever writes the newest meanwhile.

``reader`` has one where the store is SQLite's. The invariant: what is asked for the newest first is
walked in that order, or found by an index that leaves little to sort.
"""

from __future__ import annotations

import json
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from typing_extensions import override

from sluicegate.audit.search.query import All, Compare, Operator, Pattern, Query, Words
from sluicegate.audit.search.sql import Dialect, Parameter, SqliteDialect
from sluicegate.audit.search.words import SEARCHED, words_of
from sluicegate.errors import ConfigError

from .partition import LogPosition
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
        ((last, text),) = self.ask(
            "SELECT coalesce((SELECT max(seq) FROM records), first.value - 1), position.value"
            " FROM facts AS first, facts AS position"
            " WHERE first.name = 'first' AND position.name = 'position'"
        )
        return int(last), LogPosition(*json.loads(text))

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
    def select(
        self, query: Query, numbers: tuple[int, int], limit: int, *, newest_first: bool
    ) -> list[StoredRecord]:
        driver, rest = _driving_words(query)
        condition = self.dialect.condition(rest)
        values: list[Parameter]
        if driver is None:
            source, number = "records", "seq"
            values = []
        else:
            # The index of words is walked in the order of numbers, so nothing is sorted.
            source, number = "words JOIN records ON seq = words.rowid", "words.rowid"
            values = [SqliteDialect.phrase(driver.words)]
        matches = "words MATCH ? AND " if driver is not None else ""
        order = "DESC" if newest_first else "ASC"
        rows = self.ask(
            f"SELECT seq, body FROM {source} WHERE {matches}{number} BETWEEN ? AND ?"  # noqa: S608 - our own words
            f" AND ({condition.text}) ORDER BY {number} {order} LIMIT ?",
            [*values, *numbers, *condition.values, limit],
        )
        return [StoredRecord(*row) for row in rows]


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
            raise ConfigError(str(folder), "there is no store of records", _CURE)

    def newest_first(self) -> Iterator[SqliteReading]:
        """As in ``Readings``."""
        files = self._files()
        for path in [path for path in self._open if path not in files]:
            self._open.pop(path).close()
        for path in reversed(files):
            yield self._open.setdefault(path, SqliteReading(path))

    def end(self) -> tuple[int, LogPosition]:
        """As in ``Readings``."""
        return next(iter(self.newest_first())).end()

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
