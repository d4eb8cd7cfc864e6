"""What somebody did to a store behind our back is found, in either database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from sluicegate.audit.store import (
    ChainKey,
    LogStore,
    PostgresPlace,
    SqlitePlace,
    StorePlace,
    verify_store,
)
from sluicegate.audit.store.sqlite_partition import partition_files
from sluicegate.testing.clock import ManualClock
from tests.real.postgres_parts import Cluster
from tests.unit.store.store_kit import DAY_S, KEPT, fill

Change = Callable[[str], None]


@pytest.fixture
def change(
    place: StorePlace, clock: ManualClock, request: pytest.FixtureRequest
) -> tuple[StorePlace, Change]:
    """Fill a store of two days with thirty records each; return how to change the older day."""
    store = LogStore(place, clock, KEPT)
    fill(store, clock, 30)
    clock.advance(DAY_S)
    fill(store, clock, 30)
    store.close()

    def by_sqlite(script: str) -> None:
        database = sqlite3.connect(partition_files(place.path)[0][2])
        database.executescript(script.format("", EMPTY="zeroblob(32)"))
        database.close()

    def by_postgres(script: str) -> None:
        assert isinstance(place, PostgresPlace)
        server: Cluster = request.getfixturevalue("postgres")
        statements = script.format("_20250615_1", EMPTY="sha256('')").split(";")
        server.execute(f"SET search_path TO {place.schema}", *statements)

    return place, by_sqlite if isinstance(place, SqlitePlace) else by_postgres


def public_of(place: StorePlace) -> bytes:
    return bytes.fromhex((place.path / "chain.pub").read_text(encoding="ascii"))


CHANGES = [
    ("UPDATE records{0} SET body = replace(body, 'file', 'life') WHERE seq = 7", "are not what"),
    ("DELETE FROM records{0} WHERE seq = 7", "some of records 1 to 10 are missing"),
    (
        "DELETE FROM records{0} WHERE seq BETWEEN 11 AND 20; DELETE FROM links{0} WHERE first = 11",
        "record 11 and those behind it are missing",
    ),
    (
        "DELETE FROM records{0} WHERE seq > 20; DELETE FROM links{0} WHERE first > 20",
        "does not go on where the one before it ends",
    ),
    (
        (
            "UPDATE records{0} SET seq = 1000 WHERE seq = 7; UPDATE records{0} SET seq = 7"
            " WHERE seq = 8; UPDATE records{0} SET seq = 8 WHERE seq = 1000"
        ),
        "are not what",
    ),
    ("UPDATE records{0} SET seq = 1007 WHERE seq = 30", "1 records are in no link"),
    ("UPDATE links{0} SET link = {EMPTY} WHERE first = 11", "are not what"),
    ("UPDATE checkpoints{0} SET time = time + 1", "is not signed by this key"),
    ("UPDATE checkpoints{0} SET link = {EMPTY}", "is not signed by this key"),
    ("DROP TABLE links{0}", "cannot be read"),
]


def test_store_that_nobody_touched_is_whole(change: tuple[StorePlace, Change]) -> None:
    place, _ = change
    told: list[int] = []
    found = verify_store(place, public_of(place), on_progress=told.append)
    assert found.faults == []
    assert (found.first, found.last, found.signed_last) == (1, 60, 60)
    assert found.checkpoints >= 2
    assert told == [10, 20, 30, 40, 50, 60]
    assert verify_store(place, public_of(place), expected=found.link).faults == []
    assert "cut off" in verify_store(place, public_of(place), expected=bytes(31) + b"1").faults[0]


@pytest.mark.parametrize(("script", "words"), CHANGES)
def test_change_behind_our_back_is_found(
    change: tuple[StorePlace, Change], script: str, words: str
) -> None:
    place, by = change
    by(script)
    faults = verify_store(place, public_of(place)).faults
    assert any(words in fault for fault in faults), faults


def test_store_of_another_key_is_found(change: tuple[StorePlace, Change]) -> None:
    place, _ = change
    faults = verify_store(place, ChainKey.generate().public).faults
    assert faults
    assert all("not signed by this key" in fault for fault in faults)
