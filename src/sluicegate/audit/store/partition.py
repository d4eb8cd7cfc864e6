"""Partition: one file of the store, with the records of a day or of a part of one.

``log_store`` fills the newest, ``reader`` opens them all. The invariant: records, their words,
totals, link and where in the log they end are written in one transaction or not at all.

SQLite in WAL mode (sqlite.org/wal.html): readers never wait for the writer. A partition is never
changed but at its end, and goes as a whole, so nothing is ever deleted within a file.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.audit.search.matching import address_key
from sluicegate.audit.search.sql import COLUMNS
from sluicegate.audit.search.words import host_of_record, searched_text
from sluicegate.errors import ConfigError
from sluicegate.log_limits import STORE_CACHE_BYTES, STORE_KEYS_KNOWN_MAX, STORE_WAIT_MS

from . import totals
from .chain import Checkpoint, link_of

__all__ = [
    "LogPosition",
    "Partition",
    "has_store",
    "open_to_read",
    "partition_files",
    "partition_path",
]

_VERSION: Final = 1

_TEXTS: Final = ", ".join(f"{name} TEXT NOT NULL COLLATE NOCASE" for name in COLUMNS)
_KEYS: Final = ("client_key", "server_key", "peer_key")
_SCHEMA: Final = (
    (
        f"CREATE TABLE records (seq INTEGER PRIMARY KEY, time REAL NOT NULL, {_TEXTS},"
        " client_key BLOB, server_key BLOB, peer_key BLOB, body TEXT NOT NULL)"
    ),
    "CREATE INDEX by_client ON records (client_key) WHERE client_key IS NOT NULL",
    "CREATE INDEX by_host ON records (host) WHERE host <> ''",
    "CREATE INDEX by_connection ON records (connection) WHERE connection <> ''",
    # The records have the texts; what is kept here is the index alone.
    (
        "CREATE VIRTUAL TABLE words USING fts5 (text, content='', columnsize=0,"
        " tokenize='unicode61 remove_diacritics 0')"
    ),
    (
        "CREATE TABLE links (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, link BLOB NOT NULL,"
        " time_min REAL NOT NULL, time_max REAL NOT NULL)"
    ),
    (
        "CREATE TABLE checkpoints (last INTEGER NOT NULL, link BLOB NOT NULL, time REAL NOT NULL,"
        " first INTEGER NOT NULL, signature BLOB NOT NULL)"
    ),
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    *totals.SCHEMA,
)
_MARKS: Final = ", ".join("?" * (2 + len(COLUMNS) + len(_KEYS) + 1))
_ADD: Final = f"INSERT INTO records VALUES ({_MARKS})"  # noqa: S608 - our own words
_ADD_WORDS: Final = "INSERT INTO words (rowid, text) VALUES (?, ?)"
_ADD_LINK: Final = "INSERT INTO links VALUES (?, ?, ?, ?, ?)"
_SET: Final = "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"

_NAME: Final = re.compile(r"records-(\d{4}-\d{2}-\d{2})\.(\d{1,6})\.sqlite", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where in the log's files a store is."""

    inode: int = 0
    """Of the file; 0: nothing was read."""
    offset: int = 0
    """Bytes of it that are stored."""
    mark: str = ""
    """What its first line is known by."""


def partition_path(folder: pathlib.Path, day: str, number: int) -> pathlib.Path:
    """Return the path of a partition of a day, ``2026-11-28``; a day has them from 1 on."""
    return folder / f"records-{day}.{number}.sqlite"


def partition_files(folder: pathlib.Path) -> list[tuple[str, int, pathlib.Path]]:
    """Return the partitions of a folder with their days and numbers, the oldest first."""
    found = [
        (name[1], int(name[2]), path)
        for path in folder.iterdir()
        if (name := _NAME.fullmatch(path.name)) is not None
    ]
    return sorted(found)


def has_store(folder: pathlib.Path) -> bool:
    """Tell whether there is a store in a folder.

    Raises:
        ConfigError: It may not be looked into.
    """
    try:
        return folder.is_dir() and bool(partition_files(folder))
    except OSError as error:
        raise ConfigError(str(folder), f"cannot be read: {error.strerror}") from error


