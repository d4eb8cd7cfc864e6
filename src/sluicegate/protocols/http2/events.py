"""What one end of an HTTP/2 connection has read.

``Http2Server`` and ``Http2Client`` make them; heads are those of HTTP/1's messages, so that nothing
behind this package knows which version came. The invariant: of one stream comes one final head
first, then its data, then its end; behind ``StreamReset`` comes nothing more of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sluicegate.protocols.http1.fields import Fields
from sluicegate.protocols.http1.messages import Request, Response

from .fault import Http2Fault

__all__ = [
    "BodyPiece",
    "Http2Event",
    "MalformedRequest",
    "PeerLeaves",
    "RequestBegan",
    "ResponseBegan",
    "StreamEnded",
    "StreamReset",
    "WindowOpened",
]


@dataclass(slots=True)
class RequestBegan:
    """A request's head."""

    stream: int
    request: Request
    is_whole: bool
    #: Nothing follows it.
    protocol: bytes = b""
    #: Of an extended CONNECT (RFC 8441).


@dataclass(slots=True)
class MalformedRequest:
    """A head that is refused; the stream is there to be answered, and is to be reset then."""

    stream: int
    fault: Http2Fault
    hint: str


@dataclass(slots=True)
class ResponseBegan:
    """A response's head; informational ones come before the final one."""

    stream: int
    response: Response
    is_whole: bool


@dataclass(slots=True)
class BodyPiece:
    """Some bytes of a body; ``size`` of the window are taken until they are consumed."""

    stream: int
    data: memoryview
    size: int


@dataclass(slots=True)
class StreamEnded:
    """The peer's message is whole."""

    stream: int
    trailers: Fields


@dataclass(slots=True)
class StreamReset:
    """A stream is over before its time."""

    stream: int
    code: int
    #: ``ErrorCode``, or what else the peer sent.
    fault: Http2Fault | None = None
    #: What the peer did, where it is we who reset it; None: the peer has.


@dataclass(slots=True)
class WindowOpened:
    """The peer takes more; 0 stands for all streams."""

    stream: int


@dataclass(slots=True)
class PeerLeaves:
    """The peer takes no new streams, and has not looked at those above ``last`` (GOAWAY)."""

    last: int
    code: int


Http2Event: TypeAlias = (
    RequestBegan
    | MalformedRequest
    | ResponseBegan
    | BodyPiece
    | StreamEnded
    | StreamReset
    | WindowOpened
    | PeerLeaves
)
