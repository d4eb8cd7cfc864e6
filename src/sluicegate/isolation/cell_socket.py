"""In a cell: one of a filter's two sockets; the other end of every operation is in the gate.

A ``place`` has two. It satisfies ``filterapi.DataSocket`` and what the gate's relay asks of a
socket, so both run here as they do there. The invariant: a completion is what the gate's socket
said of the operation, so a send that completed here was taken there.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any, Protocol

from sluicegate.buffer import Buffer, ConstBuffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side
from sluicegate.port.pending import EMPTY, PendingIo, SocketCompletion
from sluicegate.port.scope import FailureScope

from .messages import (
    CHUNK_BYTES_MAX,
    PART_BYTES_MAX,
    CloseSocket,
    Message,
    Received,
    Shutdown,
    StartReceive,
    StartSend,
    Withdraw,
)

__all__ = ["CellSocket", "Place"]


class Place(FailureScope, Protocol):
    """Where a socket is: a filter's place in a connection."""

    number: int

    def tell(self, message: Message) -> None:
        """Say something to the gate."""
        ...

    def post(self, action: Any) -> None:
        """Do something later."""
        ...


class CellSocket:
    """One socket of a place, until the connection ends."""

    def __init__(self, place: Place, side: Side) -> None:
        self.side = side
        self.is_shut = False
        #: Whether our stream was ended.
        self.is_closed = False
        self.is_end_told = False
        #: Whether a reader was told the end of the other end's stream.
        self.is_deserted = False
        #: Whether the other end was closed without a reset.
        self._place = place
        self.is_server = side is Side.SERVER
        self._receive: PendingIo | None = None
        self._is_asked = False
        #: Whether the gate has a receive of ours, also when nobody waits for it any more.
        self._is_withdrawn = False
        self._parts: list[bytes] = []
        self._unread: tuple[int, bytes] | None = None
        #: Came when nobody waited: an errno and the bytes.
        self._send: PendingIo | None = None
        self._sent = 0
        #: Of the pending send: given to the gate.
        self._end: Message | None = None
        #: A shutdown or close that waits for the pending send.
        self._settled: list[asyncio.Future[None]] = []

    # -- filterapi.DataSocket --------------------------------------------------------------------

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """As ``filterapi.DataSocket.start_receive``."""
        pending = PendingIo(completion, user_data)
        if buffer is not None:
            pending.receive_into(buffer)
        self._begin_receive(pending)

    async def receive(self) -> Window:
        """As ``filterapi.DataSocket.receive``."""
        future: asyncio.Future[Window] = asyncio.get_running_loop().create_future()
        pending = PendingIo(None, None, future)
        self._begin_receive(pending)
        try:
            return await future
        except asyncio.CancelledError:
            if self._receive is pending:
                self._receive = None
            elif not future.cancelled() and future.exception() is None:
                # Came in the same moment: it waits for the next reader.
                self._unread = 0, bytes(future.result())
            raise

    def start_send(
        self,
        data: Buffer | Window | bytes,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """As ``filterapi.DataSocket.start_send``."""
        self._begin_send(PendingIo(completion, user_data), data)

    async def send(self, data: Buffer | Window | bytes) -> None:
        """As ``filterapi.DataSocket.send``."""
        future: asyncio.Future[Window] = asyncio.get_running_loop().create_future()
        self._begin_send(PendingIo(None, None, future), data)
        await future

    def shutdown(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.shutdown``."""
        if abortive:
            self.close(abortive=True)
        elif not self.is_shut:
            self.is_shut = True
            self._end_with(Shutdown(self._place.number, self.is_server))

    def close(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.close``."""
        if self.is_closed and not abortive:
            return
        self.is_closed = self.is_shut = True
        message = CloseSocket(self._place.number, self.is_server, abortive)
        if abortive:
            self._end = None
            self._place.tell(message)
        else:
            self._end_with(message)
        self._place.post(self.withdraw)

    # -- for the place and its relay ---------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a send is under way, or the gate has a receive of ours."""
        return self._send is not None or self._is_asked

    @property
    def has_anything(self) -> bool:
        """Whether something is under way, or has come that nobody read."""
        return self.is_busy or self._receive is not None or self._unread is not None

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``."""
        pending, self._receive = self._receive, None
        if pending is not None:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self._place)

    async def settle(self) -> bytes | None:
        """Take receives back and wait for sends; return what had come and nobody read."""
        self.withdraw()
        while self.is_busy:
            if self._is_asked and not self._is_withdrawn:
                self._is_withdrawn = True
                self._place.tell(Withdraw(self._place.number, self.is_server))
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settled.append(future)
            await future
        unread, self._unread = self._unread, None
        return None if unread is None else unread[1]

    def abandon(self) -> None:
        """Take that the connection has ended: everything pending completes with ``ECANCELED``."""
        self.is_closed = self.is_shut = True
        self._is_asked = False
        self.withdraw()
        self._finish_send(errno.ECANCELED)
        self._tell_settled()

    # -- the gate tells ----------------------------------------------------------------------------

    def on_received(self, message: Received) -> None:
        """Take what a receive brought, or a part of it."""
        if message.data:
            self._parts.append(message.data)
        if not message.is_last:
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._is_asked = self._is_withdrawn = False
        pending, self._receive = self._receive, None
        if pending is not None and not pending.is_abandoned:
            self._complete(pending, message.error, data)
        elif message.error != errno.ECANCELED:
            self._unread = message.error, data
        self._tell_settled()

    def on_sent(self, error: int) -> None:
        """Take that the gate's socket took a chunk, or never will."""
        pending = self._send
        if pending is None:
            return
        if not error and self._sent < pending.length:
            self._send_chunk(pending)
            return
        self.is_deserted = self.is_deserted or error == errno.EPIPE
        self._finish_send(error)
        self._tell_settled()

    # -- private -----------------------------------------------------------------------------------

    def _begin_receive(self, pending: PendingIo) -> None:
        if self.is_closed:
            raise BadContext("the socket is closed")
        if self._receive is not None and not self._receive.is_abandoned:
            raise OperationPending("one receive at a time on a socket")
        self._receive = pending
        if self._unread is not None:
            self._place.post(self._hand_over)
        elif not self._is_asked:
            self._is_asked = True
            size = pending.buffer.allocated if pending.buffer is not None else 0
            self._place.tell(StartReceive(self._place.number, self.is_server, size))

    def _hand_over(self) -> None:
        pending, unread = self._receive, self._unread
        if pending is not None and unread is not None:
            self._receive = self._unread = None
            self._complete(pending, *unread)

    def _complete(self, pending: PendingIo, error: int, data: bytes) -> None:
        window = Window(ConstBuffer(data), 0, len(data)) if data else EMPTY
        if not error and not data:
            self.is_end_told = True
        elif not error and pending.buffer is not None:
            taken = pending.buffer.append(data)
            window = pending.buffer.window()
            if taken < len(data):
                self._unread = 0, data[taken:]
        pending.complete(error, window, self.side, self._place)

    def _begin_send(self, pending: PendingIo, data: Buffer | Window | bytes) -> None:
        if self.is_closed or self.is_shut:
            raise BadContext("the socket is closed for sending")
        if self._send is not None:
            raise OperationPending("one send at a time on a socket")
        pending.buffer, pending.start, pending.length = extent(data)
        pending.buffer.lease()
        self._send = pending
        self._sent = 0
        if pending.length:
            self._send_chunk(pending)
        else:
            self._place.post(lambda: self._finish_send(0))

    def _send_chunk(self, pending: PendingIo) -> None:
        assert pending.buffer is not None
        start, end = self._sent, min(self._sent + CHUNK_BYTES_MAX, pending.length)
        view = pending.buffer.view[pending.start : pending.start + pending.length]
        for offset in range(start, end, PART_BYTES_MAX):
            part = view[offset : min(offset + PART_BYTES_MAX, end)].tobytes()
            is_last = offset + PART_BYTES_MAX >= end
            self._place.tell(StartSend(self._place.number, self.is_server, part, is_last))
        self._sent = end

    def _finish_send(self, error: int) -> None:
        pending, self._send = self._send, None
        if pending is None or pending.buffer is None:
            return
        end, self._end = self._end, None
        if end is not None:
            self._place.tell(end)
        window = Window(pending.buffer, pending.start, pending.length)
        try:
            pending.complete(error, window, self.side, self._place)
        finally:
            pending.buffer.release()

    def _end_with(self, message: Message) -> None:
        """End the stream behind what is being sent."""
        if self._send is None:
            self._place.tell(message)
        else:
            self._end = message

    def _tell_settled(self) -> None:
        if self.is_busy:
            return
        settled, self._settled = self._settled, []
        for future in settled:
            if not future.done():
                future.set_result(None)
