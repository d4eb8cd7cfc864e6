"""TlsStream: one connection's TLS, between a connected socket and whoever uses it decrypted.

The state machine behind a ``TlsSocket``, and the driver of its operations: OpenSSL on two memory
BIOs, fed by the port's completions. Ciphertext comes in the backend's slots, which go straight
back; plaintext leaves in the layer's own (``TlsPool``), one copy each. What stops the reader stops
the receive below, and what the kernel does not take stops the writer: that is all the
back-pressure.

The invariant: nothing that is sent here leaves in clear; nothing is received before the handshake
is done, and nothing after a stream that was cut off, which is an error and never an end; and every
operation completes once, later.

Handshakes run here, on the loop: one with an elliptic curve takes half a millisecond (decision 66).
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.access_limits import (
    TLS_CLOSE_S,
    TLS_LINGER_BYTES_MAX,
    TLS_WRITE_BYTES_MAX,
)
from sluicegate.buffer import Buffer
from sluicegate.errors import errno_name
from sluicegate.port.backend import (
    BUFFER,
    MORE,
    SLOT_SHIFT,
    Operation,
    RawSocket,
)
from sluicegate.port.pool import SMALL_SLOT_SIZE, SlotPool

from .engine import TlsBroken, TlsEnded
from .sending import TlsSending
from .socket import TlsSocket

if TYPE_CHECKING:
    from cryptography import x509

    from sluicegate.port import Timer

    from .engine import TlsEngine
    from .layer import TlsLayer

__all__ = ["TlsStream"]

_SHUT_WR: Final = 1


class _Reading(enum.Enum):
    """How the pending receive wants its bytes."""

    ON = enum.auto()
    """Slot after slot, until it is cancelled."""
    ONCE = enum.auto()
    """One slot."""
    INTO = enum.auto()
    """Into the reader's own buffer, once."""


