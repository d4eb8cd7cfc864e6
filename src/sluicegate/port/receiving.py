"""The receiving half of a stream socket: what the kernel delivers, and who reads it.

``stream`` makes a whole socket of it. What arrives ahead of its reader waits, leased, bounded and
on the account. The invariant: every started receive completes once, later, with bytes in order; the
end of the stream is told exactly once, as an empty window.
"""

from __future__ import annotations

import abc
import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sluicegate.buffer import Buffer, Window
from sluicegate.errors import BadContext, OperationPending, Side
from sluicegate.limits import RECEIVE_AHEAD_MAX

from .account import Account, Kept
from .backend import MORE, SLOT_SHIFT, RawSocket
from .layer import driver_of
from .pending import EMPTY, PendingIo, SocketCompletion
from .pool import SMALL_SLOT_SIZE, Slot
from .scope import FailureScope

if TYPE_CHECKING:
    from .given_away import GivenAway
    from .port import CompletionPort

__all__ = ["ReceivingSocket"]

_FULL_SLOTS_TO_BULK: Final = 4
"""Full small slots in a row after which a direction is bulky."""


class ReceivingSocket(abc.ABC):
    """What a stream socket does to receive; its ending is the whole socket's."""

    __slots__ = (
        "_ahead",
        "_bulk",
        "_closing",
        "_current",
        "_direct",
        "_driver",
        "_end",
        "_end_told",
        "_full_in_row",
        "_port",
        "_raw",
        "_receive",
        "_receive_op",
        "account",
        "bytes_received",
        "last_active",
        "on_finished",
        "scope",
        "side",
    )

    def __init__(self, port: CompletionPort, raw: RawSocket, side: Side) -> None:
        self.side = side
        self.scope: FailureScope | None = None
        #: Whose failure an exception out of a completion is.
        self.on_finished: Callable[[], None] | None = None
        #: Told, later, when both streams have ended and a reader knows.
        self.last_active = port.now
        #: The port's time of the last byte in either direction.
        self.bytes_received = 0
        self.account: Account | None = None
        self._port = port
        self._raw = raw
        self._driver = driver_of(raw, port.backend)
        self._receive_op = port.operations.take(self._on_received)
        self._ahead: deque[Kept] = deque()
        #: Received, leased, on the account; nobody has read it.
        self._receive: PendingIo | None = None
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

    def take_over(self, given: GivenAway) -> None:
        """Go on where somebody else stopped reading this very descriptor, before the first use."""
        self._port.operations.give(self._receive_op)
        self._receive_op = given.receive_op
        self._port.backend.redirect(given.receive_op, self._on_received)
        self._ahead.extend(given.ahead)
        if given.ended:
            self._end = 0

    @property
    @abc.abstractmethod
    def is_finished(self) -> bool:
        """Whether both streams have ended, and a reader knows: nothing more will happen."""

    @abc.abstractmethod
    def _finish_close(self) -> None:
        """Close the descriptor when nothing is in flight and nobody is to be told."""

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
        finally:
            del pending, future  # a failure's traceback knows this frame

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
        driver, direct = self._driver, self._direct
        if direct is not None:
            direct.lease()
            used = direct.used
            driver.receive_into(self._receive_op, self._raw, direct, used, direct.allocated - used)
        elif self._bulk:
            driver.receive_bulk(self._receive_op, self._raw)
        else:
            driver.receive(self._receive_op, self._raw)

    def _on_received(self, result: int, flags: int) -> None:
        direct, self._direct = self._direct, None
        if direct is not None:
            if result > 0 and not self._closing:
                self._deliver_direct(direct, result)
                return
            direct.release()
        if result > 0 and direct is None:
            self._take_in(self._driver.pool.slots[flags >> SLOT_SHIFT], result, flags)
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
        is_bulky = self._full_in_row >= _FULL_SLOTS_TO_BULK
        if is_bulky:
            self._bulk = True
            self._full_in_row = 0
        if flags & MORE and (is_bulky or len(self._ahead) >= RECEIVE_AHEAD_MAX):
            self._driver.cancel(self._receive_op)

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

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``; what arrives waits for the next one."""
        assert self._direct is None, "a direct receive cannot be withdrawn"
        pending, self._receive = self._receive, None
        if pending is not None:
            pending.complete(errno.ECANCELED, EMPTY, self.side, self.scope)
            if self._closing:
                self._finish_close()

    @property
    def is_receiving(self) -> bool:
        """Whether a receive is pending."""
        return self._receive is not None

    @property
    def is_end_told(self) -> bool:
        """Whether a reader was told the end of the peer's stream."""
        return self._end_told
