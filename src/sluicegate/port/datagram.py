"""DatagramSocket: a UDP socket on the port, as filters see it.

``CompletionPort.bind_datagrams`` and ``connect_datagrams`` make one; the gate's own relay works on
the tray below it and makes no object for a datagram. The invariant: one start, one completion,
later, with one whole datagram and who sent it; one that does not fit is dropped and counted, never
cut.

There is no end of a datagram stream: an empty window is an empty datagram. An ICMP answer to
something that was sent (``ECONNREFUSED``) is told as the result of the receive in flight, and the
socket goes on. What finds no room in the kernel is told ``EAGAIN``: waiting is not what datagrams
are for.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side, TransportError

from .backend import SEND_FLAGS, Operation, RawSocket
from .pending import EMPTY, PendingIo, SocketCompletion
from .scope import FailureScope

if TYPE_CHECKING:
    from .port import CompletionPort

__all__ = ["DatagramSocket"]


class DatagramSocket:
    """One UDP socket; lives until ``close`` has joined what is in flight."""

    __slots__ = (
        "_closing",
        "_operation",
        "_port",
        "_raw",
        "_receive",
        "_sends",
        "datagrams_received",
        "datagrams_sent",
        "oversized",
        "remote",
        "scope",
        "side",
    )

    def __init__(
        self,
        port: CompletionPort,
        raw: RawSocket,
        remote: SocketAddress | None = None,
        side: Side = Side.INTERNAL,
    ) -> None:
        self.scope: FailureScope | None = None
        #: Whose failure an exception out of a completion is.
        self.side = side
        self.remote = remote
        #: The only peer of a connected socket.
        self.datagrams_received = 0
        self.datagrams_sent = 0
        self.oversized = 0
        #: Dropped, because they were larger than ``udp_datagram_bytes_max`` or the buffer given.
        self._port = port
        self._raw = raw
        self._operation = Operation(self._on_ready)
        self._receive: PendingIo | None = None
        self._sends = 0
        #: Sends that have yet to be told.
        self._closing = False

    def local_address(self) -> SocketAddress:
        """Return the address that it is bound to."""
        return SocketAddress.from_kernel(self._raw.getsockname())

    # -- receiving -----------------------------------------------------------------------------

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """Receive one datagram; ``complete_socket_io`` is told who sent it.

        Args:
            buffer: Where it goes; larger ones are dropped. None: the port makes one that fits.
            completion: Whom to tell.
            user_data: Handed back unchanged.

        Raises:
            OperationPending: A receive is in flight.
            BadContext: The socket is closed, or the buffer is in flight.
            WrongThread: Not on the port's thread.
        """
        pending = PendingIo(completion, user_data)
        if buffer is not None:
            pending.receive_into(buffer)
        self._begin_receive(pending)

    async def receive(self) -> tuple[Window, SocketAddress]:
        """Return the next datagram and who sent it; an empty window is an empty datagram.

        Raises:
            OperationPending: A receive is in flight.
            TransportError: An ICMP answer came to something sent, or the socket was closed.
        """
        pending = PendingIo(None, None, asyncio.get_running_loop().create_future())
        self._begin_receive(pending)
        assert pending.future is not None
        try:
            window = await pending.future
            assert pending.address is not None, "a datagram has a sender"
            return window, pending.address
        except asyncio.CancelledError:
            if self._receive is pending:
                self._receive = None
                self._port.backend.cancel(self._operation)
            raise
        finally:
            del pending  # a failure's traceback knows this frame

    def _begin_receive(self, pending: PendingIo) -> None:
        self._check()
        if self._receive is not None:
            raise OperationPending("one receive at a time on a socket")
        self._receive = pending
        if not self._operation.in_flight:
            self._port.backend.await_datagrams(self._operation, self._raw)

    def _on_ready(self, result: int, _flags: int) -> None:
        pending = self._receive
        if not self._operation.in_flight and (self._closing or self._port.is_closing):
            if pending is not None:
                self._tell(pending, errno.ECANCELED, EMPTY, None)
            self._finish_close()
            return
        if pending is None:
            # Nobody asks: it is in nobody's way in the kernel. The next start watches again.
            self._port.backend.cancel(self._operation)
            return
        if not self._operation.in_flight:
            self._port.backend.await_datagrams(self._operation, self._raw)
            if result < 0:
                return
        self._take(pending)

    def _take(self, pending: PendingIo) -> None:
        tray = self._port.backend.tray
        count = tray.receive(self._raw, 1)
        if count < 0:
            self._tell(pending, -count, EMPTY, self.remote)
        if count <= 0:
            return
        name_size, _, _, length = tray.heads[0]
        buffer = pending.buffer
        if length > (tray.bytes_max if buffer is None else min(buffer.allocated, tray.bytes_max)):
            self.oversized += 1
            return
        if buffer is None:
            # Its own and not a shared slot: a datagram that a filter keeps costs nobody a slot.
            buffer = Buffer(length)
        start = tray.start_of(tray.first)
        buffer.view[:length] = tray.view[start : start + length]
        buffer.set_size(length)
        self.datagrams_received += 1
        sender = tray.address_of(tray.first, name_size) if name_size else self.remote
        self._tell(pending, 0, buffer.window(), sender)

    def _tell(
        self, pending: PendingIo, error: int, window: Window, address: SocketAddress | None
    ) -> None:
        self._receive = None
        pending.address = address
        pending.complete(error, window, self.side, self.scope)

    # -- sending -------------------------------------------------------------------------------

    def start_send_to(
        self,
        data: Buffer | Window | bytes,
        address: SocketAddress | None = None,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """Send one datagram; completes, later, when the kernel took or refused it.

        Args:
            data: The whole datagram.
            address: Who gets it; None on a connected socket.
            completion: Whom to tell; may be omitted.
            user_data: Handed back unchanged.

        Raises:
            BadContext: The socket is closed, or has no peer and none was named.
            WindowExpired: The window's bytes belong to somebody else by now.
            WrongThread: Not on the port's thread.
        """
        pending = PendingIo(completion, user_data)
        error, window = self._send(data, address)
        pending.address = address or self.remote
        self._sends += 1
        window.buffer.lease()
        self._port.post(lambda: self._finish_send(pending, error, window))

    async def send_to(
        self, data: Buffer | Window | bytes, address: SocketAddress | None = None
    ) -> None:
        """Send one datagram; returning means that the kernel took it.

        Raises:
            BadContext: The socket is closed, or has no peer and none was named.
            TransportError: The kernel refused it; ``EAGAIN``: it has no room.
        """
        error, _ = self._send(data, address)
        # As with a completion: never inside the call, so that a loop of sends lets others run.
        await asyncio.sleep(0)
        if error:
            raise TransportError(error, self.side, f"send to {address or self.remote}")

    def _send(
        self, data: Buffer | Window | bytes, address: SocketAddress | None
    ) -> tuple[int, Window]:
        self._check()
        if address is None and self.remote is None:
            raise BadContext("the socket is not connected: name an address")
        buffer, start, length = extent(data)
        view = buffer.view[start : start + length]
        try:
            if self.remote is None:
                assert address is not None
                self._raw.sendto(view, SEND_FLAGS, address.to_kernel())
            elif address is None or address == self.remote:
                self._raw.send(view, SEND_FLAGS)
            else:
                raise BadContext(f"the socket is connected to {self.remote}")
        except OSError as error:
            return error.errno or errno.EIO, Window(buffer, start, length)
        self.datagrams_sent += 1
        return 0, Window(buffer, start, length)

    def _finish_send(self, pending: PendingIo, error: int, window: Window) -> None:
        self._sends -= 1
        try:
            pending.complete(error, window, self.side, self.scope)
        finally:
            window.buffer.release()

    # -- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close; a receive in flight completes first, with ``ECANCELED``."""
        if self._closing:
            return
        self._closing = True
        if self._operation.in_flight:
            self._port.backend.cancel(self._operation)
        else:
            self._finish_close()

    def _finish_close(self) -> None:
        if self._raw.fileno() >= 0:
            self._raw.close()
        self._port.backend.forget(self._operation)

    def _check(self) -> None:
        self._port.check_thread()
        if self._closing:
            raise BadContext("the socket is closed")