class TlsStream(TlsSending):
    """One connection; lives until the socket below is closed. Satisfies ``SocketDriver``."""

    __slots__ = (
        "_discarded",
        "_has_ended",
        "_has_inner_ended",
        "_is_abortive",
        "_is_bulky",
        "_is_lingering",
        "_is_over",
        "_is_posted",
        "_layer",
        "_reader",
        "_reading",
        "_receive_op",
        "_received",
        "_target",
        "_timer",
        "alert",
        "is_cut_off",
        "on_established",
        "socket",
    )

    def __init__(self, layer: TlsLayer, inner: RawSocket, engine: TlsEngine) -> None:
        super().__init__(layer, inner, engine)
        self.socket = TlsSocket(self)
        #: For the user.
        self.alert = ""
        #: What the peer sent when it gave up the handshake (``unknown ca``); empty: nothing.
        self.is_cut_off = False
        #: Whether the peer has ended its stream in the midst of the handshake.
        self.on_established: Callable[[], None] | None = None
        #: Told when the handshake is done, before the first byte is delivered.
        self._layer = layer
        self._receive_op = layer.port.operations.take(self._on_received)
        self._received = 0
        #: Bytes of ciphertext.
        self._is_bulky = False
        #: The peer fills small slots.
        self._reader: Operation | None = None
        self._reading = _Reading.ON
        self._target: tuple[Buffer, int, int] | None = None
        self._has_inner_ended = False
        self._has_ended = False
        #: ``close_notify`` has come.
        self._is_posted = False
        self._is_abortive = False
        self._is_lingering = False
        self._is_over = False
        self._discarded = 0
        self._timer: Timer | None = None

    def adopt(self, operation: Operation, early: bytes, *, has_ended: bool) -> None:
        """Go on where somebody has stopped to read; before anybody receives from this one.

        Args:
            operation: Receives below, in flight or not.
            early: What has come by now.
            has_ended: Whether the peer's stream has ended behind it.
        """
        port = self._layer.port
        port.operations.give(self._receive_op)
        self._receive_op = operation
        port.backend.redirect(operation, self._on_received)
        self._received = len(early)
        self._engine.feed(early)
        if has_ended:
            self._has_inner_ended = True
            self._engine.feed_end()

    # -- asking --------------------------------------------------------------------------------

    @property
    def engine(self) -> TlsEngine:
        """What both ends agreed on, once the handshake is done."""
        return self._engine

    @property
    def pool(self) -> SlotPool:
        """Where the slots are that receives complete with."""
        return self._layer.pool

    def peer_certificate(self) -> x509.Certificate | None:
        """Return the peer's certificate; None when it showed none.

        Raises:
            ValueError: It cannot be read.
        """
        return self._engine.peer_certificate()

    @property
    def alpn(self) -> str:
        """The protocol that both ends agreed on by ALPN; empty before the handshake is done."""
        return self._engine.alpn if self._is_established else ""

    def version(self) -> str:
        """Return the protocol's version, ``TLSv1.3``; empty before the handshake is done."""
        return self._engine.version if self._is_established else ""

    # -- the driver: receiving -----------------------------------------------------------------

    def receive(self, operation: Operation, sock: RawSocket) -> None:
        """As ``Backend.receive``."""
        del sock
        self._begin_reading(operation, _Reading.ON)

    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        """As ``Backend.receive_bulk``, with slots of one size."""
        del sock
        self._begin_reading(operation, _Reading.ONCE)

    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """As ``Backend.receive_into``."""
        del sock
        self._target = buffer, start, length
        self._begin_reading(operation, _Reading.INTO)

    def _begin_reading(self, operation: Operation, reading: _Reading) -> None:
        assert not operation.in_flight, "one submission at a time"
        assert self._reader is None, "one reader at a time"
        assert not self.is_released, "the socket is closed"
        operation.in_flight = True
        self._reader, self._reading = operation, reading
        if self._has_news:
            self._post()
        self._arm()

    @property
    def _has_news(self) -> bool:
        """Whether there is something for a reader without another byte from below."""
        return bool(
            self.error or self._has_ended or self._has_inner_ended or self._engine.has_input
        )

    def wake(self) -> None:
        """Go on in the next turn: a slot has come back."""
        self._post()

    @override
    def _post(self) -> None:
        """Go on in the next turn: nothing completes inside the call that starts it."""
        if not self._is_posted:
            self._is_posted = True
            self._port.post(self.go_on)

    def go_on(self) -> None:
        """Do what can be done; told by the port."""
        self._is_posted = False
        if not self._is_over and not self._is_lingering:
            self._advance()
            self._go_on_writing()

    def _arm(self) -> None:
        """Receive below, if somebody wants what comes."""
        if self._receive_op.in_flight or self._has_inner_ended or self._is_over:
            return
        if not (self._is_lingering or self._wants_input):
            return
        if self._engine.outgoing >= TLS_WRITE_BYTES_MAX:
            return  # it makes us answer, and does not take the answers
        if self._is_bulky:
            self._backend.receive_bulk(self._receive_op, self.inner)
        else:
            self._backend.receive(self._receive_op, self.inner)

    @property
    def _wants_input(self) -> bool:
        """Whether what may come is for somebody."""
        return self._reader is not None and not self.error and not self._has_ended

    def _on_received(self, result: int, flags: int) -> None:
        if flags & BUFFER:
            slot = self._backend.pool.slots[flags >> SLOT_SHIFT]
            self._take(slot.view[: max(result, 0)], result)
            self._backend.pool.give_back(slot)
        elif result == 0:
            self._has_inner_ended = True
            self._engine.feed_end()
        elif result != -errno.ECANCELED or self._port.is_closing:
            self._note_error(-result, errno_name(-result))
        if self._is_over or self._is_lingering:
            self._linger_on(result)
            return
        self._advance()
        if not flags & MORE:
            self._arm()

    def _take(self, data: memoryview, length: int) -> None:
        if self._is_over or self._is_lingering:
            self._discarded += length
            return
        self._received += length
        self._is_bulky = self._is_established and length >= SMALL_SLOT_SIZE
        if not self.error:
            self._engine.feed(data)

    # -- the handshake -------------------------------------------------------------------------

    def _advance(self) -> None:
        if self.is_released:
            return
        if self._is_established or self._shake_hands():
            self._deliver()
        elif self.error:
            self._end_reading(-self.error)

    @property
    def _is_mere_look(self) -> bool:
        """Whether somebody only looked whether the port is open."""
        return self._has_inner_ended and not self._received

    def _shake_hands(self) -> bool:
        """Go on with the handshake; True when it is done."""
        if self.error:
            return False
        if self._is_mere_look:
            self._end_reading(0)
            return False
        try:
            if not self._engine.shake_hands():
                self._flush()
                return False
        except TlsBroken as error:
            # What we have to say about it, an alert, leaves before the error is told.
            self._on_broken(error)
            return False
        self._is_established = True
        self._flush()
        self._on_established()
        return self._is_established and not self.is_released

    def _on_broken(self, error: TlsBroken) -> None:
        """Take that the handshake has failed."""
        self.alert, self.is_cut_off = error.alert, error.is_cut_off
        self._note_error(errno.EPROTO, error.words)

    def _on_established(self) -> None:
        """Take that the handshake is done."""
        told, self.on_established = self.on_established, None
        if told is not None:
            told()

    # -- delivering ----------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Give the reader what there is, for as long as it wants more."""
        while self._reader is not None and not self.is_released:
            if self._reading is _Reading.INTO:
                if not self._deliver_into():
                    return
                continue
            if not self._has_news:
                return
            slot = self._layer.pool.take()
            if slot is None:
                self._layer.pool.park(self)
                return
            count = self._decrypt(slot.view)
            if not count:
                self._layer.pool.give_back(slot)
                self._tell_end()
                return
            self._complete_with(count, BUFFER | slot.index << SLOT_SHIFT)

    def _complete_with(self, count: int, flags: int) -> None:
        reader = self._reader
        assert reader is not None, "somebody reads"
        if self._reading is _Reading.ON:
            reader.complete(count, flags | MORE)
            return
        self._reader = None
        reader.in_flight = False
        reader.complete(count, flags)

    def _deliver_into(self) -> bool:
        target = self._target
        assert target is not None, "it is read into a buffer"
        buffer, start, length = target
        count = self._decrypt(buffer.view[start : start + length])
        if not count:
            self._tell_end()
            return False
        self._target = None
        self._complete_with(count, 0)
        return True

    def _tell_end(self) -> None:
        """Tell the reader of the end, or of the error, if there is one."""
        if self.error:
            self._end_reading(-self.error)
        elif self._has_ended:
            self._end_reading(0)

    def _end_reading(self, result: int) -> None:
        reader, self._reader = self._reader, None
        self._target = None
        if reader is not None:
            reader.in_flight = False
            reader.complete(result, 0)

    def _decrypt(self, view: memoryview) -> int:
        """Fill memory with plaintext; return how much there was."""
        filled = 0
        while filled < len(view) and not (self._has_ended or self.error):
            try:
                count = self._engine.read_into(view[filled:])
            except TlsEnded:
                self._has_ended = True
                break
            except TlsBroken as error:
                self._note_read_error(error)
                break
            if not count:
                break
            filled += count
        if self._engine.outgoing:
            self._flush()  # it answers to some of what it reads
        return filled

    def _note_read_error(self, error: TlsBroken) -> None:
        if error.is_cut_off:
            self._note_error(errno.ECONNRESET, "cut off: no close_notify before the end")
        else:
            self._note_error(errno.EPROTO, error.words)

    @override
    def _on_sent(self, result: int, flags: int) -> None:
        del flags
        unsent, self._unsent = self._unsent, None
        assert unsent is not None, "something was being sent"
        unsent.release()
        if result < 0 and not self._has_said_goodbye:
            self._note_error(-result, errno_name(-result))
        if self._is_over:
            self._finish()
            return
        if not self.error:
            self._flush()
        self._go_on_writing()
        if self.is_released and self._unsent is None:
            self._finish_release()
        elif self.error:
            self._post()
        else:
            self._arm()

    def cancel(self, operation: Operation) -> None:
        """As ``Backend.cancel``."""
        if operation is self._reader:
            self._reader = self._target = None
            if self._receive_op.in_flight:
                self._backend.cancel(self._receive_op)
        elif operation is self._writer:
            self._writer = self._writing = None
        else:
            return

        def tell() -> None:
            operation.in_flight = False
            operation.complete(-errno.ECANCELED, 0)

        self._port.post(tell)

    # -- the end -------------------------------------------------------------------------------

    def abort(self, sock: RawSocket) -> None:
        """As ``Backend.abort``; but whose handshake failed is given the time to read why."""
        del sock
        self.release(abortive=True)

    def release(self, *, abortive: bool) -> None:
        """Close, as the user did: behind what was sent, or with a reset."""
        if self.is_released:
            return
        assert self._reader is None, "an operation is in flight"
        assert self._writer is None, "an operation is in flight"
        self.is_released = True
        self.on_established = None
        self._timer = self._port.call_after(TLS_CLOSE_S, self._give_up)
        if self.error == errno.EPROTO and not self._is_established and not self._has_inner_ended:
            self._is_lingering = True
        elif abortive or self.error:
            self._is_abortive = abortive
            self._end()
            return
        elif not self._shut:
            self._shut = True
            self._say_goodbye()
        if self._unsent is None:
            self._finish_release()

    def _finish_release(self) -> None:
        """Go on with the close, now that everything is sent."""
        if not self._is_lingering or self.error != errno.EPROTO or self._has_inner_ended:
            self._end()
            return
        try:
            self.inner.shutdown(_SHUT_WR)
        except OSError:
            self._end()  # it has gone
            return
        self._arm()

    def _linger_on(self, result: int) -> None:
        """Drop what still comes, until the peer has closed."""
        if self._is_lingering and (
            result == 0
            or (result < 0 and result != -errno.ECANCELED)
            or self._discarded > TLS_LINGER_BYTES_MAX
        ):
            self._end()
        elif self._is_over:
            self._finish()
        else:
            self._arm()

    def _give_up(self) -> None:
        """Take that the peer has not taken the last of it in time."""
        self._timer = None
        self._is_abortive = True
        self._end()

    def end_now(self) -> None:
        """Close with a reset what only waits for its peer: the port is to be closed."""
        if self.is_released and not self._is_over:
            self._is_abortive = True
            self._end()

    def _end(self) -> None:
        self._is_over, self._is_lingering = True, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for operation in (self._receive_op, self._send_op):
            if operation.in_flight:
                self._backend.cancel(operation)
        self._finish()

    def _finish(self) -> None:
        """Close the socket below, once nothing is in flight on it."""
        if self._receive_op.in_flight or self._send_op.in_flight or self.inner.fileno() < 0:
            return
        if self._is_abortive:
            self._backend.abort(self.inner)
        else:
            self.inner.close()
        self._port.operations.give(self._receive_op)
        self._port.operations.give(self._send_op)
        self._layer.forget(self)
        # Whoever had the socket may be part of a circle, and the collector of garbage looks seldom:
        # OpenSSL's memory is not to wait for it.
        del self.socket, self._engine
