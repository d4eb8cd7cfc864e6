"""Overlapped: one reusable operation slot for hooked handles, and whom its completion tells.

Filters that spool a stream to disk own one per chain of operations. The invariant: one operation
at a time; between the start and the completion the overlapped holds the descriptor and the buffer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from sluicegate.buffer import Buffer
from sluicegate.errors import FILTER_ERRORS, BadContext, OverlappedBusy, TransportError

from .backend import Operation, tell_nobody
from .scope import current_scope, entered

if TYPE_CHECKING:
    from .handle import Handle
    from .port import CompletionPort

__all__ = ["ExternalIoCompletion", "Overlapped"]


class ExternalIoCompletion(Protocol):
    """Whoever is told of file operations."""

    def complete_async_io(
        self,
        success: bool,
        bytes_transferred: int,
        error: int,
        overlapped: Overlapped,
        user_data: Any,
    ) -> None:
        """Take the result of one operation.

        Args:
            success: Whether it succeeded; end of file on read is success with 0 bytes.
            bytes_transferred: Counts only on success.
            error: An errno, 0 on success.
            overlapped: The slot that was used; it may be started again in this call.
            user_data: What ``set_notification`` was given, unchanged.
        """
        ...


class Overlapped:
    """One operation slot; made by ``CompletionPort.create_overlapped``, reusable for ever."""

    __slots__ = (
        "_buffer",
        "_completion",
        "_handle",
        "_is_read",
        "_port",
        "_target",
        "_waiter",
        "offset",
        "operation",
        "scope",
        "user_data",
    )

    def __init__(self, port: CompletionPort) -> None:
        self.offset = 0
        #: Where in the file the next operation begins; the starter sets it.
        self.operation = Operation(tell_nobody)
        self.user_data: Any = None
        self.scope = current_scope()
        #: Whose failure an exception out of the completion is; the maker's.
        self._is_read = False
        self._waiter: asyncio.Future[int] | None = None
        self._port = port
        self._completion: ExternalIoCompletion | None = None
        self._handle: Handle | None = None
        self._target: Handle | None = None
        #: The other descriptor of a splice.
        self._buffer: Buffer | None = None

    def set_notification(
        self, completion: ExternalIoCompletion | None, user_data: Any = None
    ) -> None:
        """Choose who is told of the next completions, and the object handed back with them.

        Raises:
            OverlappedBusy: An operation is in flight.
        """
        if self._handle is not None:
            raise OverlappedBusy("the notification cannot change while an operation is in flight")
        self._completion = completion
        self.user_data = user_data

    @property
    def is_busy(self) -> bool:
        """Whether an operation is in flight."""
        return self._handle is not None

    def cancel(self) -> None:
        """Ask for an early end; the completion comes all the same."""
        if self._handle is not None:
            self._port.backend.cancel(self.operation)

    async def wait(self) -> int:
        """Wait for the operation in flight and return its bytes, in place of the notification.

        Cancelling the waiting task cancels the operation; its completion is then awaited by
        nobody, and its buffer stays leased until it came.

        Raises:
            TransportError: The operation failed; ``error`` is the errno.
            BadContext: No operation is in flight.
        """
        if self._handle is None:
            raise BadContext("nothing is in flight on this overlapped")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await self._waiter
        except asyncio.CancelledError:
            self.cancel()
            raise

    def claim(
        self,
        handle: Handle,
        buffer: Buffer | None,
        *,
        is_read: bool,
        target: Handle | None = None,
    ) -> None:
        """Take the slot for one operation (called by handles).

        Raises:
            OverlappedBusy: An operation is in flight.
        """
        if self._handle is not None:
            raise OverlappedBusy("one operation at a time: wait for the completion, or use another")
        self._handle = handle
        self._target = target
        self._buffer = buffer
        self._is_read = is_read
        # At rest it knows nobody, so that a circle of the two never waits for the collector.
        self.operation.complete = self._on_result
        if buffer is not None:
            buffer.lease()

    def _on_result(self, result: int, _flags: int) -> None:
        handle, buffer, waiter = self._handle, self._buffer, self._waiter
        assert handle is not None, "a completion came for an overlapped that is not in flight"
        target, self._target = self._target, None
        self._handle = self._buffer = self._waiter = None
        if self._is_read and buffer is not None:
            buffer.used = max(result, 0)
        handle.on_finished(self)
        if target is not None:
            target.on_finished(self)
        if buffer is not None:
            # Before the completion runs: a callback may write into its own buffer at once.
            buffer.release()
        try:
            if waiter is not None:
                _resolve(waiter, result)
            elif self._completion is not None:
                self._notify(self._completion, result)
        finally:
            if self._handle is None:
                # At rest the driver must not keep it, nor what it tells: nobody closes one.
                self._port.backend.forget(self.operation)

    def _notify(self, completion: ExternalIoCompletion, result: int) -> None:
        success = result >= 0
        scope = self.scope
        try:
            with entered(scope):
                completion.complete_async_io(
                    success,
                    result if success else 0,
                    0 if success else -result,
                    self,
                    self.user_data,
                )
        except FILTER_ERRORS as error:
            if scope is None:
                raise
            scope.on_filter_failure(error)


def _resolve(waiter: asyncio.Future[int], result: int) -> None:
    if waiter.done():
        return
    if result >= 0:
        waiter.set_result(result)
    else:
        waiter.set_exception(TransportError(-result, doing="file operation"))
