"""WebSocket (RFC 6455) with permessage-deflate (RFC 7692), sans-io: handshake, frames, messages.

``gate/web`` relays messages with it; wsproto reads and writes the frames. The invariant: nothing
here does I/O, and whatever a peer can make it hold has a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .bounds import DEFAULT_WEBSOCKET_BOUNDS, WebSocketBounds
    from .codec import CLOSE_REASON_BYTES_MAX, WebSocketCodec
    from .deflate import Deflate
    from .events import Close, Message, Ping, Pong, WebSocketEvent
    from .fault import WebSocketError, WebSocketFault
    from .handshake import WEBSOCKET, Handshake, accept_of, is_proven, is_websocket
    from .over_http2 import as_extended_connect, as_stream_answer, as_switched, as_upgrade
else:
    __getattr__ = front(
        __name__,
        bounds=("DEFAULT_WEBSOCKET_BOUNDS", "WebSocketBounds"),
        codec=("CLOSE_REASON_BYTES_MAX", "WebSocketCodec"),
        deflate=("Deflate",),
        events=("Close", "Message", "Ping", "Pong", "WebSocketEvent"),
        fault=("WebSocketError", "WebSocketFault"),
        handshake=("WEBSOCKET", "Handshake", "accept_of", "is_proven", "is_websocket"),
        over_http2=("as_extended_connect", "as_stream_answer", "as_switched", "as_upgrade"),
    )

__all__ = [
    "CLOSE_REASON_BYTES_MAX",
    "DEFAULT_WEBSOCKET_BOUNDS",
    "WEBSOCKET",
    "Close",
    "Deflate",
    "Handshake",
    "Message",
    "Ping",
    "Pong",
    "WebSocketBounds",
    "WebSocketCodec",
    "WebSocketError",
    "WebSocketEvent",
    "WebSocketFault",
    "accept_of",
    "as_extended_connect",
    "as_stream_answer",
    "as_switched",
    "as_upgrade",
    "is_proven",
    "is_websocket",
]
