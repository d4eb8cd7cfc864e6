"""MultiplexedConnection: a client's connection of HTTP/2, on which many exchanges run at once.

``desk`` makes one where TLS has agreed on ``h2``. It owns the socket, carries frames both ways, and
hands each stream to a ``StreamConnection``. The invariant: what a client does wrong on one stream
ends that stream; what it does wrong with frames, or does too often, ends everything, told by a
GOAWAY and recorded; and it takes no streams when it is drained.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override

from sluicegate.address import NOWHERE
from sluicegate.errors import Side
from sluicegate.filterapi import EntryMode, Outcome
from sluicegate.gate.asker import Asker
from sluicegate.gate.connection import GateConnection
from sluicegate.gate.readmission import Readmission, readmit_client
from sluicegate.gate.state import State
from sluicegate.policy.decision import PUBLISHED
from sluicegate.protocols.http1 import Fields
from sluicegate.protocols.http2 import (
    BodyPiece,
    ErrorCode,
    Http2Event,
    Http2ProtocolError,
    Http2Server,
    MalformedRequest,
    RequestBegan,
    ServedAs,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from sluicegate.protocols.websocket import as_upgrade
from sluicegate.web_limits import WEB_LINGER_BYTES_MAX, WEB_LINGER_S

from .connection import NO_PLAN
from .stream_connection import StreamConnection
from .stream_handshake import ConnectTunnel, StreamHandshake
from .stream_tunnel import RoomTaker, StreamTunnel
from .wire import Wire

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.gate.flood_count import FloodClient
    from sluicegate.gate.opened_tls import OpenedTls
    from sluicegate.gate.opening_connection import OpeningConnection
    from sluicegate.gate.own_tls import OwnTls
    from sluicegate.gate.registry import RulePlan
    from sluicegate.gate.service import FirewallService
    from sluicegate.gate.session import GateSession
    from sluicegate.gate.settings import EntrySettings
    from sluicegate.names import CanonicalHost
    from sluicegate.port.backend import Operation, RawSocket
    from sluicegate.port.given_away import GivenAway

    from .desk import WebDesk
    from .gate_exchange import GateExchange
    from .inside import Inside
    from .origin_pool import PoolKey

__all__ = ["MultiplexedConnection", "StreamUser"]


class StreamUser(Protocol):
    """Who has a stream: the end of an exchange, or a tunnel."""

    stream: int
    exchange: GateExchange | None

    def on_body(self, data: memoryview) -> None:
        """Take bytes from the client."""
        ...

    def on_body_end(self, trailers: Fields) -> None:
        """Take the end of what it sends."""
        ...

    def on_reset(self) -> None:
        """Take that the client gives the stream up."""
        ...

    def on_fault(self, reason: str) -> None:
        """Take that the client did what it may not, for which the stream is over."""
        ...

    def on_room(self) -> None:
        """Take that there may be room for more."""
        ...

    def end_with_carrier(self) -> None:
        """End with the client's connection."""
        ...


