"""Reached limits: a flood of them is a record a second, and none is lost."""

from __future__ import annotations

import pytest

from sluicegate.audit import LimitRecord
from sluicegate.errors import LimitExceeded
from sluicegate.gate.limit_log import LimitLog
from sluicegate.port.timers import Timers
from sluicegate.testing import ManualClock
from sluicegate.testing.recorder import MemoryRecorder

CAP = LimitExceeded("connections_max", 100)
OTHER = LimitExceeded("private_bytes_max", 5)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.recorder = MemoryRecorder()
        self.log = LimitLog(self.recorder, self.clock, self.timers.call_after)

    def advance(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while (deadline := self.timers.next_deadline()) is not None and deadline <= until:
            self.clock.advance_to(deadline)
            self.timers.run_due(_raise)
        self.clock.advance_to(until)

    @property
    def records(self) -> list[tuple[str, int]]:
        return [(record.limit, record.count) for record in self.recorder.of(LimitRecord)]


def _raise(error: BaseException) -> None:
    raise error


@pytest.fixture
def world() -> World:
    return World()


def test_first_occurrence_is_recorded_at_once_with_its_facts(world: World) -> None:
    world.log.note(CAP, client="192.0.2.7:4000", connection="c-1")
    (record,) = world.recorder.of(LimitRecord)
    assert (record.limit, record.bound, record.count) == ("connections_max", 100, 1)
    assert (record.client, record.connection) == ("192.0.2.7:4000", "c-1")
    assert record.time == world.clock.wall()


def test_flood_is_a_record_a_second_and_every_occurrence_is_counted(world: World) -> None:
    for _ in range(5):
        for _ in range(1000):
            world.log.note(CAP)
        world.advance(1.0)
    world.advance(5.0)
    assert (
        world.records
        == [("connections_max", 1), ("connections_max", 999)] + [("connections_max", 1000)] * 4
    )


def test_flood_that_stops_within_its_first_second_is_counted_too(world: World) -> None:
    for _ in range(10):
        world.log.note(CAP)
    world.advance(60)
    assert world.records == [("connections_max", 1), ("connections_max", 9)]


def test_limits_do_not_hide_each_other(world: World) -> None:
    world.log.note(CAP)
    world.log.note(OTHER)
    assert world.records == [("connections_max", 1), ("private_bytes_max", 1)]


def test_quiet_limit_costs_nothing_after_its_second(world: World) -> None:
    world.log.note(CAP)
    world.advance(2)
    assert world.timers.next_deadline() is None
    world.log.note(CAP)
    assert world.records == [("connections_max", 1)] * 2


def test_what_was_counted_is_recorded_at_the_end(world: World) -> None:
    for _ in range(3):
        world.log.note(CAP)
    world.log.flush()
    world.log.flush()
    assert world.records == [("connections_max", 1), ("connections_max", 2)]
