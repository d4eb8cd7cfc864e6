"""HeldMessage: one message of a WebSocket as an object that content filters judge.

``message_way`` makes one for each message under a rule with content filters. The invariant: nothing
of the message goes on before all of them released it, and what they put in its place is what does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import SluicegateError
from sluicegate.filterapi import Outcome, TransferOffer, TransferOutcome, WebMessage
from sluicegate.gate.holding import Holding, HoldingStage, RefusalCause
from sluicegate.protocols.text import printable

if TYPE_CHECKING:
    from sluicegate.gate.registry import ContentStep
    from sluicegate.port import SocketCompletion

    from .filtered_exchange import FilteredExchange

__all__ = ["HeldMessage"]


class HeldMessage:
    """One message that is judged (``HoldingOwner`` and ``spool.Sink``)."""

    __slots__ = ("_done", "_holding", "_message", "_part", "_replaced")

    def __init__(
        self,
        part: FilteredExchange,
        message: WebMessage,
        steps: Sequence[ContentStep],
        preceding: bytes,
        done: Callable[[WebMessage, bytes | None], None],
    ) -> None:
        """Make one.

        Args:
            part: The exchange; it is refused if the message is.
            message: What is judged.
            steps: Who judges.
            preceding: The end of what went the same way before.
            done: Called once with the message, and with what is sent in its place, if anything;
                not if it was refused, or stopped before.
        """
        self._part = part
        self._message = message
        self._done = done
        self._replaced: list[bytes] = []
        exchange = part.exchange
        offer = TransferOffer(
            name=printable(part.request.path.encode("latin-1")),
            direction=message.direction,
            protocol="websocket",
            user=exchange.user.name if exchange.user is not None else "",
            facts={
                "exchange": exchange.id,
                "host": part.request.host,
                "message": f"{message.number} ({message.kind})",
            },
            preceding=preceding,
        )
        self._holding = Holding(part.service.transfers, exchange.connection, offer, steps, self)
        # Chats would fill the log: the record of the exchange says what was refused.
        self._holding.is_recorded = False

    def start(self) -> None:
        """Have it judged."""
        holding, data = self._holding, self._message.data
        if not holding.is_wanted:
            self._part.service.port.post(self._pass)
            return
        holding.append(Window(ConstBuffer(data), 0, len(data)))
        if holding.stage is HoldingStage.FILLING:
            holding.finish()

    def stop(self) -> None:
        """Forget it: nobody waits for the verdict."""
        if self._holding.stage is not HoldingStage.OVER:
            self._holding.settle(Outcome.FAILED, "the exchange ended")

    def _pass(self) -> None:
        """Let it go on: no content filter asks for such an object."""
        if self._holding.stage is not HoldingStage.OVER:
            self._holding.settle(Outcome.RELEASED, "not wanted")
            self._done(self._message, None)

    # -- the holding tells (HoldingOwner) --------------------------------------------------------

    def on_holding_ready(self) -> None:
        """Nothing waits for it: the message was appended as a whole."""

    def on_released(self, outcome: TransferOutcome) -> None:
        """Let it go on, or what is in its place."""
        del outcome
        if not self._holding.is_replaced:
            self._holding.settle_delivered()
            self._done(self._message, None)
            return
        bound = self._part.service.limits.web_message_bytes_max
        if self._holding.release_size > bound:
            self._holding.settle(Outcome.REFUSED, "limit web_message_bytes_max")
            self._part.exchange.refuse(_TOO_LARGE, "limit web_message_bytes_max")
            return
        self._holding.deliver(self)

    def on_refused(self, outcome: TransferOutcome) -> None:
        """End the exchange as the filter, or a limit, says."""
        if not self._part.is_over:
            self._part.exchange.refuse(_STATUSES[self._holding.cause], outcome.reason)

    def on_delivered(self, error: SluicegateError | None) -> None:
        """Take that what is in its place was collected."""
        if error is not None:
            self._holding.settle(Outcome.FAILED, f"spool failure: {error}")
            self._part.exchange.abort(f"spool failure: {error}")
            return
        self._holding.settle_delivered()
        self._done(self._message, b"".join(self._replaced))

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Collect a piece (``spool.Sink``)."""
        with data.lease() as view:
            self._replaced.append(bytes(view))
        assert completion is not None, "a delivery wants to be told"

        def complete() -> None:
            if not self._part.is_over:
                completion.complete_socket_io(True, 0, data, user_data, None)

        self._part.service.port.post(complete)


_TOO_LARGE = 413
_STATUSES = {
    RefusalCause.POLICY: 403,
    RefusalCause.VERDICT: 403,
    RefusalCause.FAILURE: 500,
    RefusalCause.LIMIT: 413,
    RefusalCause.FORM: 400,
}
