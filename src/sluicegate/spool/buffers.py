"""Buffers of the spool: a shelf of warm ones, so that a held object costs no page faults.

Bodies collect small pieces in them and deliveries read files into them. The invariant: a buffer
goes back on the shelf only when its last lease ended and nothing outside exports its memory, so a
slice that somebody kept never shows another object's bytes.
"""

from __future__ import annotations

from typing import Final

from typing_extensions import override

from sluicegate.buffer import Buffer
from sluicegate.limits import SPOOL_BUFFERS_KEPT_MAX

__all__ = ["SPOOL_BUFFER_SIZE", "BufferShelf", "ShelfBuffer"]

SPOOL_BUFFER_SIZE: Final = 256 << 10
"""As the port's large slots: smaller ones cost more calls per byte."""


class ShelfBuffer(Buffer):
    """A buffer that knows where it belongs."""

    __slots__ = ("_is_given", "_shelf")

    def __init__(self, shelf: BufferShelf, size: int) -> None:
        super().__init__(size)
        self._shelf = shelf
        self._is_given = False

    def take(self) -> ShelfBuffer:
        """Begin another life (the shelf only)."""
        self._is_given = False
        return self

    def give_back(self) -> None:
        """End its use; the shelf gets it now, or when the last lease ends."""
        assert not self._is_given, "a buffer was given back twice"
        self._is_given = True
        if not self.leases:
            self.on_idle()

    @override
    def on_idle(self) -> None:
        """Go back to the shelf, if given back, when the last lease ended."""
        if self._is_given:
            self._shelf.put(self)


class BufferShelf:
    """The warm buffers of one spool."""

    __slots__ = ("_warm",)

    def __init__(self) -> None:
        self._warm: list[ShelfBuffer] = []

    def take(self) -> ShelfBuffer:
        """Return an empty buffer of ``SPOOL_BUFFER_SIZE``."""
        return self._warm.pop().take() if self._warm else ShelfBuffer(self, SPOOL_BUFFER_SIZE)

    def take_sized(self, size: int) -> ShelfBuffer:
        """Return an empty buffer of any size; only the usual size is kept warm."""
        return self.take() if size == SPOOL_BUFFER_SIZE else ShelfBuffer(self, size)

    def put(self, buffer: ShelfBuffer) -> None:
        """Keep a buffer that nobody uses (called by buffers)."""
        buffer.generation += 1
        buffer.used = 0
        kept_by_somebody = buffer.exported and buffer.is_exported()
        buffer.exported = False
        usual = buffer.allocated == SPOOL_BUFFER_SIZE
        if usual and not kept_by_somebody and len(self._warm) < SPOOL_BUFFERS_KEPT_MAX:
            self._warm.append(buffer)

    @property
    def warm_count(self) -> int:
        """Buffers on the shelf."""
        return len(self._warm)
