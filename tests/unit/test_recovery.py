"""Recovery: filters are asked to give back while something runs short, until they have."""

from __future__ import annotations

import os
import resource
from typing import Any

from sluicegate.errors import LimitExceeded
from sluicegate.filterapi import Shortage
from sluicegate.gate.recovery import Recovery, descriptor_share, memory_share
from sluicegate.limits import Limits
from sluicegate.port.timers import Timers
from sluicegate.testing import ManualClock


class World:
    """A port of timers and posts, and resources whose use the test says."""

    def __init__(self, **limits: Any) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.posted: list[Any] = []
        self.used = dict.fromkeys((Shortage.MEMORY, Shortage.SPOOL), 0.0)
        self.measured = 0
        self.low: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.recovery = Recovery(
            self,  # type: ignore[arg-type]
            Limits(**limits),
            {shortage: self.share(shortage) for shortage in self.used},
            self.on_low,
            lambda name, error: self.failures.append((name, str(error))),
        )

    def share(self, shortage: Shortage) -> Any:
        def measure() -> float:
            self.measured += 1
            return self.used[shortage]

        return measure

    def on_low(self, low: LimitExceeded) -> None:
        self.low.append(low.limit)

    def call_after(self, delay_s: float, action: Any) -> Any:
        return self.timers.call_after(delay_s, action)

    def post(self, action: Any) -> None:
        self.posted.append(action)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            self.timers.run_due(lambda error: self.failures.append(("timer", str(error))))


class Cache:
    """A filter that gives back what it has, in steps."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps
        self.asked: list[Shortage] = []

    def recover(self, shortage: Shortage) -> bool:
        self.asked.append(shortage)
        self.steps -= 1
        return self.steps <= 0


def test_nobody_measures_while_no_filter_wants_to_know() -> None:
    world = World()
    world.wait(10)
    assert world.measured == 0


def test_filter_is_asked_until_it_has_done_what_it_can_and_again_next_time() -> None:
    world, cache = World(), Cache(steps=3)
    world.recovery.register(cache.recover)
    world.wait(5)
    assert cache.asked == []
    world.used[Shortage.MEMORY] = 0.95
    world.wait(10)
    assert cache.asked == [Shortage.MEMORY] * 3
    assert world.low == ["resource_low_percent (memory)"]
    world.used[Shortage.MEMORY] = 0.2
    world.wait(2)
    world.used[Shortage.MEMORY] = 0.9
    world.wait(2)
    assert cache.asked == [Shortage.MEMORY] * 4


def test_filter_is_asked_no_more_when_the_shortage_is_over() -> None:
    world, cache = World(), Cache(steps=1000)
    world.recovery.register(cache.recover)
    world.used[Shortage.SPOOL] = 1.0
    world.wait(3)
    asked = len(cache.asked)
    assert asked >= 2
    world.used[Shortage.SPOOL] = 0.1
    world.wait(5)
    assert len(cache.asked) == asked


def test_gate_that_found_no_descriptor_asks_at_once() -> None:
    world, cache = World(), Cache()
    world.recovery.register(cache.recover)
    world.recovery.note(Shortage.DESCRIPTORS)
    for action in world.posted:
        action()
    assert cache.asked == [Shortage.DESCRIPTORS]


def test_filter_that_signals_is_asked_until_it_works() -> None:
    world, cache, other = World(), Cache(steps=2), Cache()
    registered = world.recovery.register(cache.recover)
    world.recovery.register(other.recover)
    registered.signal()
    world.wait(5)
    assert (cache.asked, other.asked) == ([Shortage.SIGNALLED] * 2, [])


def test_filter_that_fails_is_named_and_the_next_one_is_asked() -> None:
    def fail(shortage: Shortage) -> bool:
        raise ValueError("boom")

    world, cache = World(), Cache()
    world.recovery.register(fail)
    world.recovery.register(cache.recover)
    world.used[Shortage.SPOOL] = 1.0
    world.wait(4)
    ((name, cause),) = world.failures
    assert "fail" in name
    assert cause == "boom"
    assert cache.asked == [Shortage.SPOOL]


def test_cancelled_registration_is_asked_no_more_and_measuring_ends() -> None:
    world, cache = World(), Cache(steps=100)
    registered = world.recovery.register(cache.recover)
    world.used[Shortage.SPOOL] = 1.0
    world.wait(2)
    registered.cancel()
    registered.cancel()
    asked, measured = len(cache.asked), world.measured
    world.wait(5)
    assert (len(cache.asked), world.measured) == (asked, measured)


def test_shares_of_this_process_are_measured() -> None:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        share = descriptor_share()
    finally:
        for descriptor in held:
            os.close(descriptor)
    assert 50 / limit <= share <= 1.0
    assert 0.0 <= memory_share() < 1.0
