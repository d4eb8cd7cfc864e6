"""SharedSlots: the memory that the layers of one port fill for those who read from them.

The backend's slots are the kernel's to fill; what a layer makes of that (plaintext, the bytes of a
stream) goes into these. The invariant: there are ``slots_max`` at most, and when they are all out,
readers wait in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .pool import Slot, SlotPool

__all__ = ["SharedSlots", "SlotWaiter"]


class SlotWaiter(Protocol):
    """Who waits for a slot."""

    def wake(self) -> None:
        """Go on in the next turn: a slot has come back."""
        ...


class SharedSlots(SlotPool):
    """Slots of one size; made when they are first needed."""

    __slots__ = ("_free", "_parked", "_size", "_slots_max")

    def __init__(self, slots_max: int, size: int) -> None:
        """Begin with none.

        Args:
            slots_max: How many there may be.
            size: Of each, in bytes.
        """
        super().__init__(0, 0)
        self._slots_max = slots_max
        self._size = size
        self._free: list[Slot] = []
        self._parked: deque[SlotWaiter] = deque()
        #: Readers that wait for a slot.
        self.give_back = self._give_back

    @property
    def out_count(self) -> int:
        """Slots that somebody has."""
        return len(self.slots) - len(self._free)

    def take(self) -> Slot | None:
        """Return a slot, or None when they are all out."""
        if self._free:
            return self._free.pop()
        if len(self.slots) >= self._slots_max:
            return None
        slot = Slot(self, len(self.slots), self._size, is_bulk=False)
        self.slots.append(slot)
        return slot

    def park(self, reader: SlotWaiter) -> None:
        """Let a reader go on when a slot has come back."""
        self._parked.append(reader)

    def _give_back(self, slot: Slot) -> None:
        self._free.append(slot)
        if self._parked:
            self._parked.popleft().wake()
