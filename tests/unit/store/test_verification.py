"""What somebody did to a store behind our back is found; what we did to it is not."""

from __future__ import annotations

import os
import pathlib
import sqlite3

import pytest

from sluicegate.audit.store import ChainKey, verify_store
from sluicegate.audit.store.sqlite_partition import partition_files
from sluicegate.testing.clock import ManualClock

from .store_kit import DAY_S, fill, open_store, sqlite


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a store of two days with thirty records each."""
    clock = ManualClock(1000.0, 1_750_000_000.0)
    store = open_store(tmp_path, clock)
    fill(store, clock, 30)
    clock.advance(DAY_S)
    fill(store, clock, 30)
    store.close()
    return tmp_path


def public_of(folder: pathlib.Path) -> bytes:
    return bytes.fromhex((folder / "chain.pub").read_text(encoding="ascii"))


def test_store_that_nobody_touched_is_whole(folder: pathlib.Path) -> None:
    told: list[int] = []
    found = verify_store(sqlite(folder), public_of(folder), on_progress=told.append)
    assert found.faults == []
    assert (found.first, found.last, found.signed_last) == (1, 60, 60)
    assert found.checkpoints >= 2
    assert told == [10, 20, 30, 40, 50, 60]


CHANGES = [
    ("UPDATE records SET body = replace(body, 'file', 'life') WHERE seq = 7", "are not what was"),
    ("DELETE FROM records WHERE seq = 7", "some of records 1 to 10 are missing"),
    ("DELETE FROM records WHERE seq BETWEEN 11 AND 20", "some of records 11 to 20 are missing"),
    (
        "DELETE FROM records WHERE seq BETWEEN 11 AND 20; DELETE FROM links WHERE first = 11",
        "record 11 and those behind it are missing",
    ),
    (
        "DELETE FROM records WHERE seq > 20; DELETE FROM links WHERE first > 20",
        "does not go on where the one before it ends",
    ),
    (
        (
            "CREATE TEMP TABLE t AS SELECT seq, body FROM records WHERE seq IN (7, 8);"
            "UPDATE records SET body = (SELECT body FROM t WHERE t.seq = 15 - records.seq)"
            " WHERE seq IN (7, 8)"
        ),
        "are not what was",
    ),
    (
        (
            "INSERT INTO records SELECT seq + 1000, time, kind, verdict, outcome, host, rule,"
            " user, connection, session, client_key, server_key, peer_key, request, parent, body"
            " FROM records WHERE seq = 1"
        ),
        "1 records are in no link",
    ),
    ("UPDATE links SET link = zeroblob(32) WHERE first = 11", "are not what was"),
    ("UPDATE checkpoints SET time = time + 1", "is not signed by this key"),
    ("UPDATE checkpoints SET link = zeroblob(32)", "is not signed by this key"),
    ("UPDATE facts SET value = randomblob(32) WHERE name = 'before'", "are not what was"),
    ("UPDATE facts SET value = 3 WHERE name = 'first'", "are missing"),
    ("DROP TABLE links", "no such table"),
]


@pytest.mark.parametrize(("script", "words"), CHANGES)
def test_change_behind_our_back_is_found(folder: pathlib.Path, script: str, words: str) -> None:
    path = partition_files(folder)[0][2]
    database = sqlite3.connect(path)
    database.executescript(script)
    database.close()
    faults = verify_store(sqlite(folder), public_of(folder)).faults
    assert any(words in fault for fault in faults), faults


def test_chain_made_anew_without_the_key_is_found(folder: pathlib.Path) -> None:
    """Somebody who knows how links are made changes a record and every link behind it."""
    from sluicegate.audit.store.chain import link_of

    previous = bytes(32)
    for _, _, path in partition_files(folder):
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("UPDATE facts SET value = ? WHERE name = 'before'", (previous,))
        database.execute("UPDATE records SET body = replace(body, 'file-7', 'life') WHERE seq = 7")
        for first, last in database.execute("SELECT first, last FROM links").fetchall():
            rows = database.execute(
                "SELECT body FROM records WHERE seq BETWEEN ? AND ?", (first, last)
            )
            previous = link_of(previous, first, [body.encode() for (body,) in rows])
            database.execute("UPDATE links SET link = ? WHERE first = ?", (previous, first))
        database.close()
    faults = verify_store(sqlite(folder), public_of(folder)).faults
    assert any("says that the records before it were others" in fault for fault in faults)


def test_day_that_was_removed_is_found(folder: pathlib.Path) -> None:
    oldest, newest = (path for _, _, path in partition_files(folder))
    content = newest.read_bytes()
    newest.unlink()
    found = verify_store(sqlite(folder), public_of(folder))
    assert (found.faults, found.last) == ([], 30)  # whoever kept the last link sees it
    newest.write_bytes(content)
    oldest.unlink()
    assert verify_store(sqlite(folder), public_of(folder)).faults == [
        "the log begins with record 31, and should with 1"
    ]


def test_store_without_signatures_and_one_of_another_key_are_found(folder: pathlib.Path) -> None:
    other = ChainKey.generate().public
    assert all(
        "not signed by this key" in fault for fault in verify_store(sqlite(folder), other).faults
    )
    for _, _, path in partition_files(folder):
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("DELETE FROM checkpoints")
        database.close()
    assert verify_store(sqlite(folder), public_of(folder)).faults == ["nothing in it is signed"]


def test_file_that_is_no_database_is_found(folder: pathlib.Path) -> None:
    partition_files(folder)[0][2].write_bytes(b"not a database")
    assert "cannot be read" in verify_store(sqlite(folder), public_of(folder)).faults[0]


def test_store_that_has_just_begun_is_signed_already(
    tmp_path: pathlib.Path,
) -> None:
    clock = ManualClock(1000.0, 1_750_000_000.0)
    store = open_store(tmp_path / "records", clock)
    store.sign_when_due()  # as a keeper does that finds nothing
    fill(store, clock, 3)
    found = verify_store(sqlite(tmp_path / "records"), public_of(tmp_path / "records"))
    assert (found.faults, found.checkpoints, found.signed_last) == ([], 1, 3)
    store.close()


def test_what_a_killed_keeper_has_not_signed_its_successor_signs_at_once(
    tmp_path: pathlib.Path,
) -> None:
    clock = ManualClock(1000.0, 1_750_000_000.0)
    killed = open_store(tmp_path / "records", clock)
    fill(killed, clock, 3)
    killed._newest._database.execute("DELETE FROM checkpoints")
    killed._newest.close()
    os.close(killed._lock)
    store = open_store(tmp_path / "records", clock)
    store.sign_when_due()
    found = verify_store(sqlite(tmp_path / "records"), public_of(tmp_path / "records"))
    assert (found.faults, found.signed_last) == ([], 3)
    store.close()
