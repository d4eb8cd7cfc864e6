"""One started receive or send, and whom its result tells.

Shared by sockets on the network (``stream.py``) and the links between two data filters. The
invariant: it is completed once, and an exception out of a completion goes to the scope's owner.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, ConstBuffer, Window
from sluicegate.errors import FILTER_ERRORS, Side, TransportError

from .scope import FailureScope, entered

__all__ = ["EMPTY", "PendingIo", "SocketCompletion"]

EMPTY: Final = Window(ConstBuffer(b""), 0, 0)
"""What a receive brings at the end of the stream."""


class SocketCompletion(Protocol):
    """Whoever is told of socket operations."""

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Take the result of a receive or a send.

        Args:
            success: Whether it succeeded.
            error: An errno, 0 on success.
            buffer: The received data, empty at end of stream; or what was sent. Valid during the
                call, unless leased or sent on.
            user_data: What the start was given, unchanged.
            address: The peer of a datagram; None for TCP.
        """
        ...


class PendingIo:
    """A started receive or send: told to a completion object or a future, or to nobody."""

    __slots__ = (
        "address",
        "buffer",
        "completion",
        "future",
        "is_kept",
        "length",
        "start",
        "user_data",
    )

    def __init__(
        self,
        completion: SocketCompletion | None,
        user_data: Any,
        future: asyncio.Future[Window] | None = None,
    ) -> None:
        self.completion = completion
        self.user_data = user_data
        self.future = future
        self.buffer: Buffer | None = None
        self.start = 0
        self.length = 0
        self.address: SocketAddress | None = None
        #: The peer of a datagram.
        self.is_kept = False
        #: Whether the buffer is on somebody's account while it waits.

    @property
    def is_abandoned(self) -> bool:
        """Whether whoever awaited it was cancelled, and has not come round to say so."""
        return self.future is not None and self.future.done()

    def receive_into(self, buffer: Buffer) -> None:
        """Receive into the caller's buffer.

        Raises:
            BadContext: The buffer is in flight.
            ValueError: It has no room: nothing received would look like the end of the stream.
        """
        buffer.set_size(0)
        if not buffer.allocated:
            raise ValueError("a buffer without room cannot be received into")
        self.buffer = buffer

    def complete(self, error: int, window: Window, side: Side, scope: FailureScope | None) -> None:
        """Tell the result: an errno (0 on success) and the bytes."""
        future = self.future
        if future is not None:
            if future.done():
                return
            if error:
                future.set_exception(TransportError(error, side))
            else:
                future.set_result(window)
            return
        if self.completion is None:
            return
        try:
            with entered(scope):
                self.completion.complete_socket_io(
                    not error, error, window, self.user_data, self.address
                )
        except FILTER_ERRORS as raised:
            if scope is None:
                raise
            scope.on_filter_failure(raised)
