"""In a cell: a held object that the gate lent, as content filters see it.

``server`` makes one per inspection. The invariant: it reads only, through the descriptor that came
with the question, and after the verdict nothing new can be opened.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from typing_extensions import override

from sluicegate.errors import BadContext, LimitExceeded, TransportError
from sluicegate.filterapi import Connection, TransferFile, TransferOffer
from sluicegate.limits import TRANSFER_READ_BYTES_MAX

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

    from .messages import Inspect

__all__ = ["LentObject"]

ResultT = TypeVar("ResultT")

_INLINE_BYTES_MAX: Final = 64 << 10
"""Read at once: the gate has just written or hashed it, so it is in memory."""


class LentObject:
    """One object; satisfies ``filterapi.Transfer``."""

    __slots__ = (
        "_descriptor",
        "_is_over",
        "_port",
        "connection",
        "head",
        "offer",
        "sha256",
        "size",
    )

    def __init__(
        self, port: CompletionPort, message: Inspect, connection: Connection, descriptor: int
    ) -> None:
        """Take over a descriptor.

        Raises:
            ValueError: The message makes no sense.
        """
        self.offer: TransferOffer = message.offer.offer()
        self.connection = connection
        self.size = message.size
        self.sha256 = message.sha256
        self.head = message.head
        self._port = port
        self._descriptor = descriptor
        self._is_over = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[TransferFile]:
        """As ``filterapi.Transfer.open``."""
        self._check()
        file = _LentFile(self._port, os.dup(self._descriptor), self.size)
        try:
            yield file
        finally:
            file.close()

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """As ``filterapi.Transfer.run_blocking``."""
        self._check()
        return await self._port.run_blocking(function, *args)

    def end(self) -> None:
        """Take that the verdict was given."""
        if not self._is_over:
            self._is_over = True
            os.close(self._descriptor)

    def _check(self) -> None:
        if self._is_over:
            raise BadContext("the verdict was given: look at the object inside inspect only")


class _LentFile:
    """One reader; satisfies ``filterapi.TransferFile``."""

    __slots__ = ("_descriptor", "_port", "_position", "_size")

    def __init__(self, port: CompletionPort, descriptor: int, size: int) -> None:
        self._port = port
        self._descriptor = descriptor
        self._size = size
        self._position = 0

    async def read(self, count: int = -1) -> bytes:
        """As ``filterapi.TransferFile.read``."""
        rest = self._size - self._position
        piece = await self.read_at(self._position, rest if count < 0 else count)
        self._position += len(piece)
        return piece

    async def read_at(self, offset: int, count: int) -> bytes:
        """As ``filterapi.TransferFile.read_at``."""
        self._check_open()
        if offset < 0 or count < 0:
            raise ValueError(f"cannot read {count} bytes at {offset}")
        count = max(0, min(count, self._size - offset))
        if count > TRANSFER_READ_BYTES_MAX:
            raise LimitExceeded("TRANSFER_READ_BYTES_MAX", TRANSFER_READ_BYTES_MAX)
        if count <= _INLINE_BYTES_MAX:
            return _read_whole(self._descriptor, offset, count)
        # A thread goes on when nobody waits for it any more, so it has a descriptor of its own.
        descriptor = os.dup(self._descriptor)
        return await self._port.run_blocking(_read_and_close, descriptor, offset, count)

    def blocking_file(self) -> BinaryIO:
        """As ``filterapi.TransferFile.blocking_file``."""
        self._check_open()
        return io.BufferedReader(_OwnPosition(os.dup(self._descriptor), self._size))

    def close(self) -> None:
        """End the reader; file objects already made stay usable until closed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise BadContext(
                "the held object was closed: use it inside 'async with transfer.open()'"
            )


def _read_whole(descriptor: int, offset: int, count: int) -> bytes:
    pieces: list[bytes] = []
    while count:
        try:
            piece = os.pread(descriptor, count, offset)
        except OSError as error:
            raise TransportError(error.errno or 0, doing="read the held object") from error
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        count -= len(piece)
    return b"".join(pieces)


def _read_and_close(descriptor: int, offset: int, count: int) -> bytes:
    try:
        return _read_whole(descriptor, offset, count)
    finally:
        os.close(descriptor)


class _OwnPosition(io.RawIOBase):
    """Reads a descriptor whose position others share, from a position of its own."""

    def __init__(self, descriptor: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._size = size
        self._position = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def fileno(self) -> int:
        return self._descriptor

    @override
    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._position = start + offset
        return self._position

    @override
    def tell(self) -> int:
        return self._position

    @override
    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
