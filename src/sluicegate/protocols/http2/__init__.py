"""HTTP/2 as a security gateway speaks it: bytes in, events out, and written anew.

``Http2Server`` faces clients, ``Http2Client`` faces servers; their messages are those of HTTP/1,
so that whatever stands between two ends never knows which version came. The invariant: what an
event says can be sent on in HTTP/1 as it is, and means the same there; everything else is refused
before any event is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .bounds import DEFAULT_HTTP2_BOUNDS, Http2Bounds
    from .client import Http2Client
    from .connection import Http2Connection
    from .events import (
        BodyPiece,
        Http2Event,
        MalformedRequest,
        PeerLeaves,
        RequestBegan,
        ResponseBegan,
        StreamEnded,
        StreamReset,
        WindowOpened,
    )
    from .fault import ErrorCode, Http2Fault, Http2ProtocolError
    from .field_lists import KnownLists
    from .frames import PREFACE
    from .request_head import ServedAs
    from .response_head import whole_fields
    from .server import Http2Server
else:
    __getattr__ = front(
        __name__,
        bounds=("DEFAULT_HTTP2_BOUNDS", "Http2Bounds"),
        client=("Http2Client",),
        connection=("Http2Connection",),
        events=(
            "BodyPiece",
            "Http2Event",
            "MalformedRequest",
            "PeerLeaves",
            "RequestBegan",
            "ResponseBegan",
            "StreamEnded",
            "StreamReset",
            "WindowOpened",
        ),
        fault=("ErrorCode", "Http2Fault", "Http2ProtocolError"),
        field_lists=("KnownLists",),
        frames=("PREFACE",),
        request_head=("ServedAs",),
        response_head=("whole_fields",),
        server=("Http2Server",),
    )

__all__ = [
    "DEFAULT_HTTP2_BOUNDS",
    "PREFACE",
    "BodyPiece",
    "ErrorCode",
    "Http2Bounds",
    "Http2Client",
    "Http2Connection",
    "Http2Event",
    "Http2Fault",
    "Http2ProtocolError",
    "Http2Server",
    "KnownLists",
    "MalformedRequest",
    "PeerLeaves",
    "RequestBegan",
    "ResponseBegan",
    "ServedAs",
    "StreamEnded",
    "StreamReset",
    "WindowOpened",
    "whole_fields",
]
