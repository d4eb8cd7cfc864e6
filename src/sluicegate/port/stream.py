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
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import BadContext, OperationPending, Side, TransportError
from sluicegate.limits import RECEIVE_AHEAD_MAX

from .account import Account, Kept
from .backend import MORE, RETIRED, SEND_FLAGS, SLOT_SHIFT, RawSocket
from .given_away import GivenAway
from .pending import EMPTY, PendingIo, SocketCompletion
from .pool import SMALL_SLOT_SIZE, Slot
from .scope import FailureScope

if TYPE_CHECKING:
    from .port import CompletionPort

__all__ = ["StreamSocket"]

_FULL_SLOTS_TO_BULK: Final = 4
"""Full small slots in a row after which a direction is bulky."""


class StreamSocket:
    """One connected socket; lives until ``close`` has joined its operations."""

    __slots__ = (
        "_abortive",
        "_ahead",
        "_bulk",
        "_closing",
        "_current",
        "_direct",
        "_end",
        "_end_told",
        "_full_in_row",
        "_port",
        "_raw",
        "_receive",
        "_receive_op",
        "_send",
        "_send_op",
        "_shutdown_wanted",
        "account",
        "blocked_since",
        "bytes_received",
        "bytes_sent",
        "last_active",
        "on_closed",
        "on_finished",
        "on_send_idle",
        "scope",
        "side",
    )

    def __init__(self, port: CompletionPort, raw: RawSocket, side: Side = Side.INTERNAL) -> None:
        self.side = side
        self.scope: FailureScope | None = None
        #: Whose failure an exception out of a completion is.
        self.on_closed: Callable[[], None] | None = None
        #: Told when the descriptor is closed.
        self.on_finished: Callable[[], None] | None = None
        #: Told, later, when both streams have ended and a reader knows.
        self.on_send_idle: Callable[[], None] | None = None
        #: Told, once, when a send has completed.
        self.last_active = port.now
        #: The port's time of the last byte in either direction.
        self.bytes_received = 0
        self.bytes_sent = 0
        self.blocked_since = 0.0
        #: When the kernel stopped taking what is being sent; 0 while it takes it.
        self.account: Account | None = None
        self._port = port
        self._raw = raw
        self._receive_op = port.operations.take(self._on_received)
        self._send_op = port.operations.take(self._on_sent)
        self._ahead: deque[Kept] = deque()
        #: Received, leased, on the account; nobody has read it.
        self._receive: PendingIo | None = None
        self._send: PendingIo | None = None
        self._current: Buffer | None = None
        #: What the reader was given last; its lease ends with the next receive.
        self._direct: Buffer | None = None
        #: The caller's buffer that the kernel receives into, while it does.
        self._end: int | None = None
        #: 0 at end of stream, a negative errno after a failure, None before.
        self._end_told = False
        self._bulk = False
        self._full_in_row = 0
        self._closing = False
        self._abortive = False
        self._shutdown_wanted = False

    # -- receiving -----------------------------------------------------------------------------

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """Receive once; with ``buffer=None`` the service supplies a shared one, without a copy.

        Raises:
            OperationPending: A receive is in flight.
            BadContext: The socket is closed, or the buffer is in flight.
            ValueError: The buffer has no room: nothing received would look like the end.
            WrongThread: Not on the port's thread.
        """
        pending = PendingIo(completion, user_data)
        if buffer is not None:
            pending.receive_into(buffer)
        self._begin_receive(pending)
        if self._ahead or self._end is not None:
            self._port.post(self._deliver)

    def start_receive_direct(
        self, buffer: Buffer, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """Receive once, behind the used bytes of ``buffer``, if the stream has proved bulky.

        Else into a shared one, as ``start_receive(None, …)``: the completion's window says which.
        For those who keep the bytes and own larger buffers than the port. It cannot be withdrawn.

        Raises:
            OperationPending: A receive is in flight.
            BadContext: The socket is closed.
            ValueError: The buffer has no room: nothing received would look like the end.
            WrongThread: Not on the port's thread.
        """
        if buffer.used == buffer.allocated:
            raise ValueError("the buffer has no room")
        if not self._bulk or self._ahead or self._end is not None or self._receive_op.in_flight:
            self.start_receive(None, completion, user_data)
            return
        self._direct = buffer
        try:
            self._begin_receive(PendingIo(completion, user_data))
        except BaseException:
            self._direct = None
            raise

    async def receive(self) -> Window:
        """Return the next bytes; an empty window at the end of the stream.

        The window is valid until the next receive on this socket.

        Raises:
            OperationPending: A receive is in flight.
            TransportError: The connection failed.
        """
        if self._receive is None and not self._closing:
            if self._ahead:
                self._release_current()
                return self._take_ahead()
            if self._end == 0 and not self._end_told:
                self._note_end_told()
                self._release_current()
                return EMPTY
        future: asyncio.Future[Window] = asyncio.get_running_loop().create_future()
        pending = PendingIo(None, None, future)
        self._begin_receive(pending)
        if self._end is not None:
            self._port.post(self._deliver)
        try:
            return await future
        except asyncio.CancelledError:
            # What arrives for a reader that gave up waits for the next one.
            if self._receive is pending:
                self._receive = None
            else:
                self._take_back(future)
            raise

    def _begin_receive(self, pending: PendingIo) -> None:
        self._port.check_thread()
        if self._closing:
            raise BadContext("the socket is closed")
        if self._receive is not None:
            raise OperationPending("one receive at a time on a socket")
        self._release_current()
        self._receive = pending
        if not self._ahead:
            self._arm()

    def _arm(self) -> None:
        if self._receive_op.in_flight or self._end is not None or self._closing:
            return
        backend, direct = self._port.backend, self._direct
        if direct is not None:
            direct.lease()
            used = direct.used
            backend.receive_into(self._receive_op, self._raw, direct, used, direct.allocated - used)
        elif self._bulk:
            backend.receive_bulk(self._receive_op, self._raw)
        else:
            backend.receive(self._receive_op, self._raw)

    def _on_received(self, result: int, flags: int) -> None:
        direct, self._direct = self._direct, None
        if direct is not None:
            if result > 0 and not self._closing:
                self._deliver_direct(direct, result)
                return
            direct.release()
        if result > 0 and direct is None:
            self._take_in(self._port.backend.pool.slots[flags >> SLOT_SHIFT], result, flags)
        elif not self._closing and (result != -errno.ECANCELED or self._port.is_closing):
            self._end = result
        if self._closing:
            if not self._receive_op.in_flight:
                self._finish_close()
            return
        if self._receive is not None:
            self._deliver()
        if self._receive is not None and not self._ahead:
            self._arm()

    def _take_in(self, slot: Slot, length: int, flags: int) -> None:
        """Take a received slot, for the reader that waits or for the next one."""
        self.bytes_received += length
        self.last_active = self._port.now
        if self._closing:
            slot.pool.recycle(slot)
            return
        slot.used = length
        slot.lease()
        account = self.account
        kept = (slot, 0, length) if account is None else account.keep(slot, 0, length)
        if kept is not None:
            self._ahead.append(kept)
            self._note_fill(slot, length, flags)

    def _deliver_direct(self, buffer: Buffer, length: int) -> None:
        """Complete the pending receive with what the kernel put into the caller's buffer."""
        pending, self._receive = self._receive, None
        assert pending is not None, "a direct receive was withdrawn"
        self.bytes_received += length
        self.last_active = self._port.now
        self._bulk = length > SMALL_SLOT_SIZE
        start = buffer.used
        buffer.used = start + length
        try:
            pending.complete(0, Window(buffer, start, length), self.side, self.scope)
        finally:
            buffer.release()

    def _note_fill(self, slot: Slot, result: int, flags: int) -> None:
        """Promote a direction that fills small slots; stop one that runs ahead of its reader."""
        if slot.is_bulk:
            # Back to the small group when a bulky stream turns interactive.
            self._bulk = result > SMALL_SLOT_SIZE
            return
        self._full_in_row = self._full_in_row + 1 if result == SMALL_SLOT_SIZE else 0
        if self._full_in_row >= _FULL_SLOTS_TO_BULK:
            self._bulk = True
            self._full_in_row = 0
        if flags & MORE and (self._bulk or len(self._ahead) >= RECEIVE_AHEAD_MAX):
            self._port.backend.cancel(self._receive_op)

    def _drop(self, buffer: Buffer) -> None:
        """End the lease of what was received, and what it costs."""
        if self.account is not None:
            self.account.give_up(buffer)
        buffer.release()

    def _deliver(self) -> None:
        """Complete the pending receive with what is there."""
        pending = self._receive
        if pending is None:
            return
        if pending.is_abandoned:
            self._receive = None
            if self._closing:
                self._finish_close()
            return
        try:
            if self._ahead:
                self._receive = None
                window = self._take_ahead()
                if pending.buffer is not None:
                    window = self._copy_into(pending.buffer, window)
                pending.complete(0, window, self.side, self.scope)
            elif self._end is not None:
                self._receive = None
                if self._end == 0 and not self._end_told:
                    self._note_end_told()
                    pending.complete(0, EMPTY, self.side, self.scope)
                else:
                    pending.complete(-self._end or errno.ENOTCONN, EMPTY, self.side, self.scope)
        finally:
            if self._closing:
                self._finish_close()

    def _note_end_told(self) -> None:
        self._end_told = True
        self._check_finished()

    def _check_finished(self) -> None:
        if self.on_finished is not None and self.is_finished:
            self._port.post(self.on_finished)

    def _take_ahead(self) -> Window:
        buffer, start, length = self._ahead.popleft()
        self._current = buffer
        return Window(buffer, start, length)

    def _take_back(self, future: asyncio.Future[Window]) -> None:
        """Let what a reader was given, and gave up before it saw it, wait for the next one."""
        if future.cancelled() or future.exception() is not None or self._closing:
            return
        window = future.result()
        if not window.length:
            self._end_told = False
        elif self._current is window.buffer:
            self._ahead.appendleft((window.buffer, window.start, window.length))
            self._current = None

    def _copy_into(self, buffer: Buffer, window: Window) -> Window:
        """Copy received bytes into the caller's buffer; the rest waits for the next receive."""
        taken = buffer.append(window.buffer.view[window.start : window.start + window.length])
        if taken < window.length:
            self._ahead.appendleft((window.buffer, window.start + taken, window.length - taken))
            self._current = None
        else:
            self._release_current()
        return buffer.window()

    def _release_current(self) -> None:
        buffer, self._current = self._current, None
        if buffer is not None:
            self._drop(buffer)

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
            await pending.future
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
        self._port.backend.send(self._send_op, self._raw, buffer, start + sent, length - sent)
        return None

    def _on_sent(self, result: int, _flags: int) -> None:
        self._finish_send(0 if result >= 0 else -result)
        if self._closing and not self._send_op.in_flight:
            self._finish_close()

    def _finish_send(self, error: int) -> None:
        pending, self._send = self._send, None
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
            if pending.is_kept and self.account is not None:
                self.account.give_up(pending.buffer)
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
                self._port.backend.cancel(self._send_op)
            return
        self._closing = True
        self._abortive = abortive
        self._release_current()
        while self._ahead:
            self._drop(self._ahead.popleft()[0])
        if self._receive is not None:
            self._end = -errno.ECANCELED
            self._port.post(self._deliver)
        backend = self._port.backend
        if self._receive_op.in_flight:
            backend.cancel(self._receive_op)
        if self._send_op.in_flight and abortive:
            backend.cancel(self._send_op)
        self._finish_close()

    def _shutdown_now(self) -> None:
        try:
            self._raw.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in {errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE}:
                raise
        self._check_finished()

    def _finish_close(self) -> None:
        if self._receive_op.in_flight or self._send_op.in_flight or self._receive_op is RETIRED:
            return
        if self._receive is not None or self._send is not None:
            return  # told first: whoever waits for the close may rely on it
        if self._abortive:
            self._port.backend.abort(self._raw)
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
        self.on_closed = self.on_finished = self.scope = None

    # -- giving the socket away ------------------------------------------------------------------

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``; what arrives waits for the next one."""
        assert self._direct is None, "a direct receive cannot be withdrawn"
        pending, self._receive = self._receive, None
        if pending is not None:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self.scope)

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
    def is_receiving(self) -> bool:
        """Whether a receive is pending."""
        return self._receive is not None

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
    def is_finished(self) -> bool:
        """Whether both streams have ended, and a reader knows: nothing more will happen."""
        return self._end_told and self._shutdown_wanted and self._send is None

    @property
    def is_shut(self) -> bool:
        """Whether our stream to the peer was ended."""
        return self._shutdown_wanted or self._closing

    @property
    def is_end_told(self) -> bool:
        """Whether a reader was told the end of the peer's stream."""
        return self._end_told

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
