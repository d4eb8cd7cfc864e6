"""SpooledFile: a held object, open for a content filter; never the path of a file.

The gate's transfers hand it to filters inside ``async with transfer.open()``. The invariant: it
reads only, and after its time every call raises instead of reading what is somebody else's by then.
"""

from __future__ import annotations

import asyncio
import errno
import io
from typing import TYPE_CHECKING, BinaryIO

from sluicegate.errors import BadContext, LimitExceeded, TransportError
from sluicegate.limits import TRANSFER_READ_BYTES_MAX

if TYPE_CHECKING:
    from .body import SpooledBody
    from .store import SpoolStore

__all__ = ["SpooledFile"]


class SpooledFile:
    """One reader of one finished body (``filterapi.TransferFile``); ended by ``close``."""

    __slots__ = ("_body", "_closed", "_position", "_source", "_store")

    def __init__(self, store: SpoolStore, body: SpooledBody) -> None:
        self._store = store
        self._body = body
        # Taken here, on the port's thread: blocking_file is called on others.
        self._source = body.reopen()
        self._position = 0
        self._closed = False

    async def read(self, count: int = -1) -> bytes:
        """Return up to ``count`` bytes (-1: the rest) from the position and advance.

        Raises:
            LimitExceeded: More than ``TRANSFER_READ_BYTES_MAX`` at once.
            TransportError: Reading the spool failed.
            BadContext: The object is gone.
        """
        rest = self._body.size - self._position
        piece = await self.read_at(self._position, rest if count < 0 else count)
        self._position += len(piece)
        return piece

    async def read_at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``; fewer only at the end.

        Raises:
            LimitExceeded: More than ``TRANSFER_READ_BYTES_MAX`` at once.
            TransportError: Reading the spool failed.
            BadContext: The object is gone.
            ValueError: Negative offset or count.
        """
        self._check_open()
        if offset < 0 or count < 0:
            raise ValueError(f"cannot read {count} bytes at {offset}")
        count = max(0, min(count, self._body.size - offset))
        if count > TRANSFER_READ_BYTES_MAX:
            raise LimitExceeded("TRANSFER_READ_BYTES_MAX", TRANSFER_READ_BYTES_MAX)
        if isinstance(self._source, bytes):
            return self._source[offset : offset + count]
        pieces: list[bytes] = []
        while count:
            piece = await self._read_piece(offset, count)
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def blocking_file(self) -> BinaryIO:
        """Return a fresh read-only file object for use inside ``run_blocking``; close it.

        Raises:
            BadContext: The object is gone.
        """
        self._check_open()
        source = self._source
        return io.BytesIO(source) if isinstance(source, bytes) else source.reopen()

    def close(self) -> None:
        """End the reader; file objects already made stay usable until closed."""
        self._closed = True

    async def _read_piece(self, offset: int, count: int) -> bytes:
        self._check_open()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        buffer = self._store.shelf.take_for_reading()

        def on_read(result: int) -> None:
            piece = buffer.view[: max(result, 0)].tobytes()
            buffer.give_back()
            if future.done():
                return
            if result > 0:
                future.set_result(piece)
            else:
                # 0: the file is shorter than what was written to it.
                future.set_exception(
                    TransportError(-result or errno.EIO, doing="read the spool file")
                )

        try:
            self._body.start_read(buffer, offset, min(count, buffer.allocated), on_read)
        except BadContext:
            buffer.give_back()
            raise
        return await future

    def _check_open(self) -> None:
        if self._closed:
            raise BadContext(
                "the held object was closed: use it inside 'async with transfer.open()'"
            )
