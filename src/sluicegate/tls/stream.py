"""TlsStream: one connection's TLS, between a connected socket and whoever uses it decrypted.

The state machine behind a ``TlsSocket``, and the driver of its operations: OpenSSL on two memory
BIOs, fed by the port's completions. Ciphertext comes in the backend's slots, which go straight
back; plaintext leaves in the layer's own, one copy each. What stops the reader stops the receive
below, and what the kernel does not take stops the writer: that is all the back-pressure.

The invariant: nothing that is sent here leaves in clear; nothing is received before the handshake
is done, and nothing after a stream that was cut off, which is an error and never an end; and every
operation completes once, later.

Handshakes run here, on the loop: one with an elliptic curve takes half a millisecond (decision 66).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.access_limits import (
    TLS_CLOSE_S,
    TLS_LINGER_BYTES_MAX,
    TLS_WRITE_BYTES_MAX,
)
from sluicegate.errors import errno_name
from sluicegate.port.backend import (
    BUFFER,
    MORE,
    SLOT_SHIFT,
    Operation,
    RawSocket,
)
from sluicegate.port.layered_driver import Reading
from sluicegate.port.pool import SMALL_SLOT_SIZE

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
_FULL_SLOTS_TO_BULK: Final = 4
"""Full small slots in a row that make a connection bulky."""


class TlsStream(TlsSending):
    """One connection; lives until the socket below is closed. Satisfies ``SocketDriver``."""

    __slots__ = (
        "_discarded",
        "_full_count",
        "_has_ended",
        "_has_inner_ended",
        "_is_abortive",
        "_is_lingering",
        "_is_over",
        "_layer",
        "_receive_op",
        "_received",
        "_timer",
        "alert",
        "is_cut_off",
        "on_established",
        "socket",
    )

    def __init__(
        self,
        layer: TlsLayer,
        inner: RawSocket,
        engine: TlsEngine,
        receive_op: Operation | None = None,
    ) -> None:
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
        if receive_op is None:
            self._receive_op = layer.port.operations.take(self._on_received)
        else:
            layer.port.backend.redirect(receive_op, self._on_received)
            self._receive_op = receive_op
        self._received = 0
        #: Bytes of ciphertext.
        self._full_count = 0
        #: Small slots that were filled, one after the other.
        self._has_inner_ended = False
        self._has_ended = False
        #: ``close_notify`` has come.
        self._is_abortive = False
        self._is_lingering = False
        self._is_over = False
        self._discarded = 0
        self._timer: Timer | None = None

    def adopt(self, early: bytes, *, has_ended: bool) -> None:
        """Go on where somebody has stopped to read; before anybody receives from this one.

        Args:
            early: What has come by now.
            has_ended: Whether the peer's stream has ended behind it.
        """
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

    @override
    def _begin_reading(self, operation: Operation, reading: Reading) -> None:
        super()._begin_reading(operation, reading)
        self._arm()

    @override
    def _on_reading_cancelled(self) -> None:
        if self._receive_op.in_flight:
            self._backend.cancel(self._receive_op)

    @property
    @override
    def _has_news(self) -> bool:
        """Whether there is something for a reader without another byte from below."""
        return bool(
            self.error or self._has_ended or self._has_inner_ended or self._engine.has_input
        )

    @override
    def go_on(self) -> None:
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
        if self.is_bulky:
            self._backend.receive_bulk(self._receive_op, self.inner)
        else:
            self._backend.receive(self._receive_op, self.inner)

    @property
    def _wants_input(self) -> bool:
        """Whether what may come is for somebody."""
        return self._reader is not None and not self.error and not self._has_ended

    def _on_received(self, result: int, flags: int) -> None:
        if flags & BUFFER:
            pool, engine = self._backend.pool, self._engine
            slot = pool.slots[flags >> SLOT_SHIFT]
            try:
                self._take(slot.view[: max(result, 0)], result, is_going_on=bool(flags & MORE))
                self._after_receive(result, flags)
            finally:
                engine.take_back()
                pool.give_back(slot)
            return
        if result == 0:
            self._has_inner_ended = True
            self._engine.feed_end()
        elif result != -errno.ECANCELED or self._port.is_closing:
            self._note_error(-result, errno_name(-result))
        self._after_receive(result, flags)

    def _after_receive(self, result: int, flags: int) -> None:
        if self._is_over or self._is_lingering:
            self._linger_on(result)
            return
        self._advance()
        if not flags & MORE:
            self._arm()

    def _take(self, data: memoryview, length: int, *, is_going_on: bool) -> None:
        if self._is_over or self._is_lingering:
            self._discarded += length
            return
        self._received += length
        if length < SMALL_SLOT_SIZE:
            self.is_bulky, self._full_count = False, 0
        elif self._is_established and not self.is_bulky:
            self._full_count += 1
            if self._full_count == _FULL_SLOTS_TO_BULK:
                self.is_bulky = True
                if is_going_on:
                    self._backend.cancel(self._receive_op)  # large slots are received into, then
        if self.error:
            return
        if self.is_bulky:
            self._engine.lend(data)
        else:
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
        if self._has_only_tickets:
            # They leave with the first answer: nobody waits for them.
            self._deferred = self._engine.outgoing
        else:
            self._flush()
        if self._writer is not None:
            self._post()
        self._on_established()
        return self._is_established and not self.is_released

    @property
    def _has_only_tickets(self) -> bool:
        """Whether what is for the peer at the end of the handshake is none of it (TLS 1.3)."""
        return self._engine.is_finished_by_peer

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

    @override
    def _tell_end(self) -> None:
        """Tell the reader of the end, or of the error, if there is one."""
        if self.error:
            self._end_reading(-self.error)
        elif self._has_ended:
            self._end_reading(0)

    @override
    def _fill(self, view: memoryview) -> int:
        """Fill memory with plaintext; return how much there was."""
        count, engine = 0, self._engine
        if not (self._has_ended or self.error):
            try:
                count = engine.read_into(view)
            except TlsEnded:
                self._has_ended = True
            except TlsBroken as error:
                self._note_read_error(error)
            if engine.outgoing != self._deferred:
                self._flush()  # it answers to some of what it reads
        return count

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

    @override
    def on_internal_error(self, error: BaseException) -> None:
        super().on_internal_error(error)
        if self._is_over:
            self._finish()
        elif self.is_released or self.error:
            # It cannot even fail, or close, in order.
            self._is_abortive = True
            self._end_reading(-errno.EIO)
            self._end()
        else:
            self._is_established = False
            self._note_error(errno.EIO, f"internal error: {type(error).__name__}")
            self._post()

    # -- the end -------------------------------------------------------------------------------

    @override
    def release(self, *, abortive: bool) -> None:
        """Close, as the user did: behind what was sent, or with a reset."""
        if self.is_released:
            return
        assert self._reader is None, "an operation is in flight"
        assert self._writer is None, "an operation is in flight"
        self.is_released = True
        self.on_established = None
        if self.error == errno.EPROTO and not self._is_established and not self._has_inner_ended:
            self._is_lingering = True
        elif abortive or self.error:
            self._is_abortive = abortive
            self._end()
            return
        elif not self._is_shut:
            self._is_shut = True
            self._end_stream()
        if self._unsent is None:
            self._finish_release()
        if not self._is_over:
            self._timer = self._port.call_after(TLS_CLOSE_S, self._give_up)

    def release_unused(self) -> None:
        """Close, with a reset, what an error of ours has left in nobody's hands."""
        if self._reader is None and self._writer is None:
            self.release(abortive=True)

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
        if self._send_op.in_flight:
            self._backend.cancel(self._send_op)
        if not self._receive_op.in_flight:
            self._finish()
        elif self._has_ended and not self._is_abortive:
            # Most peers end TCP's stream with their goodbye: that ends the receive, too.
            self._port.post(self._cancel_receive)
        else:
            self._backend.cancel(self._receive_op)

    def _cancel_receive(self) -> None:
        """End what is received below, unless the peer has by now."""
        if self.inner.fileno() >= 0 and self._receive_op.in_flight:
            self._backend.cancel(self._receive_op)

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
