"""Revocation in slices: how many a turn judges, in which order, and that the end is in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from sluicegate.gate.readmission import Readmission
from sluicegate.gate.revocation import Judged, Revocation
from sluicegate.gate.state import State
from sluicegate.policy_limits import JUDGED_AGAIN_PER_TURN_MIN, JUDGED_AGAIN_WITHIN_S


class Turns:
    """What revocation asks of a port, in turns that take a given time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.clock = self
        self._posted: list[Callable[[], None]] = []
        self.errors: list[BaseException] = []

    def monotonic(self) -> float:
        return self.now

    def post(self, work: Callable[[], None]) -> None:
        self._posted.append(work)

    def on_error(self, error: BaseException) -> None:
        self.errors.append(error)

    def turn(self, takes_s: float) -> bool:
        """Run what was posted before; False when there is nothing."""
        self.now += takes_s
        posted, self._posted = self._posted, []
        for work in posted:
            work()
        return bool(posted)


class Open:
    """A connection that no policy allows any more."""

    def __init__(self, number: int, judged: list[int], cost_s: Callable[[], None]) -> None:
        self.id, self.plan, self.state = f"c-{number}", None, State.OPEN
        self.judged, self.is_closing = 0, False
        self._number, self._order, self._cost_s = number, judged, cost_s

    def judge_anew(self) -> Readmission:
        self._order.append(self._number)
        self._cost_s()
        return Readmission(None, "no-rule")

    def on_readmitted(self) -> None:
        raise AssertionError

    def refuse(self, reason: str) -> None:
        assert reason == "revoked: no-rule"
        self.is_closing = True


def begin(port: Turns, connections: Iterable[Open]) -> Revocation:
    everything = cast("list[Judged]", list(connections))
    revocation = Revocation(cast("Any", port), cast("Any", None), 0.0, lambda: everything, str)
    revocation.begin()
    return revocation


@pytest.mark.parametrize(
    ("turn_s", "judging_s", "turns_max"),
    [
        (0.0, 0.0, math.ceil(9000 / JUDGED_AGAIN_PER_TURN_MIN)),
        (0.001, 0.0, math.ceil(9000 / JUDGED_AGAIN_PER_TURN_MIN)),
        (0.001, 0.00005, math.ceil(9000 / JUDGED_AGAIN_PER_TURN_MIN)),
        (0.010, 0.0, 51),
        (0.010, 0.00003, 51),
        (0.100, 0.00003, 6),
        (2.000, 0.0, 1),
    ],
    ids=["idle", "quick", "quick, ending is dear", "busy", "busy, dear", "slow", "stuck"],
)
def test_all_are_judged_in_time_however_long_turns_take_and_never_more_than_that_needs(
    turn_s: float, judging_s: float, turns_max: int
) -> None:
    port, order = Turns(), list[int]()

    def pass_time() -> None:
        port.now += judging_s

    revocation = begin(port, (Open(number, order, pass_time) for number in range(9000)))
    sizes: list[int] = []
    while port.turn(turn_s):
        sizes.append(len(order) - sum(sizes))
    assert order == list(range(9000)), "each once, the eldest first"
    assert revocation.pending == 0
    assert revocation.revoked == 9000
    assert port.errors == []
    assert len(sizes) <= turns_max
    assert min(sizes[:-1], default=9000) >= JUDGED_AGAIN_PER_TURN_MIN
    judging = 9000 * judging_s
    longest = max(turn_s + size * judging_s for size in sizes)
    assert port.now - 100.0 <= max(JUDGED_AGAIN_WITHIN_S, judging) + longest + turn_s
    if turn_s * 9000 / JUDGED_AGAIN_PER_TURN_MIN + judging <= JUDGED_AGAIN_WITHIN_S:
        assert max(sizes) == JUDGED_AGAIN_PER_TURN_MIN, "no more than need be"


def test_another_change_meanwhile_begins_anew_and_has_its_own_time() -> None:
    port, order = Turns(), list[int]()
    revocation = begin(port, (Open(number, order, int) for number in range(1000)))
    port.turn(0.05)
    first = len(order)
    revocation.begin()
    while port.turn(0.05):
        pass
    # What the first pass ended is not judged again, all others are, once.
    assert sorted(order) == list(range(1000))
    assert JUDGED_AGAIN_PER_TURN_MIN <= first <= 1000 * 0.05 / JUDGED_AGAIN_WITHIN_S + 50
