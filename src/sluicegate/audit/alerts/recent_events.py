"""RecentEvents: how many events there were lately, counted in slots of time.

``counters`` has one for each value that an alert counts apart. The invariant: it holds at most
``ALERT_SLOTS`` + 1 numbers; every event of the last ``seconds`` is counted, and none that is older
than that by more than a slot.
"""

from __future__ import annotations

import math

import msgspec

from sluicegate.alert_limits import ALERT_SLOTS

__all__ = ["RecentEvents"]


class RecentEvents(msgspec.Struct):
    """Events of one value; kept over a restart."""

    first: float = 0.0
    """When the first of them was, in seconds since the Unix epoch."""
    slots: dict[int, int] = {}
    """Counts, by the number of the slot of time."""

    def add(self, time: float, seconds: float) -> int:
        """Count one event; return how many count now.

        Args:
            time: When it was, in seconds since the Unix epoch. Records of several processes are
                not quite in order, so it may lie before the last one.
            seconds: How long an event counts; 0: for ever.
        """
        slot = math.floor(time * ALERT_SLOTS / seconds) if seconds else 0
        newest = max(slot, *self.slots) if self.slots else slot
        oldest = newest - ALERT_SLOTS
        for one in [one for one in self.slots if one < oldest]:
            del self.slots[one]
        if slot < oldest:
            return self.total
        if not self.slots:
            self.first = time
        elif seconds:
            self.first = max(min(self.first, time), min(*self.slots, slot) * seconds / ALERT_SLOTS)
        self.slots[slot] = self.slots.get(slot, 0) + 1
        return self.total

    def clear(self) -> None:
        """Begin anew."""
        self.slots.clear()

    @property
    def total(self) -> int:
        """How many count, as of the last one."""
        return sum(self.slots.values())
