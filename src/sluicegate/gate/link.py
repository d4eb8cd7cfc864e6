"""Link: the two sockets between neighbouring elements of a chain.

What one end sends, the other receives; to a data filter it looks like the network. The invariant:
nothing queues here. A send completes when the neighbour's receive took the buffer, so awaiting a
send is back-pressure all the way to the network.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side
from sluicegate.port.account import Account, Kept
from sluicegate.port.pending import EMPTY, PendingIo, SocketCompletion
from sluicegate.port.pool import Slot
from sluicegate.port.scope import FailureScope

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["LinkEnd", "make_link"]


class LinkEnd:
    """One end of a link; satisfies ``filterapi.DataSocket``."""

    __slots__ = (
        "_aborted",
        "_closed",
        "_current",
        "_end_told",
        "_is_read_kept",
        "_peer",
        "_port",
        "_receive",
        "_send",
        "_sent_part",
        "_shut",
        "_unread",
        "account",
        "bytes_received",
        "on_closed",
        "on_finished",
        "on_send_idle",
        "scope",
        "side",
    )

    def __init__(self, port: CompletionPort, side: Side) -> None:
        self.side = side
        self.scope: FailureScope | None = None
        self.account: Account | None = None
        self.bytes_received = 0
        self.on_closed: Callable[[], None] | None = None
        #: Told, once, when it is closed and everything pending was told.
        self.on_finished: Callable[[], None] | None = None
        #: Told, later, when both streams have ended and a reader knows.
        self.on_send_idle: Callable[[], None] | None = None
        #: Told, once, when a send has completed.
        self._port = port
        self._peer: LinkEnd = self
        self._receive: PendingIo | None = None
        self._send: PendingIo | None = None
        self._sent_part = 0
        #: How much of the pending send the neighbour took into buffers of its own.
        self._current: Buffer | None = None
        #: What the reader was given last; its lease ends with the next receive.
        self._unread: Kept | None = None
        #: Received by a reader that gave up before it saw it; leased.
        self._is_read_kept = False
        #: Whether that buffer, one or the other, is on the account.
        self._shut = False
        self._closed = False
        self._aborted = False
        self._end_told = False

    def connect(self, peer: LinkEnd) -> None:
        """Make ``peer`` the other end (``make_link`` only)."""
        self._peer = peer

    def close_at_once(self) -> None:
        """Be closed from the beginning, with nobody to tell."""
        self._closed = self._shut = True

    def let_go(self) -> None:
        """Keep nothing of the connection any more: it is closed, and everybody was told."""
        self._peer = _GONE
        self.account = self.scope = self.on_finished = self.on_send_idle = None

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
            else:
                self._take_back(future)
            raise
        finally:
            del pending, future  # a failure's traceback knows this frame

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
        try:
            await future
        finally:
            del future  # a failure's traceback knows this frame

    def shutdown(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.shutdown``."""
        if abortive:
            self.close(abortive=True)
        elif not self._shut:
            self._shut = True
            self._port.post(self._peer.settle)
            self._check_finished()

    def close(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.close``: not abortive, the neighbour gets what was sent."""
        if self._closed and not (abortive and not self._aborted):
            return
        self._closed = self._shut = True
        self._aborted = abortive
        self._release_current()
        unread, self._unread = self._unread, None
        if unread is not None:
            self._drop_read(unread[0])
        self._port.post(self.settle)
        self._port.post(self._peer.settle)

    # -- for the chain -------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def was_aborted(self) -> bool:
        """Whether it was closed with a reset."""
        return self._aborted

    @property
    def is_shut(self) -> bool:
        """Whether our stream to the neighbour was ended."""
        return self._shut

    @property
    def is_finished(self) -> bool:
        """Whether both streams have ended and a reader was told: nothing will happen any more."""
        return self._end_told and self._shut and self._send is None

    @property
    def is_deserted(self) -> bool:
        """Whether the neighbour closed its end without a reset: it takes nothing more."""
        peer = self._peer
        return peer.is_closed and not peer.was_aborted

    @property
    def is_end_told(self) -> bool:
        """Whether our reader was told the end of the neighbour's stream."""
        return self._end_told

    @property
    def is_end_under_way(self) -> bool:
        """Whether the neighbour has not been told that our stream has ended."""
        peer = self._peer
        return self._shut and not (peer.is_end_told or peer.is_closed)

    @property
    def is_receiving(self) -> bool:
        """Whether a receive is pending."""
        return self._receive is not None

    @property
    def is_sending(self) -> bool:
        """Whether a send waits for the neighbour."""
        return self._send is not None

    @property
    def is_busy(self) -> bool:
        """Whether it is open, or something started was not told."""
        return not self._closed or self._receive is not None or self._send is not None

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``."""
        pending, self._receive = self._receive, None
        if pending is not None:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self.scope)

    def settle(self) -> None:
        """Complete what can be completed: a receive here, the neighbour's send to here."""
        try:
            self._settle()
        finally:
            if not self.is_busy and self.on_closed is not None:
                told, self.on_closed = self.on_closed, None
                told()

    # -- private -------------------------------------------------------------------------------

    def _fail_what_cannot_be(self) -> None:
        """Complete what waits for an end that was closed."""
        peer = self._peer
        if self._receive is not None and self._receive.is_abandoned:
            self._receive = None
        if self._closed:
            self.withdraw()
        if peer.is_closed:
            gone = errno.ECONNRESET if peer.was_aborted else errno.EPIPE
            self._fail_send(errno.ECANCELED if self._closed else gone)
        elif self._aborted:
            self._fail_send(errno.ECANCELED)

    def _settle(self) -> None:
        peer = self._peer
        self._fail_what_cannot_be()
        receive, send = self._receive, peer.waiting_send
        if receive is None:
            if send is not None and not self._closed:
                peer.keep_send()
        elif self._unread is not None:
            self._hand_over(receive, self._unread)
        elif send is not None and send.buffer is not None and send.length:
            self._take(receive, send, send.buffer)
        elif peer.was_aborted:
            self._receive = None
            receive.complete(errno.ECONNRESET, EMPTY, self.side, self.scope)
        elif peer.is_shut:
            self._receive = None
            error = errno.ENOTCONN if self._end_told else 0
            self._end_told = True
            self._check_finished()
            receive.complete(error, EMPTY, self.side, self.scope)

    def _check_finished(self) -> None:
        if self.on_finished is not None and self.is_finished:
            self._port.post(self.on_finished)

    def _begin_receive(self, pending: PendingIo) -> None:
        self._port.check_thread()
        if self._closed:
            raise BadContext("the socket is closed")
        if self._receive is not None:
            raise OperationPending("one receive at a time on a socket")
        self._release_current()
        self._receive = pending
        self._port.post(self.settle)

    def _begin_send(self, pending: PendingIo, data: Buffer | Window | bytes) -> None:
        self._port.check_thread()
        if self._closed or self._shut:
            raise BadContext("the socket is closed for sending")
        if self._send is not None:
            raise OperationPending("one send at a time on a socket")
        pending.buffer, pending.start, pending.length = extent(data)
        pending.buffer.lease()
        self._send = pending
        self._sent_part = 0
        if pending.length:
            self._port.post(self._peer.settle)
        else:
            # An empty window would be the end of the stream to the neighbour.
            self._port.post(lambda: self._finish_send(0))

    def keep_send(self) -> None:
        """Put a send that waits for the neighbour on the account (called by the other end)."""
        pending, account = self._send, self.account
        if pending is None or pending.is_kept or account is None:
            return
        if not isinstance(pending.buffer, Slot):
            return
        kept = account.keep(pending.buffer, pending.start, pending.length)
        if kept is None:
            # The connection has ended; the send is told so with the rest.
            pending.buffer, pending.start, pending.length = EMPTY.buffer, 0, 0
            pending.buffer.lease()
        else:
            pending.buffer, pending.start, pending.length = kept
            pending.is_kept = True

    def _take(self, receive: PendingIo, send: PendingIo, source: Buffer) -> None:
        """Let the pending receive have the neighbour's buffer, or a part of it."""
        start, length = send.start + self._peer.sent_part, send.length - self._peer.sent_part
        taken = length
        self._receive = None
        if receive.buffer is None:
            source.lease()
            kept: Kept | None = (source, start, length)
            if self.account is not None and isinstance(source, Slot):
                kept = self.account.keep(source, start, length)
            if kept is None:
                receive.complete(errno.ENOBUFS, EMPTY, self.side, self.scope)
                return
            self._is_read_kept = self.account is not None and isinstance(source, Slot)
            self._current, start, length = kept
            window = Window(self._current, start, length)
        else:
            taken = receive.buffer.append(source.view[start : start + length])
            window = receive.buffer.window()
        self.bytes_received += taken
        try:
            receive.complete(0, window, self.side, self.scope)
        finally:
            self._peer.on_taken(taken)

    def _hand_over(self, receive: PendingIo, unread: Kept) -> None:
        """Let the pending receive have what an earlier reader gave back."""
        self._receive = self._unread = None
        buffer, start, length = unread
        if receive.buffer is None:
            self._current = buffer
            window = Window(buffer, start, length)
        else:
            taken = receive.buffer.append(buffer.view[start : start + length])
            window = receive.buffer.window()
            if taken < length:
                self._unread = buffer, start + taken, length - taken
            else:
                self._drop_read(buffer)
        receive.complete(0, window, self.side, self.scope)

    def _take_back(self, future: asyncio.Future[Window]) -> None:
        """Let what a reader was given, and gave up before it saw it, wait for the next one."""
        if future.cancelled() or future.exception() is not None or self._closed:
            return
        window = future.result()
        if not window.length:
            self._end_told = False
        elif self._current is window.buffer:
            self._unread = window.buffer, window.start, window.length
            self._current = None

    @property
    def waiting_send(self) -> PendingIo | None:
        """The send that waits for the other end."""
        return self._send

    @property
    def sent_part(self) -> int:
        """How much of the pending send was taken."""
        return self._sent_part

    def on_taken(self, count: int) -> None:
        """Take that the neighbour took so much of our send (called by the other end)."""
        pending = self._send
        if pending is None:
            return
        self._sent_part += count
        if self._sent_part >= pending.length:
            self._finish_send(0)

    def _finish_send(self, error: int) -> None:
        """Complete our send: the neighbour took it, or never will."""
        pending, self._send = self._send, None
        account = self.account  # whoever is told may end the connection
        if pending is None or pending.buffer is None:
            return
        window = Window(pending.buffer, pending.start, pending.length)
        try:
            pending.complete(error, window, self.side, self.scope)
        finally:
            if pending.is_kept and account is not None:
                account.give_up(pending.buffer)
            pending.buffer.release()
            if self.on_send_idle is not None:
                told, self.on_send_idle = self.on_send_idle, None
                told()
            if self._closed:
                self._port.post(self.settle)
            self._check_finished()

    def _fail_send(self, error: int) -> None:
        if self._send is not None:
            self._finish_send(error)

    def _release_current(self) -> None:
        buffer, self._current = self._current, None
        if buffer is not None:
            self._drop_read(buffer)

    def _drop_read(self, buffer: Buffer) -> None:
        """End the lease of what was received, and what it costs."""
        is_kept, self._is_read_kept = self._is_read_kept, False
        if is_kept and self.account is not None:
            self.account.give_up(buffer)
        buffer.release()


def make_link(port: CompletionPort) -> tuple[LinkEnd, LinkEnd]:
    """Return the two ends between neighbours: (the client-ward element's, the server-ward's).

    The first is the *server* socket of the element nearer the client, the second the *client*
    socket of its neighbour.
    """
    first, second = LinkEnd(port, Side.SERVER), LinkEnd(port, Side.CLIENT)
    first.connect(second)
    second.connect(first)
    return first, second


_GONE: Final = LinkEnd(cast("CompletionPort", None), Side.INTERNAL)
"""In the place of the neighbor of an end whose connection is over; it does nothing."""
_GONE.close_at_once()
