"""Vectors of TLS (RFC 8446 section 3.4), read from one piece of a message.

``message`` and ``extensions`` read with it. The invariant: nothing beyond the end is read, and what
is left over is told.
"""

from __future__ import annotations

from .fault import TlsFault, TlsRefused

__all__ = ["Cursor"]


class Cursor:
    """A place in bytes; every step that leads beyond their end is refused with one fault."""

    __slots__ = ("_at", "_data", "_fault")

    def __init__(self, data: bytes, fault: TlsFault) -> None:
        self._data = data
        self._at = 0
        self._fault = fault

    @property
    def has_more(self) -> bool:
        """Whether something is left."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        at = self._at
        end = at + count
        if end > len(self._data):
            raise TlsRefused(self._fault)
        self._at = end
        return self._data[at:end]

    def number(self, size: int) -> int:
        """Return the next number, of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Return the next vector, whose length has so many bytes."""
        data, start = self._data, self._at + size
        end = start + int.from_bytes(data[self._at : start], "big")
        if end > len(data):
            # (Also where the length itself is cut off: it ends beyond the end then.)
            raise TlsRefused(self._fault)
        self._at = end
        return data[start:end]

    def numbers(self, size: int) -> tuple[int, ...]:
        """Return the next vector as numbers of 16 bits, at least one.

        Args:
            size: How many bytes its length has.
        """
        raw = self.vector(size)
        if not raw or len(raw) % 2:
            raise TlsRefused(self._fault)
        return tuple([raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2)])

    def end(self) -> None:
        """Take that nothing may be left."""
        if self.has_more:
            raise TlsRefused(self._fault)
