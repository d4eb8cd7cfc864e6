"""Shared receive buffers: slots that travel from the kernel through filters and back.

A backend owns one pool with two groups, small slots for interactive traffic and large ones for
bulk. Whoever is handed a slot recycles it, at once or by the last lease. The invariant: a slot goes
back to the kernel only when nothing outside exports its memory; otherwise the memory is replaced,
the replacement counted, and the old bytes live on for whoever kept them, alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from typing_extensions import override

from sluicegate.buffer import Buffer

from .scope import current_scope

__all__ = ["BULK_SLOT_SIZE", "SMALL_SLOT_SIZE", "Slot", "SlotPool"]

SMALL_SLOT_SIZE: Final = 4096
"""One page: what interactive protocols send at a time."""

BULK_SLOT_SIZE: Final = 256 << 10
"""64 KiB costs 40 % more CPU per byte; 1 MiB saves 15 % when few connections are bulky."""


class Slot(Buffer):
    """A shared buffer; between ``recycle`` and the next receive it belongs to the backend."""

    __slots__ = ("index", "is_bulk", "keeper", "pool")

    def __init__(self, pool: SlotPool, index: int, size: int, *, is_bulk: bool) -> None:
        super().__init__(size)
        self.pool = pool
        self.index = index
        self.is_bulk = is_bulk
        self.keeper: object = None
        #: In whose scope a slice of it was kept in this generation, as far as it is known.

    @override
    def on_idle(self) -> None:
        """Go back to the pool when the last lease came back."""
        self.pool.recycle(self)

    @override
    def on_view_kept(self) -> None:
        """Note whose code runs: it kept the slice."""
        self.keeper = current_scope()

    def replace_memory(self) -> None:
        """Leave the exported memory to whoever kept it and get memory of our own."""
        self.memory = bytearray(self.allocated)
        self.view = memoryview(self.memory)
        self._address = 0


class SlotPool:
    """The slots of one backend, ``slots[index]``; small ones first.

    ``give_back`` is the backend's: it makes a slot available to the kernel again.
    """

    __slots__ = ("give_back", "on_kept", "replaced", "slots", "small_count")

    def __init__(self, small_count: int, bulk_count: int) -> None:
        self.small_count = small_count
        self.slots = [
            Slot(self, index, SMALL_SLOT_SIZE, is_bulk=False) for index in range(small_count)
        ] + [
            Slot(self, small_count + index, BULK_SLOT_SIZE, is_bulk=True)
            for index in range(bulk_count)
        ]
        self.give_back: Callable[[Slot], None] = _unbound
        self.on_kept: Callable[[Slot], None] = _ignore_kept
        #: Told of each slot whose bytes somebody kept; the chain names the filter.
        self.replaced = 0
        #: Slots replaced because somebody kept a slice.

    def recycle(self, slot: Slot) -> None:
        """End a slot's generation and give it back to the backend.

        Called by the receiver when it is done, unless a lease is out: then the last ``release``
        calls it.
        """
        slot.generation += 1
        slot.used = 0
        if slot.exported:
            slot.exported = False
            if slot.is_exported():
                self.replaced += 1
                self.on_kept(slot)
                slot.replace_memory()
            slot.keeper = None
        self.give_back(slot)


def _unbound(slot: Slot) -> None:
    raise AssertionError(f"slot {slot.index} was recycled before its backend bound the pool")


def _ignore_kept(slot: Slot) -> None:
    """Count only: nobody asked to be told."""
