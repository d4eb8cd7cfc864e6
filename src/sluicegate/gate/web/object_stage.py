"""An object stage: one web filter that sees a body as a whole, before anything of it goes on.

``filtered_exchange`` puts it between the ends; ``gate.holding`` keeps the body. The invariant: not
even the head goes on before the filter released the body, or said of one that it cannot be shown
whole what becomes of it; but pieces of the head, which say nothing of the body, keep a client from
giving up (``Comfort``), where the rule's delivery method is not to hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import override

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import SluicegateError
from sluicegate.filterapi import (
    Answer,
    ContentFilter,
    ContentVerdict,
    Direction,
    Need,
    Needs,
    Outcome,
    Redirect,
    Refuse,
    Replace,
    Transfer,
    TransferOffer,
    TransferOutcome,
    WebRequest,
    WebResponse,
)
from sluicegate.gate.holding import Holding, HoldingStage
from sluicegate.gate.objections import shown_by
from sluicegate.gate.registry import ContentStep
from sluicegate.policy import DeliveryMethod
from sluicegate.protocols.http1 import Fields, FramingKind, Request, Response
from sluicegate.protocols.text import printable

from .altered_body import mend_head, mend_trailers
from .body_stage import BodySink, BodySource, HeadT
from .chunk_stage import ChunkStage
from .comfort import Comfort

if TYPE_CHECKING:
    from sluicegate.gate.service import FirewallService
    from sluicegate.port import SocketCompletion, Timer

    from .filtered_exchange import FilteredExchange, Wanted

__all__ = ["ObjectStage"]


class ObjectStage(Generic[HeadT]):
    """One filter's hold on one body (``BodyStage``, ``HoldingOwner`` and ``spool.Sink``)."""

    __slots__ = (
        "_asked",
        "_chunks",
        "_comfort",
        "_completion",
        "_direction",
        "_head",
        "_holding",
        "_is_passing",
        "_offer",
        "_owes",
        "_part",
        "_promised",
        "_size",
        "_timer",
        "_trailers",
        "_wanted",
        "sink",
        "source",
    )

    source: BodySource
    sink: BodySink[HeadT]

    def __init__(
        self, part: FilteredExchange, wanted: Wanted, direction: Direction, message: HeadT
    ) -> None:
        self._part: FilteredExchange = part
        self._wanted: Wanted = wanted
        self._direction: Direction = direction
        self._head: HeadT | None = None
        #: While it is kept back.
        self._trailers: Fields | None = None
        #: Of a body that has come to its end.
        self._size: int = 0
        self._owes: bool = False
        #: Whether the source waits to be told to send on.
        self._is_passing: bool = False
        #: Whether what still comes passes by, because the filter cannot be shown a whole body.
        self._chunks: ChunkStage[HeadT] | None = None
        #: Through which it passes, if the filter takes it piece by piece.
        self._completion: Callable[[], None] | None = None
        #: Of a piece that the sink has no room behind.
        self._timer: Timer | None = None
        self._promised: tuple[int, Fields] | None = None
        #: Status and fields of the head as the client was promised it.
        self._comfort = Comfort(self)
        self._asked = _AskedFilter(part, wanted.index, direction)
        self._offer = self._offer_of(message)
        self._holding = self._hold()

    # -- the source tells (BodyStage) ------------------------------------------------------------

    def begin(self, head: HeadT) -> None:
        """As ``BodyStage.begin``: the head is kept back."""
        self._head = head
        # It may be a copy of what the other filters saw: this one is what goes on.
        self._part.show(head)
        if head.framing.kind is not FramingKind.LENGTH:
            wait_s = self._needs.object_wait_s
            self._timer = self._part.service.port.call_after(wait_s, self._on_late)
        shown = shown_by(self._offer)
        held = self._part.exchange.rule.held
        choice = held.delivery_of(shown.content_type, shown.extension)
        if choice.method is not DeliveryMethod.HOLD:
            self._comfort.start(choice.after_s)

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``BodyStage.feed``."""
        if self._is_passing:
            is_ready = self._next.feed(data)
            self._owes = not is_ready
            return is_ready
        self._size += len(data)
        copied = bytes(data)
        is_ready = self._holding.append(Window(ConstBuffer(copied), 0, len(copied)))
        if self._part.is_over or self._holding.stage is HoldingStage.OVER:
            return False
        if self._size > self._needs.object_bytes_max:
            self._give_up(f"larger than {self._needs.object_bytes_max} bytes")
            is_ready = False
        self._owes = not is_ready
        return is_ready

    def finish(self, trailers: Fields) -> None:
        """As ``BodyStage.finish``."""
        self._stop_timer()
        self._trailers = trailers
        if not self._is_passing:
            self._holding.finish()
        elif self._holding.stage is HoldingStage.OVER:
            self._finish_next()

    def abort(self, reason: str) -> None:
        """As ``BodyStage.abort``."""
        self._end(reason)
        self.sink.abort(reason)

    def resume(self) -> None:
        """As ``BodyStage.resume``: the sink has room."""
        if self._chunks is not None:
            self._chunks.resume()
        else:
            self.on_room()

    def on_room(self) -> None:
        """Take that what is behind the held body has room."""
        completion, self._completion = self._completion, None
        if completion is not None:
            self._part.service.port.post(completion)
        elif self._owes and self._holding.stage is HoldingStage.OVER:
            self._owes = False
            self.source.resume()

    def close(self) -> None:
        """As ``BodyStage.close``."""
        self._end("the exchange ended")
        if self._chunks is not None:
            self._chunks.close()

    # -- the client waits (Comfort) --------------------------------------------------------------

    @property
    def service(self) -> FirewallService:
        """Whose port counts the time."""
        return self._part.service

    def can_comfort(self) -> bool:
        """Send the client something that keeps its time-outs alive; False: nothing is left."""
        exchange, head = self._part.exchange, self._head
        assert head is not None, "a head is kept until the body is judged"
        if isinstance(head, Request):
            # Not while the client still sends: it may be waiting for 100.
            return self._trailers is None or exchange.comfort(None)
        if self._wanted.alters or self.sink is not exchange.client:
            # The filter, or who stands behind it, may still have another head sent.
            return exchange.comfort(None)
        can = exchange.comfort(head)
        if exchange.committed is not None and self._promised is None:
            self._promised = head.status, head.fields.copy()
        return can

    # -- the holding tells (HoldingOwner) --------------------------------------------------------

    def on_holding_ready(self) -> None:
        """Let the next bytes come."""
        if self._owes and not self._is_passing:
            self._owes = False
            self.source.resume()

    def on_released(self, outcome: TransferOutcome) -> None:
        """Let the head go on, then the body."""
        del outcome
        if self._part.is_over:
            return
        head, self._head = self._head, None
        assert head is not None, "a head is let go once"
        self._comfort.stop()
        is_replaced = isinstance(self._asked.verdict, Replace)
        if self._promised is not None and (is_replaced or self._is_changed(head)):
            self._end(_IS_PROMISED)
            self._part.exchange.abort(_IS_PROMISED)
            return
        if is_replaced:
            mend_head(head, length=self._holding.release_size)
            self._trailers = mend_trailers(self._trailers or Fields())
        self._next.begin(head)
        self._holding.deliver(self)

    def on_refused(self, outcome: TransferOutcome) -> None:
        """End the exchange as the filter, or a limit, says."""
        self._stop_timer()
        self._comfort.stop()
        if self._part.is_over:
            return
        # An answer of the filter's own cannot follow what was promised: that is a reset.
        is_late = self._part.exchange.is_answered and not isinstance(self._asked.verdict, Refuse)
        if is_late or not self._part.end_by(self._asked.verdict):
            self._part.exchange.refuse(_UNAVAILABLE, outcome.reason)

    def on_delivered(self, error: SluicegateError | None) -> None:
        """Take that everything that was held has gone on."""
        if error is not None:
            self._end(f"spool failure: {error}")
            self._part.exchange.abort(f"spool failure: {error}")
            return
        self._holding.settle_delivered()
        if self._trailers is not None:
            self._finish_next()
        elif self._owes:
            self._owes = False
            self.source.resume()

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Take a piece of the released body (``spool.Sink``)."""
        with data.lease() as view:
            is_ready = self._next.feed(view)
        assert completion is not None, "a delivery wants to be told"

        def complete() -> None:
            if not self._part.is_over:
                completion.complete_socket_io(True, 0, data, user_data, None)

        if is_ready:
            self._part.service.port.post(complete)
        else:
            self._completion = complete

    # -- private -------------------------------------------------------------------------------

    @property
    def _needs(self) -> Needs:
        return self._part.pipeline.steps[self._wanted.index].filter.needs

    @property
    def _next(self) -> BodySink[HeadT]:
        return self._chunks or self.sink

    def _offer_of(self, message: HeadT) -> TransferOffer:
        part, exchange = self._part, self._part.exchange
        content_type = message.fields.first(b"content-type") or b""
        return TransferOffer(
            name=printable(part.request.path.encode("latin-1")),
            direction=self._direction,
            protocol="http",
            user=exchange.user.name if exchange.user is not None else "",
            content_type=printable(content_type),
            facts={"exchange": exchange.id, "host": part.request.host},
        )

    def _hold(self) -> Holding:
        part = self._part
        step = part.pipeline.steps[self._wanted.index]
        steps = (ContentStep(step.installed, self._asked, step.must_work),)
        connection = part.exchange.connection
        return Holding(part.service.transfers, connection, self._offer, steps, self)

    def _on_late(self) -> None:
        self._timer = None
        if not (self._part.is_over or self._is_passing):
            self._give_up(f"has not ended within {self._needs.object_wait_s:g} s")

    def _give_up(self, cause: str) -> None:
        """Ask the filter what becomes of a body that will not be whole."""
        self._stop_timer()
        if not self._part.tell_unmet(self._wanted, self._direction, cause):
            return
        self._is_passing = True
        if self._wanted.need is Need.STREAM:
            self._chunks = ChunkStage(self._part, self._wanted, self._direction)
            self._chunks.source, self._chunks.sink = _Room(self), self.sink
            if self._wanted.alters and self._head is not None:
                mend_head(self._head)
        # What came so far goes on unjudged; nobody is asked about it.
        self._holding.steps = ()
        self._holding.finish()

    def _is_changed(self, head: HeadT) -> bool:
        assert isinstance(head, Response), "only a response is promised"
        return (head.status, head.fields) != self._promised

    def _finish_next(self) -> None:
        trailers, self._trailers = self._trailers, None
        assert trailers is not None, "a body ends with its trailers"
        self._next.finish(trailers)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, reason: str) -> None:
        self._stop_timer()
        self._comfort.stop()
        self._completion = None
        if self._holding.stage is not HoldingStage.OVER:
            self._holding.settle(Outcome.FAILED, reason)


