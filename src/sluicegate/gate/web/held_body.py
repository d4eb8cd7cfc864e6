"""Held bodies: what the content filters of a rule judge as a whole before its receiver has it.

The engine asks here for the last stage of each way, in every exchange under a rule that has content
filters. The invariant: under such a rule no body passes that a filter asks for and has not judged;
what cannot be held whole (a part of an object, a stream without an end) is refused.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

from sluicegate.filterapi import Direction, TransferOffer
from sluicegate.gate.judgement import wanting
from sluicegate.gate.objections import shown_by
from sluicegate.policy import DeliveryChoice
from sluicegate.protocols.content_coding import (
    Coding,
    CodingError,
    CodingFault,
    accepted_codings,
    content_codings,
    narrow_accept_encoding,
)
from sluicegate.protocols.http1 import NO_BODY, Fields, Request, Response
from sluicegate.protocols.http_ranges import AskedRange, asked_range
from sluicegate.protocols.multipart import MultipartError, multipart_boundary
from sluicegate.protocols.text import printable

from .held_forms import BodyPlan
from .held_stage import HeldRequest, HeldResponse
from .named_object import has_body, names_of
from .offer import bytes_announced, offers_of
from .targets import path_of

if TYPE_CHECKING:
    from .body_stage import BodyStage
    from .gate_exchange import GateExchange

__all__ = ["AskedObject", "hold_request", "hold_response"]


@dataclasses.dataclass(frozen=True, slots=True)
class AskedObject:
    """What a client said of the object that it wants, and its server was not told."""

    accepted: frozenset[Coding]
    """The codings that it decodes."""
    part: AskedRange | None
    condition: bytes | None
    """``If-Range``."""
    wants_page: bool
    """Whether a browser asked for a page."""


def hold_request(exchange: GateExchange) -> BodyStage[Request] | None:
    """Return the stage for the body of ``exchange.request``; None: there is none, or it refused.

    It is asked before anything of the request was sent, also where there is no body: a server is
    asked for whole objects, in codings that the gate reads.
    """
    request = exchange.request
    if _asks_for(exchange, Direction.DOWNLOAD):
        exchange.held = _take_asked(request)
    if request.framing is NO_BODY or not (request.framing.is_chunked or request.framing.length):
        return None
    if _is_slice(request.fields) and _asks_for(exchange, Direction.UPLOAD):
        exchange.refuse(403, "partial-upload: a part of an object cannot be judged")
        return None
    offer = TransferOffer(
        names_of(path_of(request), Fields())[0],
        Direction.UPLOAD,
        "http",
        user=_user_of(exchange),
        content_type=_content_type(request.fields),
        facts={"exchange": exchange.id, "method": printable(request.method)},
        bytes_announced=bytes_announced(request),
    )
    objection = exchange.connection.objection_to(offer)
    if objection:
        exchange.refuse(403, objection)
        return None
    plan = _plan(exchange, offer, request.fields, accepted=frozenset())
    if plan is None:
        return None
    return HeldRequest(exchange, plan, _choice(exchange, offer))


def hold_response(exchange: GateExchange) -> BodyStage[Response] | None:
    """Return the stage for the body of ``exchange.response``; None: there is none, or it refused.

    It is asked before anything of the response was sent, with its head as it would go out.
    """
    response, request = exchange.response, exchange.request
    if response is None or not has_body(request, response):
        return None
    offer = offers_of(exchange)[0]
    asked = exchange.held
    if asked is None:
        asked = _NOTHING_ASKED
    plan = _plan(exchange, offer, response.fields, accepted=asked.accepted)
    if plan is None:
        return None
    problem = _problem(response, offer)
    if problem:
        exchange.refuse(502, problem)
        return None
    return HeldResponse(
        exchange,
        plan,
        _choice(exchange, offer),
        asked=asked.part,
        condition=asked.condition,
        wants_page=asked.wants_page and request.method == b"GET",
    )


def _asks_for(exchange: GateExchange, direction: Direction) -> bool:
    """Tell whether a content filter of the rule asks for objects that go this way."""
    return any(direction in step.filter.wants.directions for step in exchange.plan.content)


def _is_slice(fields: Fields) -> bool:
    """Tell whether an upload brings a part of an object, for its server to put together.

    By ``Content-Range`` (RFC 9110 section 14.5; Google's resumable uploads), or by the offset of
    resumable uploads (tus, the IETF's draft). One that brings the whole is none.
    """
    ranges = fields.all(b"content-range")
    if ranges:
        whole = _WHOLE_RANGE.fullmatch(ranges[0].strip())
        return len(ranges) > 1 or whole is None or int(whole[1]) + 1 != int(whole[2])
    offsets = fields.all(b"upload-offset")
    is_continued = any(one.strip() not in {b"", b"0"} for one in offsets)
    return is_continued or b"?0" in fields.all(b"upload-complete")


def _take_asked(request: Request) -> AskedObject:
    """Take out of a request what its server is not to know, and return it."""
    fields = request.fields
    accepted = fields.all(b"accept-encoding")
    ranges, conditions = fields.all(b"range"), fields.all(b"if-range")
    asked = AskedObject(
        accepted_codings(accepted),
        asked_range(ranges) if request.method == b"GET" and len(conditions) <= 1 else None,
        conditions[0] if conditions else None,
        _wants_page(request),
    )
    fields.set(b"Accept-Encoding", narrow_accept_encoding(accepted))
    for name in _NOT_FOR_SERVERS:
        fields.remove(name)
    return asked


def _wants_page(request: Request) -> bool:
    """Tell whether a browser asks for a page for a person, not for a part of one."""
    fields = request.fields
    destination = fields.first(b"sec-fetch-dest")
    accept = fields.first(b"accept") or b""
    is_for_person = destination is None or destination.strip() == b"document"
    return request.method == b"GET" and is_for_person and accept.lstrip().startswith(b"text/html")


def _problem(response: Response, offer: TransferOffer) -> str:
    """Return why an object cannot be had as a whole; empty if it can."""
    if response.status == _PARTIAL_CONTENT:
        return "partial-response: a part that nobody asked for cannot be judged"
    essence = offer.content_type.partition(";")[0].strip().lower()
    if essence in _ENDLESS:
        return "endless-response: a stream without an end cannot be held"
    return ""


def _plan(
    exchange: GateExchange, offer: TransferOffer, fields: Fields, *, accepted: frozenset[Coding]
) -> BodyPlan | None:
    """Say how a body is held; None: no filter asks for it, or it was refused."""
    steps, status = exchange.plan.content, 415 if offer.direction is Direction.UPLOAD else 502
    try:
        boundary = multipart_boundary((fields.first(b"content-type") or b"").strip())
    except MultipartError as error:
        exchange.refuse(status, f"multipart: {error.hint}")
        return None
    if boundary is None and not wanting(steps, offer):
        return None
    try:
        codings = content_codings(fields.all(b"content-encoding"))
    except CodingError as error:
        is_let = error.fault is CodingFault.UNKNOWN and exchange.rule.held.holds_unknown_codings
        if not is_let:
            exchange.refuse(status, error.fault.code, detail=error.hint)
            return None
        codings = ()
    is_kept_coded = Coding.GZIP in codings and _GZIP_TYPES.match(offer.content_type) is not None
    reads_coded = is_kept_coded or not accepted.issuperset(codings)
    is_download = offer.direction is Direction.DOWNLOAD
    return BodyPlan(
        offer,
        steps,
        codings,
        # Browsers show a response of several parts as one object, or the parts.
        is_coded_form_read=(bool(codings) and reads_coded)
        or (boundary is not None and is_download),
        boundary=boundary,
    )


def _choice(exchange: GateExchange, offer: TransferOffer) -> DeliveryChoice:
    shown = shown_by(offer)
    return exchange.rule.held.delivery_of(shown.content_type, shown.extension)


def _content_type(fields: Fields) -> str:
    return printable((fields.first(b"content-type") or b"").strip())


def _user_of(exchange: GateExchange) -> str:
    user = exchange.user
    return "" if user is None else user.name


_NOTHING_ASKED: Final = AskedObject(frozenset(), None, None, wants_page=False)
_PARTIAL_CONTENT: Final = 206
_NOT_FOR_SERVERS: Final = (b"range", b"if-range", b"available-dictionary", b"dictionary-id")
_ENDLESS: Final = frozenset({"text/event-stream", "multipart/x-mixed-replace"})
_WHOLE_RANGE: Final = re.compile(rb"bytes 0-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
#: Firefox does not decode these from gzip: what is called so is meant to stay packed.
_GZIP_TYPES: Final = re.compile(r"application/(?:x-)?g(?:un)?zip\b", re.IGNORECASE)
