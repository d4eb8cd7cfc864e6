"""Which receiver gets the next free slot, for drivers that hand slots out themselves.

The epoll and the simulated driver use one ``SlotGroup`` per slot size; io_uring leaves it to the
kernel. The invariant: a slot is free, granted to one receiver, or out; and while a receiver waits,
no later one overtakes it.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from sluicegate.port.pool import Slot

__all__ = ["Receiver", "SlotGroup"]


class Receiver(Protocol):
    """Who may wait for a slot; the group writes both fields, the owner clears them at its end."""

    granted: Slot | None
    #: The slot that came back for it.
    is_parked: bool
    #: Whether it waits for one.


ReceiverT = TypeVar("ReceiverT", bound=Receiver)


class SlotGroup(Generic[ReceiverT]):
    """The free slots of one size, and the receivers that wait for one: first come, first served."""

    __slots__ = ("_free", "_parked", "starved")

    def __init__(self, slots: list[Slot]) -> None:
        self.starved = 0
        #: How often a receiver had to wait.
        self._free = slots
        self._parked: deque[ReceiverT] = deque()
        #: Entries of receivers that ended meanwhile are skipped: they are no longer parked.

    def take(self, receiver: ReceiverT) -> Slot | None:
        """Take a slot for a receiver, or park it behind those who wait already."""
        slot = receiver.granted
        if slot is not None:
            receiver.granted = None
            return slot
        if self._free:
            return self._free.pop()  # the last one used is the warmest
        if not receiver.is_parked:
            self.starved += 1
            receiver.is_parked = True
            self._parked.append(receiver)
        return None

    def give(self, slot: Slot) -> ReceiverT | None:
        """Grant a slot to whoever waited longest and return it, else keep the slot."""
        parked = self._parked
        while parked:
            receiver = parked.popleft()
            if receiver.is_parked:
                receiver.is_parked = False
                receiver.granted = slot
                return receiver
        self._free.append(slot)
        return None