class _Room:
    """Stands before the chunk stage that a held body passes through (``BodySource``)."""

    __slots__ = ("_stage",)

    def __init__(self, stage: ObjectStage[Any]) -> None:
        self._stage = stage

    def resume(self) -> None:
        """As ``BodySource.resume``."""
        self._stage.on_room()


class _AskedFilter(ContentFilter):
    """A web filter's hook about whole bodies, as the holding asks content filters."""

    def __init__(self, part: FilteredExchange, index: int, direction: Direction) -> None:
        self.verdict: object = None
        #: What the filter answered.
        self._part = part
        self._index = index
        self._is_upload = direction is Direction.UPLOAD

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        part = self._part
        web_filter = part.pipeline.steps[self._index].filter
        head: WebRequest | WebResponse | None = part.request if self._is_upload else part.response
        hook = web_filter.on_request_body if self._is_upload else web_filter.on_response_body
        assert head is not None, "a body has a head"
        head.open()
        try:
            answer = hook(part.view(self._index), transfer)
            if isinstance(answer, Awaitable):
                answer = await answer
        finally:
            head.close()
        self.verdict = answer
        if isinstance(answer, Answer | Redirect):
            return Refuse("answered by the filter")
        return answer


_UNAVAILABLE = 503
_IS_PROMISED = "a filter changed an object whose head was sent"
