"""The two ends that a data filter of a UDP connection has: sockets that keep datagrams whole.

``udp_chain`` makes two for each such filter and takes what it sends onward. The invariant: every
start completes once, later, with one datagram; what waits for the filter is bounded, and what finds
no room is dropped and counted, as at any other socket for datagrams.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side, TransportError
from sluicegate.port import CompletionPort, FailureScope, SocketCompletion
from sluicegate.port.pending import EMPTY, PendingIo

__all__ = ["UdpEnd"]


class UdpEnd:
    """One end; satisfies ``filterapi.DatagramEnd``."""

    __slots__ = (
        "_closed",
        "_inbox",
        "_inbox_max",
        "_onward",
        "_port",
        "_receive",
        "peer",
        "scope",
        "side",
        "twin",
    )

    def __init__(
        self,
        port: CompletionPort,
        side: Side,
        scope: FailureScope,
        inbox_max: int,
        onward: Callable[[UdpEnd, SocketAddress, bytes], None],
    ) -> None:
        """Make an end.

        Args:
            port: Completions are posted on it.
            side: Which side it faces.
            scope: Whose failure an exception out of a completion is.
            inbox_max: Datagrams that wait for the filter at most.
            onward: Takes what the filter sends here.
        """
        self.side = side
        self.scope = scope
        self.twin: UdpEnd | None = None
        #: The filter's other end.
        self.peer: SocketAddress | None = None
        #: The peer of the last datagram received at either end.
        self._port = port
        self._inbox: deque[tuple[bytes, SocketAddress]] = deque()
        self._inbox_max = inbox_max
        self._onward = onward
        self._receive: PendingIo | None = None
        self._closed = False

    # -- what the chain does -------------------------------------------------------------------

    def deliver(self, data: bytes, peer: SocketAddress) -> bool:
        """Give the filter a datagram; False when it must be dropped."""
        if self._closed or len(self._inbox) >= self._inbox_max:
            return False
        self._inbox.append((data, peer))
        if self._receive is not None:
            self._port.post(self._tell)
        return True

    def take_rest(self) -> list[tuple[bytes, SocketAddress]]:
        """Return what the filter has not received: it leaves."""
        rest = list(self._inbox)
        self._inbox.clear()
        return rest

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``: its filter is about to leave."""
        pending, self._receive = self._receive, None
        if pending is not None:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self.scope)

    def end(self) -> None:
        """Complete what is pending with ``ECANCELED``; nothing is received or sent any more."""
        self._closed = True
        self._inbox.clear()
        if self._receive is not None:
            self._port.post(self._tell)

    def _tell(self) -> None:
        pending = self._receive
        if pending is None or not (self._inbox or self._closed):
            return
        self._receive = None
        if not self._inbox:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self.scope)
            return
        data, peer = self._inbox.popleft()
        buffer = pending.buffer or Buffer(len(data))
        if len(data) > buffer.allocated:
            self._receive = pending
            if self._inbox:
                self._port.post(self._tell)
            return
        buffer.set_size(0)
        buffer.append(data)
        self.peer = pending.address = peer
        if self.twin is not None:
            self.twin.peer = peer
        pending.complete(0, buffer.window(), self.side, self.scope)

    # -- filterapi.DatagramEnd -----------------------------------------------------------------

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """As ``filterapi.DataSocket.start_receive``: one datagram; larger ones are dropped."""
        pending = PendingIo(completion, user_data)
        if buffer is not None:
            pending.receive_into(buffer)
        self._begin_receive(pending)

    async def receive(self) -> Window:
        """As ``filterapi.DataSocket.receive``."""
        window, _ = await self.receive_from()
        return window

    async def receive_from(self) -> tuple[Window, SocketAddress]:
        """As ``filterapi.DatagramEnd.receive_from``."""
        pending = PendingIo(None, None, asyncio.get_running_loop().create_future())
        self._begin_receive(pending)
        assert pending.future is not None
        try:
            window = await pending.future
            assert pending.address is not None, "a datagram has a peer"
            return window, pending.address
        except asyncio.CancelledError:
            if self._receive is pending:
                self._receive = None
            raise
        finally:
            del pending  # a failure's traceback knows this frame

    def _begin_receive(self, pending: PendingIo) -> None:
        self._port.check_thread()
        if self._receive is not None and not self._receive.is_abandoned:
            raise OperationPending("one receive at a time on a socket")
        self._receive = pending
        if self._inbox or self._closed:
            self._port.post(self._tell)

    def start_send(
        self,
        data: Buffer | Window | bytes,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """As ``filterapi.DataSocket.start_send``: one datagram."""
        self._start(data, None, completion, user_data)

    def start_send_to(
        self,
        data: Buffer | Window | bytes,
        address: SocketAddress,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """As ``filterapi.DatagramEnd.start_send_to``."""
        self._start(data, address, completion, user_data)

    def _start(
        self,
        data: Buffer | Window | bytes,
        address: SocketAddress | None,
        completion: SocketCompletion | None,
        user_data: Any,
    ) -> None:
        self._port.check_thread()
        if self._closed:
            raise BadContext("the connection has ended")
        to = address or self.peer
        if to is None:
            raise BadContext("nothing was received yet: name the peer (start_send_to)")
        buffer, start, length = extent(data)
        # A copy: a datagram is small, and the caller may use the buffer again at once.
        taken = bytes(buffer.view[start : start + length])
        pending = PendingIo(completion, user_data)
        pending.address = to
        window = Window(buffer, start, length)
        buffer.lease()
        self._port.post(lambda: self._finish(pending, window, taken))

    def _finish(self, pending: PendingIo, window: Window, data: bytes) -> None:
        error = errno.ECANCELED if self._closed else 0
        try:
            if not error:
                assert pending.address is not None, "a send has a peer"
                self._onward(self, pending.address, data)
            pending.complete(error, window, self.side, self.scope)
        finally:
            window.buffer.release()

    async def send(self, data: Buffer | Window | bytes) -> None:
        """As ``filterapi.DataSocket.send``: one datagram."""
        await self._send(data, None)

    async def send_to(self, data: Buffer | Window | bytes, address: SocketAddress) -> None:
        """As ``filterapi.DatagramEnd.send_to``."""
        await self._send(data, address)

    async def _send(self, data: Buffer | Window | bytes, address: SocketAddress | None) -> None:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._start(data, address, _Waiter(), told)
        error = await told
        if error:
            raise TransportError(error, self.side, "send")

    def shutdown(self, abortive: bool = False) -> None:
        """Refuse: datagrams have no stream that could end.

        Raises:
            BadContext: Always.
        """
        del abortive
        raise BadContext("datagrams have no stream to end; connection.refuse ends the connection")

    def close(self, abortive: bool = False) -> None:
        """Receive and send no more here; datagrams for this end are dropped."""
        del abortive
        self.end()


class _Waiter:
    """Tells a future of a send."""

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: asyncio.Future[int],
        address: SocketAddress | None,
    ) -> None:
        """Take the result."""
        del success, buffer, address
        if not user_data.done():
            user_data.set_result(error)
