"""The store follows the log through rotations, kills and whatever is done to its files."""

from __future__ import annotations

import gzip
import os
import pathlib
import random
import sqlite3

import pytest

from sluicegate.audit.search import EVERYTHING
from sluicegate.audit.store import Follower, LogPosition, LogStore, StoreReader
from sluicegate.audit.store.filler import Filler
from sluicegate.log_limits import STORE_BATCH_RECORDS_MAX, STORE_LOOK_S, STORE_READ_BYTES_MAX
from sluicegate.testing.clock import ManualClock

from .store_kit import KEPT, line_of, sqlite


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0, 1_750_000_000.0)


class Log:
    """The log's files, as the gate and a rotation write them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "records.jsonl"
        self.path.touch()
        self.written: list[bytes] = []
        self._rotations = 0

    def write(self, count: int, path: pathlib.Path | None = None) -> None:
        with (path or self.path).open("ab") as file:
            for _ in range(count):
                line = line_of(len(self.written) + 1, 1_750_000_000.0)
                self.written.append(line)
                file.write(line + b"\n")

    def move(self) -> pathlib.Path:
        """Move the file away, as the first half of a rotation does."""
        self._rotations += 1
        moved = self.path.with_name(f"records.jsonl-{20_250_615 + self._rotations}")
        self.path.rename(moved)
        os.utime(moved, (1000 + self._rotations, 1000 + self._rotations))
        return moved

    def rotate(self) -> pathlib.Path:
        moved = self.move()
        self.path.touch()
        return moved


@pytest.fixture
def log(tmp_path: pathlib.Path) -> Log:
    return Log(tmp_path)


def read_all(follower: Follower) -> list[bytes]:
    lines: list[bytes] = []
    while (chunk := follower.read()) is not None:
        lines += chunk.lines
    return lines


def no_gap(cause: str) -> None:
    raise AssertionError(cause)


def test_lines_come_in_their_order_through_rotations(log: Log) -> None:
    log.write(3)
    log.rotate()
    log.write(2)
    follower = Follower(log.path, LogPosition(), no_gap)
    found = read_all(follower)
    log.write(4)
    found += read_all(follower)
    for _ in range(3):
        log.rotate()
        log.write(2)
    found += read_all(follower)
    assert found == log.written
    follower.close()


def test_file_is_left_only_when_its_writer_has_left_it(log: Log) -> None:
    log.write(3)
    follower = Follower(log.path, LogPosition(), no_gap)
    read_all(follower)
    moved = log.rotate()
    assert read_all(follower) == []
    log.write(2, moved)  # the writer was not told yet
    log.write(2)
    assert [*log.written[:3], *read_all(follower)] == log.written
    follower.close()


def test_line_that_is_not_whole_waits(log: Log) -> None:
    log.write(1)
    with log.path.open("ab") as file:
        file.write(b'{"time":')
    follower = Follower(log.path, LogPosition(), no_gap)
    assert read_all(follower) == log.written
    with log.path.open("ab") as file:
        file.write(b'1}\n{"')
    assert read_all(follower) == [b'{"time":1}']
    follower.close()


def test_batch_is_bounded_and_its_position_is_exact(log: Log) -> None:
    log.write(STORE_BATCH_RECORDS_MAX + 7)
    follower = Follower(log.path, LogPosition(), no_gap)
    first = follower.read()
    assert first is not None
    assert len(first.lines) == STORE_BATCH_RECORDS_MAX
    assert first.position.offset == sum(len(line) + 1 for line in first.lines)
    follower.close()
    again = Follower(log.path, first.position, no_gap)
    assert [*first.lines, *read_all(again)] == log.written
    again.close()


def test_line_longer_than_any_record_is_said_and_passed_by(log: Log) -> None:
    said: list[str] = []
    log.write(1)
    with log.path.open("ab") as file:
        file.write(b"x" * (2 * STORE_READ_BYTES_MAX) + b"\n")
    log.write(1)
    follower = Follower(log.path, LogPosition(), said.append)
    assert read_all(follower) == log.written
    assert len(said) == 1
    assert f"a line of {2 * STORE_READ_BYTES_MAX + 1} bytes" in said[0]
    follower.close()


def test_file_that_was_compressed_before_it_was_read_whole_is_read_by_who_has_it(log: Log) -> None:
    log.write(3)
    follower = Follower(log.path, LogPosition(), no_gap)
    follower.read()
    moved = log.rotate()
    log.write(1, moved)
    moved.with_suffix(".gz").write_bytes(gzip.compress(moved.read_bytes()))
    moved.unlink()
    log.write(1)
    assert [*log.written[:3], *read_all(follower)] == log.written
    follower.close()


@pytest.mark.parametrize("is_same_number", [False, True])
def test_file_that_is_gone_is_said(log: Log, is_same_number: bool) -> None:
    said: list[str] = []
    log.write(3)
    follower = Follower(log.path, LogPosition(), no_gap)
    read_all(follower)
    ended = follower.read() or LogPosition(log.path.stat().st_ino, 1, "another")
    assert isinstance(ended, LogPosition)
    follower.close()
    inode = ended.inode if is_same_number else ended.inode + 1
    again = Follower(log.path, LogPosition(inode, 1, "another"), said.append)
    assert read_all(again) == log.written
    assert "is missing" in said[0]
    again.close()


def test_file_that_was_cut_in_place_is_said_and_read_from_its_beginning(log: Log) -> None:
    said: list[str] = []
    log.write(3)
    follower = Follower(log.path, LogPosition(), said.append)
    read_all(follower)
    os.truncate(log.path, 0)
    log.written.clear()
    log.write(1)
    assert read_all(follower) == log.written
    assert "was cut in place" in said[0]
    follower.close()


def test_bytes_behind_are_those_that_were_not_read(log: Log) -> None:
    follower = Follower(log.path, LogPosition(), no_gap)
    log.write(2)
    assert follower.bytes_behind == log.path.stat().st_size
    read_all(follower)
    assert follower.bytes_behind == 0
    log.write(1)
    rest = len(log.written[-1]) + 1
    log.rotate()
    log.write(1)
    assert follower.bytes_behind == rest + len(log.written[-1]) + 1
    follower.close()


def stored(folder: pathlib.Path, clock: ManualClock) -> list[bytes]:
    reader = StoreReader(sqlite(folder), clock)
    found = [record.line.encode() for record in reader.read(EVERYTHING)]
    reader.close()
    return found


def test_every_line_is_stored_once_whenever_the_filler_is_killed(
    log: Log, tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.follower.STORE_BATCH_RECORDS_MAX", 7)
    chance = random.Random(3)
    folder = tmp_path / "store"
    for _ in range(60):
        filler = Filler(log.path, sqlite(folder), KEPT, clock, no_gap)
        for _ in range(chance.randrange(6)):
            match chance.randrange(4):
                case 0:
                    log.rotate()
                case 1:
                    log.write(chance.randrange(30))
                case _:
                    filler.turn()
        # Killed: nothing is signed, and nothing closed in order.
        if filler._follower is not None:
            filler._follower.close()
        if filler._store is not None:
            filler._store._newest.close()
            os.close(filler._store._lock)
            filler._store = None
    last = Filler(log.path, sqlite(folder), KEPT, clock, no_gap)
    last.close()
    assert stored(folder, clock) == log.written
    assert len(log.written) > 200


def test_store_that_cannot_be_written_is_said_once_and_tried_again(
    log: Log, tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    folder = tmp_path / "store"
    filler = Filler(log.path, sqlite(folder), KEPT, clock, said.append)
    log.write(5)
    monkeypatch.setattr("sluicegate.audit.store.follower.STORE_BATCH_RECORDS_MAX", 4)

    def is_full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(LogStore, "append", is_full)
        assert [filler.turn() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
        assert "disk is full" in filler.failure
        assert filler.bytes_behind == log.path.stat().st_size
    assert len(said) == 1
    assert filler.turn() == 0.0
    assert filler.turn() == STORE_LOOK_S
    assert filler.failure == ""
    assert "records are stored again" in said[1]
    assert stored(folder, clock) == log.written
    filler.close()


def test_file_that_goes_while_files_are_listed_hides_no_other(
    log: Log, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    log.write(5)
    log.path.with_name("records.jsonl-20250101000000").symlink_to("gone")
    filler = Filler(log.path, sqlite(tmp_path / "store"), KEPT, clock, no_gap)
    assert filler.bytes_behind == log.path.stat().st_size
    filler.close()
    assert stored(tmp_path / "store", clock) == log.written


def test_closing_stores_what_is_left_in_every_file(
    log: Log, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    folder = tmp_path / "store"
    filler = Filler(log.path, sqlite(folder), KEPT, clock, no_gap)
    for _ in range(3):
        log.write(5)
        log.rotate()
    log.write(5)
    assert filler.turn() == STORE_LOOK_S, "the first file was read to its end"
    filler.close()
    assert stored(folder, clock) == log.written


def test_lines_that_are_no_records_are_said_and_passed_by_for_good(
    log: Log, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    said: list[str] = []
    log.path.write_bytes(b"nonsense\n{}\n")
    filler = Filler(log.path, sqlite(tmp_path / "store"), KEPT, clock, said.append)
    filler.turn()
    filler.close()
    again = Filler(log.path, sqlite(tmp_path / "store"), KEPT, clock, no_gap)
    assert again.turn() == STORE_LOOK_S
    again.close()
    assert said == [f"{log.path}: 2 lines are no records: left out"]
