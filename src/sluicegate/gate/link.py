"""Link: the two sockets between neighbouring elements of a chain.

What one end sends, the other receives; to a data filter it looks like the network. The invariant:
nothing queues here. A send completes when the neighbour's receive took the buffer, so awaiting a
send is back-pressure all the way to the network.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side
from sluicegate.port.pending import PendingIo, SocketCompletion
from sluicegate.port.scope import FailureScope
from sluicegate.port.stream import EMPTY

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
        "_peer",
        "_port",
        "_receive",
        "_send",
        "_shut",
        "on_send_idle",
        "scope",
        "side",
    )

    def __init__(self, port: CompletionPort, side: Side) -> None:
        self.side = side
        self.scope: FailureScope | None = None
        self.on_send_idle: Callable[[], None] | None = None
        #: Told, once, when a send has completed.
        self._port = port
        self._peer: LinkEnd = self
        self._receive: PendingIo | None = None
        self._send: PendingIo | None = None
        self._current: Buffer | None = None
        self._shut = False
        self._closed = False
        self._aborted = False
        self._end_told = False

    def connect(self, peer: LinkEnd) -> None:
        """Make ``peer`` the other end (``make_link`` only)."""
        self._peer = peer

    # -- filterapi.DataSocket --------------------------------------------------------------------

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """As ``filterapi.DataSocket.start_receive``."""
        pending = PendingIo(completion, user_data)
        pending.buffer = buffer
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
        elif not self._shut:
            self._shut = True
            self._port.post(self._peer.settle)

    def close(self, abortive: bool = False) -> None:
        """As ``filterapi.DataSocket.close``."""
        if self._closed:
            return
        self._closed = self._shut = True
        self._aborted = abortive
        self._release_current()
        self._port.post(self.settle)
        self._port.post(self._peer.settle)

    # -- for the chain -------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def is_shut(self) -> bool:
        """Whether our stream to the neighbour was ended."""
        return self._shut

    @property
    def is_sending(self) -> bool:
        """Whether a send waits for the neighbour."""
        return self._send is not None

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``."""
        pending, self._receive = self._receive, None
        if pending is not None:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self.scope)

    def settle(self) -> None:
        """Complete what can be completed: a receive here, the neighbour's send to here."""
        peer = self._peer
        if self._closed:
            self.withdraw()
            self._fail_send(errno.ECANCELED)
            return
        if peer._closed:  # noqa: SLF001 - two ends of one thing
            self._fail_send(errno.ECONNRESET if peer._aborted else errno.EPIPE)  # noqa: SLF001 - likewise
        receive, send = self._receive, peer._send  # noqa: SLF001 - likewise
        if receive is None:
            return
        if send is not None and send.buffer is not None:
            self._take(receive, send, send.buffer)
        elif peer._aborted:  # noqa: SLF001 - likewise
            self._receive = None
            receive.complete(errno.ECONNRESET, EMPTY, self.side, self.scope)
        elif peer._shut:  # noqa: SLF001 - likewise
            self._receive = None
            error = errno.ENOTCONN if self._end_told else 0
            self._end_told = True
            receive.complete(error, EMPTY, self.side, self.scope)

    # -- private -------------------------------------------------------------------------------

    def _begin_receive(self, pending: PendingIo) -> None:
        if self._closed:
            raise BadContext("the socket is closed")
        if self._receive is not None:
            raise OperationPending("one receive at a time on a socket")
        self._release_current()
        self._receive = pending
        self._port.post(self.settle)

    def _begin_send(self, pending: PendingIo, data: Buffer | Window | bytes) -> None:
        if self._closed or self._shut:
            raise BadContext("the socket is closed for sending")
        if self._send is not None:
            raise OperationPending("one send at a time on a socket")
        pending.buffer, pending.start, pending.length = extent(data)
        pending.buffer.lease()
        self._send = pending
        self._port.post(self._peer.settle)

    def _take(self, receive: PendingIo, send: PendingIo, source: Buffer) -> None:
        """Let the pending receive have the neighbour's buffer, or a part of it."""
        self._receive = None
        taken = Window(source, send.start, send.length)
        if receive.buffer is None:
            source.lease()
            self._current = source
            window = taken
        else:
            receive.buffer.set_size(0)
            count = receive.buffer.append(source.view[send.start : send.start + send.length])
            window = receive.buffer.window()
            send.start += count
            send.length -= count
            if send.length:
                receive.complete(0, window, self.side, self.scope)
                return
        receive.complete(0, window, self.side, self.scope)
        self._peer.finish_send(0, taken)

    def finish_send(self, error: int, window: Window) -> None:
        """Complete our send (the neighbour took it, or never will)."""
        pending, self._send = self._send, None
        if pending is None or pending.buffer is None:
            return
        try:
            pending.complete(error, window, self.side, self.scope)
        finally:
            pending.buffer.release()
            if self.on_send_idle is not None:
                told, self.on_send_idle = self.on_send_idle, None
                told()

    def _fail_send(self, error: int) -> None:
        if self._send is not None:
            self.finish_send(error, EMPTY)

    def _release_current(self) -> None:
        buffer, self._current = self._current, None
        if buffer is not None:
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
