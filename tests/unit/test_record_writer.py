"""The record writer on the simulated port: batches, failures, rotation, and the bound."""

from __future__ import annotations

import asyncio
import json
import pathlib
import stat
from collections.abc import Iterator

import pytest

from sluicegate.audit import NoteRecord, RecordWriter
from sluicegate.errors import ConfigError
from sluicegate.limits import RECORD_FLUSH_DELAY_S, RECORD_RETRY_DELAY_S, Limits
from sluicegate.port import CompletionPort
from sluicegate.port.loop import PortEventLoop
from sluicegate.testing.faults import FaultPlan
from sluicegate.testing.simulated_port import SimulatedBackend

BOUND = 65536


class Desk:
    """A writer, its simulated port, and what it says about trouble."""

    def __init__(self, path: pathlib.Path, seed: int = 0) -> None:
        self.backend = SimulatedBackend(seed)
        limits = Limits(record_queue_bytes_max=BOUND)
        self.port = CompletionPort(self.backend, clock=self.backend.clock, limits=limits)
        self.path = path
        self.said: list[str] = []
        self.writer = RecordWriter(self.port, path, self.said.append)

    def plan(self, **faults: float) -> None:
        self.backend.dice.plan = FaultPlan(**faults)  # type: ignore[arg-type]

    def write(self, number: int, length: int = 0) -> None:
        self.writer.write(NoteRecord(time=1.0, filter=str(number), message="x" * length))

    def pass_time(self, seconds: float) -> None:
        end = self.backend.clock.monotonic() + seconds
        while (rest := end - self.backend.clock.monotonic()) > 0:
            self.port.turn(rest)

    def written(self) -> list[int]:
        lines = self.path.read_bytes().splitlines()
        return [int(fields["filter"]) for line in lines if "filter" in (fields := json.loads(line))]


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "records.jsonl")
    yield made
    made.port.close()


def test_records_of_one_moment_are_one_write(desk: Desk) -> None:
    for number in range(100):
        desk.write(number)
    desk.pass_time(2 * RECORD_FLUSH_DELAY_S)
    assert desk.written() == list(range(100))
    assert desk.backend.completed == 1


def test_idle_writer_asks_nothing_of_the_port(desk: Desk) -> None:
    desk.write(1)
    desk.pass_time(1.0)
    before = desk.backend.submitted
    desk.pass_time(10.0)
    assert desk.backend.submitted == before
    assert len(desk.port.timers) == 0


def test_much_is_written_without_waiting(desk: Desk) -> None:
    desk.writer._bytes_max = 1 << 20
    for number in range(80):
        desk.write(number, length=1000)
    assert desk.writer.queued_bytes > 0
    desk.pass_time(RECORD_FLUSH_DELAY_S / 2)
    assert len(desk.written()) > 60


def test_short_writes_leave_whole_lines(desk: Desk) -> None:
    desk.plan(short_write=0.8)
    for number in range(50):
        desk.write(number)
    desk.pass_time(5.0)
    assert desk.written() == list(range(50))


def test_full_disk_stops_accepting_and_nothing_is_lost(desk: Desk) -> None:
    desk.plan(no_space=1.0)
    desk.write(1)
    desk.pass_time(2 * RECORD_FLUSH_DELAY_S)
    assert not desk.writer.is_accepting
    assert desk.writer.failure == "ENOSPC"
    desk.write(2)
    desk.pass_time(3 * RECORD_RETRY_DELAY_S)
    desk.plan()
    desk.pass_time(2 * RECORD_RETRY_DELAY_S)
    assert desk.writer.is_accepting
    assert desk.written() == [1, 2]
    assert len(desk.said) == 2, "once when it failed, once when it works again"


def test_half_full_queue_refuses_new_traffic_and_takes_the_ends_of_the_old(desk: Desk) -> None:
    desk.plan(no_space=1.0)
    number = 0
    while desk.writer.queued_bytes < BOUND * 3 // 4:
        desk.write(number, length=500)
        number += 1
    assert not desk.writer.is_accepting
    assert desk.writer.lost == 0


