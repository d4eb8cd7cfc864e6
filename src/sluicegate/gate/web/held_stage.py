"""Held stages: one body in an exchange, from its first byte to its receiver, or to nobody.

``held_body`` makes them, one for a request's body and one for a response's. The invariant: what is
sent on was released, whole, before its head was; the two exceptions are an operator's written word
(``FAST_TRICKLE``) and pieces of a head that say nothing of the object.

A stage is told of its body by whoever stands before it (``body_stage``), keeps it (``HeldForms``),
and when it is released sends its head and then itself (``spool.Sink``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from typing_extensions import override

from sluicegate.buffer import Window
from sluicegate.errors import SluicegateError
from sluicegate.filterapi import Outcome
from sluicegate.gate.holding import RefusalCause
from sluicegate.policy import DeliveryChoice, DeliveryMethod
from sluicegate.protocols.http1 import Fields, Framing, Request, Response
from sluicegate.protocols.http_ranges import (
    AskedRange,
    RangeUnsatisfiable,
    content_range,
    may_have_part,
)

from .comfort import Comfort
from .fast_trickle import FastTrickle
from .held_forms import BodyPlan, HeldForms
from .progress_page import ProgressPage
from .reading import ReadingRefusal

if TYPE_CHECKING:
    from sluicegate.port import SocketCompletion

    from .body_stage import BodySink, BodySource
    from .gate_exchange import GateExchange

__all__ = ["HeldRequest", "HeldResponse", "HeldStage"]

HeadT = TypeVar("HeadT", Request, Response)


class HeldStage(Generic[HeadT]):
    """One body; a ``BodyStage``, and the ``spool.Sink`` of its own delivery."""

    source: BodySource
    sink: BodySink[HeadT]

    def __init__(self, exchange: GateExchange, plan: BodyPlan, choice: DeliveryChoice) -> None:
        self.exchange: GateExchange = exchange
        self.choice: DeliveryChoice = choice
        self.service = exchange.connection.service.transfers
        self.forms = HeldForms(self.service, exchange.connection, plan, self)
        self.head: HeadT | None = None
        self.trailers = Fields()
        self._sent: tuple[SocketCompletion, Window, Any] | None = None
        #: What waits for the sink to have room.
        self._is_paused = False
        #: Whether the source waits for us.
        self._is_closed = False
        self._is_kept = False
        #: Whether somebody else has the forms by now.
        self.offer = plan.offer
        self.comfort = Comfort(self)

    # -- the body comes (BodyStage) --------------------------------------------------------------

    def begin(self, head: HeadT) -> None:
        """Keep the head back."""
        self.head = head
        if self.choice.method is not DeliveryMethod.HOLD:
            self.comfort.start(self.choice.after_s)

    def feed(self, data: bytes | memoryview) -> bool:
        """Keep bytes of the body."""
        is_ready = self.forms.feed(data)
        self._is_paused = not is_ready
        return is_ready

    def finish(self, trailers: Fields) -> None:
        """Have the body judged."""
        self.trailers = trailers
        self.forms.finish()

    def abort(self, reason: str) -> None:
        """Give up what came."""
        self.comfort.stop()
        self.forms.end(Outcome.FAILED, reason)
        self.sink.abort(reason)

    def resume(self) -> None:
        """Send the next piece: the sink has room again."""
        if self._sent is not None:
            self._complete(is_sent=True)

    def close(self) -> None:
        """Give everything back."""
        self._is_closed = True
        self.comfort.stop()
        if not self._is_kept:
            self.forms.end(Outcome.FAILED, "the exchange ended")
        if self._sent is not None:
            self._complete(is_sent=False)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self.exchange.connection.on_internal_error(error)

    # -- the forms tell (FormsOwner) -------------------------------------------------------------

    def on_forms_ready(self) -> None:
        """Let more come."""
        if self._is_paused and not self._is_closed:
            self._is_paused = False
            self.source.resume()

    def on_forms_released(self) -> None:
        """Send the head, then the body."""
        if self._is_closed:
            return
        self.comfort.stop()
        self.deliver()

    def on_forms_refused(self, refusal: ReadingRefusal) -> None:
        """Refuse the exchange."""
        self.comfort.stop()
        if not self._is_closed:
            self.refuse(refusal)

    def on_forms_delivered(self, error: SluicegateError | None) -> None:
        """End the message behind the body's last byte; what fails before is no end."""
        if self._is_closed:
            return
        if error is None:
            self.forms.end_delivered()
            self.sink.finish(self.trailers)
            return
        self.forms.end(Outcome.FAILED, str(error))
        self.exchange.abort(f"held-body: {error}")

    # -- delivering ----------------------------------------------------------------------------

    def deliver(self) -> None:
        """Begin to send what was released."""
        raise NotImplementedError

    def refuse(self, refusal: ReadingRefusal) -> None:
        """Tell the client in a response, or by a reset."""
        raise NotImplementedError

    def can_comfort(self) -> bool:
        """Send the client something that keeps its time-outs alive; False: nothing is left."""
        raise NotImplementedError

    def begin_sink(self, head: HeadT) -> bool:
        """Send the head; False: that has ended the exchange."""
        self.sink.begin(head)
        return not self._is_closed

    def framing_of(self, size: int, framing: Framing) -> Framing:
        """Return how the end of what is delivered is told: by its length, which is known now.

        Trailers need chunks.
        """
        has_trailers = bool(self.trailers) and framing.is_chunked and not self.forms.is_replaced
        return framing if has_trailers else Framing.of_length(size)

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Hand a piece to the sink (``spool.Sink``)."""
        assert completion is not None, "a delivery wants to know when it may go on"
        self._sent = completion, data, user_data
        with data.lease() as view:
            has_room = self.sink.feed(view)
        if has_room:
            # Later: a delivery that goes on inside its own send grows the stack with every piece.
            self.service.port.post(self._on_posted)

    def _on_posted(self) -> None:
        if self._sent is not None:
            self._complete(is_sent=not self._is_closed)

    def _complete(self, *, is_sent: bool) -> None:
        assert self._sent is not None
        (completion, data, user_data), self._sent = self._sent, None
        completion.complete_socket_io(is_sent, 0, data, user_data, None)


class HeldRequest(HeldStage[Request]):
    """The body of a request, on its way to a server."""

    @override
    def deliver(self) -> None:
        head = self.head
        assert head is not None, "a body comes behind its head"
        size = self.forms.release_size
        head.framing = self.framing_of(size, head.framing)
        if self.forms.is_replaced:
            take_validators(head.fields)
        if self.begin_sink(head):
            self.forms.deliver(self)

    @override
    def refuse(self, refusal: ReadingRefusal) -> None:
        self.exchange.refuse(_REQUEST_STATUS[refusal.cause], refusal.reason)

    @override
    def can_comfort(self) -> bool:
        # Not while the client still sends: it may be waiting for 100.
        return not self.forms.is_whole or self.exchange.comfort(None)


class HeldResponse(HeldStage[Response]):
    """The body of a response, on its way to a client."""

    def __init__(
        self,
        exchange: GateExchange,
        plan: BodyPlan,
        choice: DeliveryChoice,
        *,
        asked: AskedRange | None = None,
        condition: bytes | None = None,
        wants_page: bool = False,
    ) -> None:
        """Make one.

        Args:
            exchange: Whose response it is.
            plan: How it is held.
            choice: What the client gets meanwhile.
            asked: The part that the client asked for.
            condition: ``If-Range`` of it.
            wants_page: Whether a browser is there to show a page.
        """
        super().__init__(exchange, plan, choice)
        self._asked = asked
        self._condition = condition
        is_page = choice.method is DeliveryMethod.PROGRESS_PAGE
        self._wants_page = wants_page and is_page and asked is None
        self._page: ProgressPage | None = None
        self._fast: FastTrickle | None = None
        if choice.method is DeliveryMethod.FAST_TRICKLE and asked is None and not plan.codings:
            self._fast = FastTrickle(self)

    @override
    def feed(self, data: bytes | memoryview) -> bool:
        is_ready = super().feed(data)
        fast = self._fast
        if fast is not None and not self.forms.is_over:
            is_ready = fast.feed(data) and is_ready
            self._is_paused = not is_ready
        return is_ready

    @override
    def resume(self) -> None:
        fast = self._fast
        if self._page is not None:
            self._page.resume()
        elif fast is None or not fast.has_begun:
            super().resume()
        elif fast.resume():
            self.on_forms_ready()

    @override
    def on_forms_ready(self) -> None:
        if self._fast is None or self._fast.has_room:
            super().on_forms_ready()

    @override
    def abort(self, reason: str) -> None:
        page = self._page
        if page is None:
            super().abort(reason)
            return
        self.forms.end(Outcome.FAILED, reason)
        page.show_failure()

    @override
    def close(self) -> None:
        if self._page is not None:
            self._page.close()
        if self._fast is not None:
            self._fast.give_up()
        super().close()

    @override
    def deliver(self) -> None:
        if self._page is not None:
            self._page.show_button()
        elif self._fast is not None and self._fast.has_begun:
            self._fast.deliver_rest()
        else:
            self._deliver_whole_or_part()

    @override
    def refuse(self, refusal: ReadingRefusal) -> None:
        if self._page is not None:
            self._page.show_refusal(refusal)
        else:
            self.exchange.refuse(_RESPONSE_STATUS[refusal.cause], refusal.reason)

    @override
    def can_comfort(self) -> bool:
        fast, head = self._fast, self.head
        assert head is not None, "a response is held from its head on"
        if self._wants_page:
            self._wants_page = False
            self._page = ProgressPage(self, self.released_head)
            return False
        if fast is not None and fast.has_begun:
            return False
        # What is asked for in part has another status than the whole.
        return self.exchange.comfort(head if self._asked is None else None)

    def released_head(self) -> Response:
        """Return the head that goes with what was released, for all of it."""
        head = self.head
        assert head is not None, "a body comes behind its head"
        if self.forms.is_replaced:
            take_validators(head.fields)
        committed = self.exchange.committed
        if committed is not None:
            head.framing = committed
        else:
            head.framing = self.framing_of(self.forms.release_size, head.framing)
        return head

    def keep_download(self, head: Response) -> str:
        """Let what was released wait to be fetched; return the path to fetch it from."""
        self._is_kept = True
        exchange = self.exchange
        name = self.offer.name.rstrip("/").rpartition("/")[2] or "download"
        escaped = quote(name, safe="")
        if b"content-disposition" not in head.fields:
            # The path that it is fetched from ends otherwise.
            value = f"attachment; filename*=UTF-8''{escaped}"
            head.fields.add(b"Content-Disposition", value.encode())
        return exchange.connection.desk.kept_downloads.keep(exchange, self.forms, head, escaped)

    def note_refusal(self, refusal: ReadingRefusal) -> None:
        """Have the exchange recorded as refused, although its answer ends well: it says so."""
        self.exchange.note_end(Outcome.REFUSED, refusal.reason)

    def _deliver_whole_or_part(self) -> None:
        forms, size = self.forms, self.forms.release_size
        if forms.is_replaced and self.exchange.committed is not None:
            self.exchange.abort("a filter replaced an object whose head was sent")
            return
        head = self.released_head()
        part: range | None = None
        if self._may_have_part(head):
            assert self._asked is not None
            try:
                part = self._asked.of(size)
            except RangeUnsatisfiable:
                self._answer_unsatisfiable(head, size)
                return
            head.status, head.reason = _PARTIAL_CONTENT, b""
            head.fields.set(b"Content-Range", content_range(part, size))
            head.framing = Framing.of_length(len(part))
            self.trailers = Fields()
        if self.begin_sink(head):
            forms.deliver(self, part)

    def _may_have_part(self, head: Response) -> bool:
        forms = self.forms
        if self._asked is None or head.status != _OK or forms.is_replaced or forms.is_verified:
            return False
        etags, dates = head.fields.all(b"etag"), head.fields.all(b"last-modified")
        return may_have_part(self._condition, etags, dates)

    def _answer_unsatisfiable(self, head: Response, size: int) -> None:
        head.status, head.reason = _RANGE_NOT_SATISFIABLE, b""
        head.framing = Framing.of_length(0)
        for name in (b"content-encoding", b"content-type"):
            head.fields.remove(name)
        head.fields.set(b"Content-Range", content_range(None, size))
        if self.begin_sink(head):
            self.forms.end(Outcome.RELEASED, "nothing of it was asked for")
            self.sink.finish(Fields())


def take_validators(fields: Fields) -> None:
    """Take out what was said of bytes that a filter has replaced (RFC 9530, RFC 9110 section 8)."""
    for name in _OF_THE_BYTES:
        fields.remove(name)


_OF_THE_BYTES = (
    b"content-encoding", b"content-range", b"accept-ranges", b"etag", b"content-md5", b"digest",
    b"content-digest", b"repr-digest", b"signature", b"signature-input",
)  # fmt: skip
_OK = 200
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416
_RESPONSE_STATUS = {
    RefusalCause.POLICY: 403,
    RefusalCause.VERDICT: 403,
    RefusalCause.FAILURE: 503,
    RefusalCause.LIMIT: 503,
    RefusalCause.FORM: 502,
}
_REQUEST_STATUS = {
    RefusalCause.POLICY: 403,
    RefusalCause.VERDICT: 403,
    RefusalCause.FAILURE: 503,
    RefusalCause.LIMIT: 413,
    RefusalCause.FORM: 415,
}
