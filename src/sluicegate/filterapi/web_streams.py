"""What web filters see and answer where HTTP does not end: WebSocket messages, server-sent events.

The gate calls ``WebFilter.on_message`` and ``on_event`` with them. The invariant: what passes is
exactly what every filter let pass, in order; a message that cannot be sent is found as it is made.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from sluicegate.protocols.server_sent_events import ServerSentEvent
from sluicegate.protocols.websocket import CLOSE_REASON_BYTES_MAX
from sluicegate.verdict import Refuse

from .content_filter import Direction
from .datagram_filter import Drop
from .stream_filter import Forward, Leave, Rewrite

__all__ = [
    "CloseWith",
    "MessageKind",
    "MessageVerdict",
    "ReplaceEvent",
    "SentEventVerdict",
    "WebMessage",
]


class MessageKind(enum.StrEnum):
    """What a message of a WebSocket is."""

    TEXT = "text"
    BINARY = "binary"
    CLOSE = "close"
    """The last word of one end; ``data`` is its reason, which may be empty."""


@dataclass(frozen=True, slots=True)
class WebMessage:
    """One whole message of a WebSocket, decompressed, whatever its fragments were."""

    direction: Direction
    """``UPLOAD`` is what the client sent."""
    kind: MessageKind
    payload: str | bytes
    """``str`` of a text and a close, ``bytes`` of what is binary."""
    number: int = 1
    """Its place in its direction, from 1."""
    close_code: int | None = None
    """Of a close, if one was said."""
    is_compressed: bool = False
    """Whether it came compressed; it goes on likewise."""

    @property
    def data(self) -> bytes:
        """What is in it, a text in UTF-8."""
        payload = self.payload
        return payload.encode() if isinstance(payload, str) else payload

    @property
    def text(self) -> str:
        """The text of it; empty for one that is binary."""
        return self.payload if isinstance(self.payload, str) else ""


@dataclass(frozen=True, slots=True)
class CloseWith(Refuse):
    """End a WebSocket with a close code of its own; a plain ``Refuse`` closes with 1008.

    The client is told ``reason``: nothing of the message belongs into it.
    """

    code: int = 1008
    """1000 to 1003, 1007 to 1013, or one of an application's, 3000 to 4999."""

    def __post_init__(self) -> None:
        """Find what cannot be sent now, where its author sees it."""
        if self.code not in _CODES and not _PRIVATE_MIN <= self.code <= _PRIVATE_MAX:
            raise ValueError(f"{self.code} is no close code that an end may send")
        if len(self.reason.encode()) > CLOSE_REASON_BYTES_MAX:
            raise ValueError(f"a reason has at most {CLOSE_REASON_BYTES_MAX} bytes")


@dataclass(frozen=True, slots=True)
class ReplaceEvent:
    """Send another event in the place of this one."""

    event: ServerSentEvent


MessageVerdict = Forward | Rewrite | Drop | Leave | Refuse
"""What is answered about a message.

``FORWARD`` lets it go on, behind those that were held; ``HOLD`` keeps it until another one of its
direction goes on; ``Rewrite(data)`` sends something else of the same kind (UTF-8 of a text);
``DROP`` sends nothing; ``LEAVE`` lets it and all later ones of its direction pass unseen.
"""

SentEventVerdict = Forward | ReplaceEvent | Drop | Leave | Refuse
"""What is answered about an event; ``HOLD`` is none, as nobody knows when the next one comes."""

_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1014)})
_PRIVATE_MIN: Final = 3000
_PRIVATE_MAX: Final = 4999
