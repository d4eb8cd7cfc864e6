"""HTTP/1.1 as a security gateway speaks it: bytes in, events out, and written anew.

``Http1Server`` faces clients, ``Http1Client`` faces servers, ``forwarding`` stands between. The
invariant: what an event says has one reading, for us, for llhttp, and for whoever reads what we
write; everything else is refused with an ``HttpProtocolError`` before any event is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
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
else:
    __getattr__ = front(
        __name__,
        bounds=("DEFAULT_BOUNDS", "HttpBounds"),
        client=("ClientEvent", "Http1Client"),
        fault=("HttpFault", "HttpProtocolError"),
        fields=("Fields", "FieldsView"),
        forwarding=("NOT_PASSED", "forwards_left", "has_passed", "to_client", "to_server"),
        known_heads=("KnownFields", "KnownHeads", "KnownResponse"),
        messages=(
            "CHUNKED",
            "NO_BODY",
            "UNTIL_CLOSE",
            "Body",
            "EndOfMessage",
            "EndOfStream",
            "Framing",
            "FramingKind",
            "RawData",
            "Request",
            "Response",
            "Upgraded",
        ),
        server=("Http1Server", "ServerEvent"),
        target=("Authority", "Target", "TargetForm"),
        writing=("Pieces", "written_connect"),
    )

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
