"""LayeredDriver: what every layer does to run a socket's operations: one reader, one writer.

Concrete layers (the TLS of a connection, a stream of HTTP/2) stand on it: they say when there is
something to read, fill memory with it, and take bytes. The invariant: nothing completes inside the
call that starts it; what was started completes once; and bytes go to the reader in the layer's own
slots, or into the reader's buffer, in order.
"""

from __future__ import annotations

import abc
import enum
import errno
from typing import TYPE_CHECKING

from sluicegate.buffer import Buffer

from .answerable import is_answerable
from .backend import BUFFER, MORE, POLL_OUT, SLOT_SHIFT, Operation, RawSocket

if TYPE_CHECKING:
    from .port import CompletionPort
    from .shared_slots import SharedSlots

__all__ = ["LayeredDriver", "Reading"]


class Reading(enum.Enum):
    """How the pending receive wants its bytes."""

    ON = enum.auto()
    """Slot after slot, until it is cancelled."""
    ONCE = enum.auto()
    """One slot."""
    INTO = enum.auto()
    """Into the reader's own buffer, once."""


class LayeredDriver(abc.ABC):
    """One socket's operations; satisfies ``SocketDriver``."""

    __slots__ = (
        "_is_posted",
        "_is_shut",
        "_length",
        "_port",
        "_reader",
        "_reading",
        "_target",
        "_writer",
        "_writing",
        "error",
        "is_bulky",
        "is_released",
        "pool",
    )

    def __init__(self, port: CompletionPort, pool: SharedSlots) -> None:
        self.is_released = False
        #: Whether its user has closed it.
        self.is_bulky = False
        #: Whether the peer sends more at a time than fits a small slot.
        self.error = 0
        #: An errno, once it has failed.
        self.pool = pool
        #: Where the slots are that receives complete with.
        self._port = port
        self._is_posted = False
        self._is_shut = False
        #: Our stream is to end.
        self._reader: Operation | None = None
        self._reading = Reading.ON
        self._target: tuple[Buffer, int, int] | None = None
        self._writer: Operation | None = None
        self._writing: tuple[Buffer, int, int] | None = None
        #: What the writer still wants to send; None when it only waits for room.
        self._length = 0
        #: How much that was at first.

    # -- what a layer is -------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def _has_news(self) -> bool:
        """Whether there is something for a reader: bytes, an end, or an error."""

    @abc.abstractmethod
    def _fill(self, view: memoryview) -> int:
        """Fill memory with what came; return how much, 0 when there is nothing but an end."""

    @abc.abstractmethod
    def _tell_end(self) -> None:
        """Tell the reader of the end, or of the error, if there is one (``_end_reading``)."""

    @abc.abstractmethod
    def write(self, data: memoryview | bytes) -> int:
        """Send what there is room for.

        Raises:
            BlockingIOError: There is none.
            OSError: The connection is over, or failed.
        """

    @property
    @abc.abstractmethod
    def _has_room(self) -> bool:
        """Whether ``write`` would take something."""

    @abc.abstractmethod
    def _wait_for_room(self) -> None:
        """See to it that ``_go_on_writing`` is called when there is room."""

    @abc.abstractmethod
    def _end_stream(self) -> None:
        """End our stream, behind what was sent; may be asked twice."""

    @abc.abstractmethod
    def go_on(self) -> None:
        """Do what can be done; told by the port, in a turn of its own."""

    @abc.abstractmethod
    def release(self, *, abortive: bool) -> None:
        """Close, as its user did: behind what was sent, or with a reset."""

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``Answerable``): tell its users."""
        operations = [one for one in (self._reader, self._writer) if one is not None]
        for user in [getattr(one.complete, "__self__", None) for one in operations]:
            if is_answerable(user):
                user.on_internal_error(error)

    # -- turns -----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Go on in the next turn: a slot has come back."""
        self._post()

    def _post(self) -> None:
        """Go on in the next turn: nothing completes inside the call that starts it."""
        if not self._is_posted:
            self._is_posted = True
            self._port.post(self._on_posted)

    def _on_posted(self) -> None:
        self._is_posted = False
        self.go_on()

    # -- receiving -------------------------------------------------------------------------------

    def receive(self, operation: Operation, sock: RawSocket) -> None:
        """As ``Backend.receive``."""
        del sock
        self._begin_reading(operation, Reading.ON)

    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        """As ``Backend.receive_bulk``, with slots of one size."""
        del sock
        self._begin_reading(operation, Reading.ONCE)

    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """As ``Backend.receive_into``."""
        del sock
        self._target = buffer, start, length
        self._begin_reading(operation, Reading.INTO)

    def _begin_reading(self, operation: Operation, reading: Reading) -> None:
        assert not operation.in_flight, "one submission at a time"
        assert self._reader is None, "one reader at a time"
        assert not self.is_released, "the socket is closed"
        operation.in_flight = True
        self._reader, self._reading = operation, reading
        if self._has_news:
            self._post()

    def _deliver(self) -> None:
        """Give the reader what there is, for as long as it wants more."""
        while self._reader is not None and not self.is_released and self._has_news:
            if self._reading is Reading.INTO:
                if not self._deliver_into():
                    return
                continue
            slot = self.pool.take(is_bulky=self.is_bulky)
            if slot is None:
                self.pool.park(self)
                return
            try:
                count = self._fill(slot.view)
            except BaseException:
                self.pool.give_back(slot)
                raise
            if not count:
                self.pool.give_back(slot)
                self._tell_end()
                return
            self._complete_reading(count, BUFFER | slot.index << SLOT_SHIFT)

    def _deliver_into(self) -> bool:
        target = self._target
        assert target is not None, "it is read into a buffer"
        buffer, start, length = target
        count = self._fill(buffer.view[start : start + length])
        if not count:
            self._tell_end()
            return False
        self._target = None
        self._complete_reading(count, 0)
        return True

    def _complete_reading(self, count: int, flags: int) -> None:
        reader = self._reader
        assert reader is not None, "somebody reads"
        if self._reading is Reading.ON:
            reader.complete(count, flags | MORE)
            return
        self._reader = None
        reader.in_flight = False
        reader.complete(count, flags)

    def _end_reading(self, result: int) -> None:
        reader, self._reader = self._reader, None
        self._target = None
        if reader is not None:
            reader.in_flight = False
            reader.complete(result, 0)

    # -- sending ---------------------------------------------------------------------------------

    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """As ``Backend.send``."""
        del sock
        self._length = length
        self._begin_writing(operation, (buffer, start, start + length))

    def poll(self, operation: Operation, fd: int, events: int) -> None:
        """Complete once when there is room for more."""
        del fd, events
        self._begin_writing(operation, None)

    def _begin_writing(self, operation: Operation, what: tuple[Buffer, int, int] | None) -> None:
        assert not operation.in_flight, "one submission at a time"
        assert self._writer is None, "one writer at a time"
        operation.in_flight = True
        self._writer, self._writing = operation, what
        self._post()

    def _go_on_writing(self) -> None:
        """Send what the writer wants to, then end our stream, if that is wanted."""
        writer = self._writer
        if writer is not None:
            result = self._write_on()
            if result is None:
                return
            self._writer = self._writing = None
            writer.in_flight = False
            writer.complete(result, 0)
        if self._is_shut and self._writer is None:
            self._end_stream()

    def _write_on(self) -> int | None:
        """Return how the writer's operation ends; None: it waits for room."""
        if self.error:
            return -self.error
        if not self._has_room:
            self._wait_for_room()
            return None
        if self._writing is None:
            return POLL_OUT
        buffer, start, end = self._writing
        try:
            start += self.write(buffer.view[start:end])
        except BlockingIOError:
            self._wait_for_room()
            return None
        except OSError as error:
            return -(error.errno or errno.EIO)
        if start < end:
            self._writing = buffer, start, end
            self._wait_for_room()
            return None
        return self._length

    # -- ending ----------------------------------------------------------------------------------

    def cancel(self, operation: Operation) -> None:
        """As ``Backend.cancel``."""
        if operation is self._reader:
            self._reader = self._target = None
            self._on_reading_cancelled()
        elif operation is self._writer:
            self._writer = self._writing = None
        else:
            return

        def tell() -> None:
            operation.in_flight = False
            operation.complete(-errno.ECANCELED, 0)

        self._port.post(tell)

    def _on_reading_cancelled(self) -> None:
        """Take that nobody reads any more."""

    def abort(self, sock: RawSocket) -> None:
        """As ``Backend.abort``."""
        del sock
        self.release(abortive=True)
