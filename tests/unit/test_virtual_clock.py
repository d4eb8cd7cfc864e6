"""Virtual time: order, cancellation, no way back."""

from __future__ import annotations

import pytest

from sluicegate.testing import ManualClock, VirtualClock


def test_time_stands_still_until_it_is_advanced() -> None:
    clock = ManualClock(monotonic=5.0, wall=100.0)

    clock.advance(2.5)

    assert (clock.monotonic(), clock.wall()) == (7.5, 102.5)


def test_time_does_not_go_back() -> None:
    clock = ManualClock()

    with pytest.raises(AssertionError, match="go back"):
        clock.advance(-1.0)


def test_events_run_in_the_order_of_their_times_then_of_their_making() -> None:
    clock = VirtualClock()
    ran: list[str] = []
    for name, delay in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)):
        clock.call_after(delay, lambda name=name: ran.append(name))

    clock.advance(2.0)

    assert clock.run_due() == 4
    assert ran == ["a", "b", "c", "d"]


def test_an_event_that_is_not_due_waits() -> None:
    clock = VirtualClock(monotonic=0.0)
    clock.call_after(1.0, lambda: None)

    assert clock.run_due() == 0
    assert clock.next_event() == 1.0


def test_a_cancelled_event_never_runs() -> None:
    clock = VirtualClock()
    ran: list[bool] = []
    event = clock.call_after(0.0, lambda: ran.append(True))

    event.cancel()

    assert clock.next_event() is None
    assert clock.run_due() == 0
    assert not ran


def test_what_an_event_makes_due_now_runs_too() -> None:
    clock = VirtualClock()
    ran: list[str] = []
    clock.call_after(0.0, lambda: clock.call_after(0.0, lambda: ran.append("second")))

    clock.run_due()

    assert ran == ["second"]
