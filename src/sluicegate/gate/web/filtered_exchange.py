"""An exchange with web filters: their hooks about its heads, and the stages for its bodies.

``pipeline`` opens one for each exchange under its rule; the engine drives it. The invariant: a head
goes on when every filter let it, in their order; what a filter cannot be shown as it needs is
refused unless that filter said otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from sluicegate.filterapi import (
    GO_ON,
    Answer,
    CloseWith,
    Direction,
    Drop,
    GoOn,
    Need,
    Redirect,
    Refuse,
    RefuseWith,
    RouteTo,
    WebRequest,
    WebResponse,
)
from sluicegate.protocols.content_coding import (
    Coding,
    CodingError,
    content_codings,
    narrow_accept_encoding,
)
from sluicegate.protocols.http1 import (
    NO_BODY,
    Fields,
    Framing,
    FramingKind,
    Request,
    Response,
    Target,
    TargetForm,
)
from sluicegate.protocols.http1.framing import has_no_body

from .altered_body import mend_head
from .body_stage import BodyStage, HeadT
from .chunk_stage import ChunkStage
from .declared_needs import has_hook
from .decoding_stage import DecodingStage
from .endless import is_endless
from .event_stage import EventStage, is_event_stream
from .exchange_view import ExchangeView
from .hook import HookFailed, LateAnswer, call_hook, describe, when_answered
from .object_stage import ObjectStage

if TYPE_CHECKING:
    from sluicegate.gate.service import FirewallService

    from .exchange import Exchange
    from .phase import Phase
    from .pipeline import WebPipeline

__all__ = ["FilteredExchange", "Wanted"]


@dataclass(slots=True)
class Wanted:
    """How much of one message's body one filter is to be shown."""

    index: int
    need: Need
    alters: bool
    is_by_events: bool = False
    """Whether it is a stream of events, and shown one by one."""


