"""Wire: one socket of the web proxy, towards a client or a server.

Both ends of an exchange own one. What is received is shown where it lies, in a shared slot; what is
sent is offered to the kernel at once, and what it does not take is kept, on a session's account.
The invariant: bytes leave in order and once; nobody is shown bytes while the wire is paused; and
the descriptor closes when nothing is in flight on it.

A wire that was told to close tells its owner nothing more but ``on_wire_closed``.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from sluicegate.errors import LimitExceeded
from sluicegate.gate.bulk import Bulk, Flow
from sluicegate.port.account import Kept
from sluicegate.port.backend import MORE, MSG_MORE, POLL_OUT, SEND_FLAGS, SLOT_SHIFT, Operation
from sluicegate.port.layer import driver_of
from sluicegate.port.pool import SMALL_SLOT_SIZE
from sluicegate.web_limits import WEB_JOIN_BYTES_MAX

from .spliced_body import SplicedBody, SplicingEnd

if TYPE_CHECKING:
    from sluicegate.gate.service import FirewallService
    from sluicegate.gate.session import GateSession
    from sluicegate.port.backend import Backend, RawSocket

__all__ = ["NOBODY", "Wire", "WireOwner"]

_SHUT_WR: Final = 1


class WireOwner(Protocol):
    """Whose wire it is."""

    def on_received(self, data: memoryview) -> None:
        """Take what came; it is valid during the call."""
        ...

    def on_wire_ended(self) -> None:
        """Take that the peer will send nothing more."""
        ...

    def on_wire_failed(self, error: int) -> None:
        """Take that the socket failed; called on its own, never inside ``send``."""
        ...

    def on_limit(self, error: LimitExceeded) -> None:
        """Take that what the peer does not take passes a limit; called as ``on_wire_failed``."""
        ...

    def on_room(self) -> None:
        """Take that everything that was kept has been sent."""
        ...

    def on_wire_closed(self) -> None:
        """Take that the descriptor is closed."""
        ...

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        ...

    def splice(self) -> bool:
        """Have what comes in bulk moved in the kernel (``Wire.begin_splice``); False: show it."""
        ...


class Wire:
    """One connected socket."""

    __slots__ = (
        "_bulk",
        "_driver",
        "_is_abortive",
        "_is_paused",
        "_op",
        "_owner",
        "_port",
        "_rest",
        "_send",
        "_send_op",
        "_service",
        "_slots",
        "blocked_since",
        "bytes_received",
        "bytes_sent",
        "is_closing",
        "is_ended",
        "is_watched",
        "raw",
        "session",
        "spliced",
    )

    def __init__(self, service: FirewallService, raw: RawSocket, owner: WireOwner) -> None:
        """Take a socket over; ``start`` or ``adopt`` begins to receive."""
        self.raw = raw
        self.session: GateSession | None = None
        #: On whose account is what the peer does not take; set before anything is sent.
        self.bytes_sent = self.bytes_received = 0
        self.blocked_since = 0.0
        #: When the peer stopped taking bytes; 0 while it takes them.
        self.is_closing = self.is_ended = False
        self.is_watched = False
        #: Whether what comes is shown to code that might keep it.
        self._service = service
        self._port = service.port
        self._owner = owner
        self._driver = driver_of(raw, service.port.backend)
        self._slots = self._driver.pool.slots
        self._send = raw.send
        self._rest: deque[Kept] | None = None
        #: What the kernel did not take; None while it takes everything.
        self._bulk: Bulk | None = None
        self._op: Operation | None = None
        self._send_op: Operation | None = None
        self._is_paused = self._is_abortive = False
        self.spliced: SplicedBody | None = None
        #: What is moved past us; nothing is received meanwhile.

    # -- receiving -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to receive."""
        self._op = operation = self._port.operations.take(self._on_received)
        self._driver.receive(operation, self.raw)

    def adopt(self, operation: Operation) -> None:
        """Receive with an operation that somebody else has begun."""
        self._op = operation
        self._port.backend.redirect(operation, self._on_received)
        self._arm()

    def hand_to(self, owner: WireOwner) -> None:
        """Tell somebody else from now on; nothing may be on its way to be told."""
        self._owner = owner

    def pause(self) -> None:
        """Show nothing more before ``resume``, but what has been received by now."""
        if not self._is_paused:
            self._is_paused = True
            if self._op is not None and self._op.in_flight and self.spliced is None:
                self._driver.cancel(self._op)

    def resume(self) -> None:
        """Go on receiving."""
        if self._is_paused:
            self._is_paused = False
            self._arm()

    def _on_received(self, result: int, flags: int) -> None:
        if result <= 0:
            self._on_receive_ended(result)
            return
        slot = self._slots[flags >> SLOT_SHIFT]
        if self.is_closing:
            slot.pool.give_back(slot)
            if not flags & MORE:
                self._join()
            return
        self.bytes_received += result
        if self.is_watched:
            # A view of its own: the pool finds it out if a slice of it is kept.
            slot.exported = True
            try:
                self._owner.on_received(memoryview(slot.memory)[:result].toreadonly())
            finally:
                slot.pool.recycle(slot)
        else:
            try:
                self._owner.on_received(slot.view[:result])
            finally:
                slot.pool.give_back(slot)
        if result == SMALL_SLOT_SIZE:
            self._note_full_slot(flags)
        elif self._bulk is not None and result < SMALL_SLOT_SIZE:
            self._bulk.flow = Flow.INTERACTIVE
        if not flags & MORE:
            self._arm()

    def _note_full_slot(self, flags: int) -> None:
        """Choose large slots for a stream that keeps filling small ones."""
        bulk = self._bulk
        if bulk is None:
            bulk = self._bulk = Bulk()
        if bulk.flow is Flow.INTERACTIVE and bulk.is_proven(self._port.now):
            bulk.flow = Flow.BULK
            if flags & MORE and self._op is not None:
                self._driver.cancel(self._op)

    def _on_receive_ended(self, result: int) -> None:
        if self.is_closing:
            self._join()
        elif result == 0:
            self.is_ended = True
            self._owner.on_wire_ended()
        elif result == -errno.ECANCELED:
            self._arm()
        else:
            self.is_ended = True
            self._owner.on_wire_failed(-result)

    def _arm(self) -> None:
        operation = self._op
        if operation is None or operation.in_flight or self.spliced is not None:
            return
        if self.is_closing:
            self._join()
        elif not (self._is_paused or self.is_ended or self._port.is_closing):
            if self._bulk is not None and self._bulk.flow is Flow.BULK:
                if self._owner.splice():
                    return
                self._driver.receive_bulk(operation, self.raw)
            else:
                self._driver.receive(operation, self.raw)

    # -- splicing ------------------------------------------------------------------------------

    def begin_splice(
        self, sink: Wire, end: SplicingEnd, *, left: int | None, is_chunked: bool
    ) -> bool:
        """Move the rest of a body to ``sink`` in the kernel; False when that cannot be had.

        See ``SplicedBody``. Nothing may be waiting to be sent to the sink.
        """
        backend, operation, bulk = self._port.backend, self._op, self._bulk
        if self._driver is not backend or not sink.is_on(backend):
            return False  # the kernel would move what a layer has to change
        pipe = backend.open_pipe()
        if pipe is None:
            return False
        assert operation is not None, "it receives"
        assert bulk is not None, "what is spliced was bulky"
        bulk.flow = Flow.INTERACTIVE
        for one in (self, sink):
            backend.prepare_splice(one.raw)
        self.spliced = SplicedBody(
            self._port, pipe, self, sink, operation, end, left=left, is_chunked=is_chunked
        )
        self.spliced.run()
        return True

    def is_on(self, backend: Backend) -> bool:
        """Tell whether it is a plain socket of a driver, with no layer between."""
        return self._driver is backend

    def stop_splice(self) -> None:
        """Receive again, whatever is left of the body: nobody wants it any more."""
        spliced = self.spliced
        if spliced is not None:
            spliced.stop()
            if self._op is not None and self._op.in_flight:
                self._driver.cancel(self._op)  # ``end_splice`` follows
            else:
                self.end_splice()

    def end_splice(self, error: int = 0) -> None:
        """Receive again behind a body that was moved (``SplicedBody`` alone calls it)."""
        self.spliced = None
        if self._op is not None:
            self._port.backend.redirect(self._op, self._on_received)
        if self.is_closing:
            self._join()
        elif error:
            self.is_ended = True
            self._owner.on_wire_failed(error)
        else:
            self._arm()

    def wait_for_room(self) -> None:
        """Have ``on_room`` called when the peer takes something again."""
        if self._rest is None:
            self._rest = deque()
            self.blocked_since = self._port.now
        self._poll()

    # -- sending -------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, *, is_last: bool = False) -> bool:
        """Send; False: some of it is kept, and nothing more should come before ``on_room``.

        Args:
            data: What is sent.
            is_last: Our stream is ended behind it, at once: both may leave together.
        """
        if self.is_closing:
            return False
        if self._rest is None:
            try:
                sent = self._send(data, SEND_FLAGS | MSG_MORE if is_last else SEND_FLAGS)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.fail_later(error.errno or errno.EIO)
                return False
            self.bytes_sent += sent
            if sent == len(data):
                return True
            data = memoryview(data)[sent:]
        self._keep(data)
        return False

    def send_pieces(self, pieces: list[bytes | memoryview]) -> bool:
        """Send several pieces in their order; as ``send``."""
        if sum(map(len, pieces)) <= WEB_JOIN_BYTES_MAX:
            return self.send(b"".join(pieces))
        is_sent = True
        for piece in pieces:
            is_sent = self.send(piece)
        return is_sent

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the peer to take it."""
        return self._rest is not None

    def _keep(self, data: bytes | memoryview) -> None:
        assert self.session is not None, "whoever sends is on somebody's account"
        try:
            kept = self._service.blockage.keep_bytes(self.session, data)
        except LimitExceeded as error:
            limit = error
            self._port.post(lambda: self._on_limit(limit))
            return
        if self._rest is None:
            self._rest = deque()
            self.blocked_since = self._port.now
        self._rest.append(kept)
        self._poll()

    def _poll(self) -> None:
        if self._send_op is None:
            self._send_op = Operation(self._on_writable)
        if not self._send_op.in_flight:
            self._driver.poll(self._send_op, self.raw.fileno(), POLL_OUT)

    def _on_writable(self, result: int, _flags: int) -> None:
        if self.is_closing:
            self._join()
            return
        if result < 0:
            self._owner.on_wire_failed(-result)
            return
        rest = self._rest
        assert rest is not None, "it waits for room because something is kept"
        while rest:
            buffer, start, length = rest[0]
            try:
                sent = self._send(buffer.view[start : start + length], SEND_FLAGS)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._owner.on_wire_failed(error.errno or errno.EIO)
                return
            self.bytes_sent += sent
            if sent:
                self.blocked_since = self._port.now
            if sent < length:
                rest[0] = buffer, start + sent, length - sent
                self._poll()
                return
            self._drop(rest.popleft())
        self._rest = None
        self.blocked_since = 0.0
        self._owner.on_room()

    def _drop(self, kept: Kept) -> None:
        assert self.session is not None, "it was kept on somebody's account"
        self._service.blockage.give_up(self.session, kept[0])
        kept[0].release()

    def fail_later(self, error: int) -> None:
        """Tell the owner of a failure, not now.

        Whoever sends is in the middle of something that an end would pull away.
        """
        self._port.post(lambda: self._on_failure(error))

    def _on_failure(self, error: int) -> None:
        if not self.is_closing:
            self._owner.on_wire_failed(error)

    def _on_limit(self, error: LimitExceeded) -> None:
        if not self.is_closing:
            self._owner.on_limit(error)

    def end_stream(self) -> bool:
        """Send nothing more; False when the peer has gone."""
        try:
            self.raw.shutdown(_SHUT_WR)
        except OSError:
            return False
        return True

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._owner.on_internal_error(error)

    # -- the end -------------------------------------------------------------------------------

    def close(self, *, abortive: bool) -> None:
        """Close, once nothing is in flight; what is kept is dropped."""
        if self.is_closing:
            return
        self.is_closing = True
        rest, self._rest = self._rest, None
        if self.spliced is not None:
            self.spliced.stop()
        self._is_abortive = abortive or bool(rest)
        for kept in rest or ():
            self._drop(kept)
        for operation in (self._op, self._send_op):
            if operation is not None and operation.in_flight:
                self._driver.cancel(operation)
        self._join()

    def _join(self) -> None:
        operation, send_op = self._op, self._send_op
        if operation is not None and operation.in_flight:
            return
        if send_op is not None and send_op.in_flight:
            return
        if operation is not None:
            self._port.operations.give(operation)
            self._op = None
        if send_op is not None:
            self._port.backend.forget(send_op)
            self._send_op = None
        if self._is_abortive:
            self._driver.abort(self.raw)
        else:
            self.raw.close()
        # An owner that has its wire is a circle, which only the collector of garbage would free.
        owner, self._owner = self._owner, NOBODY
        owner.on_wire_closed()

    def give_away(self) -> Operation:
        """Hand the socket over, with the operation that receives; nothing may be kept."""
        assert self._rest is None, "what is kept would come behind what others send"
        operation = self._op
        assert operation is not None, "it receives"
        self._op = None
        self.is_closing = True
        if self._send_op is not None:
            self._port.backend.forget(self._send_op)
            self._send_op = None
        self._owner = NOBODY
        return operation


class _Nobody:
    """The owner of a wire that is closed, or somebody else's; it is told nothing."""

    def on_received(self, data: memoryview) -> None:
        """As ``WireOwner``."""

    def on_wire_ended(self) -> None:
        """As ``WireOwner``."""

    def on_wire_failed(self, error: int) -> None:
        """As ``WireOwner``."""

    def on_limit(self, error: LimitExceeded) -> None:
        """As ``WireOwner``."""

    def on_room(self) -> None:
        """As ``WireOwner``."""

    def on_wire_closed(self) -> None:
        """As ``WireOwner``."""

    def on_internal_error(self, error: BaseException) -> None:
        """As ``WireOwner``."""

    def splice(self) -> bool:
        """As ``WireOwner``."""
        return False


NOBODY: Final = _Nobody()
"""Owns a wire until somebody takes it over, which has to be in the same turn."""
