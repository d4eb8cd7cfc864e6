"""StreamSocket: a connected TCP socket on the port, as filters see it.

One receive and one send may be in flight; what the kernel delivers ahead waits, bounded. The gate
hands one to each data filter that faces the network, and ``CompletionPort.connect`` returns one.
The invariant: every start completes exactly once, later, in the order of the calls; end of stream
arrives exactly once as an empty window; the descriptor is closed when nothing is in flight on it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side, TransportError

from .backend import RETIRED, SEND_FLAGS, RawSocket
from .given_away import GivenAway
from .pending import EMPTY, PendingIo, SocketCompletion
from .pool import Slot
from .receiving import ReceivingSocket

if TYPE_CHECKING:
    from .port import CompletionPort

__all__ = ["StreamSocket"]


class StreamSocket(ReceivingSocket):
    """One connected socket; lives until ``close`` has joined its operations."""

    __slots__ = (
        "_abortive",
        "_send",
        "_send_op",
        "_shutdown_wanted",
        "blocked_since",
        "bytes_sent",
        "on_closed",
        "on_send_idle",
    )

    def __init__(self, port: CompletionPort, raw: RawSocket, side: Side = Side.INTERNAL) -> None:
        super().__init__(port, raw, side)
        self.on_closed: Callable[[], None] | None = None
        #: Told when the descriptor is closed.
        self.on_send_idle: Callable[[], None] | None = None
        #: Told, once, when a send has completed.
        self.bytes_sent = 0
        self.blocked_since = 0.0
        #: When the kernel stopped taking what is being sent; 0 while it takes it.
        self._send_op = port.operations.take(self._on_sent)
        self._send: PendingIo | None = None
        self._abortive = False
        self._shutdown_wanted = False

    # -- sending -------------------------------------------------------------------------------

    def start_send(
        self,
        data: Buffer | Window | bytes,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """Send all of ``data``; completes when the kernel accepted its last byte.

        Raises:
            OperationPending: A send is in flight.
            BadContext: The socket is closed for sending.
            WindowExpired: The window's bytes belong to somebody else by now.
            WrongThread: Not on the port's thread.
        """
        pending = PendingIo(completion, user_data)
        error = self._begin_send(pending, data)
        if error is not None:
            self._port.post(lambda: self._finish_send(error))

    async def send(self, data: Buffer | Window | bytes) -> None:
        """Send all of ``data``; returning means that the kernel accepted its last byte.

        Raises:
            OperationPending: A send is in flight.
            TransportError: The connection failed.
        """
        pending = PendingIo(None, None)
        error = self._begin_send(pending, data)
        if error is None:
            pending.future = asyncio.get_running_loop().create_future()
            try:
                await pending.future
            finally:
                del pending  # a failure's traceback knows this frame
            return
        self._finish_send(error)
        if error:
            raise TransportError(error, self.side, "send")

    def _begin_send(self, pending: PendingIo, data: Buffer | Window | bytes) -> int | None:
        """Try at once; None when an operation carries on, else the errno (0 = all taken)."""
        self._port.check_thread()
        if self._closing or self._shutdown_wanted:
            raise BadContext("the socket is closed for sending")
        if self._send is not None:
            raise OperationPending("one send at a time on a socket")
        buffer, start, length = extent(data)
        pending.buffer, pending.start, pending.length = buffer, start, length
        buffer.lease()
        self._send = pending
        try:
            sent = self._raw.send(buffer.view[start : start + length], SEND_FLAGS) if length else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            return error.errno or errno.EIO
        if sent == length:
            return 0
        return self._wait_for_room(pending, sent)

    def _wait_for_room(self, pending: PendingIo, sent: int) -> int | None:
        """Send the rest by an operation; an errno when it may not even wait."""
        buffer, start, length = pending.buffer, pending.start, pending.length
        assert buffer is not None
        if self.account is not None:
            if isinstance(buffer, Slot):
                kept = self.account.keep(buffer, start, length)
                if kept is None:
                    pending.buffer = EMPTY.buffer
                    pending.start = pending.length = 0
                    pending.buffer.lease()
                    return errno.ENOBUFS
                buffer, start, length = pending.buffer, pending.start, pending.length = kept
                pending.is_kept = True
            self.blocked_since = self._port.now
            self.account.on_send_blocked()
        self._driver.send(self._send_op, self._raw, buffer, start + sent, length - sent)
        return None

    def _on_sent(self, result: int, _flags: int) -> None:
        self._finish_send(0 if result >= 0 else -result)
        if self._closing and not self._send_op.in_flight:
            self._finish_close()

    def _finish_send(self, error: int) -> None:
        pending, self._send = self._send, None
        account = self.account  # whoever is told may close the socket
        self.blocked_since = 0.0
        if pending is None or pending.buffer is None:
            return
        if not error:
            self.bytes_sent += pending.length
            self.last_active = self._port.now
        window = Window(pending.buffer, pending.start, pending.length)
        if self._shutdown_wanted:
            self._shutdown_now()
        try:
            pending.complete(error, window, self.side, self.scope)
        finally:
            if pending.is_kept and account is not None:
                account.give_up(pending.buffer)
            pending.buffer.release()
            if self.on_send_idle is not None:
                told, self.on_send_idle = self.on_send_idle, None
                told()
            if self._closing:
                self._finish_close()

    # -- ending --------------------------------------------------------------------------------

    def shutdown(self, abortive: bool = False) -> None:
        """Half close: end the stream that we send, after a pending send; abortive resets."""
        if abortive:
            self.close(abortive=True)
        elif not self._shutdown_wanted and not self._closing:
            self._shutdown_wanted = True
            if self._send is None:
                self._shutdown_now()

    def close(self, abortive: bool = False) -> None:
        """Close: pending operations complete first (``ECANCELED``), then the descriptor goes.

        Not abortive, a pending send is finished before; abortive, the peer sees a reset.
        """
        if self._closing:
            if abortive and not self._abortive:
                self._abortive = True
                self._driver.cancel(self._send_op)
            return
        self._closing = True
        self._abortive = abortive
        self._release_current()
        while self._ahead:
            self._drop(self._ahead.popleft()[0])
        if self._receive is not None:
            self._end = -errno.ECANCELED
            self._port.post(self._deliver)
        driver = self._driver
        if self._receive_op.in_flight:
            driver.cancel(self._receive_op)
        if self._send_op.in_flight and abortive:
            driver.cancel(self._send_op)
        self._finish_close()

    def _shutdown_now(self) -> None:
        try:
            self._raw.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in {errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE}:
                raise
        self._check_finished()

    @override
    def _finish_close(self) -> None:
        if self._receive_op.in_flight or self._send_op.in_flight or self._receive_op is RETIRED:
            return
        if self._receive is not None or self._send is not None:
            return  # told first: whoever waits for the close may rely on it
        if self._abortive:
            self._driver.abort(self._raw)
        else:
            self._raw.close()
        self._port.operations.give(self._receive_op)
        told = self.on_closed
        self._let_go()
        if told is not None:
            told()

    def _let_go(self) -> None:
        """Keep nothing that another may use from now on, nor what keeps this socket alive."""
        self._port.operations.give(self._send_op)
        self._receive_op = self._send_op = RETIRED
        self.on_closed = self.on_finished = self.scope = self.account = None

    # -- giving the socket away ------------------------------------------------------------------

    def give_away(self) -> GivenAway:
        """End this object's use of the socket, which goes on under another owner.

        Nothing may be pending; the receive operation may be in flight and is the new owner's to
        redirect.
        """
        assert self._receive is None, "a receive is pending: withdraw it first"
        assert self._send is None, "a send is pending: wait for on_send_idle"
        self._release_current()
        self._closing = True
        given = GivenAway(
            self._raw,
            self._receive_op,
            self._ahead,
            ended=self._end == 0,
            error=-self._end if self._end else 0,
            shut=self._shutdown_wanted,
        )
        self._let_go()
        return given

    @property
    def is_sending(self) -> bool:
        """Whether a send is in flight."""
        return self._send is not None

    @property
    def is_deserted(self) -> bool:
        """Whether the other end takes nothing more; one on the network says so by failing."""
        return False

    @property
    def is_busy(self) -> bool:
        """Whether the descriptor is open, or something started was not told."""
        return self._raw.fileno() >= 0

    @property
    @override
    def is_finished(self) -> bool:
        """Whether both streams have ended, and a reader knows: nothing more will happen."""
        return self._end_told and self._shutdown_wanted and self._send is None

    @property
    def is_shut(self) -> bool:
        """Whether our stream to the peer was ended."""
        return self._shutdown_wanted or self._closing

    @property
    def was_aborted(self) -> bool:
        """Whether it was closed with a reset."""
        return self._abortive

    # -- asking --------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing

    def peer_address(self) -> SocketAddress:
        """Return the other end's address."""
        return SocketAddress.from_kernel(self._raw.getpeername())

    def local_address(self) -> SocketAddress:
        """Return the address of this end."""
        return SocketAddress.from_kernel(self._raw.getsockname())
