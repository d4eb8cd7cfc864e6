"""WebConnection: a client's connection that carries requests, each decided on by itself.

``desk`` makes one when a client of a proxy listener, or of a published web server, begins to speak
HTTP; it shows, is killed, drained and judged again like every connection. The invariant: its rule
is the present request's; between two requests nothing of it is open towards any server but what
waits in the pool, for whoever may use it.

Behind an upgrade (101) it goes on as a tunnel, which is pumped, or as a WebSocket, which is read.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.address import NOWHERE, SocketAddress
from sluicegate.errors import LimitExceeded, Side
from sluicegate.filterapi import EntryMode, Outcome, TransferOffer
from sluicegate.gate.asker import Asker
from sluicegate.gate.connection import GateConnection
from sluicegate.gate.internal_error import internal_error
from sluicegate.gate.objections import objection_of
from sluicegate.gate.readmission import Readmission, readmit_client
from sluicegate.gate.registry import RulePlan
from sluicegate.gate.state import State
from sluicegate.policy import Publication, Rule, RuleAction
from sluicegate.policy.decision import PUBLISHED
from sluicegate.policy.learn import LEARNING
from sluicegate.port.account import Kept
from sluicegate.port.layer import driver_of
from sluicegate.verdict import Deny

from .client_end import ClientEnd
from .client_side import ClientSide
from .close_codes import GOING_AWAY, POLICY
from .deadlines import WebDeadlines
from .judged_anew import judge_found, judge_request
from .offer import offers_of
from .switching import MAY_NOT_SWITCH
from .websocket_relay import WebSocketRelay

if TYPE_CHECKING:
    from sluicegate.filterapi import User
    from sluicegate.gate.flood_count import FloodClient
    from sluicegate.gate.opened_tls import OpenedTls
    from sluicegate.gate.own_tls import OwnTls
    from sluicegate.gate.read_connection import ReadConnection
    from sluicegate.gate.session import GateSession
    from sluicegate.gate.settings import EntrySettings
    from sluicegate.names import CanonicalHost
    from sluicegate.policy import DestinationDecision
    from sluicegate.port.backend import Operation, RawSocket
    from sluicegate.port.given_away import GivenAway
    from sluicegate.protocols.http1 import Response
    from sluicegate.protocols.websocket import Deflate

    from .desk import WebDesk
    from .exchange_facts import ExchangeFacts
    from .filtered_exchange import FilteredExchange
    from .gate_exchange import GateExchange
    from .inside import Inside
    from .origin_pool import PoolKey
    from .server_side import ServerSide
    from .targets import Target

__all__ = ["NO_PLAN", "WebConnection"]

NO_PLAN: Final = RulePlan(Publication("", "", NOWHERE, ()))
"""In the place of a rule before the first request that one lets in."""


class WebConnection(GateConnection):
    """One client's connection that carries requests."""

    __slots__ = (
        "_deadlines",
        "_tunnelled",
        "_user_epoch",
        "_user_header",
        "bytes_spliced",
        "bytes_to_servers",
        "client",
        "desk",
        "entry",
        "found",
        "half_closed",
        "inside",
        "last_target",
        "opened",
        "own_tls",
        "published",
        "published_key",
        "published_name",
        "refusal",
        "service",
    )

    def __init__(
        self,
        desk: WebDesk,
        session: GateSession,
        raw: RawSocket,
        client_address: SocketAddress,
        listener_name: str,
        *,
        flood: FloodClient,
        identifier: str = "",
        plan: RulePlan = NO_PLAN,
        entry: EntrySettings | None = None,
    ) -> None:
        service = desk.service
        super().__init__(
            service,
            session,
            plan,
            listener_name,
            client_address,
            NOWHERE,
            flood=flood,
            identifier=identifier,
        )
        self.desk = desk
        self.service = service
        #: The running service.
        self.entry = entry
        #: Of a proxy listener; None: what it is asked for is published.
        self.found: tuple[str, ...] = ()
        self.inside: Inside | None = None
        #: What it is for, if it is a tunnel that is read.
        self.opened: OpenedTls | None = None
        self.own_tls: OwnTls | None = None
        self.refusal = ""
        #: Why nobody may come by the certificate that the client showed.
        self.published = NOWHERE
        #: The server that is published.
        self.published_key: PoolKey = ("", 0, "")
        self.published_name: CanonicalHost | None = None
        #: Who the published server has to be, inside TLS; None: it is spoken to in the open.
        self._client_raw = raw
        self._user_header: bytes | None = None
        self._user_epoch = -1
        #: By which credentials the session's user is known, and since when nothing has changed.
        self.state = State.OPEN
        if entry is not None:
            self.entry_mode = EntryMode.HTTP
            session.listeners[listener_name] = None
        self.bytes_to_servers = self.bytes_spliced = 0
        self.last_target: Target | None = None
        #: What was decided on its last request.
        self.half_closed = 0.0
        #: When the client ended its own direction; 0 before.
        self._tunnelled: GateExchange | None = None
        #: What was switched to another protocol.
        self.client: ClientSide = self._new_client(raw)
        self._deadlines = WebDeadlines()

    def _new_client(self, raw: RawSocket) -> ClientSide:
        return ClientEnd(self, raw, self.desk.known)

    @property
    def http1(self) -> ClientEnd:
        """Its end, of a connection that speaks HTTP/1."""
        client = self.client
        assert isinstance(client, ClientEnd), "streams have no such end"
        return client

    @property
    def owner(self) -> object:
        """Whose connections to servers are those that are bound to it: a client's connection."""
        return self

    @property
    def carrier_id(self) -> str:
        """The identifier of the connection that a client has made, in records of requests."""
        return self.id

    def begin_published(self) -> None:
        """Begin to receive: its rule has let the client in."""
        self._take_in()
        self._service.record_decision(self, "allowed", PUBLISHED)
        self.http1.wire.start()

    def record_learned(self, exchange: ExchangeFacts) -> None:
        """Record that the present request passes to be learned from."""
        self.asked = (
            f"{exchange.target.host}:{exchange.target.port}" if exchange.target is not None else ""
        )
        self._service.record_decision(self, "allowed", LEARNING)

    def begin_with(self, operation: Operation, early: bytes, *, ended: bool) -> None:
        """Go on where a handshake stopped to read."""
        self.http1.wire.adopt(operation)  # first of all: it is in flight, and is nobody else's
        self._take_in()
        if early:
            self.http1.on_received(early)
        if ended and not self.is_closing:
            self.http1.on_wire_ended()

    def begin_inside(
        self, before: ReadConnection, inside: Inside, client: GivenAway, early: bytes
    ) -> None:
        """Go on inside a tunnel, in the place of another object and in its name."""
        self.http1.wire.adopt(client.receive_op)  # first of all: it is nobody else's
        self.inside, self.opened = inside, inside.opened
        self.announced, self.entry_mode, self.asked = (
            before.announced,
            before.entry_mode,
            before.asked,
        )
        self.host_name, self.found = before.host_name, before.found
        self.started, self.started_wall = before.started, before.started_wall
        self.connect_s, self.server_address = before.connect_s, before.server_address
        self.give_attached(before)
        service = self._service
        before.session.connections -= 1  # it is this one from here on
        service.add_connection(self)
        service.wheel.add(self, self.due())
        if early:
            self.http1.on_received(early)
        if client.ended and not self.is_closing:
            self.http1.on_wire_ended()

    def _take_in(self) -> None:
        service = self._service
        service.add_connection(self)
        service.wheel.add(self, self.due())

    # -- facts ---------------------------------------------------------------------------------

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return Asker(self.listener_name, self.client_address, self.session.rules_user)

    @property
    def exchange(self) -> GateExchange | None:
        """The one that is going on."""
        return self.client.exchange

    @override
    def byte_counts(self) -> tuple[int, int, int]:
        """Return what the server was sent, what the client was sent, and how much was spliced."""
        to_server, to_client, spliced = super().byte_counts()
        return (
            self.bytes_to_servers + to_server,
            self.client.wire.bytes_sent + to_client,
            self.bytes_spliced + spliced,
        )

    @property
    def judged_exchange(self) -> GateExchange | None:
        """The one that goes on, if only as a tunnel: policy is asked about it."""
        return self._tunnelled or self.client.exchange

    # -- who asks ------------------------------------------------------------------------------

    def is_known_by(self, header: bytes) -> bool:
        """Tell whether these credentials were verified here, and nothing has changed since."""
        return header == self._user_header and self._user_epoch == self._service.entries.known.epoch

    def become(self, user: User | None, header: bytes | None = None, epoch: int = -1) -> None:
        """Go on as this user; what is counted for the session moves with the connection."""
        self._user_header, self._user_epoch = header, epoch
        before, service = self.session, self._service
        if user is not None:
            service.note_user(self.client_address, user)
        session = service.session_of(self.client_address, user)
        if session is before:
            return
        before.connections -= 1
        before.last_active = self.port.now
        session.connections += 1
        session.listeners[self.listener_name] = None
        self.session = session
        self.client.wire.session = session

    # -- exchanges -----------------------------------------------------------------------------

    def on_exchange_began(self, exchange: GateExchange) -> None:
        """Take that a request has come."""
        self.last_active = exchange.started

    def end_half_open(self) -> None:
        """Take that the first request has its server, or was answered without one."""
        if self.is_half_open:
            self.is_half_open = False
            self._service.flood.end_half_open(self.flood)

    def on_exchange_over(self, exchange: GateExchange) -> None:
        """Take that a request was answered, or will not be."""
        if self.is_half_open:
            self.end_half_open()
        self.last_active = now = self.port.now
        if exchange.verdict != "denied" and exchange.reason != LEARNING:
            self._service.allowed += 1  # (what is learned from was counted when it came)
        self.desk.record(exchange)
        if not self.is_closing:
            self._service.wheel.hasten(self, now + self._service.limits.web_idle_timeout_s)

    def take_plan(self, plan: RulePlan) -> None:
        """Go on by the rule that lets the present request in."""
        self.judged = self._service.revocation.epoch
        if plan is not self.plan:
            self._service.revocation.places.leave(self.id)
            self.plan = plan

    def take_place(self) -> LimitExceeded | None:
        """Count it as its rule's, where that is bounded; return the limit that it would pass."""
        places = self._service.revocation.places
        if places.rule_of.get(self.id) == self.plan.rule.name:
            return None
        return places.take(self.plan.rule, self.id)

    def is_still_admitted(self) -> bool:
        """Judge the present request again if policy has changed; False: that has ended it."""
        return self._is_still_admitted()

    def end_exchange(self, outcome: Outcome, why: str) -> None:
        """End an exchange whose answer has begun, and the connection with it: by a reset."""
        self._end(outcome, why)

    def binds(self, exchange: GateExchange, response: Response) -> bool:
        """Tell whether what a server has said or heard holds for one connection of one client."""
        return self.desk.binds(exchange, response)

    # -- policy --------------------------------------------------------------------------------

    @override
    def judge_anew(self) -> Readmission:
        """Say by which rule the present request would be let in now."""
        exchange, service = self.judged_exchange, self._service
        if self.entry is None:
            name, client = self.listener_name, self.client_address
            readmitted = readmit_client(service, name, client, self.plan)
            if readmitted.plan is not None and exchange is None:
                # Nothing is open by the rule before; what comes next comes by this one.
                self.take_plan(readmitted.plan)
            may_not = readmitted.plan is not None and not self.may_go_on_switched(readmitted.plan)
            return Readmission(None, MAY_NOT_SWITCH) if may_not else readmitted
        if self.inside is not None:
            refused = self.inside.judge_anew(service, self.asker)
            if refused is not None:
                return refused
        return judge_request(self, exchange)

    def may_go_on_switched(self, plan: RulePlan) -> bool:
        """Tell whether another rule lets go on what has switched protocols, if anything has."""
        exchange = self.judged_exchange
        if exchange is None or (self._tunnelled is None and exchange.relay is None):
            return True
        allowed, response = self.desk.upgrades_of(plan), exchange.response
        return response is not None and all(one.lower() in allowed for one in response.upgrade)

    def _judge_found(self, decision: DestinationDecision) -> Deny | None:
        return judge_found(self, self.judged_exchange, decision)

    @override
    def objection_to(self, offer: TransferOffer) -> str:
        """Ask the policy in force about an object of the present exchange."""
        exchange, rule = self.exchange, self.plan.rule
        if exchange is None or exchange.target is None or not isinstance(rule, Rule):
            return ""
        request, name = exchange.target.request, self.listener_name
        return objection_of(self._service, name, request, offer, rule, self._judge_found)

    def objection_to_response(self, exchange: GateExchange) -> str:
        """Say why policy refuses what a response says that it carries; empty if it does not."""
        target = exchange.target
        if target is None or not target.asks_about_content:
            return ""
        for offer in offers_of(exchange):
            objection = self.objection_to(offer)
            if objection:
                return objection
        return ""

    # -- the tunnel ----------------------------------------------------------------------------

    def open_tunnel(self, exchange: GateExchange, response: Response) -> None:
        """Go on as a tunnel behind 101: pump both ways, each from where HTTP has stopped."""
        origin, service = exchange.origin, self._service
        assert origin is not None, "a server has switched"
        ends = exchange.client.switch(self.desk.to_client(response)), origin.switch()
        wires = ends[0].wire, ends[1].wire
        if wires[0].is_blocked:
            self.fail("client stalled", side=Side.CLIENT)
            return
        exchange.origin = None
        origin.give_away()
        operations = [one.give_away() for one in wires]
        sockets = self._client_raw, self._server_raw = wires[0].raw, wires[1].raw
        self._tunnelled = exchange
        self.client.end_exchange()
        take = service.directions.take
        self.from_client, self.from_server = directions = take(), take()
        for place, side in enumerate((Side.CLIENT, Side.SERVER)):
            direction, source, sink = directions[place], sockets[place], sockets[1 - place]
            direction.open(self, side, source, sink, None)
            drivers = driver_of(source, self.port.backend), driver_of(sink, self.port.backend)
            direction.run_on(*drivers)
            direction.take_operation(operations[place])
        for end, direction in zip(ends, directions, strict=True):
            chunks: deque[Kept] = deque()
            if end.early and not self.is_closing:
                try:
                    chunks.append(self.blockage.keep_bytes(self.session, end.early))
                except LimitExceeded as error:
                    self.on_limit(error)
            if not self.is_closing:
                direction.adopt(chunks, ended=end.is_ended, shut=False)
        if not self.is_closing:
            service.wheel.add(self, self.due())

    def open_websocket(
        self,
        exchange: GateExchange,
        part: FilteredExchange,
        response: Response,
        deflate: Deflate | None,
    ) -> None:
        """Go on as a WebSocket behind 101: read each message, from where HTTP has stopped."""
        origin = exchange.origin
        assert origin is not None, "a server has switched"
        client, server = exchange.client.switch(self.desk.to_client(response)), origin.switch()
        relay = exchange.relay = WebSocketRelay(exchange, part, client, server, deflate)
        relay.start(client, server)

    @property
    def _relay(self) -> WebSocketRelay | None:
        exchange = self.client.exchange
        return exchange.relay if exchange is not None else None

    def end_websocket(self, *, abortive: bool) -> None:
        """Take that a WebSocket is over: record it, and close."""
        self.client.end_exchange()
        self.close(abortive=abortive)

    def drain(self) -> None:
        """Take no further request; a WebSocket, which has no end of its own, is told to go."""
        relay = self._relay
        if relay is None:
            self.client.close_when_answered()
        else:
            relay.end(GOING_AWAY, "draining")

    # -- what ends it --------------------------------------------------------------------------

    def on_client_failed(self, error: int) -> None:
        """Take that the client's connection failed."""
        if self.client.exchange is None:
            # Between two requests a client may go as it likes.
            self.close(abortive=True)
        else:
            self.on_transport_error(Side.CLIENT, error)

    @override
    def on_internal_error(self, error: BaseException) -> None:
        if self.is_closing:
            if isinstance(self.client, ClientEnd):
                self.client.wire.close(abortive=True)  # should its end have failed half-way
            super().on_internal_error(error)
            return
        reason, exchange = internal_error(error), self.client.exchange
        if exchange is not None:
            exchange.note_end(Outcome.FAILED, reason)
        super()._end(Outcome.FAILED, reason)  # a WebSocket, too, without waiting for its goodbye

    def on_half_closed(self) -> None:
        """Take that the client has ended its direction while it waits for an answer."""
        self.half_closed = self.port.now
        self.hasten(self.half_closed + self._service.limits.half_closed_timeout_s)

    @override
    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if self.is_closing:
            return
        exchange = self.client.exchange
        if exchange is not None and not exchange.is_over:
            if outcome is Outcome.REFUSED and not exchange.is_answered and not self._is_reset:
                # It is the request that is refused, and its client can be told.
                self.client.close_after_answer()
                exchange.refuse(403, reason)
                return
            exchange.note_end(outcome, reason)
            relay = exchange.relay
            if relay is not None and not relay.is_ending and not self._is_reset:
                code = POLICY if outcome is Outcome.REFUSED else GOING_AWAY
                relay.end(code, reason)
                return
        super()._end(outcome, reason, error, side)

    @property
    def _is_reset(self) -> bool:
        exchange = self.client.exchange
        decision = exchange.decision if exchange is not None else None
        return decision is not None and decision.action is RuleAction.RESET

    @override
    def close(self, *, abortive: bool) -> None:
        """End the present request, and the client's connection."""
        if self.is_closing or self.from_client is not None:
            super().close(abortive=abortive)
            return
        self.is_closing = True
        self.state = State.CLOSING
        self._service.wheel.remove(self)
        self._client_raw = None
        if self.dependents:
            self._cancel_dependents()
        self.client.drop_exchange()
        self.desk.pool.release(self)
        self.client.wire.close(abortive=abortive)

    def on_wire_closed(self) -> None:
        """Take that the client's descriptor is closed."""
        self.state = State.CLOSED
        self._finish()

    @override
    def join(self) -> None:
        """Finish a tunnel when the last operation in flight has completed."""
        if self.from_client is not None:
            super().join()

    @override
    def _finish(self) -> None:
        super()._finish()
        self._let_go()

    def _let_go(self) -> None:
        self._tunnelled = None
        self.client.let_go()

    # -- deadlines -----------------------------------------------------------------------------

    def hasten(self, when: float) -> None:
        """Look at the deadlines by then."""
        self._service.wheel.hasten(self, when)

    def begin_window(self) -> None:
        """Watch from now on how fast the client sends, or takes what it is sent."""
        self._deadlines.begin_window(self)

    def begin_server_window(self, origin: ServerSide) -> None:
        """Watch from now on how fast the server sends, or takes what it is sent."""
        self._deadlines.begin_server_window(self, origin)

    @override
    def due(self) -> float:
        """Return the next deadline as things stand."""
        if self.from_client is not None:
            return super().due()
        relay = self._relay
        return self._deadlines.due(self) if relay is None else relay.due()

    @override
    def on_expired(self) -> None:
        """Take a deadline: say which, and end what it is of."""
        if self.from_client is not None:
            super().on_expired()
            return
        relay = self._relay
        if relay is None:
            self._deadlines.on_expired(self)
        else:
            relay.on_expired()
        if not self.is_closing and self.wheel_slot < 0:
            self._service.wheel.add(self, self.due())