def test_record_that_finds_the_queue_full_is_counted_in_the_log(desk: Desk) -> None:
    desk.plan(no_space=1.0)
    for number in range(200):
        desk.write(number, length=1000)
    assert desk.writer.lost > 0
    desk.plan()
    desk.pass_time(3 * RECORD_RETRY_DELAY_S)
    last = json.loads(desk.path.read_bytes().splitlines()[-1])
    assert (last["kind"], last["count"]) == ("limit", desk.writer.lost)
    assert len(desk.written()) + desk.writer.lost == 200


def test_rotation_splits_the_log_between_two_lines(desk: Desk) -> None:
    desk.write(1)
    desk.pass_time(1.0)
    desk.write(2)
    moved = desk.path.rename(desk.path.with_suffix(".1"))
    desk.writer.reopen()
    desk.write(3)
    desk.pass_time(1.0)
    assert [json.loads(line)["filter"] for line in moved.read_bytes().splitlines()] == ["1"]
    assert desk.written() == [2, 3]


def test_rotation_during_a_write_waits_for_its_last_line(desk: Desk) -> None:
    desk.plan(short_write=0.9)
    for number in range(20):
        desk.write(number)
    desk.writer.flush()
    moved = desk.path.rename(desk.path.with_suffix(".1"))
    desk.writer.reopen()
    for number in range(20, 25):
        desk.write(number)
    desk.pass_time(5.0)
    before = [int(json.loads(line)["filter"]) for line in moved.read_bytes().splitlines()]
    assert (before, desk.written()) == (list(range(20)), list(range(20, 25)))


def test_rotation_rescues_from_a_disk_that_fails(desk: Desk) -> None:
    desk.plan(no_space=1.0)
    desk.write(1)
    desk.pass_time(1.0)
    desk.path.rename(desk.path.with_suffix(".1"))
    desk.plan()
    desk.writer.reopen()
    desk.pass_time(1.0)
    assert desk.written() == [1]


def test_rotation_to_a_place_that_cannot_be_opened_goes_on_with_the_old_file(desk: Desk) -> None:
    desk.write(1)
    desk.pass_time(1.0)
    moved = desk.path.rename(desk.path.with_suffix(".1"))
    desk.path.mkdir()
    desk.writer.reopen()
    desk.write(2)
    desk.pass_time(1.0)
    assert [json.loads(line)["filter"] for line in moved.read_bytes().splitlines()] == ["1", "2"]
    assert desk.writer.is_accepting
    assert "go on" in desk.said[0]


def test_log_that_a_crash_cut_is_continued_on_a_new_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"kind":"note","ti')
    desk = Desk(path)
    desk.write(1)
    desk.pass_time(1.0)
    assert path.read_bytes().startswith(b'{"kind":"note","ti\n{"kind":"note","time":1.0')
    desk.port.close()


def test_log_is_made_for_its_owner_and_group(desk: Desk) -> None:
    assert stat.S_IMODE(desk.path.stat().st_mode) & ~0o640 == 0


def test_log_that_cannot_be_opened_is_an_error_with_a_cure(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be opened: .*\[log\]"):
        Desk(tmp_path / "missing" / "records.jsonl")


@pytest.mark.parametrize("seed", range(10))
def test_close_writes_what_is_queued_whatever_the_disk_does(
    tmp_path: pathlib.Path, seed: int
) -> None:
    desk = Desk(tmp_path / "records.jsonl", seed)
    desk.plan(short_write=0.5, delay=0.5)

    async def write_and_close() -> None:
        for number in range(300):
            desk.write(number)
            if number % 50 == 0:
                await asyncio.sleep(RECORD_FLUSH_DELAY_S)
        await desk.writer.close()

    with asyncio.Runner(loop_factory=lambda: PortEventLoop(desk.port)) as runner:
        runner.run(write_and_close())
    assert desk.written() == list(range(300))


def test_close_on_a_full_disk_ends_and_says_what_is_lost(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path / "records.jsonl")
    desk.plan(no_space=1.0)

    async def write_and_close() -> None:
        desk.write(1)
        await desk.writer.close()

    with asyncio.Runner(loop_factory=lambda: PortEventLoop(desk.port)) as runner:
        runner.run(write_and_close())
    assert "bytes of records are lost" in desk.said[-1]