class FilteredExchange:
    """One exchange's part of a pipeline (``pipeline.ExchangePart``); a failure scope, too."""

    __slots__ = (
        "_chosen",
        "_codings",
        "_go_on",
        "_reached",
        "_views",
        "_wanted",
        "exchange",
        "pipeline",
        "request",
        "response",
        "service",
        "tasks",
    )

    def __init__(self, pipeline: WebPipeline, exchange: Exchange) -> None:
        self.pipeline = pipeline
        self.exchange = exchange
        self.service: FirewallService = pipeline.service
        message = exchange.request
        self.request = WebRequest(
            message,
            exchange.scheme,
            exchange.host,
            exchange.port,
            "1.1" if message.is_http_1_1 else "1.0",
        )
        self.response: WebResponse | None = None
        self.tasks: set[asyncio.Task[object]] = set()
        #: Coroutines of filters that are waited for.
        self._views: list[ExchangeView | None] = [None] * len(pipeline.steps)
        self._reached = 0
        #: How many of the filters the request has got to.
        self._go_on: Callable[[], None] = _do_nothing
        self._chosen: dict[int, Wanted] = {}
        #: What filters chose of the body of the message whose head is judged now.
        self._wanted: list[Wanted] = []
        self._codings: tuple[Coding, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing that is done here has an effect any more."""
        return self.exchange.is_over

    def view(self, index: int) -> ExchangeView:
        """Return what a filter sees."""
        view = self._views[index]
        if view is None:
            view = self._views[index] = ExchangeView(self, self.pipeline.steps[index])
        return view

    def show(self, head: Request | Response) -> None:
        """Let filters see, and change, a head as it goes on."""
        if isinstance(head, Request):
            self.request.show(head)
        elif self.response is not None:
            self.response.show(head)

    # -- the engine asks (pipeline.ExchangePart) ------------------------------------------------

    @property
    def may_stage_responses(self) -> bool:
        """Whether any of its filters may be shown a response's body."""
        return bool(self.pipeline.response_bodies)

    def on_request(self, go_on: Callable[[], None]) -> bool:
        """Ask every filter about the request's head, then where it goes."""
        self._go_on = go_on
        return self.walk(self.pipeline.requests, 0)

    def request_stages(self) -> Sequence[BodyStage[Request]]:
        """Return the stages of the request's body."""
        return self._stages(Direction.UPLOAD, self.exchange.request) if self._wanted else ()

    def on_interim(self, message: Response) -> bool:
        """Ask every filter that has the hook; False: it does not go on."""
        indices = self.pipeline.interims
        if not indices:
            return True
        interim = WebResponse(message, is_bodiless=True)
        try:
            for index in indices:
                answer = self._call(index, "on_interim", interim)
                if answer is not GO_ON and not self._take_interim(index, answer):
                    return False
        finally:
            interim.close()
        return True

    def _take_interim(self, index: int, answer: object) -> bool:
        if isinstance(answer, LateAnswer):
            answer.close()
            answer = HookFailed("on_interim is a coroutine")
        if isinstance(answer, Drop):
            return False
        if isinstance(answer, Refuse) and self.end_by(answer):
            return False
        return self.fail(index, answer)

    def on_response(self, go_on: Callable[[], None]) -> bool:
        """Ask every filter about the response's head."""
        message = self.exchange.response
        assert message is not None, "a response has a head"
        self._go_on = go_on
        self._chosen.clear()
        is_bodiless = has_no_body(message.status, self.exchange.request.method)
        self.response = response = WebResponse(message, is_bodiless=is_bodiless)
        for view in self._views:
            if view is not None:
                view.response = response
        return self.walk(self.pipeline.responses, 0)

    def response_stages(self) -> Sequence[BodyStage[Response]]:
        """Return the stages of the response's body."""
        if not self._wanted:
            return ()
        assert self.exchange.response is not None, "a response has a head"
        return self._stages(Direction.DOWNLOAD, self.exchange.response)

    def on_end(self) -> None:
        """Tell the filters, and wait for none of them any more."""
        for task in self.tasks:
            task.cancel()
        self.request.headers.close()
        if self.response is not None:
            self.response.headers.close()
        exchange = self.exchange
        for index in self.pipeline.loggers:
            if index < self._reached:
                facts = self._call(index, "on_log")
                checked = _facts(facts)
                if checked is None:
                    self.fail(index, facts)
                else:
                    exchange.facts.update(checked)
        for index in self.pipeline.enders:
            if index < self._reached:
                answer = self._call(index, "on_end", exchange.outcome)
                if answer is not None:
                    self.fail(index, answer)
        # What points at itself would be left to the collector, thousands in a second.
        self._go_on = _do_nothing
        self._views = [None] * len(self._views)

    def on_filter_failure(self, error: BaseException) -> None:
        """Take what a filter's own operations raised (``FailureScope``)."""
        self.exchange.abort(f"filter failure: {describe(error)}")

    # -- heads ---------------------------------------------------------------------------------

    def walk(self, phase: Phase, at: int) -> bool:
        """Ask the filters of a phase, from one of them on; True: the message goes on now."""
        asked = phase.asked
        while at < len(asked):
            index, installed, hook = asked[at]
            at += 1
            if phase.is_first:
                self._reached = index + 1
            answer = call_hook(self, installed, hook, self._views[index] or self.view(index))
            if answer is GO_ON:
                continue
            if self._is_awaited(phase, at, index, answer) or not phase.take(self, index, answer):
                return False
        return phase.finish(self)

    def _is_awaited(self, phase: Phase, at: int, index: int, answer: object) -> bool:
        """Have the walk go on where it is, if a filter answers later; False: it has answered."""

        def take_late(late: object) -> None:
            if phase.take(self, index, late) and self.walk(phase, at):
                self._go_on()

        return when_answered(self, answer, take_late)

    def _call(self, index: int, hook: str, *args: object) -> object:
        step = self.pipeline.steps[index]
        asked = getattr(step.filter, hook)
        return call_hook(self, step.installed, asked, self.view(index), *args)

    def take_head(self, index: int, answer: object) -> bool:
        """Act on what was answered about a head; False: the exchange has ended."""
        if answer is GO_ON:
            return True
        if isinstance(answer, GoOn):
            needs = self.pipeline.steps[index].filter.needs
            declared = needs.request if self.response is None else needs.response
            need = declared if answer.need is None else answer.need
            alters = needs.alters if answer.alters is None else answer.alters
            if need <= declared and alters <= needs.alters:
                if answer == GO_ON:
                    return True  # as it declared
                self._chosen[index] = Wanted(index, need, alters)
                return True
            answer = HookFailed(f"asked for more than it declared: {answer!r}")
        return self._take_end(index, answer)

    def take_route(self, index: int, answer: object) -> bool:
        """Act on what was answered about a route; False: the exchange has ended."""
        if isinstance(answer, GoOn):
            return True
        if isinstance(answer, RouteTo):
            self._lead_to(answer)
            return True
        return self._take_end(index, answer)

    def _take_end(self, index: int, answer: object) -> bool:
        """End the exchange by an answer, or by having none; True: its filter is bypassed."""
        if self.end_by(answer):
            return False
        if self.fail(index, answer):
            self._chosen[index] = Wanted(index, Need.HEADERS, alters=False)
            return True
        return False

    def end_by(self, answer: object) -> bool:
        """End the exchange as a filter answered; False: that is no such answer."""
        if isinstance(answer, Refuse):
            status = answer.status if isinstance(answer, RefuseWith) else _FORBIDDEN
            if isinstance(answer, CloseWith):
                status = answer.code if self.has_switched else _FORBIDDEN
            detail = answer.detail if isinstance(answer, RefuseWith) else ""
            self.exchange.refuse(status, answer.reason, detail=detail)
        elif isinstance(answer, Answer):
            framing = Framing.of_length(len(answer.body)) if answer.body else NO_BODY
            self.exchange.answer(
                Response(answer.status, fields=answer.fields(), framing=framing), answer.body
            )
        elif isinstance(answer, Redirect):
            fields = Fields([(b"Location", answer.location.encode())])
            self.exchange.answer(Response(answer.status, fields=fields))
        else:
            return False
        return True

    def fail(self, index: int, answer: object) -> bool:
        """Record that a filter failed; True: the exchange goes on without it, else it has ended."""
        step = self.pipeline.steps[index]
        cause = answer.cause if isinstance(answer, HookFailed) else f"answered {answer!r}"
        step.installed.failures += 1
        self.service.transfers.record_filter_failure(step, cause, self.exchange.connection)
        if step.is_bypassed_on_failure:
            return True
        if not self.is_over:
            reason = f"filter failure: {step.installed.name}"
            self.exchange.refuse(_INTERNAL_ERROR, reason, detail=cause)
        return False

    def _lead_to(self, route: RouteTo) -> None:
        message, authority = self.exchange.request, route.authority()
        message.known = None  # it goes to another host
        message.authority = authority
        if message.target.form is TargetForm.ABSOLUTE and not route.keeps_host:
            target = message.target
            message.target = Target.absolute(target.scheme, authority, target.path)
        elif message.target.form is TargetForm.ABSOLUTE:
            message.target = message.target.as_origin()
        if not route.keeps_host:
            message.fields.set(b"Host", bytes(authority))
        self.request.host, self.request.port = route.host, route.port

    # -- messages ------------------------------------------------------------------------------

    @property
    def has_switched(self) -> bool:
        """Whether what passes are the messages of a WebSocket."""
        response = self.exchange.response
        return response is not None and response.status == _SWITCHING_PROTOCOLS

    def message_judges(self, direction: Direction) -> Sequence[int]:
        """Return who judges the messages of a direction, in order; called behind the 101."""
        pipeline = self.pipeline
        indices = [
            index
            for index, step in enumerate(pipeline.steps)
            if step.filter.needs.messages and not self._skips(index)
        ]
        return indices if direction is Direction.UPLOAD else indices[::-1]

    def _skips(self, index: int) -> bool:
        chosen = self._chosen.get(index)
        return chosen is not None and chosen.need is Need.HEADERS

    # -- bodies --------------------------------------------------------------------------------

    def begin_routes(self) -> bool:
        """Ask where the request goes, when every filter has let its head go on."""
        return self.walk(self.pipeline.routes, 0)

    def finish_request(self) -> bool:
        """Tell whether the request's head goes on: its body can be shown as it has to be."""
        pipeline = self.pipeline
        self._reached = len(pipeline.steps)
        message = self.exchange.request
        if pipeline.reads_responses:
            # Filters are to see whole objects, in codings that can be read.
            message.fields.remove(b"Range", b"If-Range")
            accepted = narrow_accept_encoding(message.fields.all(b"accept-encoding"))
            message.fields.set(b"Accept-Encoding", accepted)
        self.request.headers.close()
        indices = pipeline.request_bodies
        if not indices:
            return True
        has_body = _has_body(message.framing)
        return self._may_go_on(Direction.UPLOAD, message, indices, has_body=has_body)

    def finish_response(self) -> bool:
        """Tell whether the response's head goes on, as ``finish_request``."""
        response, message = self.response, self.exchange.response
        assert response is not None, "a response has a head"
        assert message is not None, "a response has a head"
        response.headers.close()
        indices = self.pipeline.response_bodies
        if not indices:
            self._codings, self._wanted = (), []  # those of the request are not its own
            return True
        has_body = not response.is_bodiless and _has_body(message.framing)
        return self._may_go_on(Direction.DOWNLOAD, message, indices, has_body=has_body)

    def _may_go_on(
        self,
        direction: Direction,
        message: Request | Response,
        indices: tuple[int, ...],
        *,
        has_body: bool,
    ) -> bool:
        self._codings, self._wanted = (), []
        has_events = isinstance(message, Response) and is_event_stream(message)
        for index in indices:
            wanted = self._chosen.get(index) or self._declared(
                index, direction, has_events=has_events
            )
            if wanted.need > Need.HEADERS:
                self._wanted.append(wanted)
        if self._wanted and not has_body:
            self._mend_without_body(message)
            self._wanted = []
        return not self._wanted or self._check_needs(direction, message)

    def _declared(self, index: int, direction: Direction, *, has_events: bool) -> Wanted:
        needs = self.pipeline.steps[index].filter.needs
        if has_events and needs.events:
            # They are written anew, whatever becomes of them.
            return Wanted(index, Need.STREAM, alters=True, is_by_events=True)
        need = needs.request if direction is Direction.UPLOAD else needs.response
        return Wanted(index, need, needs.alters)

    def _mend_without_body(self, message: Request | Response) -> None:
        """Let the head of HEAD or 304 say what that of GET would."""
        is_altered = any(one.alters and one.need is Need.STREAM for one in self._wanted)
        is_coded = message.fields.first(b"content-encoding") is not None
        is_decoded = is_coded and any(self._is_decoded(one) for one in self._wanted)
        if isinstance(message, Response) and (is_altered or is_decoded):
            mend_head(message, is_decoded=is_decoded)
            message.framing = NO_BODY

    def _check_needs(self, direction: Direction, message: Request | Response) -> bool:
        """Tell each filter whose need cannot be met; False: the exchange has ended."""
        cause = ""
        try:
            codings = content_codings(message.fields.all(b"content-encoding"))
        except CodingError as error:
            codings, cause = (), error.fault.hint
        if isinstance(message, Response) and message.status == _PARTIAL_CONTENT:
            cause = "a part of an object"
        for wanted in self._wanted:
            is_decoded = self._is_decoded(wanted)
            why = cause if is_decoded else ""
            why = why or self._object_cause(wanted, message, is_coded=is_decoded and bool(codings))
            if why and not self.tell_unmet(wanted, direction, why):
                return False
        self._wanted = [one for one in self._wanted if one.need > Need.HEADERS]
        if not cause and any(self._is_decoded(one) for one in self._wanted):
            self._codings = codings
        is_altered = any(one.alters and one.need is Need.STREAM for one in self._wanted)
        if self._wanted and (is_altered or self._codings):
            mend_head(message, is_decoded=bool(self._codings))
        return True

    def _is_decoded(self, wanted: Wanted) -> bool:
        return wanted.is_by_events or self.pipeline.steps[wanted.index].filter.needs.is_decoded

    def _object_cause(self, wanted: Wanted, message: Request | Response, *, is_coded: bool) -> str:
        """Return why this body cannot be shown as a whole; empty if it can, as far as is known."""
        if wanted.need is not Need.OBJECT:
            return ""
        if is_endless(message):
            return "an endless stream"
        bound = self.pipeline.steps[wanted.index].filter.needs.object_bytes_max
        if not is_coded and message.framing.length > bound:
            return f"larger than {bound} bytes"
        return ""

    def tell_unmet(self, wanted: Wanted, direction: Direction, cause: str) -> bool:
        """Ask a filter what becomes of a body that it cannot be shown; False: it is refused."""
        index = wanted.index
        answer = self._call(index, "on_unmet", direction, cause)
        if isinstance(answer, GoOn) and answer.need is not None and answer.need < Need.OBJECT:
            hook = "on_request_chunk" if direction is Direction.UPLOAD else "on_response_chunk"
            web_filter = self.pipeline.steps[index].filter
            if answer.need is Need.HEADERS or has_hook(web_filter, hook):
                wanted.need, wanted.is_by_events = answer.need, False
                return True
            answer = HookFailed(f"took a body piece by piece, and has no {hook}")
        if isinstance(answer, Refuse):
            self.end_by(answer)
            return False
        if self.fail(index, answer):
            wanted.need = Need.HEADERS
            return True
        return False

    def _stages(self, direction: Direction, message: HeadT) -> Sequence[BodyStage[HeadT]]:
        stages: list[BodyStage[HeadT]] = []
        status = _BAD_REQUEST if direction is Direction.UPLOAD else _BAD_GATEWAY
        codings = self._codings
        for wanted in self._wanted:
            if codings and self._is_decoded(wanted):
                stages.append(DecodingStage(self, codings, status))
                codings = ()
            if wanted.is_by_events:
                # Only a response is one.
                stages.append(cast("BodyStage[HeadT]", EventStage(self, wanted)))
            elif wanted.need is Need.OBJECT:
                stages.append(ObjectStage(self, wanted, direction, message))
            else:
                stages.append(ChunkStage(self, wanted, direction))
        return stages


def _has_body(framing: Framing) -> bool:
    return framing is not NO_BODY and (framing.kind is not FramingKind.LENGTH or framing.length > 0)


def _facts(answer: object) -> dict[str, str | int] | None:
    """Return facts that a record can hold; None where they are none."""
    if not isinstance(answer, Mapping):
        return None
    given = cast("Mapping[object, object]", answer)
    facts: dict[str, str | int] = {}
    for key, value in given.items():
        if not (isinstance(key, str) and isinstance(value, str | int)):
            return None
        facts[key] = value
    return facts


def _do_nothing() -> None:
    return


_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_INTERNAL_ERROR: Final = 500
_BAD_GATEWAY: Final = 502
_PARTIAL_CONTENT: Final = 206
_SWITCHING_PROTOCOLS: Final = 101
