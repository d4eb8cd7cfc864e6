"""The store's writer: numbers without a gap, partitions by day and size, retention."""

from __future__ import annotations

import pathlib
import sqlite3
import stat

import pytest

from sluicegate.audit.search import EVERYTHING, parse_query
from sluicegate.audit.store import ChainKey, LogPosition, StoreReader, verify_store
from sluicegate.audit.store.log_store import Retention
from sluicegate.audit.store.sqlite_partition import SqlitePartition, partition_files
from sluicegate.errors import ConfigError
from sluicegate.testing.clock import ManualClock

from .store_kit import DAY_S, fill, line_of, open_store, sqlite


class SetClock(ManualClock):
    """A clock that somebody sets."""

    def __init__(self) -> None:
        super().__init__(1000.0, 1_750_000_000.0)
        self._set_back_s = 0.0

    def set_back(self, seconds: float) -> None:
        self._set_back_s += seconds

    def wall(self) -> float:
        return super().wall() - self._set_back_s


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def numbers_in(folder: pathlib.Path, clock: ManualClock) -> list[int]:
    reader = StoreReader(sqlite(folder), clock)
    found = [record.seq for record in reader.read(EVERYTHING)]
    reader.close()
    return found


def test_records_are_kept_as_they_came_and_numbered_from_one_on(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    store = open_store(tmp_path, clock)
    lines = fill(store, clock, 25)
    reader = StoreReader(sqlite(tmp_path), clock)
    found = list(reader.read(EVERYTHING))
    assert [record.seq for record in found] == list(range(1, 26))
    assert [record.line.encode() for record in found] == lines
    assert store.position == LogPosition(7, sum(len(line) + 1 for line in lines))
    reader.close()
    store.close()


def test_store_goes_on_where_it_ended(tmp_path: pathlib.Path, clock: ManualClock) -> None:
    store = open_store(tmp_path, clock)
    fill(store, clock, 5)
    position = store.position
    store.close()
    again = open_store(tmp_path, clock)
    assert (again.last, again.position) == (5, position)
    fill(again, clock, 5)
    again.close()
    assert numbers_in(tmp_path, clock) == list(range(1, 11))


def test_batch_that_fails_leaves_nothing_of_it_behind(
    tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, clock)
    fill(store, clock, 5)
    position = store.position

    def break_down(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr("sluicegate.audit.store.totals.Totals.count", break_down)
        with pytest.raises(sqlite3.OperationalError):
            store.append([line_of(6, clock.wall())], LogPosition(7, 9999))
    assert (store.last, store.position) == (5, position)
    fill(store, clock, 5)
    store.close()
    assert numbers_in(tmp_path, clock) == list(range(1, 11))
    public = ChainKey.open(tmp_path / "chain.key").public
    assert verify_store(sqlite(tmp_path), public).faults == []


def test_lines_that_are_no_records_are_counted_and_left_out(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    store = open_store(tmp_path, clock)
    wrong = [b"", b"{", b"[]", b'{"kind":"note"}', b'{"time":1,"x":"\xff"}', b"7"]
    store.append([*wrong, line_of(1, clock.wall())], LogPosition(7, 1))
    store.append(wrong, LogPosition(7, 2))
    assert (store.skipped, store.last) == (2 * len(wrong), 1)
    store.close()


def test_each_day_has_a_partition_of_its_own_and_time_never_goes_back(
    tmp_path: pathlib.Path, clock: SetClock
) -> None:
    store = open_store(tmp_path, clock)
    fill(store, clock, 3)
    clock.advance(DAY_S)
    fill(store, clock, 3)
    clock.set_back(2 * DAY_S)
    fill(store, clock, 3)
    store.close()
    assert [(day, number) for day, number, _ in partition_files(tmp_path)] == [
        ("2025-06-15", 1),
        ("2025-06-16", 1),
    ]
    assert numbers_in(tmp_path, clock) == list(range(1, 10))


def test_day_with_more_than_one_file_holds_has_several(
    tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.log_store.PARTITION_BYTES_MAX", 150_000)
    store = open_store(tmp_path, clock)
    fill(store, clock, 600, batch=100)
    store.close()
    assert [number for _, number, _ in partition_files(tmp_path)] == [1, 2, 3]
    assert numbers_in(tmp_path, clock) == list(range(1, 601))


def test_what_is_too_old_goes_and_the_chain_says_where_the_log_begins(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    store = open_store(tmp_path, clock, Retention(days=2, bytes_max=1 << 40))
    for _ in range(5):
        fill(store, clock, 4)
        clock.advance(DAY_S)
    assert [name[8:18] for name in store.retain()] == [
        "2025-06-15",
        "2025-06-16",
        "2025-06-17",
    ]
    assert store.retain() == []
    store.close()
    assert numbers_in(tmp_path, clock) == list(range(13, 21))
    verification = verify_store(sqlite(tmp_path), ChainKey.open(tmp_path / "chain.key").public)
    assert (verification.first, verification.last, verification.faults) == (13, 20, [])


def test_what_is_too_much_goes_but_never_the_newest(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    store = open_store(tmp_path, clock, Retention(days=90, bytes_max=1))
    for _ in range(3):
        fill(store, clock, 4)
        clock.advance(DAY_S)
    assert len(store.retain()) == 2
    store.close()
    assert numbers_in(tmp_path, clock) == list(range(9, 13))


def test_one_process_writes(tmp_path: pathlib.Path, clock: ManualClock) -> None:
    store = open_store(tmp_path, clock)
    with pytest.raises(ConfigError, match="another process"):
        open_store(tmp_path, clock)
    store.close()
    open_store(tmp_path, clock).close()


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


def test_half_made_partition_of_a_killed_writer_is_made_anew(
    tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    (tmp_path / "records-2025-06-15.1.new").write_bytes(b"half")
    store = open_store(tmp_path, clock)
    fill(store, clock, 1)
    store.close()
    assert numbers_in(tmp_path, clock) == [1]
