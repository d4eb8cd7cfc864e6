"""SqlitePartition: one file of the store, with the records of a day or of a part of one.

``log_store`` fills the newest, ``sqlite_reading`` opens them all. The invariant: what a batch
brings is written in one transaction or not at all.

SQLite in WAL mode (sqlite.org/wal.html): readers never wait for the writer. A partition is never
changed but at its end, and goes as a whole, so nothing is ever deleted within a file.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3
from collections.abc import Callable
from dataclasses import astuple
from typing import Final

from typing_extensions import override

from sluicegate.audit.search.sql import COLUMNS
from sluicegate.audit.search.words import indexed_text
from sluicegate.log_limits import STORE_CACHE_BYTES, STORE_WAIT_MS

from .chain import Checkpoint
from .partition import Batch, Partition, PartitionName
from .position import LogPosition
from .row import KEYS, Address, texts_of
from .terms import host_term, identifier_term, user_term

__all__ = [
    "VERSION",
    "SqlitePartition",
    "SqlitePartitions",
    "open_to_read",
    "partition_files",
    "partition_path",
]

VERSION: Final = 3
"""What is written."""
_READABLE: Final = frozenset({1, 2, VERSION})
"""Before version 3 the index of words has no ``terms``; version 1 has no columns ``request`` and
``parent``, and the places of words in its index."""

_TEXTS: Final = ", ".join(f"{name} TEXT NOT NULL COLLATE NOCASE" for name in COLUMNS)
_TOTALS: Final = (
    (
        "CREATE TABLE minutes (minute INTEGER, kind TEXT, result TEXT, rule TEXT, count INTEGER,"
        " bytes_to_client INTEGER, bytes_to_server INTEGER,"
        " PRIMARY KEY (minute, kind, result, rule)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE hours (hour INTEGER, subject TEXT, value TEXT, kind TEXT, result TEXT,"
        " count INTEGER, bytes INTEGER,"
        " PRIMARY KEY (hour, subject, value, kind, result)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE latencies (hour INTEGER, kind TEXT, bucket INTEGER, count INTEGER,"
        " PRIMARY KEY (hour, kind, bucket)) WITHOUT ROWID"
    ),
)

_SCHEMA: Final = (
    (
        f"CREATE TABLE records (seq INTEGER PRIMARY KEY, time REAL NOT NULL, {_TEXTS},"
        " client_key BLOB, server_key BLOB, peer_key BLOB, request TEXT, parent TEXT,"
        " body TEXT NOT NULL)"
    ),
    # The records have the texts, and say where the words stand; what is kept here is which records
    # have a word, or a term of a host, a client, a connection or a request.
    (
        "CREATE VIRTUAL TABLE words USING fts5 (text, content='', columnsize=0,"
        " detail=none, tokenize='unicode61 remove_diacritics 0')"
    ),
    # Its pieces are put together four times as late as they are by default: a fifth less is
    # written, and a question looks into some more of them.
    "INSERT INTO words (words, rank) VALUES ('automerge', 16)",
    (
        "CREATE TABLE links (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, link BLOB NOT NULL,"
        " time_min REAL NOT NULL, time_max REAL NOT NULL)"
    ),
    (
        "CREATE TABLE checkpoints (last INTEGER NOT NULL, link BLOB NOT NULL, time REAL NOT NULL,"
        " first INTEGER NOT NULL, signature BLOB NOT NULL)"
    ),
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    *_TOTALS,
)
_MARKS: Final = ", ".join("?" * (2 + len(COLUMNS) + len(KEYS) + 3))
_ADD: Final = f"INSERT INTO records VALUES ({_MARKS})"  # noqa: S608 - our own words
_ADD_WORDS: Final = "INSERT INTO words (rowid, text) VALUES (?, ?)"
_ADD_LINK: Final = "INSERT INTO links VALUES (?, ?, ?, ?, ?)"
_ADD_MINUTE: Final = (
    "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " count = count + excluded.count,"
    " bytes_to_client = bytes_to_client + excluded.bytes_to_client,"
    " bytes_to_server = bytes_to_server + excluded.bytes_to_server"
)
_ADD_HOUR: Final = (
    "INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " count = count + excluded.count, bytes = bytes + excluded.bytes"
)
_ADD_LATENCY: Final = (
    "INSERT INTO latencies VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " count = count + excluded.count"
)
_SET: Final = "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"

_NAME: Final = re.compile(r"records-(\d{4}-\d{2}-\d{2})\.(\d{1,6})\.sqlite", re.ASCII)


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


class SqlitePartition(Partition):
    """One file, open for its writer; there is one writer."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open a file that ``make`` has made.

        Raises:
            sqlite3.Error: It cannot be opened, or is no partition.
        """
        self.path = path
        self._database = sqlite3.connect(path, isolation_level=None, timeout=STORE_WAIT_MS / 1000)
        try:
            super().__init__(*self._open())
        except sqlite3.Error:
            self._database.close()
            raise

    def _open(self) -> tuple[int, int, bytes]:
        """Return its first and its last record, and its link."""
        execute = self._database.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version not in _READABLE:
            raise sqlite3.DatabaseError(f"is of version {version}, this one writes {VERSION}")
        self.is_outdated = version != VERSION
        # A power failure may take the last transactions, never the file; a killed process takes
        # none. What is taken is read from the log again.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            execute(f"PRAGMA {pragma}")
        execute(f"PRAGMA cache_size = -{STORE_CACHE_BYTES >> 10}")
        (first,) = execute("SELECT value FROM facts WHERE name = 'first'").fetchone()
        (before,) = execute("SELECT value FROM facts WHERE name = 'before'").fetchone()
        row = execute("SELECT last, link FROM links ORDER BY first DESC LIMIT 1").fetchone()
        last, link = row if row is not None else (int(first) - 1, before)
        return int(first), int(last), bytes(link)

    @classmethod
    def make(
        cls, path: pathlib.Path, first: int, before: bytes, position: LogPosition
    ) -> SqlitePartition:
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
            facts = {"first": first, "before": before, "position": position.text}
            database.executemany(_SET, facts.items())
            execute(f"PRAGMA user_version = {VERSION}")
            execute("COMMIT")
        partial.rename(path)
        return cls(path)

    @property
    @override
    def position(self) -> LogPosition:
        (text,) = self._database.execute(
            "SELECT value FROM facts WHERE name = 'position'"
        ).fetchone()
        return LogPosition.from_text(text)

    @property
    @override
    def signed_last(self) -> int:
        (last,) = self._database.execute("SELECT max(last) FROM checkpoints").fetchone()
        return int(last or 0)

    @property
    @override
    def bytes_used(self) -> int:
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    @override
    def move(self, position: LogPosition) -> None:
        self._database.execute(_SET, ("position", position.text))

    @override
    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._database.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)", astuple(checkpoint)
        )

    @override
    def close(self) -> None:
        """Close the file; what the journal holds goes into it."""
        self._database.close()

    @override
    def _store(self, batch: Batch) -> None:
        rows, words = _rows(batch, self._addresses.of)
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(_ADD, rows)
            database.executemany(_ADD_WORDS, words)
            database.execute(_ADD_LINK, batch.link_row)
            database.execute(_SET, ("position", batch.position.text))
            counted = self._totals.count(batch.entries)
            database.executemany(_ADD_MINUTE, counted.minutes)
            database.executemany(_ADD_HOUR, counted.hours)
            database.executemany(_ADD_LATENCY, counted.latencies)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    @override
    def _values_of(self, hour: int, subject: str) -> list[str]:
        rows = self._database.execute(
            "SELECT DISTINCT value FROM hours WHERE hour = ? AND subject = ?", (hour, subject)
        )
        return [value for (value,) in rows]


def _rows(
    batch: Batch, address: Callable[[str], Address]
) -> tuple[list[tuple[object, ...]], list[tuple[int, str]]]:
    """Return the columns of each record, and what the index of words has of each."""
    rows: list[tuple[object, ...]] = []
    words: list[tuple[int, str]] = []
    for seq, entry in batch.numbered:
        client, host, connection = address(entry.client), entry.host, entry.connection
        server = address(entry.server).key if entry.server else None
        peer = address(entry.peer).key if entry.peer else None
        request, parent = entry.request or None, entry.parent or None
        rows.append(
            (
                seq,
                entry.time,
                *texts_of(entry),
                client.key,
                server,
                peer,
                request,
                parent,
                entry.line,
            )
        )
        found = f"{indexed_text(entry.searched)} {client.terms}"
        if host:
            found += " " + host_term(host)
        if entry.user:
            found += " " + user_term(entry.user)
        for identifier in (connection, entry.session, request, parent):
            if identifier:
                found += " " + identifier_term(identifier)
        words.append((seq, found))
    return rows, words


class SqlitePartitions:
    """The files of a folder; satisfies ``Partitions``."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def names(self) -> list[PartitionName]:
        """As in ``Partitions``."""
        return [PartitionName(day, number) for day, number, _ in partition_files(self._folder)]

    def open(self, name: PartitionName) -> SqlitePartition:
        """As in ``Partitions``."""
        return SqlitePartition(self._path(name))

    def make(
        self, name: PartitionName, first: int, before: bytes, position: LogPosition
    ) -> SqlitePartition:
        """As in ``Partitions``."""
        return SqlitePartition.make(self._path(name), first, before, position)

    def size(self, name: PartitionName) -> int:
        """As in ``Partitions``."""
        return self._path(name).stat().st_size

    def first_of(self, name: PartitionName) -> int:
        """As in ``Partitions``."""
        with contextlib.closing(open_to_read(self._path(name))) as database:
            (first,) = database.execute("SELECT value FROM facts WHERE name = 'first'").fetchone()
        return int(first)

    def remove(self, name: PartitionName) -> str:
        """As in ``Partitions``."""
        path = self._path(name)
        for one in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(one).unlink(missing_ok=True)
        return path.name

    def close(self) -> None:
        """As in ``Partitions``; each file is closed by whoever has it."""

    def _path(self, name: PartitionName) -> pathlib.Path:
        return partition_path(self._folder, name.day, name.number)


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
        if version not in _READABLE:
            raise sqlite3.DatabaseError(f"is of version {version}, this one reads {VERSION}")
    except sqlite3.Error:
        database.close()
        raise
    return database
