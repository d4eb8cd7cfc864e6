"""What one end of a WebSocket reads and sends: whole messages, pings, pongs, the close.

``WebSocketCodec`` makes and takes them. The invariant: a message is whole, decompressed, and a text
is text; how it was cut into frames is not told.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Close", "Message", "Ping", "Pong", "WebSocketEvent"]


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message: ``str`` is a text message, ``bytes`` a binary one."""

    payload: str | bytes
    is_compressed: bool = False
    """Whether it came compressed, or is to be sent so."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether somebody is there."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping, or a sign of life that nobody asked for."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Close:
    """The last word of one end; nothing that follows it counts."""

    code: int | None = None
    """None: none was said."""
    reason: str = ""
    """At most 123 bytes of UTF-8."""


WebSocketEvent = Message | Ping | Pong | Close
