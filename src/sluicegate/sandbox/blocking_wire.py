"""The process's end of a wire, for one that does one thing at a time and needs no event loop.

``scan.examination.server`` uses it. The invariant: it waits in ``receive`` and ``send`` only, and
descriptors that came along are the receiver's to close.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from .message import MESSAGE_BYTES_MAX, Message, encode
from .wire import WireSocket

__all__ = ["BlockingWire"]

MessageT = TypeVar("MessageT")


class BlockingWire(Generic[MessageT]):
    """One end of a wire."""

    def __init__(self, raw: WireSocket, decode: Callable[[bytes], MessageT]) -> None:
        raw.setblocking(True)
        self._raw = raw
        self._decode = decode

    def send(self, message: Message) -> None:
        """Send, however long the other end takes to read.

        Raises:
            OSError: It is gone.
        """
        data = encode(message)
        assert len(data) <= MESSAGE_BYTES_MAX, f"{type(message).__name__} is too long"
        self._raw.send(data)

    def receive(self) -> tuple[MessageT, list[int]] | None:
        """Return the next message with its descriptors; None when the other end is gone.

        Raises:
            OSError: The wire is broken.
            msgspec.MsgspecError: What came is no message.
        """
        data, beside, _, _ = self._raw.recvmsg(
            MESSAGE_BYTES_MAX, socket.CMSG_SPACE(_DESCRIPTORS_MAX * 4), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return None
        descriptors: list[int] = []
        for level, kind, numbers in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(numbers[: len(numbers) - len(numbers) % found.itemsize])
                descriptors += found
        return self._decode(data), descriptors


_DESCRIPTORS_MAX: Final = 4
