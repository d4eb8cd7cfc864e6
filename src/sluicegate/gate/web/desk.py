"""WebDesk: what the web connections of one worker share.

``service`` has one; the entry desk and admission hand it the clients that speak HTTP. The
invariant: what it keeps (decisions, pipelines, connections to servers) is only ever used for whom
it would be made anew.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeVar

from sluicegate.address import NOWHERE
from sluicegate.audit import RequestRecord
from sluicegate.filterapi import Outcome
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.entry_handshake import EntryHandshake
from sluicegate.policy import Publication
from sluicegate.policy.tls_opening import Unverified
from sluicegate.protocols.http1 import (
    NOT_PASSED,
    HttpBounds,
    KnownHeads,
    Request,
    Response,
    Target,
    to_client,
    to_server,
)
from sluicegate.protocols.http2 import Http2Bounds, KnownLists
from sluicegate.protocols.text import printable
from sluicegate.protocols.websocket import WEBSOCKET
from sluicegate.tls import HTTP2, TlsSocket
from sluicegate.web_limits import WEB_URL_RECORDED_CHARACTERS_MAX

from .connection import WebConnection
from .declared_needs import lets_websockets
from .first_dials import FirstDials
from .inside import Inside
from .kept_downloads import KeptDownloads
from .multiplexed import MultiplexedConnection
from .origin_carrier import OriginCarrier
from .origin_end import OriginEnd
from .origin_pool import OriginPool
from .parent_proxy import ParentProxy
from .pipeline import Pipeline, compile_pipeline
from .refusal_page import DEFAULT_PAGES
from .shared_servers import shared_key
from .targets import Targets

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.gate.flood_count import FloodClient
    from sluicegate.gate.opened_tls import OpenedTls
    from sluicegate.gate.opening_connection import OpeningConnection
    from sluicegate.gate.own_tls import OwnTls
    from sluicegate.gate.proxy_header import Announced
    from sluicegate.gate.read_connection import ReadConnection
    from sluicegate.gate.registry import RulePlan
    from sluicegate.gate.service import FirewallService
    from sluicegate.gate.session import GateSession
    from sluicegate.gate.settings import ServiceSettings
    from sluicegate.port.backend import Operation, RawSocket
    from sluicegate.port.given_away import GivenAway

    from .gate_exchange import GateExchange
    from .routing import RoutedExchange
    from .server_side import ServerSide

__all__ = ["WebDesk"]

_InsideT = TypeVar("_InsideT", bound="WebConnection | MultiplexedConnection")


class WebDesk:
    """What web connections share."""

    def __init__(self, service: FirewallService) -> None:
        self.service = service
        self.pool = OriginPool(service)
        self.first_dials = FirstDials(service.port)
        self.targets = Targets(service)
        self.kept_downloads = KeptDownloads(service.port)
        self.requests = 0
        #: Those that were recorded, since the start.
        self.message_bytes = 0
        #: Of messages of WebSockets that wait in memory.
        self.keeps_servers = True
        #: Whether connections to servers are kept for the next request.
        self.known = KnownHeads(
            HttpBounds(
                head_bytes_max=service.limits.web_head_bytes_max,
                target_bytes_max=service.limits.web_target_bytes_max,
                fields_max=service.limits.web_fields_max,
            )
        )
        self.http2_bounds = Http2Bounds(heads=self.known.bounds)
        self.known_lists = KnownLists(self.known.bounds)
        self.pseudonym = _pseudonym_of(service.boot_mark)
        #: The name of this gate in ``Via``.
        self.refusal_pages = DEFAULT_PAGES
        self.protocols_inside = (HTTP2, "http/1.1")
        #: What servers are offered by ALPN of connections that are opened, if their clients do.
        self.protocols_on_streams: frozenset[bytes] = frozenset()
        #: What a stream of HTTP/2 may switch to by some rule in force (RFC 8441).
        self.parents: tuple[ParentProxy, ...] = ()
        #: Where requests for some hosts are sent on.
        self._pipelines: dict[int, tuple[RulePlan, Pipeline | None]] = {}
        #: By the identity of a plan, which is kept with it.

    # -- life ----------------------------------------------------------------------------------

    def apply(self, plans: dict[str, RulePlan], settings: ServiceSettings) -> None:
        """Compile what the rules in force want of messages; take what else was set."""
        self.refusal_pages, self.parents = settings.refusal_pages, settings.parent_proxies
        upgrades = map(self.upgrades_of, plans.values())
        self.protocols_on_streams = frozenset[bytes]().union(*upgrades)
        self._pipelines = {
            id(plan): (plan, compile_pipeline(self.service, plan)) for plan in plans.values()
        }

    def pipeline_of(self, plan: RulePlan) -> Pipeline | None:
        """Return what the filters of a plan want of messages; None: nothing."""
        known = self._pipelines.get(id(plan))
        if known is None:
            # Of a connection that came by an earlier policy.
            known = self._pipelines[id(plan)] = plan, compile_pipeline(self.service, plan)
        return known[1]

    def drain(self) -> None:
        """Take no further requests: connections end with the answer that they wait for."""
        self.keeps_servers = False
        for connection in self.connections():
            connection.drain()
        for one in self.service.open_connections():
            if isinstance(one, MultiplexedConnection):
                one.drain()
        self.pool.close()

    def connections(self) -> list[WebConnection]:
        """Return the open connections of clients."""
        everything = self.service.open_connections()
        return [one for one in everything if isinstance(one, WebConnection)]

    async def close(self) -> None:
        """Close the connections to servers, and wait for it: the service stops."""
        self.keeps_servers = False
        self.kept_downloads.close()
        await self.pool.close_all()

    # -- clients -------------------------------------------------------------------------------

    def admit_explicit(self, handshake: EntryHandshake) -> None:
        """Take over a client of a proxy listener that has begun to speak HTTP."""
        service = self.service
        session = service.session_of(handshake.client, handshake.user)
        bound = service.limit_reached()
        if bound is not None:
            service.entries.on_limit(bound, handshake.client)
            handshake.turn_away(f"limit {bound.limit}")
            return
        given = handshake.hand_over(stays_half_open=True)
        kind = MultiplexedConnection if handshake.speaks_http2 else WebConnection
        connection = kind(
            self,
            session,
            given.raw,
            handshake.client,
            handshake.listener_name,
            flood=handshake.flood,
            identifier=handshake.id,
            entry=handshake.entry,
        )
        connection.announced = handshake.announced
        connection.is_half_open = True
        connection.refusal = handshake.refusal
        early = b"".join(bytes(one[0].view[one[1] : one[1] + one[2]]) for one in given.ahead)
        connection.begin_with(given.receive_op, early, ended=given.ended)

    def hand_back(
        self,
        connection: WebConnection,
        raw: RawSocket,
        operation: Operation,
        said: bytes,
        *,
        ended: bool,
    ) -> None:
        """Let a client that wants a tunnel now begin anew, as if it had asked for that at first."""
        service = self.service
        if not connection.is_half_open:
            service.flood.begin_half_open(connection.flood)
        # It is counted on; as what begins now.
        connection.is_counted = connection.is_half_open = False
        connection.close(abortive=False)
        connection.on_wire_closed()
        entry, client, flood = connection.entry, connection.client_address, connection.flood
        assert entry is not None, "clients of published servers are not given back"
        handshake = EntryHandshake(
            service.entries,
            connection.listener_name,
            entry,
            raw,
            client,
            flood,
            operation=operation,
        )
        handshake.announced = connection.announced
        if entry.authenticate is Authenticate.OFF:
            handshake.user = connection.session.user  # by its certificate
        service.entries.begin(handshake)
        handshake.hear(said, ended=ended)

    def admit_published(
        self,
        listener_name: str,
        raw: RawSocket,
        client: SocketAddress,
        session: GateSession,
        flood: FloodClient,
        plan: RulePlan,
        *,
        announced: Announced | None,
        own_tls: OwnTls | None = None,
        identifier: str = "",
    ) -> None:
        """Begin the connection of a client that a publication lets in to a web server."""
        publication = plan.rule
        assert isinstance(publication, Publication), "rules are for proxy listeners"
        is_http2 = own_tls is not None and own_tls.protocol == HTTP2
        kind = MultiplexedConnection if is_http2 else WebConnection
        connection = kind(
            self,
            session,
            raw,
            client,
            listener_name,
            flood=flood,
            identifier=identifier,
            plan=plan,
        )
        connection.announced, connection.own_tls = announced, own_tls
        connection.is_half_open = True
        server = connection.server_address = connection.published = publication.server
        name = connection.published_name = publication.server_tls
        way = client.host if self.service.policy.network_relations.rules else ""
        inside = "" if name is None else f" inside TLS as {name}"
        connection.published_key = (server.host, server.port, f"published {way}{inside}")
        connection.begin_published()

    def admit_opened(
        self,
        before: OpeningConnection,
        opened: OpenedTls,
        protocol: str,
        early: bytes,
        *,
        is_server_usable: bool,
    ) -> None:
        """Take over a connection whose TLS was opened, and that carries requests.

        Args:
            before: What it was so far.
            opened: What is known of its TLS.
            protocol: What both ends agreed on by ALPN; empty: nothing.
            early: What the client has sent inside.
            is_server_usable: Whether its server has said nothing yet, where it has one.
        """
        assert not protocol or protocol in self.protocols_inside, "nothing else was offered"
        client, server = before.give_all()
        kind = MultiplexedConnection if protocol == HTTP2 else WebConnection
        connection = self._inside(before, client, kind)
        inside = _inside_of(before, opened)
        connection.server_address = before.dialled_address
        # First: a request that has come already goes to it.
        if server is not None:
            self._keep_server(connection, inside, server, is_usable=is_server_usable)
        connection.begin_inside(before, inside, client, early)

    def admit_clear(self, before: ReadConnection, early: bytes) -> None:
        """Take over a tunnel in which requests come in the clear.

        Args:
            before: What it was so far.
            early: What the client has sent inside.
        """
        client = before.give_client()
        connection = self._inside(before, client, WebConnection)
        before.server_address = NOWHERE  # nobody was dialled
        # What its requests need is what others need, so whoever serves them may serve both.
        inside = Inside(before.host, before.host, before.named_port, None, None, is_shared=True)
        connection.begin_inside(before, inside, client, early)

    def _inside(self, before: ReadConnection, client: GivenAway, kind: type[_InsideT]) -> _InsideT:
        """Make what goes on with a client, as the same connection."""
        return kind(
            self,
            before.session,
            client.raw,
            before.client_address,
            before.listener_name,
            flood=before.flood,
            identifier=before.id,
            plan=before.plan,
            entry=before.entry,
        )

    def _keep_server(
        self,
        connection: WebConnection | MultiplexedConnection,
        inside: Inside,
        server: GivenAway,
        *,
        is_usable: bool,
    ) -> None:
        """Let the server that was met wait for the first request; or close it."""
        address, key = connection.server_address, inside.pool_key
        assert key is not None, "its TLS was opened"
        owner = None if inside.is_shared else connection
        is_wanted = not (connection.is_closing or inside.refusal or server.ended)
        if _chose_http2(server.raw):
            carrier = OriginCarrier(
                self, key, server.raw, address, connection.session, given=server
            )
            carrier.bind_to(owner)
            self.pool.add_carrier(carrier)
            if not is_wanted:
                carrier.close()
            return
        origin = OriginEnd(
            self.service, self.pool, key, server.raw, address, self.known, given=server
        )
        origin.bind_to(owner)
        self.pool.add(origin)
        if not (is_wanted and is_usable):
            origin.close()
        elif not origin.wire.is_closing:
            self.pool.give(origin)

    # -- servers -------------------------------------------------------------------------------

    def new_origin(
        self, exchange: RoutedExchange, raw: RawSocket, address: SocketAddress
    ) -> ServerSide:
        """Take a new connection to a server into use."""
        inside = exchange.connection.inside
        is_private = inside is not None and not inside.is_shared
        owner = exchange.connection.owner if is_private else None
        is_http2 = _chose_http2(raw)
        if isinstance(raw, TlsSocket) and exchange.is_offered_http2:
            self.first_dials.note_version(exchange.pool_key, is_http2=is_http2)
        if is_http2:
            carrier = OriginCarrier(self, exchange.pool_key, raw, address, exchange.session)
            carrier.bind_to(owner)
            self.pool.add_carrier(carrier)
            return carrier.open()
        origin = OriginEnd(self.service, self.pool, exchange.pool_key, raw, address, self.known)
        origin.bind_to(owner)
        self.pool.add(origin)
        return origin

    def to_server(self, exchange: GateExchange) -> Request:
        """Return the request as it goes on.

        A published server is told who asks, and nobody else can tell it: what clients write into
        these fields themselves is taken out.
        """
        connection, request = exchange.connection, exchange.request
        upgrades = self.upgrades_of(connection.plan)
        going = to_server(request, self.pseudonym, upgrades=upgrades)
        target = exchange.target
        if target is not None and target.is_sent_on and request.authority is not None:
            going.target = Target.absolute(b"http", request.authority, request.target.path or b"/")
        if connection.entry is None:
            fields = going.fields
            fields.remove(*_SAYS_WHO_ASKS)
            fields.add(b"X-Forwarded-For", connection.client_address.host.encode("ascii"))
            fields.add(b"X-Forwarded-Proto", exchange.scheme.encode("ascii"))
            if request.authority is not None:
                fields.add(b"X-Forwarded-Host", bytes(request.authority))
        if trace := self.service.records.steps.traceparent(connection.id, exchange.id):
            going.fields.remove(b"traceparent", b"tracestate")
            going.fields.add(b"traceparent", trace)
        return going

    def to_client(self, response: Response) -> Response:
        """Return a response as it goes on."""
        going = to_client(response, self.pseudonym)
        going.fields.remove(*NOT_PASSED)
        return going

    @staticmethod
    def upgrades_of(plan: RulePlan) -> frozenset[bytes]:
        """Return the protocols that requests of a rule may switch to.

        Where filters are to see what passes there is one at most: the messages of a WebSocket can
        be read. Behind another 101 nobody would see anything.
        """
        upgrades = frozenset(one.encode("ascii") for one in plan.rule.upgrades)
        if upgrades and (plan.content or plan.web or plan.must_inspect):
            return upgrades & _READABLE if lets_websockets(plan) else _NO_UPGRADES
        return upgrades

    def binds(self, exchange: GateExchange, response: Response) -> bool:
        """Tell whether a server's connection is one client's from here on.

        NTLM and Negotiate log in a connection, not a request (RFC 4559): whoever came by it next
        would be taken for that client.
        """
        if exchange.connection.plan.rule.send_proxy_protocol is not None:
            return True
        fields, is_challenge = exchange.request.fields, response.status == _UNAUTHORIZED
        if not is_challenge and fields.first(b"authorization") is None:
            return False
        values = fields.all(b"authorization")
        if is_challenge:
            values += response.fields.all(b"www-authenticate")
        return any(
            one.strip().split(b" ")[0].lower() in _OF_CONNECTIONS
            for value in values
            for one in value.split(b",")
        )

    # -- records -------------------------------------------------------------------------------

    def record(self, exchange: GateExchange) -> None:
        """Record an exchange that is over."""
        connection, service, request = exchange.connection, self.service, exchange.request
        is_denied, is_released = exchange.verdict == "denied", exchange.ending is _RELEASED
        if is_denied and not service.flood.note_denied(connection.client_address):
            return
        self.requests += 1
        plan = connection.plan
        record = RequestRecord(
            time=service.port.wall,
            connection=connection.carrier_id,
            request=exchange.id,
            session=exchange.session.id,
            client=connection.client_address.text,
            listener=connection.listener_name,
            verdict="denied" if is_denied else "allowed",
            reason=exchange.reason,
            outcome="released" if is_released else exchange.ending.value,
            policy=service.policy.hash if is_denied else plan.policy_hash,
            rule=exchange.refuser if is_denied else plan.rule.name,
            method=request.method.decode("ascii"),
            url=self._url_of(exchange),
            status=exchange.status,
            server=exchange.server,
            duration_ms=int((service.port.now - exchange.started) * 1e6) / 1e3,
            bytes_to_server=exchange.bytes_to_server,
            bytes_to_client=exchange.bytes_to_client,
        )
        # What most requests have not: the struct's defaults cost nothing.
        if exchange.ended:
            record.ended = exchange.ended
        if exchange.facts:
            record.facts = exchange.facts
        if exchange.session.user is not None:
            record.user = exchange.session.user.name
        if connection.entry is not None:
            record.entry = connection.entry_mode
        if exchange.answered_by_gate:
            record.answered_by_gate = True
        elif exchange.response is not None:
            content_type = exchange.response.fields.first(b"content-type")
            if content_type:
                record.content_type = printable(content_type)
        target = exchange.target
        if target is not None and target.found:
            record.addresses = target.found
        service.recorder.write(record)

    def _url_of(self, exchange: GateExchange) -> str:
        request, target = exchange.request, exchange.target
        if not request.method:
            return ""
        path = request.target.path.partition(b"?")[0].decode("ascii", "replace")
        if target is not None:
            site = target.site
        elif request.authority is not None:
            scheme = request.target.scheme
            named = scheme.decode() if scheme else exchange.scheme
            site = f"{named}://{request.authority}"
        else:
            site = ""
        url = site + path
        return url if len(url) <= WEB_URL_RECORDED_CHARACTERS_MAX else url[:_SHOWN]


def _chose_http2(raw: RawSocket) -> bool:
    """Tell whether a server that was spoken to inside TLS has chosen HTTP/2."""
    return isinstance(raw, TlsSocket) and raw.stream.alpn == HTTP2


def _inside_of(before: OpeningConnection, opened: OpenedTls) -> Inside:
    check, identity = before.plan.tls, opened.identity
    refusal = ""
    if identity is None or not identity.is_verified:
        is_shown = check is not None and check.opening.unverified is Unverified.SHOW
        detail = "" if identity is None else identity.fault_detail
        words = f"{opened.verification}: {detail}" if detail else opened.verification
        refusal = "" if is_shown else words
    is_verified = identity is not None and identity.is_verified
    shared = shared_key(before, opened.host) if is_verified else None
    key = shared or (opened.host.text, before.named_port, f"opened for {before.id}")
    return Inside(
        before.host,
        opened.host,
        before.named_port,
        opened,
        key,
        is_shared=shared is not None,
        refusal=refusal,
    )


def _pseudonym_of(boot_mark: str) -> bytes:
    """Make a name for ``Via``: the same in all workers of one gate, another in every other gate."""
    gate = boot_mark.partition("-")[0]
    return b"sluicegate-" + hashlib.sha256(gate.encode()).hexdigest()[:8].encode()


_RELEASED: Final = Outcome.RELEASED
_SHOWN: Final = WEB_URL_RECORDED_CHARACTERS_MAX
_READABLE: Final = frozenset({WEBSOCKET})
_NO_UPGRADES: Final[frozenset[bytes]] = frozenset()
_UNAUTHORIZED: Final = 401
_OF_CONNECTIONS: Final = frozenset({b"ntlm", b"negotiate"})
_SAYS_WHO_ASKS: Final = (
    b"Forwarded",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Forwarded-Proto",
    b"X-Real-IP",
)
