"""Buffers of the spool: a shelf of warm ones, so that a held object costs no page faults.

Bodies collect small pieces in them, bulky streams are received into them, and deliveries read
files into them. The invariant: a buffer
goes back on the shelf only when its last lease ended and nothing outside exports its memory, so a
slice that somebody kept never shows another object's bytes.
"""

from __future__ import annotations

import enum
from typing import Final

from typing_extensions import override

from sluicegate.buffer import Buffer
from sluicegate.limits import (
    SPOOL_BUFFERS_KEPT_MAX,
    SPOOL_READ_BUFFERS_MAX,
    SPOOL_RECEIVE_BUFFERS_MAX,
)

__all__ = [
    "LARGE_BUFFER_SIZE",
    "READ_BUFFER_SIZE",
    "SPOOL_BUFFER_SIZE",
    "BufferShelf",
    "BufferUse",
    "ShelfBuffer",
]

SPOOL_BUFFER_SIZE: Final = 256 << 10
"""For collecting, and what is sent at a time of an object in memory."""

READ_BUFFER_SIZE: Final = 64 << 10
"""For reading what is sent: a piece stays in the processor's caches between the two, and holds the
loop up for no more than 20 µs; four times as much costs the same, and other connections wait."""

LARGE_BUFFER_SIZE: Final = 1 << 20
"""For bulky streams on their way in: a quarter of the writes and hand-offs."""

_STRAINED_SIZE: Final = 16 << 10


class BufferUse(enum.Enum):
    """What a buffer was lent for; each use has its bound."""

    COLLECTING = "collecting"
    READING = "reading"
    RECEIVING = "receiving"


class ShelfBuffer(Buffer):
    """A buffer that knows where it belongs."""

    __slots__ = ("_is_given", "_shelf", "use")

    def __init__(self, shelf: BufferShelf, size: int) -> None:
        super().__init__(size)
        self._shelf = shelf
        self._is_given = False
        self.use = BufferUse.COLLECTING

    def begin(self, use: BufferUse) -> ShelfBuffer:
        """Begin another life (the shelf only)."""
        self._is_given = False
        self.use = use
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

    __slots__ = ("_lent", "_warm")

    def __init__(self) -> None:
        self._lent = dict.fromkeys(BufferUse, 0)
        sizes = READ_BUFFER_SIZE, SPOOL_BUFFER_SIZE, LARGE_BUFFER_SIZE
        self._warm: dict[int, list[ShelfBuffer]] = {size: [] for size in sizes}

    def take(self, size: int, use: BufferUse = BufferUse.COLLECTING) -> ShelfBuffer:
        """Return an empty buffer; only the usual sizes are kept warm."""
        self._lent[use] += 1
        warm = self._warm.get(size)
        return (warm.pop() if warm else ShelfBuffer(self, size)).begin(use)

    def take_for_reading(self) -> ShelfBuffer:
        """Return a buffer to read a file into: a small one while too many are lent."""
        return self.take(
            _STRAINED_SIZE if self.is_strained else READ_BUFFER_SIZE, BufferUse.READING
        )

    def take_for_receiving(self) -> ShelfBuffer | None:
        """Return a large buffer for a bulky stream, or None when enough streams have one."""
        if self._lent[BufferUse.RECEIVING] >= SPOOL_RECEIVE_BUFFERS_MAX:
            return None
        return self.take(LARGE_BUFFER_SIZE, BufferUse.RECEIVING)

    @property
    def is_strained(self) -> bool:
        """Whether receivers that do not read hold so many buffers that all must make do."""
        return self._lent[BufferUse.READING] >= SPOOL_READ_BUFFERS_MAX

    def put(self, buffer: ShelfBuffer) -> None:
        """Keep a buffer that nobody uses (called by buffers)."""
        self._lent[buffer.use] -= 1
        buffer.generation += 1
        buffer.used = 0
        kept_by_somebody = buffer.exported and buffer.is_exported()
        buffer.exported = False
        warm = self._warm.get(buffer.allocated)
        if warm is not None and not kept_by_somebody and len(warm) < SPOOL_BUFFERS_KEPT_MAX:
            warm.append(buffer)

    @property
    def lent_count(self) -> int:
        """Buffers in use."""
        return sum(self._lent.values())
