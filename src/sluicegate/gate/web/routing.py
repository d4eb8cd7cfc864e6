"""RoutedExchange: the second part of an exchange: which server it goes to, and a connection to it.

``exchange.Exchange`` stands on it. The invariant: what a request is sent on leads to an address
that was judged for it: found by its own decision, judged again before the dial, or, of a connection
that waited in the pool, among the addresses that its decision allows.
"""

from __future__ import annotations

import abc
import errno
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.audit import StepName
from sluicegate.errors import LimitExceeded, Side, errno_name
from sluicegate.filterapi import ConnectRequested, Emulate, EventVerdict
from sluicegate.gate.dial_queue import NO_DESCRIPTOR
from sluicegate.gate.dial_race import DialRace
from sluicegate.gate.dispatch import dispatch
from sluicegate.gate.entry_answers import answer_to_failure, answer_to_lookup
from sluicegate.gate.entry_connection import REFUSALS
from sluicegate.gate.lookups import Addresses, Lookup, tell_of_lookup
from sluicegate.gate.network_source import NoSource, take_source
from sluicegate.gate.parent_tunnel import ParentTunnel
from sluicegate.gate.proxy_header import send_proxy_header
from sluicegate.gate.server_tls import NO_AUTHORITIES
from sluicegate.names import CanonicalHost, Destination, JudgedAddress, LookupReason, Unresolved
from sluicegate.names.eyeballs import interleave
from sluicegate.policy.tls_opening import OpeningReason
from sluicegate.port.layer import driver_of
from sluicegate.tls import HTTP2, ServerFailure, ServerFault
from sluicegate.verdict import Deny

from .admission import AdmittedExchange, WebReason
from .server_side import ServerSide

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.gate.known_validations import ValidationKey
    from sluicegate.port.backend import RawSocket
    from sluicegate.tls import ServerIdentity, ServerStream

    from .origin_pool import PoolKey
    from .parent_proxy import ParentProxy
    from .targets import Target

__all__ = ["RoutedExchange"]


