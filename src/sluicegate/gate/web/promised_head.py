"""PromisedHead: the head of an answer that its client gets byte by byte, before it is due.

``ClientEnd`` makes one for an exchange whose client is kept waiting (``Exchange.comfort``). The
invariant: what was sent is the beginning of the head that comes: at first the version, which every
head begins with, and behind it only what a head that was promised says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["PromisedHead"]

_VERSION: Final = b"HTTP/1.1 "


class PromisedHead:
    """What of one head was sent."""

    __slots__ = ("_head", "_is_promised", "_sent")

    def __init__(self) -> None:
        self._head = _VERSION
        self._is_promised = False
        self._sent = 0

    @property
    def wants_promise(self) -> bool:
        """Whether nothing more can be sent before a head is promised."""
        return not self._is_promised and self._sent == len(self._head)

    def promise(self, head: bytes) -> None:
        """Take the head that will come, as it goes out."""
        self._head, self._is_promised = _checked(head), True

    def next_byte(self) -> bytes:
        """Return what is sent next; empty: all of it was."""
        byte = self._head[self._sent : self._sent + 1]
        self._sent += len(byte)
        return byte

    def rest(self, send: Callable[[], bytes]) -> bytes:
        """Return what is left to be sent, now that the head is due.

        Args:
            send: Makes the bytes of the head, if none was promised.
        """
        whole = self._head if self._is_promised else _checked(send())
        return whole[self._sent :]


def _checked(head: bytes) -> bytes:
    assert head.startswith(_VERSION), "every head begins with the version"
    return head
