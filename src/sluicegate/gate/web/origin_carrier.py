"""OriginCarrier: a connection of HTTP/2 to a server, for many exchanges at once.

``desk`` makes one where a server has chosen ``h2``; the pool gives its streams out. The invariant:
its streams are for whoever may be led to its judged address under its key, and for one client alone
where it was bound to one; it takes no new ones once it or the server leaves; and when it fails each
of its exchanges is told.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sluicegate.errors import LimitExceeded, errno_name
from sluicegate.gate.internal_error import internal_error
from sluicegate.protocols.http2 import (
    BodyPiece,
    Http2Client,
    Http2Event,
    Http2ProtocolError,
    PeerLeaves,
    WindowOpened,
)
from sluicegate.tls import HTTP2

from .origin_stream import OriginStream
from .shared_servers import proof_of
from .stream_tunnel import RoomTaker
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Collection

    from sluicegate.address import SocketAddress
    from sluicegate.gate.service import FirewallService
    from sluicegate.gate.session import GateSession
    from sluicegate.port import CompletionPort
    from sluicegate.port.backend import RawSocket
    from sluicegate.port.given_away import GivenAway

    from .desk import WebDesk
    from .origin_pool import OriginPool, PoolKey

__all__ = ["OriginCarrier"]


class OriginCarrier:
    """One connection to a server."""

    __slots__ = (
        "_blocked",
        "_is_posted",
        "_is_reading",
        "_pool",
        "_service",
        "_streams",
        "_taken",
        "_touched",
        "_unsettled",
        "address",
        "allowed_by",
        "bound_to",
        "http",
        "key",
        "last_active",
        "uses",
        "wheel_slot",
        "wire",
    )

    def __init__(
        self,
        desk: WebDesk,
        key: PoolKey,
        raw: RawSocket,
        address: SocketAddress,
        session: GateSession,
        *,
        given: GivenAway | None = None,
    ) -> None:
        service = desk.service
        self.key = key
        #: What it may be used for.
        self.address = address
        #: The judged address that was dialled.
        self.allowed_by: Collection[SocketAddress] = ()
        self.bound_to: object = None
        #: The only client's connection that may use it.
        self.uses = 0
        self.wheel_slot = -1
        self.last_active = service.port.now
        self.http = Http2Client(desk.http2_bounds, desk.known_lists)
        self._service: FirewallService = service
        self._pool: OriginPool = desk.pool
        self._streams: dict[int, OriginStream] = {}
        self._taken = 0
        #: Streams that were given out and have no number yet.
        self._blocked: dict[RoomTaker, None] = {}
        self._touched: dict[OriginStream, None] = {}
        #: Streams whose client is to be sent what came in this turn.
        self._unsettled: dict[OriginStream, None] = {}
        #: Streams that ask for another protocol before the server has said whether it has any.
        self._is_posted = self._is_reading = False
        self.wire = Wire(service, raw, self)
        self.wire.session = session
        if given is None:
            self.wire.start()
        else:
            self.wire.adopt(given.receive_op)
        service.wheel.add(self, self.due())
        self.flush()

    # -- giving streams out --------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another exchange may use it."""
        return self.http.has_room_for(self._taken + 1) and not self.wire.is_closing

    def bind_to(self, client: object) -> None:
        """Let nobody but one client's connection use it from here on."""
        self._pool.bind(self, client)

    @property
    def may_be_given_out(self) -> bool:
        """Whether the pool has it, to give out its streams."""
        return not self.wire.is_closing

    @property
    def takes_protocols(self) -> bool:
        """Whether the server has said that its streams may switch protocols (RFC 8441)."""
        return self.http.takes_protocols

    @property
    def may_take_protocols(self) -> bool:
        """Whether its streams may switch protocols, or that is to be waited for.

        Of a server that was asked for nothing but HTTP/2 there is no other connection to be had.
        """
        if self.http.is_settled:
            return self.http.takes_protocols
        proof = proof_of(self.wire.raw)
        return proof is not None and proof.offered == (HTTP2,)

    @property
    def service(self) -> FirewallService:
        """The running service."""
        return self._service

    @property
    def port(self) -> CompletionPort:
        """Whose turns it runs in."""
        return self._service.port

    def open(self) -> OriginStream:
        """Return a stream for an exchange."""
        self._taken += 1
        self.uses += 1
        return OriginStream(self)

    @property
    def is_settled(self) -> bool:
        """Whether the server has said what it understands."""
        return self.http.is_settled

    def await_settings(self, stream: OriginStream) -> None:
        """Tell a stream when the server has said what it understands."""
        self._unsettled[stream] = None

    def _tell_settled(self) -> None:
        unsettled, self._unsettled = self._unsettled, {}
        for stream in unsettled:
            stream.on_settled()

    def on_stream_began(self, stream: OriginStream) -> None:
        """Take that a stream has its number."""
        self._taken -= 1
        self._streams[stream.stream] = stream

    def on_stream_over(self, stream: OriginStream) -> None:
        """Take that nobody uses a stream any more."""
        if not stream.stream:
            self._taken -= 1
        self._streams.pop(stream.stream, None)
        self._unsettled.pop(stream, None)
        self._blocked.pop(stream, None)
        self._touched.pop(stream, None)
        self.last_active = self._service.port.now
        self.flush_soon()
        if (self.http.has_peer_left or self.http.is_leaving) and not self._has_streams:
            self._service.port.post(self._close_when_left)

    @property
    def _has_streams(self) -> bool:
        return bool(self._streams or self._taken)

    def _close_when_left(self) -> None:
        if not self._has_streams:
            self.close()

    # -- receiving -----------------------------------------------------------------------------

    def on_received(self, data: memoryview) -> None:
        """Take what the server sent."""
        http, self._is_reading = self.http, True
        try:
            http.receive_data(data, self._service.port.now)
            while (event := http.next_event()) is not None:
                self._take(event)
                if self.wire.is_closing:
                    return
        except Http2ProtocolError as error:
            self.flush()
            self._fail_all(f"server-{error.fault.code}: {error.hint}", errno.EPROTO)
            return
        finally:
            self._is_reading = False
            touched, self._touched = self._touched, {}
            for stream in touched:
                stream.uncork()
        if self._unsettled and http.is_settled:
            self._tell_settled()
        self.flush()

    def _take(self, event: Http2Event) -> None:
        if isinstance(event, PeerLeaves):
            self._on_peer_leaves(event)
        elif isinstance(event, WindowOpened):
            self._serve_blocked(event.stream)
        else:
            stream = self._streams.get(event.stream)
            if stream is not None:
                self._touched[stream] = None
                stream.take(event)
            elif isinstance(event, BodyPiece):
                self.http.consume(event.stream, event.size)

    def _on_peer_leaves(self, event: PeerLeaves) -> None:
        """Take that the server takes no more; those that it has not looked at go elsewhere."""
        for number, stream in list(self._streams.items()):
            if number > event.last:
                stream.was_not_looked_at = True
                stream.on_carrier_failed("server has left", 0)
        if not self._has_streams:
            self.close()

    # -- sending -------------------------------------------------------------------------------

    def send_data(self, stream: int, data: bytes | memoryview) -> int:
        """Send what the windows let of a request's body; return how much that was."""
        try:
            return self.http.send_data(stream, data)
        except Http2ProtocolError as error:
            # Whoever sends is in the middle of something that an end would pull away.
            reason = f"server-{error.fault.code}: {error.hint}"
            self._service.port.post(lambda: self._fail_all(reason, errno.EPROTO))
            return 0

    def consume(self, stream: int, size: int) -> None:
        """Let the server send more: so much of what it sent was taken."""
        self.http.consume(stream, size)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Send at the end of this turn, with what others say by then."""
        if not (self._is_posted or self._is_reading):
            self._is_posted = True
            self._service.port.post(self._flush_posted)

    def _flush_posted(self) -> None:
        self._is_posted = False
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self.http.has_output and not self.wire.is_closing:
            self.wire.send_pieces(self.http.take_output())

    def note_blocked(self, taker: RoomTaker) -> None:
        """Serve a stream when there is room for it: behind those that wait already."""
        self._blocked[taker] = None

    def forget_blocked(self, taker: RoomTaker) -> None:
        """Take that a stream has nothing to send any more."""
        self._blocked.pop(taker, None)

    def _serve_blocked(self, number: int) -> None:
        for one in list(self._blocked):
            if self.wire.is_closing or self.wire.is_blocked:
                return
            if one in self._blocked and (not number or one.stream == number):
                del self._blocked[one]
                one.on_room()

    def on_room(self) -> None:
        """Take that the server's connection takes bytes again."""
        self._serve_blocked(0)
        self.flush()

    # -- what goes wrong -----------------------------------------------------------------------

    def on_wire_ended(self) -> None:
        """Take the server's end of stream."""
        self._fail_all("server closed", 0)

    def on_wire_failed(self, error: int) -> None:
        """Take that the connection failed."""
        self._fail_all(f"server {errno_name(error)}", error)

    def on_limit(self, error: LimitExceeded) -> None:
        """Take that what the server does not take passes a limit."""
        self._fail_all(f"limit {error.limit}", 0)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._fail_all(internal_error(error), errno.EIO)

    def _fail_all(self, reason: str, error: int) -> None:
        """End everything on it; what may be asked again elsewhere will be."""
        streams = [*self._streams.values(), *self._unsettled]
        self._shut()
        for stream in streams:
            # An answer that has come as a whole is handed on at its client's pace.
            if not stream.is_received:
                stream.on_carrier_failed(reason, error)

    def splice(self) -> bool:
        """Have everything shown: it comes in frames."""
        return False

    def on_wire_closed(self) -> None:
        """Take that the descriptor is free."""
        self._pool.on_closed(self)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close it; exchanges that are on it fail."""
        if self._streams or self._unsettled:
            self._fail_all("server closed", 0)
        else:
            self.http.leave()
            self.flush()
            self._shut()

    def _shut(self) -> None:
        if self.wire.is_closing:
            return
        self._service.wheel.remove(self)
        self._pool.forget_carrier(self)
        self.wire.close(abortive=bool(self._streams))

    def close_when_answered(self) -> None:
        """Take no further exchanges: the gate is being drained."""
        if self._has_streams:
            self.http.is_leaving = True
        else:
            self.close()

    def due(self) -> float:
        """Return when nobody has used it for too long."""
        idle_s = self._service.limits.web_servers_idle_s
        return (self._service.port.now if self._has_streams else self.last_active) + idle_s

    def on_expired(self) -> None:
        """Close it, if nobody uses it."""
        if self._has_streams:
            self._service.wheel.add(self, self.due())
        else:
            self.close()
