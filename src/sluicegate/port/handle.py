"""Handle: a descriptor hooked to the port.

Filters hook the temporary files they spool to; afterwards the descriptor is used through overlapped
operations only. The invariant: the descriptor is closed when the last operation on it completed,
never before (``close`` joins), so the kernel never works on a number that means something else.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OverlappedBusy

if TYPE_CHECKING:
    from .overlapped import Overlapped
    from .port import CompletionPort

__all__ = ["Handle"]


class Handle:
    """One hooked descriptor; made by ``CompletionPort.hook``, ended by ``close``."""

    __slots__ = ("_closed", "_closing", "_descriptor", "_in_flight", "_owns", "_port")

    def __init__(self, port: CompletionPort, descriptor: int, *, owns: bool) -> None:
        self._port = port
        self._descriptor = descriptor
        self._owns = owns
        self._in_flight: set[Overlapped] = set()
        self._closing = False
        self._closed: list[asyncio.Future[None]] = []

    def fileno(self) -> int:
        """Return the descriptor; -1 after the close."""
        return self._descriptor

    @property
    def in_flight(self) -> int:
        """Operations that have not completed."""
        return len(self._in_flight)

    def start_read(self, buffer: Buffer, overlapped: Overlapped, length: int | None = None) -> None:
        """Read at ``overlapped.offset`` into ``buffer`` from its beginning; its used size is set.

        Raises:
            OverlappedBusy: The overlapped has an operation in flight.
            BadContext: The handle is closed, or the buffer is in flight elsewhere.
            WrongThread: Not on the port's thread.
        """
        size = buffer.allocated if length is None else min(length, buffer.allocated)
        self._check(overlapped)
        buffer.set_size(0)
        self._claim(overlapped, buffer, is_read=True)
        self._port.backend.read(
            overlapped.operation, self._descriptor, buffer, 0, size, overlapped.offset
        )

    def start_write(self, data: Buffer | Window | bytes, overlapped: Overlapped) -> None:
        """Write ``data`` at ``overlapped.offset``; may be short, as ``pwrite`` may.

        Raises:
            OverlappedBusy: The overlapped has an operation in flight.
            BadContext: The handle is closed.
            WindowExpired: The window's bytes belong to somebody else by now.
            WrongThread: Not on the port's thread.
        """
        buffer, start, length = extent(data)
        self._claim(overlapped, buffer, is_read=False)
        self._port.backend.write(
            overlapped.operation, self._descriptor, buffer, start, length, overlapped.offset
        )

    def start_sync(self, overlapped: Overlapped, *, data_only: bool = True) -> None:
        """Bring what was written to the disk (``fdatasync``, or ``fsync``)."""
        self._claim(overlapped, None, is_read=False)
        self._port.backend.sync(overlapped.operation, self._descriptor, data_only=data_only)

    def start_write_back(self, length: int, overlapped: Overlapped) -> None:
        """Begin writing a range back to the disk, so that a later flush is short."""
        self._claim(overlapped, None, is_read=False)
        self._port.backend.write_back(
            overlapped.operation, self._descriptor, overlapped.offset, length
        )

    def start_splice(self, target: Handle, length: int, overlapped: Overlapped) -> None:
        """Move bytes from this file at ``overlapped.offset`` into a hooked pipe.

        Both descriptors belong to the operation until it has completed.
        """
        target._check(overlapped)
        self._claim(overlapped, None, is_read=False, target=target)
        self._port.backend.splice(
            overlapped.operation, self._descriptor, overlapped.offset, target.fileno(), -1, length
        )

    def close(self) -> None:
        """End the hook: cancel what is in flight, and close when all of it completed."""
        if self._closing:
            return
        self._closing = True
        if self._in_flight:
            for overlapped in list(self._in_flight):
                overlapped.cancel()
        else:
            self._finish_close()

    async def wait_closed(self) -> None:
        """Wait until the descriptor is closed."""
        if self._descriptor >= 0:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._closed.append(waiter)
            await waiter

    def on_finished(self, overlapped: Overlapped) -> None:
        """Take note of a completion (called by overlappeds)."""
        self._in_flight.discard(overlapped)
        if self._closing and not self._in_flight:
            self._finish_close()

    def _check(self, overlapped: Overlapped) -> None:
        self._port.check_thread()
        if self._closing:
            raise BadContext(f"the handle is closed ({errno.errorcode[errno.EBADF]})")
        if overlapped.is_busy:
            raise OverlappedBusy("one operation at a time: wait for the completion, or use another")

    def _claim(
        self,
        overlapped: Overlapped,
        buffer: Buffer | None,
        *,
        is_read: bool,
        target: Handle | None = None,
    ) -> None:
        self._check(overlapped)
        overlapped.claim(self, buffer, is_read=is_read, target=target)
        self._in_flight.add(overlapped)
        if target is not None:
            target._in_flight.add(overlapped)  # noqa: SLF001 - another handle

    def _finish_close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        self._port.unhook(descriptor)
        if self._owns:
            os.close(descriptor)
        for waiter in self._closed:
            if not waiter.done():
                waiter.set_result(None)
