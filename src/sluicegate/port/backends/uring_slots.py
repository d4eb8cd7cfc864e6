"""The io_uring driver's side of the slot pool: handing slots over, and who waits for one.

The driver calls it before it enters (slots that came back go to the kernel together) and when a
receive found its group empty. Only as many slots circulate as the traffic needs, because the kernel
fills them in turn and a small set stays in the processor's caches (1024 slots instead of 64 cost
5 % of a small request). The invariant: while a receive is parked, all slots of its group circulate
and ``available`` never counts less than the kernel has, so an idle slot finds its receiver.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sluicegate.limits import BULK_SLOTS_CIRCULATING_MIN, SMALL_SLOTS_CIRCULATING_MIN
from sluicegate.port.backend import BUFFER, SLOT_SHIFT, Operation
from sluicegate.port.pool import Slot, SlotPool
from sluicegate.port.ring import BufferRing

from .uring_entries import BULK, SLOT

__all__ = ["SlotGroup", "SlotGroups"]

_U16: Final = 0xFFFF

_CALM_ROUNDS: Final = 1024
"""After so many rounds of the circulating slots without want, half of them rest."""


class SlotGroup:
    """One group of provided buffers: its ring, and the receives that wait for a slot of it."""

    __slots__ = (
        "_circulating",
        "_circulating_min",
        "_surplus",
        "available",
        "grown_at",
        "mask",
        "memory",
        "order",
        "parked",
        "reserve",
        "shrink_at",
        "tail",
        "tail_word",
        "views",
    )

    def __init__(self, ring: BufferRing, slots: list[Slot], circulating_min: int) -> None:
        self.memory = ring.memory
        self.mask = ring.mask
        self.tail_word = ring.tail_word
        self.tail = 0
        #: Slots handed over so far.
        self.order: list[Slot | None] = [None] * ring.size
        self.views: list[memoryview | None] = [None] * ring.size
        #: The slot that each entry names, and its memory.
        self.parked: deque[Operation] = deque()
        self.available = 0
        #: Slots that the kernel has; counted only while something is parked.
        self._circulating = self._circulating_min = min(circulating_min, len(slots))
        self.reserve = slots[self._circulating :]
        #: Slots that rest while the others suffice.
        self._surplus = 0
        #: Slots that have yet to rest.
        self.shrink_at = self._circulating * _CALM_ROUNDS
        #: The ``tail`` from which on they sufficed for long.
        self.grown_at = -1
        #: The ``tail`` at which they last did not suffice.

    def grow(self) -> list[Slot]:
        """Put resting slots into circulation, as many as there are in it; return them."""
        self.grown_at = self.tail
        slots = self.reserve[: self._circulating]
        del self.reserve[: self._circulating]
        self._circulating += len(slots)
        self._begin_calm()
        return slots

    def shrink(self, returned: list[Slot]) -> None:
        """Let slots out of ``returned`` rest until half as many circulate."""
        if not self._surplus:
            target = max(self._circulating // 2, self._circulating_min)
            self._surplus = self._circulating - target
        resting = returned[: self._surplus]
        self.reserve += resting
        self._circulating -= len(resting)
        self._surplus -= len(resting)
        if not self._surplus:
            self._begin_calm()

    def _begin_calm(self) -> None:
        self._surplus = 0
        self.shrink_at = self.tail + self._circulating * _CALM_ROUNDS


class SlotGroups:
    """Both groups of one driver."""

    __slots__ = (
        "_pool",
        "_replaced",
        "bulk",
        "parked_count",
        "returned",
        "small",
        "small_count",
    )

    def __init__(self, pool: SlotPool, small: BufferRing, bulk: BufferRing) -> None:
        self._pool = pool
        self._replaced = pool.replaced
        #: How many slots had got other memory when slots were provided last.
        count = self.small_count = pool.small_count
        self.small = SlotGroup(small, pool.slots[:count], SMALL_SLOTS_CIRCULATING_MIN)
        self.bulk = SlotGroup(bulk, pool.slots[count:], BULK_SLOTS_CIRCULATING_MIN)
        self.parked_count = 0
        resting = len(self.small.reserve), len(self.bulk.reserve)
        self.returned = (
            pool.slots[: count - resting[0]] + (pool.slots[count : len(pool.slots) - resting[1]])
        )
        #: Slots that came back since the last enter; the first ones at first.
        # A method of C, called by ``pool.recycle``: the kernel takes buffers only in an enter, so
        # they are handed over together before the next one.
        pool.give_back = self.returned.append

    def of(self, number: int) -> SlotGroup:
        """Return the group with the kernel's number."""
        return self.bulk if number == BULK else self.small

    def provide_returned(self) -> None:
        """Give the kernel the slots that came back."""
        small, bulk = self.small, self.bulk
        small_tail, bulk_tail = small.tail, bulk.tail
        if small_tail > small.shrink_at or bulk_tail > bulk.shrink_at:
            self._shrink()
        returned, place = self.returned, small_tail & small.mask
        # Slots mostly come back in the order in which they went, and then the entries are there
        # already: compared by the interpreter in one go, because most turns have several.
        if (
            small.order[place : place + len(returned)] == returned
            and self._pool.replaced == self._replaced
        ):
            small.tail = small_tail + len(returned)
            small.tail_word[0] = small.tail & _U16
        else:
            self._provide_each(returned)
        returned.clear()
        if self.parked_count:
            small.available += small.tail - small_tail
            bulk.available += bulk.tail - bulk_tail

    def _provide_each(self, returned: list[Slot]) -> None:
        """Give slots that came back in another order, or with other memory."""
        small, bulk = self.small, self.bulk
        if self._replaced != self._pool.replaced:
            self._replaced = self._pool.replaced
            # Other entries may still name the memory that such a slot had.
            small.order = [None] * len(small.order)
        for slot in returned:
            group = bulk if slot.is_bulk else small
            tail = group.tail
            place = tail & group.mask
            group.order[place] = slot
            if group.views[place] is not slot.view:
                SLOT.pack_into(group.memory, place << 4, slot.address, slot.allocated, slot.index)
                group.views[place] = slot.view
            group.tail = tail + 1
        small.tail_word[0] = small.tail & _U16
        bulk.tail_word[0] = bulk.tail & _U16

    def _shrink(self) -> None:
        if self.parked_count:
            return
        small = [slot for slot in self.returned if not slot.is_bulk]
        bulk = [slot for slot in self.returned if slot.is_bulk]
        if self.small.tail > self.small.shrink_at:
            self.small.shrink(small)
        if self.bulk.tail > self.bulk.shrink_at:
            self.bulk.shrink(bulk)
        resting = {slot.index for slot in (*self.small.reserve, *self.bulk.reserve)}
        # In place: the pool appends to this very list.
        self.returned[:] = [slot for slot in self.returned if slot.index not in resting]

    def grow(self, group: SlotGroup) -> bool:
        """Let resting slots circulate, if there are any; the next enter hands them over."""
        if group.grown_at == group.tail:
            # Another receive of this batch found the group empty before.
            return True
        if not group.reserve:
            return False
        self.returned += group.grow()
        return True

    def park(self, operation: Operation, group: SlotGroup) -> None:
        """Let a receive wait behind those that wait already."""
        group.parked.append(operation)
        self.parked_count += 1

    def park_starved(self, operation: Operation, group: SlotGroup, *, is_news: bool) -> None:
        """Park a receive that the kernel refused for want of a slot.

        The kernel saw an empty group in the enter that posted this, and slots are given only
        between enters. After an overflow of the completion queue it may be old news: then one
        receive tries.
        """
        group.available = 0 if is_news else 1
        self.park(operation, group)

    def unpark(self, operation: Operation, group: SlotGroup) -> None:
        """Take a receive out of the queue."""
        group.parked.remove(operation)
        self.parked_count -= 1

    def unpark_all(self) -> list[Operation]:
        """Empty the queues."""
        operations = [*self.small.parked, *self.bulk.parked]
        self.small.parked.clear()
        self.bulk.parked.clear()
        self.parked_count = 0
        return operations

    def count_taken(self, batch: list[tuple[int, int, int]]) -> None:
        """Keep the count of available slots right while somebody waits for one."""
        for _, _, flags in batch:
            if flags & BUFFER:
                group = self.bulk if flags >> SLOT_SHIFT >= self.small_count else self.small
                group.available -= 1

    def unpark_able(self) -> list[Operation]:
        """Take out as many receives as there are slots to try for, the oldest first."""
        operations: list[Operation] = []
        for group in (self.small, self.bulk):
            count = min(group.available, len(group.parked))
            operations.extend(group.parked.popleft() for _ in range(count))
        self.parked_count -= len(operations)
        return operations

    def is_slot_idle(self) -> bool:
        """Tell whether a receive waits although the kernel has a slot.

        Those that were let try may have nothing to receive, and then they take no slot.
        """
        small, bulk = self.small, self.bulk
        return bool((small.parked and small.available > 0) or (bulk.parked and bulk.available > 0))
