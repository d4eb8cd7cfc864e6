"""TransferFilter: the data filter that holds one object on its data connection.

``gate/transfer`` makes it; the chain gives it the two sockets. It receives the object into a
``Holding``, as fast as the disk takes it; has it judged when it is whole; and then delivers it,
delivers something else, or resets both sides. The invariant: the receiving side gets no byte before
the verdict, and however it ends the outcome is told, once.

Phases::

    WAITING -> HOLDING -> ENDING -> OVER
    (any) -> OVER, by refusal, failure, cancellation or detach

Nothing here awaits anything: the bytes travel by callbacks, ``complete_socket_io`` -> ``append`` ->
the next receive.
"""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Window
from sluicegate.errors import BadContext, Side, SluicegateError, TransportError, errno_name
from sluicegate.filterapi import (
    CallbackDataFilter,
    Connection,
    DataSocket,
    Direction,
    Outcome,
    TransferOutcome,
)
from sluicegate.port import StreamSocket, Timer
from sluicegate.spool import SENDING

from .holding import Holding, HoldingStage
from .judgement import UNWANTED

if TYPE_CHECKING:
    from .transfer import GateTransfer, TransferService

__all__ = ["TransferFilter"]


class Phase(enum.Enum):
    """What the filter does on its connection."""

    WAITING = "waiting"
    HOLDING = "holding"
    ENDING = "ending"
    OVER = "over"


