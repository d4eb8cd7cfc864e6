"""TransferFilter: the data filter that holds one object on its data connection.

``gate/transfer`` makes it; the chain gives it the two sockets. It receives the object into the
spool, as fast as the disk takes it; has it judged when it is whole; and then delivers it, delivers
something else, or resets both sides. The invariant: the receiving side gets no byte before the
verdict, and however it ends the body is closed, the outcome is told, and one record is written.

Phases::

    WAITING -> RECEIVING -> STORING -> JUDGING -> RELEASED -> DELIVERING -> ENDING -> OVER
    (any) -> OVER, by refusal, failure, cancellation or detach

Nothing here awaits anything: the bytes travel by callbacks, ``complete_socket_io`` -> ``append`` ->
the next receive, and only the judgement is a task.
"""

from __future__ import annotations

import asyncio
import enum
import errno
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Window
from sluicegate.errors import (
    BadContext,
    LimitExceeded,
    Side,
    SluicegateError,
    TransportError,
    errno_name,
)
from sluicegate.filterapi import (
    CallbackDataFilter,
    Connection,
    DataSocket,
    Direction,
    Outcome,
    Refuse,
    Replace,
    TransferOutcome,
)
from sluicegate.port import StreamSocket, Timer
from sluicegate.port.scope import current_scope, entered
from sluicegate.spool import SENDING, Delivery, SpooledBody

from .judgement import HeldObject, Judgement, bytes_limit, judge, wanting

if TYPE_CHECKING:
    from .registry import ContentStep
    from .transfer import GateTransfer, TransferService

__all__ = ["TransferFilter"]


class Phase(enum.Enum):
    """Where a held object is in its life."""

    WAITING = "waiting"
    RECEIVING = "receiving"
    STORING = "storing"
    JUDGING = "judging"
    RELEASED = "released"
    DELIVERING = "delivering"
    ENDING = "ending"
    OVER = "over"


