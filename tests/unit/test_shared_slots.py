"""The slots that layers fill: how many there are of each size, and who waits for one."""

from __future__ import annotations

import pytest

from sluicegate.port.pool import BULK_SLOT_SIZE, Slot
from sluicegate.port.shared_slots import SharedSlots

SMALL = 16 << 10


class Waiter:
    def __init__(self, name: str, woken: list[str]) -> None:
        self._name, self._woken = name, woken

    def wake(self) -> None:
        self._woken.append(self._name)


def all_of(pool: SharedSlots, *, is_bulky: bool) -> list[Slot]:
    found: list[Slot] = []
    while (slot := pool.take(is_bulky=is_bulky)) is not None:
        found.append(slot)
    return found


@pytest.mark.parametrize(
    ("is_bulky", "sizes"),
    [
        (False, [SMALL] * 3),
        (True, [BULK_SLOT_SIZE] * 2 + [SMALL] * 3),
    ],
)
def test_slots_are_given_out_as_far_as_the_limits_go(is_bulky: bool, sizes: list[int]) -> None:
    pool = SharedSlots(3, SMALL, 2)
    slots = all_of(pool, is_bulky=is_bulky)
    assert [slot.allocated for slot in slots] == sizes
    assert pool.out_count == len(sizes)
    assert [pool.slots[slot.index] for slot in slots] == slots


def test_no_memory_is_taken_before_somebody_wants_it() -> None:
    assert SharedSlots(1000, SMALL, 1000).slots == []


def test_a_slot_that_came_back_is_given_out_again_for_its_size() -> None:
    pool = SharedSlots(3, SMALL, 2)
    for slot in all_of(pool, is_bulky=True):
        pool.give_back(slot)
    assert pool.out_count == 0
    large, small = pool.take(is_bulky=True), pool.take()
    assert large is not None
    assert small is not None
    assert (large.allocated, small.allocated) == (BULK_SLOT_SIZE, SMALL)
    assert len(pool.slots) == 5


def test_readers_that_wait_are_woken_in_their_order_by_whatever_comes_back() -> None:
    pool, woken = SharedSlots(1, SMALL, 1), list[str]()
    slots = all_of(pool, is_bulky=True)
    for name in "abc":
        pool.park(Waiter(name, woken))
    for slot in slots:
        pool.give_back(slot)
    assert woken == ["a", "b"]
