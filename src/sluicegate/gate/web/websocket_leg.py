"""WebSocketLeg: one side of a WebSocket whose messages are read: a codec on a connected socket.

``websocket_relay`` has one towards the client and one towards the server. The invariant: its close
is sent once and is the last thing that is sent; pings that pass carry nothing of their sender's.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol

from sluicegate.errors import LimitExceeded, Side
from sluicegate.protocols.websocket import (
    Close,
    Deflate,
    Message,
    Ping,
    Pong,
    WebSocketBounds,
    WebSocketCodec,
)
from sluicegate.web_limits import WEBSOCKET_LINGER_BYTES_MAX, WEBSOCKET_PINGS_MAX

if TYPE_CHECKING:
    from .switched import Switched
    from .websocket_relay import WebSocketRelay

__all__ = ["LegWire", "WebSocketLeg"]


class LegWire(Protocol):
    """What carries a leg: a ``Wire``, or a stream of HTTP/2 (RFC 8441)."""

    blocked_since: float
    is_closing: bool

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the peer to take it."""
        ...

    def send(self, data: bytes) -> bool:
        """Send; False: some of it is kept, and nothing more should come before ``on_room``."""
        ...

    def pause(self) -> None:
        """Show nothing more before ``resume``, but what has been received by now."""
        ...

    def resume(self) -> None:
        """Go on receiving."""
        ...

    def end_stream(self) -> bool:
        """Send nothing more; False when the peer has gone."""
        ...

    def close(self, *, abortive: bool) -> None:
        """Close."""
        ...


class WebSocketLeg:
    """One side (``WireOwner``, and an ``Outlet`` for the deadlines)."""

    __slots__ = (
        "_lingered",
        "_on_closed",
        "_ping_count",
        "_pings",
        "_relay",
        "_shuts",
        "codec",
        "has_closed",
        "has_ended",
        "sink_side",
        "was_closed",
        "wire",
    )

    def __init__(
        self,
        relay: WebSocketRelay,
        side: Side,
        switched: Switched,
        deflate: Deflate | None,
        bounds: WebSocketBounds,
    ) -> None:
        """Make one.

        Args:
            relay: Whose it is.
            side: Who is at its other end.
            switched: What carries it.
            deflate: What the handshake agreed on.
            bounds: Of messages that come.
        """
        self.sink_side = side
        self.wire: LegWire = switched.wire
        self.codec = WebSocketCodec(is_client=side is Side.SERVER, deflate=deflate, bounds=bounds)
        self.has_closed = False
        #: Whether its close came.
        self.was_closed = False
        #: Whether it was sent a close.
        self.has_ended = False
        #: Whether it will send nothing more.
        self._relay = relay
        self._on_closed = switched.on_closed
        self._pings: deque[tuple[bytes, bytes]] = deque()
        #: What it was asked, and what the other side asked by that.
        self._ping_count = 0
        self._lingered = 0
        self._shuts = False
        #: Whether its stream is ended when it has taken what waits.

    # -- sending ---------------------------------------------------------------------------------

    def send(self, event: Message | Pong) -> bool:
        """Send; False while it does not take it. Nothing follows a close."""
        if self.was_closed:
            return True
        return self._send(self.codec.send(event))

    def send_ping(self, data: bytes) -> None:
        """Ask whether it is there, for the other side; what that sends along stays here."""
        if self.was_closed:
            return
        self._ping_count += 1
        token = struct.pack("!Q", self._ping_count)
        self._pings.append((token, data))
        if len(self._pings) > WEBSOCKET_PINGS_MAX:
            self._pings.popleft()
        self._send(self.codec.send(Ping(token)))

    def asked_by(self, pong: Pong) -> bytes | None:
        """Return what the other side asked, if this answers it; None: nobody asked."""
        for place, (token, data) in enumerate(self._pings):
            if token == pong.data:
                for _ in range(place + 1):
                    self._pings.popleft()
                return data
        return None

    def send_close(self, close: Close, *, is_last: bool) -> None:
        """Send the close, once.

        Args:
            close: What it is told.
            is_last: Whether nothing is waited for but its end.
        """
        if not self.was_closed:
            self.was_closed = True
            self._send(self.codec.send(close))
        if is_last:
            self._shuts = True
            if not self.wire.is_blocked and not self.wire.is_closing:
                self.wire.end_stream()

    def _send(self, data: bytes) -> bool:
        is_sent = self.wire.send(data)
        if not is_sent:
            self._relay.on_blocked()
        return is_sent

    @property
    def blocked_since(self) -> float:
        """As ``Outlet.blocked_since``."""
        return self.wire.blocked_since

    @property
    def is_done(self) -> bool:
        """As ``Outlet.is_done``: a WebSocket has no half that stays open."""
        return False

    # -- the wire tells (WireOwner) --------------------------------------------------------------

    def on_received(self, data: memoryview | bytes) -> None:
        """Take what came."""
        if self._relay.is_ending:
            self._lingered += len(data)
            if self._lingered > WEBSOCKET_LINGER_BYTES_MAX:
                # It has its close; a reset now might come before it has read that.
                self.wire.pause()
            return
        self.codec.receive_data(data)
        self._relay.on_received(self)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._relay.on_internal_error(error)

    def on_wire_ended(self) -> None:
        """Take that it will send nothing more."""
        self.has_ended = True
        self._relay.on_ended(self)

    def on_wire_failed(self, error: int) -> None:
        """Take that its connection failed."""
        self.has_ended = True
        self._relay.on_failed(self, error)

    def on_limit(self, error: LimitExceeded) -> None:
        """Take that what it does not take passes a limit."""
        self._relay.on_limit(error)

    def on_room(self) -> None:
        """Take that everything that waited has been sent."""
        if self._shuts:
            self.wire.end_stream()
        self._relay.on_room(self)

    def splice(self) -> bool:
        """Have everything shown: each message is read."""
        return False

    def on_wire_closed(self) -> None:
        """Take that the descriptor is free."""
        self._on_closed()
        del self._relay, self._on_closed
