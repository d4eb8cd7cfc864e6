"""Buffers of the spool: a shelf of warm ones, so that a held object costs no page faults.

Bodies collect small pieces in them and deliveries read files into them. The invariant: a buffer
goes back on the shelf only when its last lease ended and nothing outside exports its memory, so a
slice that somebody kept never shows another object's bytes.
"""

from __future__ import annotations

from typing import Final

from typing_extensions import override

from sluicegate.buffer import Buffer
from sluicegate.limits import SPOOL_BUFFERS_KEPT_MAX, SPOOL_READ_BUFFERS_MAX

__all__ = ["SPOOL_BUFFER_SIZE", "BufferShelf", "ShelfBuffer"]

SPOOL_BUFFER_SIZE: Final = 256 << 10
"""As the port's large slots: smaller ones cost more calls per byte."""

_STRAINED_SIZE: Final = 16 << 10


class ShelfBuffer(Buffer):
    """A buffer that knows where it belongs."""

    __slots__ = ("_is_given", "_shelf", "is_for_reading")

    def __init__(self, shelf: BufferShelf, size: int) -> None:
        super().__init__(size)
        self._shelf = shelf
        self._is_given = False
        self.is_for_reading = False
        #: Whether it counts among the buffers that receivers keep busy.

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

    __slots__ = ("_for_reading", "_warm")

    def __init__(self) -> None:
        self._for_reading = 0
        self._warm: list[ShelfBuffer] = []

    def take(self) -> ShelfBuffer:
        """Return an empty buffer of ``SPOOL_BUFFER_SIZE``."""
        return self._warm.pop().take() if self._warm else ShelfBuffer(self, SPOOL_BUFFER_SIZE)

    def take_sized(self, size: int) -> ShelfBuffer:
        """Return an empty buffer of any size; only the usual size is kept warm."""
        if size == SPOOL_BUFFER_SIZE:
            return self.take()
        return ShelfBuffer(self, size)

    def take_for_reading(self) -> ShelfBuffer:
        """Return a buffer to read a file into: a small one while too many are lent."""
        buffer = self.take_sized(_STRAINED_SIZE if self.is_strained else SPOOL_BUFFER_SIZE)
        buffer.is_for_reading = True
        self._for_reading += 1
        return buffer

    @property
    def is_strained(self) -> bool:
        """Whether receivers that do not read hold so many buffers that all must make do."""
        return self._for_reading >= SPOOL_READ_BUFFERS_MAX

    def put(self, buffer: ShelfBuffer) -> None:
        """Keep a buffer that nobody uses (called by buffers)."""
        if buffer.is_for_reading:
            buffer.is_for_reading = False
            self._for_reading -= 1
        buffer.generation += 1
        buffer.used = 0
        kept_by_somebody = buffer.exported and buffer.is_exported()
        buffer.exported = False
        usual = buffer.allocated == SPOOL_BUFFER_SIZE
        if usual and not kept_by_somebody and len(self._warm) < SPOOL_BUFFERS_KEPT_MAX:
            self._warm.append(buffer)

    @property
    def reading_count(self) -> int:
        """Buffers that deliveries and content filters read into, or that are being sent."""
        return self._for_reading