class MultiplexedConnection(GateConnection):
    """One client's connection."""

    __slots__ = (
        "_blocked",
        "_free",
        "_is_posted",
        "_is_reading",
        "_lingered",
        "_places",
        "_requests",
        "_streams",
        "bytes_to_servers",
        "desk",
        "entry",
        "found",
        "head_began",
        "http",
        "inside",
        "linger_until",
        "opened",
        "own_tls",
        "published",
        "published_key",
        "published_name",
        "refusal",
        "wire",
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
        self.entry = entry
        #: Of a proxy listener; None: what it is asked for is published.
        self.refusal = ""
        #: Why nobody may come by the certificate that the client showed.
        self.published = NOWHERE
        self.published_key: PoolKey = ("", 0, "")
        self.published_name: CanonicalHost | None = None
        self.own_tls: OwnTls | None = None
        self.found: tuple[str, ...] = ()
        self.inside: Inside | None = None
        #: What it is for, if its TLS was opened.
        self.opened: OpenedTls | None = None
        self.bytes_to_servers = 0
        self.head_began = self.linger_until = 0.0
        self.state = State.OPEN
        if entry is not None:
            self.entry_mode = EntryMode.HTTP
            session.listeners[listener_name] = None
        self.http = self._serve(is_proxy=entry is not None)
        self.wire: Wire = Wire(service, raw, self)
        self.wire.session = session
        self._client_raw = raw
        self._streams: dict[int, StreamUser] = {}
        #: Those that have an exchange.
        self._free: list[StreamConnection] = []
        self._places = self._requests = 0
        #: How many of them were made, and requests that have come.
        self._blocked: dict[RoomTaker, None] = {}
        #: Those whose answer waits for windows, or for the wire; the first is served first.
        self._is_posted = self._is_reading = False
        self._lingered = 0

    # -- life ----------------------------------------------------------------------------------

    def _serve(self, *, is_proxy: bool) -> Http2Server:
        """Return what reads its frames, and says first what may be asked for."""
        desk = self.desk
        served = ServedAs(is_proxy=is_proxy, protocols=desk.protocols_on_streams)
        return Http2Server(served, desk.http2_bounds, desk.known_lists)

    def begin_published(self) -> None:
        """Begin to receive: its rule has let the client in."""
        self._take_in()
        self._service.record_decision(self, "allowed", PUBLISHED)
        self.wire.start()
        self.flush()

    def begin_with(self, operation: Operation, early: bytes, *, ended: bool) -> None:
        """Go on where a handshake stopped to read."""
        self.wire.adopt(operation)  # first of all: it is in flight, and is nobody else's
        self._take_in()
        self.flush()
        if early and not self.is_closing:
            self.on_received(early)
        if ended and not self.is_closing:
            self.on_wire_ended()

    def begin_inside(
        self, before: OpeningConnection, inside: Inside, client: GivenAway, early: bytes
    ) -> None:
        """Go on inside TLS, in the place of another object and in its name."""
        self.inside, self.opened = inside, inside.opened
        self.http = self._serve(is_proxy=False)
        self.announced, self.entry_mode = before.announced, before.entry_mode
        self.asked, self.host_name, self.found = before.asked, before.host_name, before.found
        self.started, self.started_wall = before.started, before.started_wall
        self.connect_s, self.server_address = before.connect_s, before.server_address
        self.give_attached(before)
        before.session.connections -= 1  # it is this one from here on
        self.begin_with(client.receive_op, early, ended=client.ended)

    def _take_in(self) -> None:
        service = self._service
        service.add_connection(self)
        self.head_began = self.port.now
        service.wheel.add(self, self.due())

    @property
    def service(self) -> FirewallService:
        """The running service."""
        return self._service

    @override
    def byte_counts(self) -> tuple[int, int, int]:
        """Return what servers were sent, what the client was sent, and nothing was spliced."""
        return self.bytes_to_servers, self.wire.bytes_sent, 0

    def end_half_open(self) -> None:
        """Take that the first request has its server, or was answered without one."""
        if self.is_half_open:
            self.is_half_open = False
            self._service.flood.end_half_open(self.flood)

    # -- receiving -----------------------------------------------------------------------------

    def on_received(self, data: memoryview | bytes) -> None:
        """Take what the client sent."""
        if self.linger_until:
            self._lingered += len(data)
            if self._lingered > WEB_LINGER_BYTES_MAX:
                self.close(abortive=True)
            return
        http, self._is_reading = self.http, True
        try:
            http.receive_data(data, self.port.now)
            while (event := http.next_event()) is not None:
                self._take(event)
                if self.is_closing or self.linger_until:
                    return
        except Http2ProtocolError as error:
            self._on_protocol_error(error)
            return
        finally:
            self._is_reading = False
        self._note_head()
        self.flush()

    def _note_head(self) -> None:
        """Note since when a head is on its way."""
        if not self.http.is_inside_head:
            self.head_began = 0.0
        elif not self.head_began:
            self.head_began = now = self.port.now
            self._service.wheel.hasten(self, now + self._service.limits.web_head_timeout_s)

    def _take(self, event: Http2Event) -> None:
        kind = type(event)
        if kind is RequestBegan:
            assert isinstance(event, RequestBegan)
            self._begin_request(event)
        elif kind is BodyPiece:
            assert isinstance(event, BodyPiece)
            end = self._streams.get(event.stream)
            if end is not None:
                end.on_body(event.data)
            else:
                self.http.consume(event.stream, event.size)
        elif isinstance(event, StreamEnded):
            end = self._streams.get(event.stream)
            if end is not None:
                end.on_body_end(event.trailers)
        elif isinstance(event, WindowOpened):
            self._serve_blocked(event.stream)
        else:
            self._take_end(event)

    def _take_end(self, event: Http2Event) -> None:
        if isinstance(event, StreamReset):
            end = self._streams.get(event.stream)
            if end is not None and event.fault is None:
                end.on_reset()
            elif end is not None and event.fault is not None:
                end.on_fault(f"malformed-request: {event.fault.code}")
        elif isinstance(event, MalformedRequest):
            fault = event.fault
            reason = f"malformed-request: {fault.code}"
            place = self._place_for(event.stream)
            place.end.begin_malformed(event.stream, fault.status, reason, event.hint)

    def _begin_request(self, event: RequestBegan) -> None:
        number = self.next_request()
        is_connect = event.request.method == b"CONNECT" and not event.protocol
        if is_connect and self.entry is not None and self.inside is None:
            self._begin_tunnel(event)
            return
        request, place = event.request, self._place_for(event.stream)
        if event.protocol:
            request = as_upgrade(request, event.protocol, secrets.token_bytes(_NONCE_BYTES))
        place.end.begin_request(event.stream, request, number, is_whole=event.is_whole)

    def _begin_tunnel(self, event: RequestBegan) -> None:
        """Begin a handshake on a stream, which counts as another connection of the client."""
        service = self._service
        flood = service.flood.admit(self.client_address)
        if flood is None:
            self.http.reset(event.stream, ErrorCode.REFUSED_STREAM)
            return
        tunnel = ConnectTunnel(self, event.stream, event.request)
        self._streams[event.stream] = tunnel
        self.last_active = self.port.now
        self.end_half_open()
        service.entries.begin(StreamHandshake(self, tunnel, flood))
        if event.is_whole:
            tunnel.on_body_end(_NO_TRAILERS)

    def take_over(self, tunnel: StreamTunnel) -> None:
        """Take that a stream has switched to another protocol."""
        self._streams[tunnel.stream] = tunnel

    def on_tunnel_over(self, tunnel: StreamTunnel) -> None:
        """Take that a tunnel's stream has ended."""
        self._streams.pop(tunnel.stream, None)
        self._blocked.pop(tunnel, None)
        self.last_active = self.port.now
        if self.http.is_full and not self._streams:
            self.flush_soon()

    def next_request(self) -> int:
        """Return the number of a request that has come; the last one that may come ends it."""
        self._requests += 1
        if self._requests >= self._service.limits.web_requests_per_connection_max:
            self.http.is_full = True
        return self._requests

    def _place_for(self, stream: int) -> StreamConnection:
        """Return a place for the exchange of a stream."""
        self.last_active = self.port.now
        if self._free:
            place = self._free.pop()
        else:
            self._places += 1
            place = StreamConnection(self, self._places)
        self._streams[stream] = place.end
        return place

    def consume(self, stream: int, size: int) -> None:
        """Let the client send more: so much of a request's body was taken."""
        self.http.consume(stream, size)
        if not self._is_reading:
            self.flush_soon()

    # -- what goes wrong -----------------------------------------------------------------------

    def _on_protocol_error(self, error: Http2ProtocolError) -> None:
        """End everything, and let the client read why."""
        if self.is_closing:
            return
        reason = f"malformed-http2: {error.fault.code}"
        for end in list(self._streams.values()):
            end.on_fault(reason)
        self.outcome, self.reason = Outcome.REFUSED, reason
        self.error_side = Side.CLIENT
        self._service.denied += 1
        self.flush()
        self._linger()

    def _linger(self) -> None:
        """Close such that the client reads what it was sent last."""
        if self.is_closing or self.linger_until:
            return
        if self.wire.is_blocked or not self.wire.end_stream():
            self.close(abortive=True)
            return
        self.linger_until = self.port.now + WEB_LINGER_S
        self._service.wheel.hasten(self, self.linger_until)

    def on_wire_ended(self) -> None:
        """Take the client's end of stream: whoever leaves wants no answers."""
        self.close(abortive=bool(self._streams))

    def on_wire_failed(self, error: int) -> None:
        """Take that the client's connection failed."""
        if not self._streams or self.linger_until:
            # Between two requests a client may go as it likes.
            self.close(abortive=True)
        else:
            self.on_transport_error(Side.CLIENT, error)

    # -- sending -------------------------------------------------------------------------------

    def send_data(self, stream: int, data: bytes | memoryview) -> int:
        """Send what the windows let of an answer's body; return how much that was."""
        try:
            return self.http.send_data(stream, data)
        except Http2ProtocolError as error:
            # Whoever sends is in the middle of something that an end would pull away.
            fault = error
            self.port.post(lambda: self._on_protocol_error(fault))
            return 0

    def flush_soon(self) -> None:
        """Send at the end of this turn, or of what is being read, with what others say by then."""
        if not (self._is_posted or self._is_reading):
            self._is_posted = True
            self.port.post(self._flush_posted)

    def _flush_posted(self) -> None:
        self._is_posted = False
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        http = self.http
        if self.is_closing:
            return
        if http.is_full and not self._streams:
            http.leave()
        if http.has_output:
            self.wire.send_pieces(http.take_output())
        if http.is_leaving and not (self._streams or self.is_closing):
            self._linger()

    def note_blocked(self, taker: RoomTaker) -> None:
        """Serve a stream when there is room for it: behind those that wait already."""
        self._blocked[taker] = None

    def _serve_blocked(self, stream: int) -> None:
        """Let those go on that have room now; 0 stands for all."""
        if stream:
            end = self._streams.get(stream)
            waiting: list[RoomTaker] = [end] if end is not None and end in self._blocked else []
        else:
            waiting = list(self._blocked)
        for one in waiting:
            if self.is_closing or self.wire.is_blocked:
                return
            if one in self._blocked:
                del self._blocked[one]
                one.on_room()

    def on_room(self) -> None:
        """Take that the client's connection takes bytes again."""
        self._serve_blocked(0)
        if not self.wire.is_blocked:
            self.flush()

    # -- streams that are over -----------------------------------------------------------------

    def on_stream_over(self, place: StreamConnection) -> None:
        """Take that an exchange is over: its place is free for another one."""
        end = place.end
        self._streams.pop(end.stream, None)
        self._blocked.pop(end, None)
        if not (place.is_closing or self.is_closing):
            self._free.append(place)
        if self.http.is_full and not self._streams:
            self.flush_soon()

    def on_place_closed(self, place: StreamConnection) -> None:
        """Take that a place is not used any more."""
        self._blocked.pop(place.end, None)

    # -- policy --------------------------------------------------------------------------------

    @override
    def judge_anew(self) -> Readmission:
        """Say by which rule the client would be let in now; its requests are judged themselves."""
        if self.entry is not None:
            refused = None
            if self.inside is not None:
                name, user = self.listener_name, self.session.rules_user
                asker = Asker(name, self.client_address, user)
                refused = self.inside.judge_anew(self._service, asker)
            return refused or Readmission(self.plan)
        return readmit_client(self._service, self.listener_name, self.client_address, self.plan)

    def drain(self) -> None:
        """Take no further streams, and close when those that are open are answered."""
        self.http.is_full = True
        self.flush()

    # -- the end -------------------------------------------------------------------------------

    @override
    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if self.is_closing:
            return
        for end in list(self._streams.values()):
            exchange = end.exchange
            if exchange is not None:
                exchange.note_end(outcome, reason)
        super()._end(outcome, reason, error, side)

    @override
    def close(self, *, abortive: bool) -> None:
        """End every stream, and the client's connection."""
        if self.is_closing:
            return
        self.is_closing = True
        self.state = State.CLOSING
        self._service.wheel.remove(self)
        self._client_raw = None
        if self.dependents:
            self._cancel_dependents()
        for end in list(self._streams.values()):
            end.end_with_carrier()
        for place in self._free:
            place.end_unused()
        self._free.clear()
        self._streams.clear()
        self._blocked.clear()
        self.desk.pool.release(self)
        self.wire.close(abortive=abortive)

    def splice(self) -> bool:
        """Have everything shown: it comes in frames."""
        return False

    def on_wire_closed(self) -> None:
        """Take that the client's descriptor is closed."""
        self.state = State.CLOSED
        self._finish()

    @override
    def on_internal_error(self, error: BaseException) -> None:
        if self.is_closing:
            self.wire.close(abortive=True)  # should its end have failed half-way
        super().on_internal_error(error)

    @override
    def join(self) -> None:
        """Do nothing: the wire joins."""

    # -- deadlines -----------------------------------------------------------------------------

    @override
    def due(self) -> float:
        """Return the next deadline as things stand; exchanges have their own."""
        limits = self._service.limits
        if self.linger_until:
            return self.linger_until
        idle = self.last_active + limits.web_idle_timeout_s
        if self._streams:
            idle = self.port.now + limits.web_idle_timeout_s
        if self.head_began:
            idle = min(idle, self.head_began + limits.web_head_timeout_s)
        if self.wire.is_blocked:
            idle = min(idle, self.wire.blocked_since + limits.web_window_s)
        return idle

    @override
    def on_expired(self) -> None:
        """Take a deadline: say which, and end."""
        limits, now = self._service.limits, self.port.clock.monotonic()
        if self.linger_until:
            self.close(abortive=True)
        elif self.head_began and self.head_began + limits.web_head_timeout_s <= now:
            self._end(Outcome.REFUSED, "limit web_head_timeout_s")
        elif self.wire.is_blocked and self.wire.blocked_since + limits.web_window_s <= now:
            self._end(Outcome.FAILED, "client takes its answer too slowly")
        elif not self._streams:
            self.drain()
        if not self.is_closing and self.wheel_slot < 0:
            self._service.wheel.add(self, self.due())


_NO_TRAILERS: Final = Fields()
_NONCE_BYTES: Final = 16