class TransferFilter(CallbackDataFilter):
    """Holds one object; lives as long as its data connection."""

    name = "transfer"

    def __init__(self, service: TransferService[Any], transfer: GateTransfer) -> None:
        self._service = service
        self._transfer = transfer
        self._offer = transfer.offer
        self._phase = Phase.WAITING
        self._connection: Connection | None = None
        self._source: DataSocket
        self._sink: DataSocket
        self._is_download = self._offer.direction is Direction.DOWNLOAD
        self._steps: tuple[ContentStep, ...] = ()
        self._bytes_max: tuple[int, str] | None = None
        self._body: SpooledBody | None = None
        self._delivery: Delivery | None = None
        self._released: SpooledBody | bytes = b""
        #: What is to be delivered.
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._timer_bytes = 0
        #: What was delivered when the timer was set.
        self._started = -1.0
        #: When the first byte came, or the end of an empty object; negative before.
        self._held_ms = 0.0
        self._sink_has_ended = False
        self._judgement: Judgement | None = None
        self._bytes_held = 0
        self._bytes_written = 0
        self._sha256 = ""
        self._scope = current_scope()

    # -- filterapi.CallbackDataFilter ------------------------------------------------------------

    @override
    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> None:
        self._connection = connection
        self._scope = current_scope()
        if self._transfer.cancelled:
            self._phase = Phase.OVER
            connection.fail(self._transfer.cancelled)
            return
        if server is None:
            self._refuse("an object is held between two sides, and there is no server")
            return
        self._source, self._sink = (server, client) if self._is_download else (client, server)
        self._steps = wanting(self._transfer.steps, self._offer)
        if not self._steps:
            # Later: the chain is still being started.
            self._service.port.post(self._pass_by)
            return
        self._bytes_max = bytes_limit(self._steps)
        self._body = self._service.store.create_body(self, connection.client_address.host)
        self._phase = Phase.RECEIVING
        self._source.start_receive(None, self, _FROM_SOURCE)
        self._sink.start_receive(None, self, _FROM_SINK)

    @override
    def is_drained(self) -> bool:
        return self._phase is Phase.OVER

    @override
    def detach(self) -> None:
        if self._phase is not Phase.OVER:
            self._settle(Outcome.FAILED, "the data connection ended")

    def cancel(self, reason: str) -> None:
        """Give up, because the protocol filter says so (``HeldTransfer.cancel``)."""
        self._fail(reason)

    def on_receiver_ready(self) -> None:
        """Deliver what was released (``HeldTransfer.deliver``)."""
        if self._phase is Phase.RELEASED:
            self._deliver()
        elif self._phase is Phase.WAITING and self._connection is not None:
            self._pass_by()

    def _pass_by(self) -> None:
        """Leave the chain: nobody wants to see this object."""
        if self._phase is Phase.WAITING:
            assert self._connection is not None
            if not self._transfer.may_deliver:
                self._transfer.on_judged(self._outcome(Outcome.RELEASED, _UNWANTED))
                return
            self._settle(Outcome.RELEASED, _UNWANTED)
            self._connection.leave(self)

    # -- receiving -----------------------------------------------------------------------------

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,  # noqa: ARG002 - the contract of the port
    ) -> None:
        """Take what a side sent (its socket only)."""
        if self._phase is Phase.OVER:
            return
        if not success:
            self._fail_by(user_data is _FROM_SOURCE, error)
        elif user_data is _FROM_SOURCE:
            if buffer.length:
                self._on_data(buffer)
            else:
                self._on_source_end()
        elif buffer.length:
            self._refuse(f"{self._sink_side} sent data while it was to receive an object")
        else:
            self._sink_has_ended = True
            if self._phase is Phase.ENDING:
                self._end()

    def _on_data(self, window: Window) -> None:
        body = self._body
        assert body is not None
        if not body.size:
            self._started = self._service.clock.monotonic()
        try:
            is_ready = body.append(window)
        except LimitExceeded as error:
            self._refuse(f"limit {error.limit}")
            return
        if self._bytes_max is not None and body.size > self._bytes_max[0]:
            bound, name = self._bytes_max
            self._refuse(f"larger than the {bound} bytes that {name} can judge", name)
        elif is_ready:
            self._receive_on()

    def _receive_on(self) -> None:
        body, source = self._body, self._source
        assert body is not None
        try:
            # Between two data filters bytes come in their neighbour's buffers, without a copy.
            buffer = body.receive_buffer() if isinstance(source, StreamSocket) else None
            if buffer is not None and isinstance(source, StreamSocket):
                source.start_receive_direct(buffer, self, _FROM_SOURCE)
            else:
                source.start_receive(None, self, _FROM_SOURCE)
        except BadContext:
            # The connection is being closed for a reason of its own; detach follows.
            return

    def _on_source_end(self) -> None:
        body = self._body
        assert body is not None
        if not body.size:
            self._started = self._service.clock.monotonic()
        self._phase = Phase.STORING
        body.finish()

    # -- the spool tells (spool.BodyOwner) -------------------------------------------------------

    def on_body_ready(self) -> None:
        """Take that the disk has caught up: receive on."""
        if self._phase is Phase.RECEIVING:
            self._receive_on()

    def on_body_failed(self, error: SluicegateError) -> None:
        """Take that the object cannot be held: nobody gets it."""
        if self._phase is Phase.OVER:
            return
        if isinstance(error, LimitExceeded):
            self._refuse(f"limit {error.limit}")
        else:
            self._refuse(f"spool failure: {error}")

    def on_body_finished(self) -> None:
        """Take that the object is whole: have it judged."""
        if self._phase is not Phase.STORING:
            return
        self._phase = Phase.JUDGING
        with entered(self._scope):
            self._task = self._service.spawn(self._judge())

    # -- judging -------------------------------------------------------------------------------

    async def _judge(self) -> None:
        body, connection, service = self._body, self._connection, self._service
        assert body is not None
        assert connection is not None
        held = HeldObject(service.store, body, connection, self._offer)
        judgement = _UNDECIDED
        try:
            judgement = await judge(
                self._steps,
                held,
                service.limits.inspect_timeout_s,
                lambda step, cause: service.record_filter_failure(step, cause, connection),
            )
        finally:
            # Also after a bug of ours: an object that nobody judged is refused.
            held.end()
            if self._phase is Phase.JUDGING:
                self._on_judged(judgement, body)

    def _on_judged(self, judgement: Judgement, body: SpooledBody) -> None:
        self._task = None
        self._judgement = judgement
        self._note_body(body)
        verdict = judgement.verdict
        if isinstance(verdict, Refuse):
            self._refuse(judgement.reason, judgement.filter_name)
            return
        source: SpooledBody | bytes = body
        if isinstance(verdict, Replace):
            source = verdict.body
            self._close_body()
        self._released = source
        self._phase = Phase.RELEASED
        self._transfer.on_judged(self._outcome(Outcome.RELEASED, judgement.reason))
        if self._transfer.may_deliver:
            self._deliver()

    def _deliver(self) -> None:
        source, self._released = self._released, b""
        self._phase = Phase.DELIVERING
        self._delivery = Delivery(
            self._service.store,
            source,
            self._sink,
            self._on_delivered,
            # Who had a descriptor of it ran elsewhere; what is delivered must be what was judged.
            is_verified=any(one.installed.installation.process is not None for one in self._steps),
        )
        self._watch(self._service.limits.send_stall_s)
        self._delivery.start()

    # -- delivering ----------------------------------------------------------------------------

    def _on_delivered(self, error: SluicegateError | None) -> None:
        if self._phase is not Phase.DELIVERING:
            return
        judgement = self._judgement
        assert judgement is not None
        if isinstance(error, TransportError) and error.doing == SENDING:
            self._fail_by(False, error.error)
        elif error is not None:
            self._fail(f"spool failure: {error}")
        else:
            self._sink.shutdown()
            self._settle(Outcome.RELEASED, judgement.reason, judgement.filter_name)
            self._phase = Phase.ENDING
            if self._sink_has_ended:
                self._end()
            else:
                self._watch(self._service.limits.half_closed_timeout_s)

    def _end(self) -> None:
        """Close both sides: the receiver has everything and has ended its stream, too."""
        connection = self._connection
        assert connection is not None
        self._stop_timer()
        self._phase = Phase.OVER
        self._sink.close()
        self._source.close()
        connection.leave(self)

    def _watch(self, delay_s: float) -> None:
        self._stop_timer()
        delivery = self._delivery
        self._timer_bytes = delivery.bytes_delivered if delivery is not None else 0
        self._timer = self._service.port.call_after(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        delivery = self._delivery
        if self._phase is Phase.ENDING:
            self._end()
        elif self._phase is Phase.DELIVERING and delivery is not None:
            if delivery.bytes_delivered == self._timer_bytes:
                self._fail(f"{self._sink_side} stalled", errno.ETIMEDOUT, self._sink_side)
            else:
                self._watch(self._service.limits.send_stall_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- ending --------------------------------------------------------------------------------

    @property
    def _sink_side(self) -> Side:
        return Side.CLIENT if self._is_download else Side.SERVER

    def _fail_by(self, is_source: bool, error: int) -> None:
        if error == errno.ECANCELED:
            # The connection is being closed for a reason of its own.
            self._settle(Outcome.FAILED, "the data connection ended")
            return
        side = Side.SERVER if is_source is self._is_download else Side.CLIENT
        self._fail(f"{side} {errno_name(error)}", error, side)

    def _fail(self, reason: str, error: int = 0, side: Side = Side.INTERNAL) -> None:
        connection = self._connection
        if self._phase is Phase.OVER:
            return
        self._settle(Outcome.FAILED, reason)
        if connection is not None:
            connection.fail(reason, error, side)

    def _refuse(self, reason: str, filter_name: str = "") -> None:
        connection = self._connection
        assert connection is not None
        self._settle(Outcome.REFUSED, reason, filter_name)
        connection.refuse(reason)

    def _settle(self, outcome: Outcome, reason: str, filter_name: str = "") -> None:
        """Give everything back, record the outcome, and tell who waits for it; once."""
        already_told = self._phase is Phase.ENDING
        self._phase = Phase.OVER
        self._stop_timer()
        if self._delivery is not None:
            self._delivery.stop()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._close_body()
        if already_told:
            return
        told = self._outcome(outcome, reason)
        if self._connection is not None:
            self._service.record(
                self._connection, self._offer, told, filter_name, self._bytes_written
            )
        self._transfer.on_finished(told)

    def _close_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            self._note_body(body)
            body.close()

    def _note_body(self, body: SpooledBody) -> None:
        """Keep what the record needs, once: the verdict ends the holding."""
        self._bytes_held = body.size
        self._bytes_written = 0 if body.is_in_memory else body.size
        self._sha256 = body.sha256
        if self._started >= 0 and not self._held_ms:
            held_s = self._service.clock.monotonic() - self._started
            self._held_ms = round(held_s * 1000, 3)

    def _outcome(self, outcome: Outcome, reason: str) -> TransferOutcome:
        return TransferOutcome(
            outcome,
            reason,
            self._bytes_held,
            self._sha256,
            self._held_ms,
            self._delivery.bytes_delivered if self._delivery is not None else 0,
        )


_UNWANTED = "no content filter asks for such objects"
_UNDECIDED = Judgement(Refuse("no verdict"), "no verdict")
_FROM_SOURCE = object()
_FROM_SINK = object()
