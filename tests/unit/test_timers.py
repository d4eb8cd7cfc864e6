"""Timers and the wheel of deadlines: never early, never twice, never after a cancel."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import pytest

from sluicegate.port.timers import DeadlineWheel, Timer, Timers
from sluicegate.testing import ManualClock


class Item:
    def __init__(self, when: float, expire: Callable[[], None] = lambda: None) -> None:
        self.wheel_slot = -1
        self.when = when
        self.expired = 0
        self.expire = expire

    def due(self) -> float:
        return self.when

    def on_expired(self) -> None:
        assert self.wheel_slot == -1
        self.expired += 1
        self.expire()


class World:
    def __init__(self, tick_s: float = 1.0) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.wheel = DeadlineWheel(self.timers, self.clock, tick_s)
        self.errors: list[BaseException] = []

    def advance(self, seconds: float) -> None:
        """Go on in time as a port does: from deadline to deadline."""
        until = self.clock.monotonic() + seconds
        for _ in range(10_000):
            deadline = self.timers.next_deadline()
            if deadline is None or deadline > until:
                break
            self.clock.advance_to(max(deadline, self.clock.monotonic()))
            self.timers.run_due(self.errors.append)
        else:
            raise AssertionError("the timers never come to rest")
        self.clock.advance_to(until)

    def item(self, seconds: float, expire: Callable[[], None] = lambda: None) -> Item:
        item = Item(self.clock.monotonic() + seconds, expire)
        self.wheel.add(item, item.when)
        return item


@pytest.fixture
def world() -> World:
    return World()


# -- timers ----------------------------------------------------------------------------------------


def test_timer_fires_once_at_its_time_and_not_before(world: World) -> None:
    fired: list[float] = []
    world.timers.call_after(5.0, lambda: fired.append(world.clock.monotonic()))
    world.advance(4.999)
    assert fired == []
    world.advance(10)
    assert fired == [1005.0]


def test_cancelled_timer_does_not_fire(world: World) -> None:
    fired: list[int] = []
    timer = world.timers.call_after(5.0, lambda: fired.append(1))
    timer.cancel()
    assert not timer.is_pending
    assert world.timers.next_deadline() is None
    world.advance(10)
    assert fired == []


def test_timer_may_cancel_one_that_is_due_at_the_same_time(world: World) -> None:
    fired: list[str] = []
    timers: list[Timer] = []

    def cancel_second() -> None:
        timers[0].cancel()

    world.timers.call_after(5.0, cancel_second)
    timers.append(world.timers.call_after(5.0, lambda: fired.append("second")))
    world.advance(10)
    assert fired == []


def test_timer_set_by_a_timer_for_now_waits_for_the_next_turn(world: World) -> None:
    fired: list[str] = []

    def first() -> None:
        fired.append("first")
        world.timers.call_after(0.0, lambda: fired.append("second"))

    world.timers.call_after(0.0, first)
    world.timers.run_due(world.errors.append)
    assert fired == ["first"]
    world.timers.run_due(world.errors.append)
    assert fired == ["first", "second"]


def test_failing_timer_is_reported_and_the_others_fire(world: World) -> None:
    fired: list[int] = []
    world.timers.call_after(1.0, lambda: 1 // 0)
    world.timers.call_after(1.0, lambda: fired.append(1))
    world.advance(2)
    assert fired == [1]
    assert [type(error) for error in world.errors] == [ZeroDivisionError]


def test_timers_of_equal_time_fire_in_the_order_in_which_they_were_set(world: World) -> None:
    fired: list[int] = []
    for number in range(20):
        world.timers.call_after(1.0, lambda number=number: fired.append(number))  # type: ignore[misc]
    world.advance(1)
    assert fired == list(range(20))


# -- the wheel -------------------------------------------------------------------------------------


def test_item_expires_once_within_a_tick_of_its_deadline(world: World) -> None:
    item = world.item(7.3)
    world.advance(7.3)
    assert item.expired == 0
    world.advance(1.0)
    assert item.expired == 1
    assert len(world.wheel) == 0
    world.advance(100)
    assert item.expired == 1


def test_item_whose_deadline_moved_is_asked_again_later(world: World) -> None:
    item = world.item(5)
    item.when += 20
    world.advance(20)
    assert item.expired == 0
    world.advance(7)
    assert item.expired == 1


def test_removed_item_does_not_expire(world: World) -> None:
    item = world.item(5)
    world.wheel.remove(item)
    world.wheel.remove(item)
    world.advance(10)
    assert item.expired == 0
    assert len(world.wheel) == 0


def test_hastened_item_expires_at_the_earlier_deadline(world: World) -> None:
    item = world.item(100)
    item.when = world.clock.monotonic() + 3
    world.wheel.hasten(item, item.when)
    world.advance(5)
    assert item.expired == 1


def test_hastening_to_a_later_deadline_changes_nothing(world: World) -> None:
    item = world.item(3)
    world.wheel.hasten(item, world.clock.monotonic() + 50)
    world.advance(5)
    assert item.expired == 1


def test_wheel_without_items_waits_for_nothing(world: World) -> None:
    world.wheel.remove(world.item(3))
    world.advance(10)
    assert world.timers.next_deadline() is None


def test_item_that_expires_may_take_its_neighbours_off(world: World) -> None:
    # As a control connection does that ends with its data connections.
    items: list[Item] = []

    def take_off() -> None:
        for item in items:
            world.wheel.remove(item)

    items.extend(world.item(5, take_off) for _ in range(3))
    items.append(world.item(6, take_off))
    world.advance(10)
    assert [item.expired for item in items] == [1, 0, 0, 0]
    assert world.errors == []
    assert len(world.wheel) == 0


def test_item_that_expires_may_put_itself_and_others_on_again(world: World) -> None:
    def again() -> None:
        if item.expired < 3:
            item.when += 5
            world.wheel.add(item, item.when)

    item = world.item(5, again)
    world.advance(30)
    assert item.expired == 3


def test_failing_item_is_reported_and_the_others_expire_all_the_same(world: World) -> None:
    failing = world.item(5, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    others = [world.item(5), world.item(5), world.item(60)]
    world.advance(10)
    assert [failing.expired, *(item.expired for item in others)] == [1, 1, 1, 0]
    assert [type(error) for error in world.errors] == [ZeroDivisionError]
    world.advance(60)
    assert others[2].expired == 1


def test_items_of_one_tick_expire_in_the_order_in_which_they_came(world: World) -> None:
    order: list[int] = []
    for number in range(50):
        world.item(5, lambda number=number: order.append(number))  # type: ignore[misc]
    world.advance(10)
    assert order == list(range(50))


@hypothesis.given(
    tick_s=st.sampled_from([0.1, 0.25, 1.0, 3.0]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "move", "hasten", "advance"]),
            st.integers(0, 7),
            st.floats(0.0, 30.0),
        ),
        max_size=40,
    ),
)
def test_no_item_expires_early_late_or_twice(
    tick_s: float, steps: list[tuple[str, int, float]]
) -> None:
    world = World(tick_s)
    items: dict[int, Item] = {}
    for what, number, seconds in steps:
        now = world.clock.monotonic()
        item = items.get(number)
        if what == "advance":
            world.advance(seconds)
        elif what == "add" and item is None:
            items[number] = world.item(seconds)
        elif item is not None and item.expired == 0:
            if what == "remove":
                world.wheel.remove(item)
                del items[number]
            elif what == "move":
                item.when = max(item.when, now + seconds)
            elif what == "hasten":
                item.when = min(item.when, now + seconds)
                world.wheel.hasten(item, item.when)
        now = world.clock.monotonic()
        for known in items.values():
            assert known.expired <= 1
            if known.expired:
                assert known.when <= now
            else:
                assert known.when > now - 2 * tick_s
    assert world.errors == []
    assert len(world.wheel) == sum(not item.expired for item in items.values())


def test_cancelled_timers_do_not_stay_until_they_are_due() -> None:
    timers = Timers(ManualClock())
    kept = [timers.call_after(60.0, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        timers.call_after(120.0, lambda: None).cancel()
    assert len(timers._heap) < 1000
    assert len(timers) == len(kept)