class TransferFilter(CallbackDataFilter):
    """Holds one object; lives as long as its data connection."""

    name = "transfer"

    def __init__(self, service: TransferService[Any], transfer: GateTransfer) -> None:
        self._service = service
        self._transfer = transfer
        self._phase = Phase.WAITING
        self._connection: Connection | None = None
        self._holding: Holding | None = None
        #: From the moment when there are two sides.
        self._source: DataSocket
        self._sink: DataSocket
        self._is_download = transfer.offer.direction is Direction.DOWNLOAD
        self._timer: Timer | None = None
        self._timer_bytes = 0
        #: What was delivered when the timer was set.
        self._sink_has_ended = False

    # -- filterapi.CallbackDataFilter ------------------------------------------------------------

    @override
    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> None:
        transfer = self._transfer
        self._connection = connection
        if transfer.cancelled:
            self._phase = Phase.OVER
            connection.fail(transfer.cancelled)
            return
        holding = Holding(
            self._service, connection, transfer.offer, transfer.steps, self, transfer.objection
        )
        self._holding = holding
        if server is None:
            holding.refuse("an object is held between two sides, and there is no server")
            return
        self._source, self._sink = (server, client) if self._is_download else (client, server)
        if not holding.is_wanted:
            # Later: the chain is still being started.
            self._service.port.post(self._pass_by)
            return
        self._phase = Phase.HOLDING
        self._source.start_receive(None, self, _FROM_SOURCE)
        self._sink.start_receive(None, self, _FROM_SINK)

    @override
    def is_drained(self) -> bool:
        return self._phase is Phase.OVER

    @override
    def detach(self) -> None:
        if self._phase is not Phase.OVER:
            self._settle_failed("the data connection ended")
        # Nothing asks it any more; these circles would wait for the collector.
        self._holding = self._connection = None
        self._transfer.on_detached()

    def cancel(self, reason: str) -> None:
        """Give up, because the protocol filter says so (``HeldTransfer.cancel``)."""
        self._fail(reason)

    def on_receiver_ready(self) -> None:
        """Deliver what was released (``HeldTransfer.deliver``)."""
        holding = self._holding
        if holding is None:
            return
        if self._phase is Phase.WAITING:
            self._pass_by()
        elif holding.stage is HoldingStage.RELEASED:
            self._deliver(holding)

    def _pass_by(self) -> None:
        """Leave the chain: nobody wants to see this object."""
        holding, connection = self._holding, self._connection
        if self._phase is not Phase.WAITING or holding is None or connection is None:
            return
        if not self._transfer.may_deliver:
            self._transfer.on_judged(holding.outcome(Outcome.RELEASED, UNWANTED))
            return
        self._phase = Phase.OVER
        self._transfer.on_finished(holding.settle(Outcome.RELEASED, UNWANTED))
        connection.leave(self)

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
        holding = self._holding
        if self._phase is Phase.OVER or holding is None:
            return
        if not success:
            self._fail_by(user_data is _FROM_SOURCE, error)
        elif user_data is _FROM_SOURCE:
            if not buffer.length:
                holding.finish()
            elif holding.append(buffer):
                self.on_holding_ready()
        elif buffer.length:
            self._refuse(holding, f"{self._sink_side} sent data while it was to receive an object")
        else:
            self._sink_has_ended = True
            if self._phase is Phase.ENDING:
                self._end()

    # -- the holding tells (HoldingOwner) --------------------------------------------------------

    def on_holding_ready(self) -> None:
        """Receive on."""
        holding, source = self._holding, self._source
        assert holding is not None
        try:
            # Between two data filters bytes come in their neighbour's buffers, without a copy.
            buffer = holding.body().receive_buffer() if isinstance(source, StreamSocket) else None
            if buffer is not None and isinstance(source, StreamSocket):
                source.start_receive_direct(buffer, self, _FROM_SOURCE)
            else:
                source.start_receive(None, self, _FROM_SOURCE)
        except BadContext:
            # The connection is being closed for a reason of its own; detach follows.
            return

    def on_released(self, outcome: TransferOutcome) -> None:
        """Tell who waits for the verdict, and deliver if the receiver is ready."""
        self._transfer.on_judged(outcome)
        if self._transfer.may_deliver and self._holding is not None:
            self._deliver(self._holding)

    def on_refused(self, outcome: TransferOutcome) -> None:
        """Reset both sides."""
        connection = self._connection
        assert connection is not None
        self._over()
        self._transfer.on_finished(outcome)
        connection.refuse(outcome.reason)

    def on_delivered(self, error: SluicegateError | None) -> None:
        """Wait for the receiver's end of stream behind the last byte, to a bound."""
        holding = self._holding
        assert holding is not None
        if isinstance(error, TransportError) and error.doing == SENDING:
            self._fail_by(False, error.error)
        elif error is not None:
            self._fail(f"spool failure: {error}")
        else:
            self._sink.shutdown()
            self._over()
            self._transfer.on_finished(holding.settle_delivered())
            self._phase = Phase.ENDING
            if self._sink_has_ended:
                self._end()
            else:
                self._watch(self._service.limits.half_closed_timeout_s)

    # -- delivering ----------------------------------------------------------------------------

    def _deliver(self, holding: Holding) -> None:
        self._watch(self._service.limits.send_stall_s)
        holding.deliver(self._sink)

    def _end(self) -> None:
        """Close both sides: the receiver has everything and has ended its stream, too."""
        connection = self._connection
        assert connection is not None
        self._over()
        self._sink.close()
        self._source.close()
        connection.leave(self)

    def _watch(self, delay_s: float) -> None:
        self._stop_timer()
        self._timer_bytes = self._holding.bytes_delivered if self._holding is not None else 0
        self._timer = self._service.port.call_after(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        holding = self._holding
        if self._phase is Phase.ENDING:
            self._end()
        elif holding is not None and holding.stage is HoldingStage.DELIVERING:
            if holding.bytes_delivered == self._timer_bytes:
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
            self._settle_failed("the data connection ended")
            return
        side = Side.SERVER if is_source is self._is_download else Side.CLIENT
        self._fail(f"{side} {errno_name(error)}", error, side)

    def _fail(self, reason: str, error: int = 0, side: Side = Side.INTERNAL) -> None:
        connection = self._connection
        if self._phase is Phase.OVER:
            return
        self._settle_failed(reason)
        if connection is not None:
            connection.fail(reason, error, side)

    def _refuse(self, holding: Holding, reason: str) -> None:
        if self._phase is Phase.ENDING:
            assert self._connection is not None
            self._over()
            self._connection.refuse(reason)
        else:
            holding.refuse(reason)

    def _settle_failed(self, reason: str) -> None:
        """Take a failure, unless the object was delivered: then it was told before."""
        holding, is_told = self._holding, self._phase is Phase.ENDING
        self._over()
        if is_told:
            return
        if holding is not None:
            told = holding.settle(Outcome.FAILED, reason)
        else:
            told = TransferOutcome(Outcome.FAILED, reason, 0, "", held_ms=0.0, bytes_delivered=0)
        self._transfer.on_finished(told)

    def _over(self) -> None:
        self._phase = Phase.OVER
        self._stop_timer()


_FROM_SOURCE = object()
_FROM_SINK = object()
