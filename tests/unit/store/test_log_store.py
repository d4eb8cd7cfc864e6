"""The store's writer in a folder: files by day and size, the key, versions."""

from __future__ import annotations

import json
import pathlib
import sqlite3
import stat

import pytest

from sluicegate.audit.search import EVERYTHING, parse_query
from sluicegate.audit.search.words import indexed_text, texts_searched
from sluicegate.audit.store import ChainKey, StoreReader, verify_store
from sluicegate.audit.store.sqlite_partition import SqlitePartition, partition_files
from sluicegate.audit.store.sqlite_reading import SqliteReading
from sluicegate.errors import ConfigError
from sluicegate.testing.clock import ManualClock

from .store_kit import fill, open_store, sqlite


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0, 1_750_000_000.0)


def numbers_in(folder: pathlib.Path, clock: ManualClock) -> list[int]:
    reader = StoreReader(sqlite(folder), clock)
    found = [record.seq for record in reader.read(EVERYTHING)]
    reader.close()
    return found


def test_day_with_more_than_one_file_holds_has_several(
    tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.log_store.PARTITION_BYTES_MAX", 140_000)
    store = open_store(tmp_path, clock)
    fill(store, clock, 600, batch=100)
    store.close()
    assert [number for _, number, _ in partition_files(tmp_path)] == [1, 2, 3]
    assert numbers_in(tmp_path, clock) == list(range(1, 601))


def test_key_is_for_its_owner_alone(tmp_path: pathlib.Path, clock: ManualClock) -> None:
    open_store(tmp_path, clock).close()
    key = tmp_path / "chain.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it"):
        ChainKey.open(key)
    key.chmod(0o600)
    key.write_text("nonsense", encoding="ascii")
    for _ in range(2):  # a store that could not be opened is locked by nobody
        with pytest.raises(ConfigError, match="holds no private key"):
            open_store(tmp_path, clock)


def test_partition_of_another_version_is_refused(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    store = open_store(tmp_path, clock)
    fill(store, clock, 1)
    store.close()
    ((_, _, path),) = partition_files(tmp_path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(sqlite3.DatabaseError, match="is of version 99"):
        SqlitePartition(path)
    reader = StoreReader(sqlite(tmp_path), clock)
    with pytest.raises(ConfigError, match="is of version 99"):
        reader.search(parse_query("", 0), 1, seconds_max=1)


def test_store_that_is_removed_while_somebody_reads_is_an_error_with_a_cure(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    store = open_store(tmp_path, clock)
    fill(store, clock, 3)
    store.close()
    reader = StoreReader(sqlite(tmp_path), clock)
    ((_, _, path),) = partition_files(tmp_path)
    (unread,) = reader._readings.newest_first()
    path.unlink()
    assert isinstance(unread, SqliteReading)
    for end in (unread.end, lambda: reader.end):
        with pytest.raises(ConfigError, match="there is no store of records"):
            end()
    reader.close()


def test_half_made_partition_of_a_killed_writer_is_made_anew(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    (tmp_path / "records-2025-06-15.1.new").write_bytes(b"half")
    store = open_store(tmp_path, clock)
    fill(store, clock, 1)
    store.close()
    assert numbers_in(tmp_path, clock) == [1]


EARLIER = {
    1: "ALTER TABLE records DROP COLUMN request; ALTER TABLE records DROP COLUMN parent;",
    2: "CREATE INDEX by_host ON records (host) WHERE host <> '';",
}
"""What makes a partition one of an earlier version, beside an index of words without terms."""


@pytest.mark.parametrize("version", EARLIER)
def test_partition_of_an_earlier_version_is_read_and_another_one_is_begun(
    tmp_path: pathlib.Path, clock: ManualClock, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.reading.SEARCH_FIRST_RECORDS", 5)
    store = open_store(tmp_path, clock)
    lines = fill(store, clock, 20)
    store.close()
    ((_, _, path),) = partition_files(tmp_path)
    database = sqlite3.connect(path)
    ((words,),) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'words'")
    database.executescript(
        f"DROP TABLE words; {words}; {EARLIER[version]} PRAGMA user_version = {version}"
    )
    for number, line in enumerate(lines, 1):
        text = indexed_text(texts_searched(json.loads(line)))
        database.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text))
    database.commit()
    database.close()
    store = open_store(tmp_path, clock)
    fill(store, clock, 20)
    store.close()
    assert [number for _, number, _ in partition_files(tmp_path)] == [1, 2]
    reader = StoreReader(sqlite(tmp_path), clock)
    for text, expected in (
        ("", 40),
        ("host:h1.example.com", 14),
        ("client:10.0.0.1", 10),
        ("connection:C-7", 2),
        ('"example com file"', 40),
    ):
        found = reader.search(parse_query(text, 0), 50, seconds_max=60)
        assert len(found.records) == expected, text
    assert [record.seq for record in reader.about("c-7", before=99)] == [14, 15]
    assert [record.seq for record in reader.about("r-31", before=99)] == [31]
    reader.close()
    public = ChainKey.open(tmp_path / "chain.key").public
    assert verify_store(sqlite(tmp_path), public).faults == []
