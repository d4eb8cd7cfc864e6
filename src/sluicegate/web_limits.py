"""Limits of the web proxy: what one exchange, one connection and one server may take.

``limits.Limits`` has them all, so an operator sets them in ``[limits]``. The invariant: whatever a
client or a server of HTTP can make the gate hold, or wait for, has a number here or among those of
the parsers (``protocol_limits``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "WEBSOCKET_CLOSE_S",
    "WEBSOCKET_EVENTS_PER_TURN_MAX",
    "WEBSOCKET_HELD_MAX",
    "WEBSOCKET_LINGER_BYTES_MAX",
    "WEBSOCKET_PINGS_MAX",
    "WEB_AHEAD_BYTES_MAX",
    "WEB_FIRST_DIAL_S",
    "WEB_JOIN_BYTES_MAX",
    "WEB_KNOWN_MAX",
    "WEB_LINGER_BYTES_MAX",
    "WEB_LINGER_S",
    "WEB_SPLICE_BYTES_MIN",
    "WEB_URL_RECORDED_CHARACTERS_MAX",
    "WebLimits",
]

WEB_KNOWN_MAX: Final = 4096
"""Requests whose outcome a worker keeps for the next one like them; each is less than 1 KiB."""

WEB_FIRST_DIAL_S: Final = 1.0
"""How long exchanges wait for the dial of another one to the same server, which may choose HTTP/2
and serve all of them; then each dials for itself, as they would have."""

WEB_AHEAD_BYTES_MAX: Final = 64 << 10
"""Requests that a client sends behind the one that is being answered: beyond it nothing is received
from the client until the answer was sent. About 200 pipelined requests of a browser."""

WEB_JOIN_BYTES_MAX: Final = 16 << 10
"""A head and its body are joined for one send up to here; above it a second send is cheaper than
the copy."""

WEB_SPLICE_BYTES_MIN: Final = 256 << 10
"""What has to be left of a body of known length for the kernel to move it: below it a pipe and two
polls cost more than the copy."""

WEB_LINGER_S: Final = 2.0
"""How long a client that was answered for good may take to read it and close, then it is reset:
closing at once, while it still sends, would make its kernel throw the answer away."""

WEB_LINGER_BYTES_MAX: Final = 256 << 10
"""What such a client may go on to send meanwhile; it is dropped."""

WEB_URL_RECORDED_CHARACTERS_MAX: Final = 8192
"""The part of a URL that a record has: as long as a target may be."""


WEBSOCKET_HELD_MAX: Final = 64
"""Messages of one direction that the filters of a WebSocket hold: enough for what was cut into
pieces, and no queue."""

WEBSOCKET_LINGER_BYTES_MAX: Final = 64 << 20
"""What a side of a WebSocket that was sent its close may go on to send until ``WEB_LINGER_S``, and
is dropped: the rest of a message that was too large is on its way, and a reset would overtake the
close that says so."""

WEBSOCKET_PINGS_MAX: Final = 16
"""Pings that wait for their pong; of more, the oldest are forgotten. An end may answer the last one
alone (RFC 6455 section 5.5.3)."""

WEBSOCKET_CLOSE_S: Final = 10.0
"""How long the second close may take behind the first one, or behind the last message before it;
browsers wait about as long."""

WEBSOCKET_EVENTS_PER_TURN_MAX: Final = 64
"""Messages and pings of one direction in one turn of the loop: about 2 ms."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What an operator may set of them."""

    web_head_timeout_s: float = 20.0
    """From the first byte of a request's head to its last (slow heads); Apache allows 20 to 40."""

    web_idle_timeout_s: float = 60.0
    """A client's connection between two requests; browsers close theirs after one to five minutes.
    """

    web_window_s: float = 30.0
    """While a body is on its way, or somebody does not take one, ``web_window_bytes_min`` have to
    move within each window of this length. Servers are held to it in bodies of a known length: what
    has none may be a stream, which is silent as long as nothing happens."""

    web_window_bytes_min: int = 8192
    """See ``web_window_s``: 273 bytes a second, a tenth of an analogue modem. A rule may have its
    own (``limits.window_bytes_min``)."""

    web_response_timeout_s: float = 300.0
    """A server that has been sent a whole request and says nothing; long polls take minutes."""

    web_exchange_s: float = 14400.0
    """One request and its response in all: 1 GiB at 75 KiB a second."""

    web_requests_per_connection_max: int = 10_000
    """Requests on one client's connection; the last one is answered with ``Connection: close``, so
    that a busy client comes back to another worker at times."""

    web_head_bytes_max: int = 64 << 10
    """The head of a request or a response; see ``HTTP_HEAD_BYTES_MAX``."""

    web_target_bytes_max: int = 8192
    """The target (URL) of a request; see ``HTTP_TARGET_BYTES_MAX``."""

    web_fields_max: int = 100
    """Fields of one head; see ``HTTP_FIELDS_MAX``."""

    web_event_bytes_max: int = 1 << 20
    """One server-sent event that a filter is shown; see ``SSE_EVENT_BYTES_MAX``."""

    web_message_bytes_max: int = 4 << 20
    """One message of a WebSocket that a filter is shown; see ``WEBSOCKET_MESSAGE_BYTES_MAX``."""

    web_messages_bytes_max: int = 256 << 20
    """All messages of WebSockets that one worker keeps: those that are not whole, that wait for a
    verdict, or that a filter holds."""

    web_servers_idle_s: float = 20.0
    """A connection to a server that no request uses: shorter than servers keep theirs (nginx 75 s,
    Node 5 s), or the next request would often find it closed."""

    web_servers_idle_per_server_max: int = 64
    """Such connections to one server."""

    web_servers_idle_max: int = 1024
    """Such connections of one worker in all."""
