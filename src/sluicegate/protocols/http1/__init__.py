"""HTTP/1.1 as a security gateway speaks it: bytes in, events out, and written anew.

``Http1Server`` faces clients, ``Http1Client`` faces servers, ``forwarding`` stands between. The
invariant: what an event says has one reading, for us, for llhttp, and for whoever reads what we
write; everything else is refused with an ``HttpProtocolError`` before any event is made of it.
"""

from .bounds import DEFAULT_BOUNDS, HttpBounds
from .client import ClientEvent, Http1Client
from .fault import HttpFault, HttpProtocolError
from .fields import Fields, FieldsView
from .forwarding import NOT_PASSED, forwards_left, has_passed, to_client, to_server
from .known_heads import KnownFields, KnownHeads, KnownResponse
from .messages import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Body,
    EndOfMessage,
    EndOfStream,
    Framing,
    FramingKind,
    RawData,
    Request,
    Response,
    Upgraded,
)
from .server import Http1Server, ServerEvent
from .target import Authority, Target, TargetForm
from .writing import Pieces, written_connect

__all__ = [
    "CHUNKED",
    "DEFAULT_BOUNDS",
    "NOT_PASSED",
    "NO_BODY",
    "UNTIL_CLOSE",
    "Authority",
    "Body",
    "ClientEvent",
    "EndOfMessage",
    "EndOfStream",
    "Fields",
    "FieldsView",
    "Framing",
    "FramingKind",
    "Http1Client",
    "Http1Server",
    "HttpBounds",
    "HttpFault",
    "HttpProtocolError",
    "KnownFields",
    "KnownHeads",
    "KnownResponse",
    "Pieces",
    "RawData",
    "Request",
    "Response",
    "ServerEvent",
    "Target",
    "TargetForm",
    "Upgraded",
    "forwards_left",
    "has_passed",
    "to_client",
    "to_server",
    "written_connect",
]