class Partition:
    """One file, open for its writer; there is one writer."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open a file that ``make`` has made.

        Raises:
            sqlite3.Error: It cannot be opened, or is no partition.
        """
        self.path = path
        self._database = sqlite3.connect(path, isolation_level=None, timeout=STORE_WAIT_MS / 1000)
        try:
            self._open()
        except sqlite3.Error:
            self._database.close()
            raise

    def _open(self) -> None:
        execute = self._database.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise sqlite3.DatabaseError(f"is of version {version}, this one writes {_VERSION}")
        # A power failure may take the last transactions, never the file; a killed process takes
        # none. What is taken is read from the log again.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            execute(f"PRAGMA {pragma}")
        execute(f"PRAGMA cache_size = -{STORE_CACHE_BYTES >> 10}")
        (first,) = execute("SELECT value FROM facts WHERE name = 'first'").fetchone()
        self.first = int(first)
        #: The number of its first record, there or to come.
        (before,) = execute("SELECT value FROM facts WHERE name = 'before'").fetchone()
        row = execute("SELECT last, link FROM links ORDER BY first DESC LIMIT 1").fetchone()
        last, link = row if row is not None else (self.first - 1, before)
        self.last, self.link = int(last), bytes(link)
        #: The number of its last record, and the link that ends with it.
        self._totals = totals.Totals(self._database)
        self._keys: dict[str, bytes | None] = {}

    @classmethod
    def make(
        cls, path: pathlib.Path, first: int, before: bytes, position: LogPosition
    ) -> Partition:
        """Make an empty one, whole or not at all.

        Args:
            path: There is no such file.
            first: The number of its first record.
            before: The link that its first one follows.
            position: Where its first record begins.

        Raises:
            sqlite3.Error: It cannot be made.
            OSError: It cannot be given its name.
        """
        partial = path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        database = sqlite3.connect(partial, isolation_level=None)
        with contextlib.closing(database):
            execute = database.execute
            execute("PRAGMA page_size = 8192")
            execute("BEGIN")
            for statement in _SCHEMA:
                execute(statement)
            facts = {"first": first, "before": before, "position": _written(position)}
            database.executemany(_SET, facts.items())
            execute(f"PRAGMA user_version = {_VERSION}")
            execute("COMMIT")
        partial.rename(path)
        return cls(path)

    @property
    def position(self) -> LogPosition:
        """Where in the log what it holds ends."""
        (text,) = self._database.execute(
            "SELECT value FROM facts WHERE name = 'position'"
        ).fetchone()
        return LogPosition(*json.loads(text))

    @property
    def signed_last(self) -> int:
        """The number of the last record that a checkpoint in it covers; 0: none is in it."""
        (last,) = self._database.execute("SELECT max(last) FROM checkpoints").fetchone()
        return int(last or 0)

    @property
    def bytes_used(self) -> int:
        """Bytes of its file."""
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    def append(
        self, lines: Sequence[bytes], records: list[dict[str, object]], position: LogPosition
    ) -> None:
        """Store a batch, with everything that goes with it.

        Args:
            lines: The records as they stand in the log, without line ends; one at least.
            records: The same, decoded.
            position: Where the last one ends.

        Raises:
            sqlite3.Error: They cannot be stored; nothing of them is.
        """
        first = self.last + 1
        rows = [
            self._row(seq, line, fields)
            for seq, (line, fields) in enumerate(zip(lines, records, strict=True), first)
        ]
        times = [_time_of(fields) for fields in records]
        words = [(seq, searched_text(fields)) for seq, fields in enumerate(records, first)]
        link = link_of(self.link, first, lines)
        last = first + len(lines) - 1
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(_ADD, rows)
            database.executemany(_ADD_WORDS, words)
            database.execute(_ADD_LINK, (first, last, link, min(times), max(times)))
            database.execute(_SET, ("position", _written(position)))
            self._totals.add(records)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self.last, self.link = last, link

    def move(self, position: LogPosition) -> None:
        """Note where in the log it is, when nothing there was a record.

        Raises:
            sqlite3.Error: It cannot be stored.
        """
        self._database.execute(_SET, ("position", _written(position)))

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint.

        Raises:
            sqlite3.Error: It cannot be stored.
        """
        self._database.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)",
            (
                checkpoint.last,
                checkpoint.link,
                checkpoint.time,
                checkpoint.first,
                checkpoint.signature,
            ),
        )

    def close(self) -> None:
        """Close the file; what the journal holds goes into it."""
        self._database.close()

    def _row(self, seq: int, line: bytes, fields: dict[str, object]) -> tuple[object, ...]:
        texts = [
            host_of_record(fields) if name == "host" else _text(fields.get(name))
            for name in COLUMNS
        ]
        keys = [self._key(fields.get(name)) for name in ("client", "server", "peer")]
        return (seq, _time_of(fields), *texts, *keys, line.decode("utf-8"))

    def _key(self, written: object) -> bytes | None:
        if not isinstance(written, str) or not written:
            return None
        host = written.rpartition(":")[0] or written
        if host not in self._keys:
            if len(self._keys) >= STORE_KEYS_KNOWN_MAX:
                self._keys.clear()
            self._keys[host] = address_key(written)
        return self._keys[host]


def open_to_read(path: pathlib.Path) -> sqlite3.Connection:
    """Open a partition for questions.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    database = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=STORE_WAIT_MS / 1000, check_same_thread=False
    )
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise sqlite3.DatabaseError(f"is of version {version}, this one reads {_VERSION}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time_of(fields: dict[str, object]) -> float:
    time = fields.get("time")
    return float(time) if isinstance(time, int | float) else 0.0


def _written(position: LogPosition) -> str:
    return json.dumps([position.inode, position.offset, position.mark])
