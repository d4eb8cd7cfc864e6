"""GateExchange: one request and its response, whatever version of HTTP the two ends speak.

A client's end makes one when it has read a request; filters, held bodies and later HTTP/2 know only
this. The invariant: an exchange is decided on before anything of it leaves the gate, answered at
most once, and ends in exactly one record.

Its way, each step in a class of its own::

    answering   how the gate answers, refuses and fails it; the others stand on it
    admission   counted, who asks, which rule lets it
    (pipeline)  filters see the request's head
    routing     a connection to the server, from the pool or new
                request stages -> server -> response's head, which filters see -> response stages
    the end     one record

Without a pipeline and content filters all of it is plain calls, most often within one turn.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.errors import ProtocolError
from sluicegate.filterapi import Outcome
from sluicegate.gate.stages import INSPECT_NEEDS_FILTER
from sluicegate.policy import canonical_path
from sluicegate.policy.transfers import OTHER_FILTERS
from sluicegate.protocols.http1 import (
    Fields,
    KnownResponse,
    Response,
)

from .body_stage import join_stages
from .held_body import hold_request, hold_response
from .interim import pass_interim
from .late_origin import LateOrigin
from .switching import NOT_SWITCHED, SwitchingExchange

if TYPE_CHECKING:
    from .pipeline import ExchangePart
    from .server_side import ServerSide

__all__ = ["GateExchange"]


class GateExchange(SwitchingExchange):
    """One request and its response."""

    __slots__ = ()

    # -- what filters' parts ask -----------------------------------------------------------------

    @property
    def path(self) -> str:
        """The canonical path, without the query; as it came where servers may read it differently.

        Empty where the target has none (``OPTIONS *``).
        """
        text = self.request.target.path.decode("ascii", "replace")
        try:
            return canonical_path(text) if text else ""
        except ProtocolError:
            return text.partition("?")[0]

    # -- the request ---------------------------------------------------------------------------

    @override
    def on_admitted(self) -> None:
        """Let filters see the head, if there are any for it; then find a server."""
        connection, plan = self.connection, self.plan
        if self.request.upgrade and not self.lets_switch():
            return
        pipeline = connection.desk.pipeline_of(plan)
        if pipeline is None and not plan.content:
            if plan.must_inspect:
                self.refuse(403, INSPECT_NEEDS_FILTER)
                return
            self.route()
            return
        part = self._part = pipeline.open(self) if pipeline is not None else None
        if part is None:
            self._open_request()
            return
        request = self.request
        self._asked = request.method, request.target, request.authority
        if part.on_request(self._on_request_let):
            self._on_request_let()

    def _on_request_let(self) -> None:
        """Take that every filter has let the request's head go on."""
        if self.is_over:
            return
        request = self.request
        if (request.method, request.target, request.authority) != self._asked:
            request.known = None  # it is another request now
            if not self._is_still_let():
                return
        self._open_request()

    def _is_still_let(self) -> bool:
        """Judge what a filter has made of the request; False: it was refused."""
        authority, plan = self.request.authority, self.plan
        if self.target is None:
            if self._asked is None or authority != self._asked[2]:
                self.refuse(502, "a filter led the request away from what is published")
            return not self.is_over
        if authority is None:
            self.refuse(502, "a filter left the request without a host")
            return False
        inside = self.connection.inside
        if inside is not None and not self._fits_inside(inside):
            return False
        target = self._find_target(authority)
        if target is None:
            return False
        if target.plan is None:
            self.refuse(403, target.decision.reason)
            return False
        if target.plan is not plan and (
            target.plan.names != plan.names or target.plan.settings != plan.settings
        ):
            self.refuse(403, OTHER_FILTERS)
            return False
        self.target = target
        return True

    def _open_request(self) -> None:
        """Let the request come, if what it would switch to can be read as it has to be."""
        if not self.request.upgrade or self.begin_handshake():
            self._open_stages()

    def _open_stages(self) -> None:
        """Put what stands in the request's way in its place, and let the request come."""
        if self.plan.content:
            self.request.known = None  # how its response is held decides what it may ask for
        part = self._part
        stages = part.request_stages() if part is not None else ()
        if self.plan.content:
            held = hold_request(self)
            if held is not None:
                stages = [*stages, held]
        if self.is_over:
            for stage in stages:
                stage.close()
            return
        self._request_stages = stages
        if not stages:
            self.route()
            return
        self.request.known = None
        if self.request.expects_continue:
            # The server is asked when the body is there; until then it is the gate that waits.
            self.client.send_continue()
            self.request.expects_continue = False
            self.request.fields.remove(b"expect")
        late = self._late_origin = LateOrigin(self)
        first = join_stages(self.client, stages, late)
        late.source = stages[-1]
        first.begin(self.request)
        if not self.is_over:
            self.client.open_request(first)

    @override
    def on_origin(self, origin: ServerSide) -> None:
        """Send the request on."""
        self.origin = origin
        origin.begin_exchange(self)
        self.server = origin.address.text
        connection = self.connection
        if connection.is_half_open:
            connection.end_half_open()
        connection.server_address = origin.address
        late = self._late_origin
        if late is not None:
            late.open(origin)
            return
        client, known = self.client, self.request.known
        if known is not None and self._goes_as_it_came:
            # Its fields go on as those of others before it did; only the target is its own.
            request, is_changed = self.request, self._part is not None
            head = known.written(request, connection.desk.pseudonym, is_changed=is_changed)
            origin.send_whole(request, head)
            self.on_request_sent()
            return
        origin.source = client
        origin.is_corked = True
        origin.begin(connection.desk.to_server(self))
        if client.is_request_whole:
            origin.finish(_NO_TRAILERS)
        else:
            client.open_request(origin)
        if self.origin is origin:
            origin.is_corked = False
            origin.flush()

    @property
    def _goes_as_it_came(self) -> bool:
        """Whether nothing but the target, and what filters set, is changed on the way."""
        target, steps = self.target, self.connection.service.records.steps
        if target is None or target.is_sent_on:
            return False
        return not (steps.tells_servers and steps.traceparent(self.connection.id, self.id))

    def on_request_sent(self) -> None:
        """Take that the server has been sent all of it, and is to answer."""
        self.is_request_sent = True
        connection = self.connection
        self.last_active = now = connection.port.now
        of_rule, limits = connection.plan.response_timeout_s, connection.service.limits
        connection.hasten(now + (limits.web_response_timeout_s if of_rule is None else of_rule))

    # -- the response --------------------------------------------------------------------------

    def on_response(self, response: Response) -> bool:
        """Take a head of the server's; False: nothing behind it is wanted before ``resume``."""
        self.last_active = self.connection.port.now
        if response.status == _SWITCHING_PROTOCOLS:
            return self.on_switched(response)
        if response.is_informational:
            pass_interim(self, response)
            return True
        if self.request.upgrade and response.status < _REDIRECTED and self.client.must_switch:
            self.fail(502, NOT_SWITCHED)
            return True
        self.response = response
        if self.plan.counts_bodies and not self.has_room_for(response):
            return False
        target = self.target
        is_plain = self._part is None and not self.plan.content
        if is_plain and (target is None or not target.asks_about_content):
            self._begin_response()
            return True
        return self._judge_response()

    def lets_interim(self, response: Response) -> bool:
        """Let filters see an informational response; False: the client does not get it."""
        part = self._part
        return part is None or (part.on_interim(response) and not self.is_over)

    @property
    def takes_whole(self) -> bool:
        """Whether a response that comes as a whole may go on as it is."""
        target, part = self.target, self._part
        return (
            (part is None or not (part.may_stage_responses or self._request_stages))
            and not self.plan.content
            and not self.plan.counts_bodies
            and not (target is not None and target.asks_about_content)
            and self.client.takes_whole
        )

    def on_whole_response(self, known: KnownResponse, body: memoryview) -> None:
        """Take a whole response of the usual kind: send it on as one piece."""
        origin, response, connection = self.origin, known.response, self.connection
        assert origin is not None, "a response has come from a server"
        part = self._part
        self.response = response if part is None else known.copy()
        if response.status == _PROXY_AUTHENTICATION_REQUIRED:
            self.fail(502, "the server asks the gate for credentials")
            return
        if connection.desk.binds(self, response):
            origin.bind_to(connection.owner)
        self.is_response_whole = True
        self.origin = None
        origin.let_go()
        if part is not None:
            self._judge_whole(part, known, body)
            return
        self.client.send_whole(known, None, body, response.status)

    def _judge_whole(self, part: ExchangePart, known: KnownResponse, body: memoryview) -> None:
        """Let filters see the head of a whole response; none of them is shown its body."""
        response, client = self.response, self.client
        assert response is not None, "its head was read"
        if part.on_response(self._on_whole_let):
            if not self.is_over:
                client.send_whole(known, response.fields, body, response.status)
        elif not self.is_over and not self.is_answered:
            # One of them thinks; what was received is there in this turn only.
            self._kept = bytes(body)

    def _on_whole_let(self) -> None:
        """Take that every filter has let a whole response's head go on, later.

        Meanwhile the client may have ended its direction, or another bound be in force.
        """
        if self.is_over:
            return
        response, client = self.response, self.client
        assert response is not None, "its head was read"
        client.is_corked = True
        client.begin(self.connection.desk.to_client(response))
        client.feed(self._kept)
        client.finish(_NO_TRAILERS)

    def _judge_response(self) -> bool:
        """Let policy and filters see the head; False while one of them thinks."""
        objection = self.connection.objection_to_response(self)
        if objection:
            self.refuse(403, objection)
            return True
        part = self._part
        if part is None:
            self._open_response()
            return True
        if part.on_response(self._on_response_let):
            if not self.is_over:
                self._open_response()
            return True
        return self.is_over

    def _on_response_let(self) -> None:
        """Take that every filter has let the response's head go on, later."""
        if self.is_over:
            return
        self._open_response()
        if self.origin is not None:
            self.origin.resume()

    def _open_response(self) -> None:
        """Put what stands in the response's way in its place, and let it come."""
        part = self._part
        stages = part.response_stages() if part is not None else ()
        if self.plan.content:
            held = hold_response(self)
            if held is not None:
                stages = [*stages, held]
        if self.is_over:
            for stage in stages:
                stage.close()
            return
        self._response_stages = stages
        if stages:
            self.has_response_stages = True
            self.client.is_corked = False
            if self.origin is not None:
                self.origin.wire.is_watched = True
        self._begin_response()

    def _begin_response(self) -> None:
        origin, response, client = self.origin, self.response, self.client
        assert origin is not None, "a response has come from a server"
        assert response is not None, "its head was read"
        if response.status == _PROXY_AUTHENTICATION_REQUIRED:
            # Its challenge is for the gate, which has nothing to say to it.
            self.fail(502, "the server asks the gate for credentials")
            return
        connection = self.connection
        if connection.binds(self, response):
            origin.bind_to(connection.owner)
        going = connection.desk.to_client(response)
        if not self._response_stages:
            origin.sink = client
            client.source = origin
            client.begin(going)
            return
        origin.sink = join_stages(origin, self._response_stages, client)
        client.source = self._response_stages[-1]
        origin.sink.begin(going)

    def on_response_whole(self, trailers: Fields) -> None:
        """Take the end of the response: the server's connection is free, the client has it soon."""
        origin = self.origin
        assert origin is not None, "it came from a server"
        sink = origin.sink
        self.is_response_whole = True
        self.origin = None
        origin.let_go()
        if sink is not None:
            sink.finish(trailers)

    # -- failures ------------------------------------------------------------------------------

    def on_origin_failed(self, reason: str, origin: ServerSide, error: int = 0) -> None:
        """Take that the server's connection failed; a request may be sent again elsewhere once."""
        if origin is not self.origin or self.is_over:
            origin.close()
            return
        may_repeat = (
            (origin.uses > 1 or origin.was_not_looked_at)
            and not origin.has_answered
            and not self.is_repeated
            and not self.is_answered
            and self.may_be_sent_twice
            and not self.bytes_to_server
        )
        self.origin, sink = None, origin.sink
        origin.close()
        if may_repeat:
            self.route_again()
            return
        if self.is_answered and self._response_stages and sink is not None:
            # A stage may have a page to end with words.
            self.note_end(Outcome.FAILED, reason)
            sink.abort(reason)
            return
        status = 504 if error == errno.ETIMEDOUT else 502
        self.fail(status, reason)

    # -- the end -------------------------------------------------------------------------------

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self.connection.on_internal_error(error)

    def on_answered(self) -> None:
        """Take that the client has the last byte of an answer."""
        self._end()

    def end(self) -> None:
        """End it with its connection."""
        if not self.is_over:
            self.note_end(Outcome.FAILED, CLIENT_GONE)
            self._end()

    def _end(self) -> None:
        self.is_over = True
        origin = self.origin
        self.stop_dialling()
        if self.relay is not None:
            self.relay.close()
        if origin is not None:
            # Its answer came before its request was whole, or nobody wants it any more.
            self.origin = None
            origin.close()
        part, self._part = self._part, None
        if part is not None:
            part.on_end()
        for stage in self._request_stages:
            stage.close()
        for answering in self._response_stages:
            answering.close()
        if self._own_source is not None:
            self._own_source.close()
        self.connection.on_exchange_over(self)


_RELEASED: Final = Outcome.RELEASED
_NO_TRAILERS: Final = Fields()
_PROXY_AUTHENTICATION_REQUIRED: Final = 407
_SWITCHING_PROTOCOLS: Final = 101
_REDIRECTED: Final = 300

CLIENT_GONE: Final = "client-left"
"""The client has closed its connection before it had its answer."""