class RoutedExchange(AdmittedExchange):
    """Which server it goes to, and on which connection."""

    __slots__ = ()

    @abc.abstractmethod
    def on_origin(self, origin: ServerSide) -> None:
        """Go on: there is a connection to the server."""

    @property
    def may_switch(self) -> bool:
        """Whether its server is offered to switch to another protocol."""
        request = self.request
        if not request.upgrade:
            return False
        upgrades = self.connection.desk.upgrades_of(self.plan)
        return any(one.lower() in upgrades for one in request.upgrade)

    def route(self) -> None:
        """Find a connection: one that waits, or a new one."""
        target = self.target
        if target is None:
            self._route_published()
            return
        if target.addresses:
            if self._must_ask_filters and not self._event_asked:
                self._ask_filters(self._first_address(target.destination))
                return
            origin = self._take_waiting(self.pool_key, target.addresses)
            if origin is not None:
                self.on_origin(origin)
            elif not self._waits_for_other():
                self._dial_found()
            return
        self._resolve()

    @property
    def may_be_sent_twice(self) -> bool:
        """Whether it could be sent again whole, and does no more than once (RFC 9110 9.2.2)."""
        is_harmless = self.request.method in _IDEMPOTENT and not self._request_stages
        return is_harmless and self.client.is_request_whole

    def _take_waiting(
        self, key: PoolKey, addresses: Collection[SocketAddress]
    ) -> ServerSide | None:
        """Return a connection that waits, or None.

        Servers close what has waited too long. A request that could not be sent again is sent on
        none that has gone by now, whatever was told of it so far (RFC 9112 section 9.3.1).
        """
        connection = self.connection
        pool, owner, switches = connection.desk.pool, connection.owner, self.may_switch
        while (origin := pool.take(key, addresses, owner, switches=switches)) is not None:
            if self.may_be_sent_twice or not origin.has_gone():
                break
            origin.close()
        return origin

    def _waits_for_other(self) -> bool:
        """Wait for the first dial to the same server, if there is one; it may serve both."""
        if self.waits_for_other is not None or not self.is_offered_http2:
            return False
        self.waits_for_other = self.connection.desk.first_dials.must_wait(self)
        if self.waits_for_other:
            self.touch()
            connection = self.connection
            connection.hasten(connection.port.now + connection.service.limits.connect_timeout_s)
        return self.waits_for_other

    def route_again(self) -> None:
        """Dial anew: the connection that waited turned out to be closed."""
        self.is_repeated = True
        target = self.target
        if target is None:
            self._dial_published()
        elif target.destination is not None:
            self._dial_found()
        else:
            self._resolve()

    @property
    def _must_ask_filters(self) -> bool:
        return not (self.connection.plan.is_plain and self.session.is_plain)

    # -- published servers ---------------------------------------------------------------------

    def _route_published(self) -> None:
        connection = self.connection
        address = connection.published
        if self._must_ask_filters and not self._event_asked:
            self._ask_filters(address)
            return
        origin = self._take_waiting(connection.published_key, (address,))
        if origin is not None:
            self.on_origin(origin)
        elif not self._waits_for_other():
            self._dial_published()

    def _dial_published(self) -> None:
        connection = self.connection
        judged = JudgedAddress(
            connection.service.entries.resolver.classifier.classify(connection.published.ip)
        )
        self._race_for([judged], connection.published.port, lambda _address: None)

    # -- looking up ----------------------------------------------------------------------------

    def _resolve(self) -> None:
        """Find where to dial; filters are told of a name before it is looked up."""
        if self._is_lookup_told:
            tell_of_lookup(self.connection.service, self._lookup(), None, self._find)
        else:
            self._find(None)

    @property
    def _is_lookup_told(self) -> bool:
        assert self.target is not None, "published servers are not looked up"
        return self._must_ask_filters and not self.target.host.is_address

    def _lookup(self) -> Lookup:
        assert self.target is not None, "published servers are not looked up"
        return Lookup(self.connection, self.target.host.text, self._on_lookup_denied)

    def _on_lookup_denied(self, reason: str) -> None:
        self._deny(403, reason)

    def _find(self, given: Addresses | None) -> None:
        """Look the host up, unless a filter gave its addresses."""
        target, connection = self.target, self.connection
        assert target is not None, "published servers are not looked up"
        if self.is_over:
            return
        resolver = connection.service.entries.resolver
        if given is not None:
            decided = target.decision
            self._on_found(resolver.judge_given(target.host, target.port, decided, given))
            return
        found = resolver.resolve_now(target.host, target.port, target.decision)
        if found is not None:
            self._on_found(found)
            return
        session, bound = self.session, connection.service.limits.lookups_per_client_max
        if session.lookups >= bound:
            self.on_limit(LimitExceeded("lookups_per_client_max", bound))
            return
        session.lookups += 1
        connection.service.spawn(self._look_up())

    async def _look_up(self) -> None:
        target, session = self.target, self.session
        assert target is not None, "published servers are not looked up"
        resolver = self.connection.service.entries.resolver
        try:
            found = await resolver.resolve(target.host, target.port, target.decision)
        finally:
            session.lookups -= 1
        self._on_found(found)

    def _on_found(self, found: Destination | Unresolved) -> None:
        """Tell filters what was found, which they may replace; not what policy refuses."""
        is_refused = isinstance(found, Unresolved) and found.reason in REFUSALS
        if self.is_over or is_refused or not self._is_lookup_told:
            self._on_resolved(found)
            return
        target = self.target
        assert target is not None, "published servers are not looked up"
        resolver = self.connection.service.entries.resolver
        addresses: Addresses = ()
        if isinstance(found, Destination):
            addresses = tuple(one.judgement.address for one in found.dialable)

        def go_on(given: Addresses | None) -> None:
            decided = target.decision
            self._on_resolved(
                found
                if given is None
                else resolver.judge_given(target.host, target.port, decided, given)
            )

        tell_of_lookup(self.connection.service, self._lookup(), addresses, go_on)

    def _on_resolved(self, found: Destination | Unresolved) -> None:
        if self.is_over or not self.connection.is_still_admitted() or self.is_over:
            return
        target = self.target
        assert target is not None, "published servers are not looked up"
        if isinstance(found, Unresolved):
            self._on_unresolved(found)
            return
        if self._is_lookup_told:
            # What a filter answered is for this exchange alone.
            target = self.target = target.copy()
        target.take_found(found)
        self.route()

    def _on_unresolved(self, found: Unresolved) -> None:
        status = answer_to_lookup(found.reason).connect.status
        reason = str(found.reason)
        if found.reason in REFUSALS:
            assert self.target is not None, "published servers are not looked up"
            self.target.found = found.found
            self._deny(status, reason, detail=found.detail)
        else:
            self.fail(status, f"{reason}: {found.detail}" if found.detail else reason)

    # -- filters that are told of connections ----------------------------------------------------

    def _first_address(self, destination: Destination | None) -> SocketAddress:
        assert destination is not None, "it was found"
        return destination.dialable[0].socket_address(destination.port)

    def _ask_filters(self, address: SocketAddress) -> None:
        """Tell filters of the connection that is about to be used; each of them may deny it."""
        connection = self.connection
        connection.server_address = address
        connection.is_asking = True
        event = ConnectRequested(connection, address)
        dispatch(connection.service, connection, event, self._on_verdict)

    def _on_verdict(self, verdict: EventVerdict) -> None:
        connection = self.connection
        connection.is_asking = False
        self._event_asked = True
        if self.is_over or not connection.is_still_admitted() or self.is_over:
            return
        if isinstance(verdict, Deny):
            self._deny(403, verdict.reason)
        elif isinstance(verdict, Emulate) or connection.has_attached:
            # What a data filter would see or play is a connection, and this is one request of many.
            self._deny(403, WebReason.UNSEEN_BYTES)
        else:
            self.route()

    # -- dialling ------------------------------------------------------------------------------

    def _dial_found(self) -> None:
        target = self.target
        assert target is not None, "published servers are dialled as they are"
        destination, decision = target.destination, target.decision
        assert destination is not None, "it was found"
        service, epoch = self.connection.service, target.epoch

        def judge(address: JudgedAddress) -> Deny | None:
            if address.denial is not None or epoch == service.entries.known.epoch:
                return address.denial
            if not self.connection.is_still_admitted():
                return Deny(self.reason)
            current = self.decision or decision
            return service.entries.resolver.judge_again(destination, current, address)

        if target.parent is None:
            self._race_for(interleave(destination.dialable), destination.port, judge)
        else:
            self._dial_parent(target.parent)

    def _dial_parent(self, parent: ParentProxy) -> None:
        """Dial the proxy that the operator wrote; what it is asked for was judged before."""
        classifier = self.connection.service.entries.resolver.classifier
        address = parent.address
        judged = JudgedAddress(classifier.classify(address.ip))
        self._race_for([judged], address.port, lambda _address: None)

    def _race_for(
        self,
        addresses: list[JudgedAddress],
        port: int,
        judge: Callable[[JudgedAddress], Deny | None],
    ) -> None:
        connection = self.connection
        if not connection.is_still_admitted() or self.is_over:
            return
        service = connection.service
        relations = service.policy.network_relations
        self.touch()
        connection.hasten(connection.port.now + service.limits.connect_timeout_s)
        began = connection.port.now

        def on_over(raw: RawSocket | None, address: SocketAddress, error: int) -> None:
            self._note_step("dial", began, errno_name(error) if raw is None else "")
            self._on_race_over(raw, address, error)

        self._race = DialRace(
            connection.port,
            addresses,
            port,
            judge,
            on_over,
            self._prepare_dial if relations.rules else None,
        )
        self._race.start()

    def _note_step(self, step: StepName, began: float, reason: str) -> None:
        """Record what the exchange spent time on, if its connection is traced."""
        connection = self.connection
        connection.service.records.steps.write(
            connection.id, step, connection.port.now - began, request=self.id, reason=reason
        )

    def _prepare_dial(self, raw: RawSocket, server: SocketAddress) -> NoSource | None:
        connection = self.connection
        relations = connection.service.policy.network_relations
        return take_source(connection.port, relations, raw, connection.client_address, server)

    def _on_race_over(self, raw: RawSocket | None, address: SocketAddress, error: int) -> None:
        race, self._race = self._race, None
        self.server = address.text
        if raw is None:
            self._on_no_server(race, error)
            return
        connection = self.connection
        if not connection.is_still_admitted() or self.is_over:
            connection.port.backend.abort(raw)
            return
        if self.rule.send_proxy_protocol is not None and not send_proxy_header(connection, raw):
            connection.port.backend.abort(raw)
            return
        parent = self._parent
        if parent is not None and parent.name is not None:
            self._shake_hands(raw, address, parent.name, parent.address.port, is_parent=True)
        else:
            self._on_dialled(raw, address)

    # -- a parent ------------------------------------------------------------------------------

    @property
    def _parent(self) -> ParentProxy | None:
        """The proxy that was dialled in the server's place; None: it is the server."""
        return None if self.target is None else self.target.parent

    def _on_dialled(self, raw: RawSocket, address: SocketAddress) -> None:
        """Go on with who was dialled: the server, or a parent that may have to lead to it first."""
        target = self.target
        if target is not None and target.parent is not None and target.is_secure:
            self._ask_for_tunnel(raw, address, target)
            return
        name = self._tls_name
        if name is None:
            self._take_new(raw, address)
        else:
            self._shake_hands(raw, address, *name)

    def _ask_for_tunnel(self, raw: RawSocket, address: SocketAddress, target: Target) -> None:
        """Have the parent lead to the server: it is the gate that verifies it, and reads."""
        self.touch()
        connection = self.connection

        def go_on(raw: RawSocket | None, reason: str) -> None:
            self._tunnel = None
            if raw is None:
                self.fail(502, reason)
            elif not connection.is_still_admitted() or self.is_over:
                driver_of(raw, connection.port.backend).abort(raw)
            else:
                self._shake_hands(raw, address, target.host, target.port)

        self._tunnel = ParentTunnel(connection.port, raw, target.host, target.port, go_on)
        self._tunnel.begin()

    # -- TLS -----------------------------------------------------------------------------------

    @property
    def _tls_name(self) -> tuple[CanonicalHost, int] | None:
        """Who the server has to be, inside TLS; None: it is spoken to in the open."""
        target, connection = self.target, self.connection
        if target is None:
            name = connection.published_name
            return None if name is None else (name, connection.published.port)
        return (target.host, target.port) if target.is_secure else None

    def _shake_hands(
        self,
        raw: RawSocket,
        address: SocketAddress,
        name: CanonicalHost,
        port: int,
        *,
        is_parent: bool = False,
    ) -> None:
        """Let the server, or a parent, prove who it is, before it is sent anything."""
        self.touch()
        began = self.connection.port.now

        def go_on(stream: ServerStream | None, outcome: ServerIdentity | ServerFailure) -> None:
            self._server_handshake = None
            reason = outcome.reason if isinstance(outcome, ServerFailure) else ""
            self._note_step("tls-server", began, reason)
            self._on_handshake_over(stream, outcome, address, is_parent=is_parent)

        inside = self.connection.inside
        is_unverified = inside is not None and inside.is_unverified
        if self._may_need_stream(is_parent=is_parent):
            now, known = self.connection.port.now, self.connection.service.server_tls.protocols
            self.needs_stream = known.is_http2_alone(self._server_key(address), now)
        self._server_handshake = self.connection.service.server_tls.begin(
            raw,
            name,
            port,
            go_on,
            protocols=("http/1.1",) if is_parent else self._protocols,
            accepts_unverified=is_unverified and not is_parent,
        )
        if self._server_handshake is None:
            self.fail(503, NO_AUTHORITIES)

    @property
    def is_offered_http2(self) -> bool:
        """Whether its server, if it is dialled, may choose HTTP/2."""
        return self._tls_name is not None and HTTP2 in self._protocols

    @property
    def _protocols(self) -> tuple[str, ...]:
        """What the server is offered by ALPN: what switches protocols is HTTP/1's, if it has it."""
        if self.needs_stream:
            return (HTTP2,)
        is_single = self.may_switch or self.rule.send_proxy_protocol is not None
        return ("http/1.1",) if is_single else (HTTP2, "http/1.1")

    def _on_handshake_over(
        self,
        stream: ServerStream | None,
        outcome: ServerIdentity | ServerFailure,
        address: SocketAddress,
        *,
        is_parent: bool,
    ) -> None:
        connection = self.connection
        if isinstance(outcome, ServerFailure):
            if outcome.fault is ServerFault.NO_PROTOCOL and self._may_offer_another(
                address, is_parent=is_parent
            ):
                self.route()
            elif outcome.fault.is_verdict:
                self.refuse(502, outcome.fault.code, detail=outcome.detail)
            else:
                self.fail(502, outcome.reason)
            return
        assert stream is not None, "whoever was verified can be talked to"
        if not connection.is_still_admitted() or self.is_over:
            stream.abort(stream.socket)
            return
        if is_parent:
            self._on_dialled(stream.socket, address)
            return
        if self.needs_stream and outcome.is_verified:
            connection.service.server_tls.protocols.keep(
                self._server_key(address), connection.port.now
            )
        inside = connection.inside
        if inside is not None and not inside.takes(outcome):
            stream.abort(stream.socket)
            self.refuse(502, OpeningReason.OTHER_SERVER)
            return
        self._take_new(stream.socket, address)

    def _may_offer_another(self, address: SocketAddress, *, is_parent: bool) -> bool:
        """Tell whether a server that has none of what it was offered may be offered another."""
        may_need_stream = self._may_need_stream(is_parent=is_parent)
        if not may_need_stream:
            known = self.connection.service.server_tls.protocols
            if is_parent or not self.needs_stream or not known.forget(self._server_key(address)):
                return False
        # A server of HTTP/2 alone, whose streams may switch as well (RFC 8441); or one that was.
        self.needs_stream = may_need_stream
        return True

    def _server_key(self, address: SocketAddress) -> ValidationKey:
        name = self._tls_name
        assert name is not None, "it is met inside TLS"
        return name[0].text, name[1], address, self.connection.service.server_tls.epoch

    def _may_need_stream(self, *, is_parent: bool) -> bool:
        """Tell whether a server that was offered HTTP/1 alone may be offered HTTP/2."""
        is_offered = is_parent or self.needs_stream or self.rule.send_proxy_protocol is not None
        return self.may_switch and not is_offered and not self.is_over

    def _on_no_server(self, race: DialRace | None, error: int) -> None:
        service, refusal = self.connection.service, race.refusal if race is not None else None
        if error in NO_DESCRIPTOR and service.dials.add(self, service.connection_count):
            self.waits_for_descriptor = True
            return
        if error == errno.EACCES and refusal is not None:
            if refusal.error:
                self.fail(503, refusal.reason)
            else:
                self._deny(403, refusal.reason)
        elif error == errno.EACCES:
            self._deny(403, f"{LookupReason.ADDRESS_DENIED}: refused at the dial")
        else:
            status = answer_to_failure(error, _SERVER).connect.status
            self.fail(status, f"server connect {errno_name(error)}")

    @property
    def is_closing(self) -> bool:
        """Whether nobody wants the dial any more (``WaitingDial``)."""
        return self.is_over

    def dial_again(self) -> None:
        """Dial now that there may be a descriptor, or take a connection that came free."""
        self.waits_for_descriptor = self.waits_for_other = False
        if not self.is_over:
            self.route()

    def _take_new(self, raw: RawSocket, address: SocketAddress) -> None:
        origin = self.connection.desk.new_origin(self, raw, address)
        if self.waits_for_other is False:
            self._on_dial_over()
        self.on_origin(origin)

    def _on_dial_over(self) -> None:
        """Let those go on that wait for this dial, if it was the first one."""
        self.connection.desk.first_dials.on_over(self.pool_key, self)

    def _deny(self, status: int, reason: str, *, detail: str = "") -> None:
        """Refuse it for where it leads: the rule lets it, and what was found is not let."""
        self.verdict, self.refuser = "denied", self.rule.name
        self.refuse(status, reason, detail=detail)

    @override
    def stop_dialling(self) -> None:
        """Give up: the exchange is over."""
        race, self._race = self._race, None
        if self.waits_for_other is False:
            self._on_dial_over()
        self.waits_for_descriptor = self.waits_for_other = False
        if race is not None:
            race.stop()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.stop()
        handshake, self._server_handshake = self._server_handshake, None
        if handshake is not None:
            handshake.stop()


_SERVER: Final = Side.SERVER
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
