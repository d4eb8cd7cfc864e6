"""Stream: what one end knows of one stream of an HTTP/2 connection (RFC 9113 section 5.1).

``connection`` has one for each that is open or half closed. The invariant: a stream is in its table
until both directions are over; what is counted of it is never less than what the peer may send.
"""

from __future__ import annotations

__all__ = ["Stream"]


class Stream:
    """One stream."""

    __slots__ = (
        "body_left",
        "has_head",
        "held",
        "informational",
        "is_local_over",
        "is_remote_over",
        "is_tunnel",
        "method",
        "number",
        "owed",
        "receive_left",
        "send_window",
        "unacknowledged",
    )

    def __init__(self, number: int, send_window: int, receive_window: int) -> None:
        self.number = number
        self.send_window = send_window
        #: What the peer takes; below 0 after it made its windows smaller.
        self.owed = 0
        #: Sent, and not given back to that window.
        self.receive_left = receive_window
        #: What the peer may send.
        self.unacknowledged = 0
        #: Consumed, and not given back to its window yet.
        self.held = 0
        #: Received, and not consumed.
        self.is_remote_over = self.is_local_over = False
        self.has_head = False
        #: Whether the peer's final head has come.
        self.body_left = -1
        #: What its length says is still to come; below 0 where nothing says it.
        self.informational = 0
        #: 1xx responses that have come.
        self.method = b""
        #: Of the request.
        self.is_tunnel = False
        #: Whether its data are another protocol's (CONNECT).

    @property
    def is_over(self) -> bool:
        """Whether both directions are."""
        return self.is_remote_over and self.is_local_over
