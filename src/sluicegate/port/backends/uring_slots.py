"""The io_uring driver's side of the slot pool: handing slots over, and who waits for one.

The driver calls it before it enters (slots that came back go to the kernel together) and when a
receive found its group empty. The invariant: while a receive is parked, ``available`` never counts
less than the slots that the kernel has, so a slot that lies there idle always finds its receiver.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sluicegate.port.backend import BUFFER, SLOT_SHIFT, Operation
from sluicegate.port.pool import Slot, SlotPool
from sluicegate.port.ring import BufferRing

from .uring_entries import BULK, SLOT

__all__ = ["SlotGroup", "SlotGroups"]

_U16: Final = 0xFFFF


class SlotGroup:
    """One group of provided buffers: its ring, and the receives that wait for a slot of it."""

    __slots__ = ("available", "mask", "memory", "parked", "tail", "tail_word", "views")

    def __init__(self, ring: BufferRing) -> None:
        self.memory = ring.memory
        self.mask = ring.mask
        self.tail_word = ring.tail_word
        self.tail = 0
        self.views: list[memoryview | None] = [None] * ring.size
        #: The memory that each entry names.
        self.parked: deque[Operation] = deque()
        self.available = 0
        #: Slots that the kernel has; counted only while something is parked.


class SlotGroups:
    """Both groups of one driver."""

    __slots__ = ("bulk", "parked_count", "returned", "small", "small_count")

    def __init__(self, pool: SlotPool, small: BufferRing, bulk: BufferRing) -> None:
        self.small = SlotGroup(small)
        self.bulk = SlotGroup(bulk)
        self.small_count = pool.small_count
        self.parked_count = 0
        self.returned: list[Slot] = list(pool.slots)
        #: Slots that came back since the last enter; all of them at first.
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
        for slot in self.returned:
            group = bulk if slot.is_bulk else small
            tail = group.tail
            place = tail & group.mask
            # Slots mostly come back in the order in which they went, and then the entry is there
            # already. The view is another one when the slot's memory was replaced.
            if group.views[place] is not slot.view:
                SLOT.pack_into(group.memory, place << 4, slot.address, slot.allocated, slot.index)
                group.views[place] = slot.view
            group.tail = tail + 1
        self.returned.clear()
        small.tail_word[0] = small.tail & _U16
        bulk.tail_word[0] = bulk.tail & _U16
        if self.parked_count:
            small.available += small.tail - small_tail
            bulk.available += bulk.tail - bulk_tail

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
