"""SharedSlots: the memory that the layers of one port fill for those who read from them.

The backend's slots are the kernel's to fill; what a layer makes of that (plaintext, the bytes of a
stream) goes into these. The invariant: there are as many of each size as the
limits allow at most, and when they are all out, readers wait in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .pool import BULK_SLOT_SIZE, Slot, SlotPool

__all__ = ["SharedSlots", "SlotWaiter"]


class SlotWaiter(Protocol):
    """Who waits for a slot."""

    def wake(self) -> None:
        """Go on in the next turn: a slot has come back."""
        ...


class SharedSlots(SlotPool):
    """Slots of two sizes; each made when it is first needed."""

    __slots__ = (
        "_bulk_count",
        "_bulk_max",
        "_free",
        "_free_bulk",
        "_parked",
        "_size",
        "_slots_max",
    )

    def __init__(self, slots_max: int, size: int, bulk_max: int) -> None:
        """Begin with none.

        Args:
            slots_max: How many there may be for interactive traffic.
            size: Of each of those, in bytes.
            bulk_max: How many there may be besides, of ``BULK_SLOT_SIZE``, for bulk.
        """
        super().__init__(0, 0)
        self._slots_max = slots_max
        self._size = size
        self._bulk_max = bulk_max
        self._bulk_count = 0
        self._free: list[Slot] = []
        self._free_bulk: list[Slot] = []
        self._parked: deque[SlotWaiter] = deque()
        #: Readers that wait for a slot.
        self.give_back = self._give_back

    @property
    def out_count(self) -> int:
        """Slots that somebody has."""
        return len(self.slots) - len(self._free) - len(self._free_bulk)

    def take(self, *, is_bulky: bool = False) -> Slot | None:
        """Return a slot, or None when they are all out.

        Args:
            is_bulky: A large one, if there is one: it serves many records at once.
        """
        if is_bulky:
            if self._free_bulk:
                return self._free_bulk.pop()
            if self._bulk_count < self._bulk_max:
                self._bulk_count += 1
                return self._make(BULK_SLOT_SIZE, is_bulk=True)
        if self._free:
            return self._free.pop()
        if len(self.slots) - self._bulk_count < self._slots_max:
            return self._make(self._size, is_bulk=False)
        return None

    def _make(self, size: int, *, is_bulk: bool) -> Slot:
        slot = Slot(self, len(self.slots), size, is_bulk=is_bulk)
        self.slots.append(slot)
        return slot

    def park(self, reader: SlotWaiter) -> None:
        """Let a reader go on when a slot has come back."""
        self._parked.append(reader)

    def _give_back(self, slot: Slot) -> None:
        (self._free_bulk if slot.is_bulk else self._free).append(slot)
        if self._parked:
            self._parked.popleft().wake()
