"""Drives both ends of HTTP/2 with frames that are put together by hand, at any cut."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from sluicegate.protocols.http2 import (
    PREFACE,
    BodyPiece,
    Http2Bounds,
    Http2Client,
    Http2Event,
    Http2ProtocolError,
    Http2Server,
    MalformedRequest,
    PeerLeaves,
    RequestBegan,
    ResponseBegan,
    ServedAs,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from sluicegate.protocols.http2.connection import Http2Connection

Pairs = Iterable[tuple[bytes, bytes]]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32

PROXY = ServedAs(is_proxy=True)
SITE = ServedAs(is_proxy=False, protocols=frozenset({b"websocket"}))

GET = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b":path", b"/"),
]
POST = [(b":method", b"POST"), *GET[1:]]


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + (
        payload
    )


def word(value: int) -> bytes:
    return struct.pack(">L", value)


def setting(key: int, value: int) -> bytes:
    return struct.pack(">HL", key, value)


def literal(pairs: Pairs) -> bytes:
    """Compress without a table: any order, any bytes, no memory."""
    out = b""
    for name, value in pairs:
        out += b"\x00" + _text(name) + _text(value)
    return out


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    rest, head = size - 127, b"\x7f"
    while rest >= 128:
        head += bytes([rest & 127 | 128])
        rest >>= 7
    return head + bytes([rest]) + text


def head(stream: int, pairs: Pairs, *, ends: bool = True, flags: int = 0) -> bytes:
    """A whole head in one frame."""
    return raw(HEADERS, END_HEADERS | (END_STREAM if ends else 0) | flags, stream, literal(pairs))


def data(stream: int, payload: bytes, *, ends: bool = False) -> bytes:
    return raw(DATA, END_STREAM if ends else 0, stream, payload)


def hello(*settings: bytes) -> bytes:
    """What a client begins with."""
    return PREFACE + raw(SETTINGS, 0, 0, b"".join(settings))


def server(served: ServedAs = SITE, bounds: Http2Bounds | None = None) -> Http2Server:
    return Http2Server(served, bounds or Http2Bounds())


def client(bounds: Http2Bounds | None = None) -> Http2Client:
    return Http2Client(bounds or Http2Bounds())


def feed(
    end: Http2Connection, data: bytes, *, step: int = 1 << 30, now: float = 1.0
) -> list[Http2Event]:
    """Feed an end in pieces of so many bytes; raises what it raises."""
    events: list[Http2Event] = []
    for start in range(0, len(data), step):
        end.receive_data(data[start : start + step], now)
        while (event := end.next_event()) is not None:
            events.append(event)
    return events


def feed_to_fault(end: Http2Connection, data: bytes, *, step: int = 1 << 30) -> str:
    """Feed an end what it refuses; return the code, empty where it did not."""
    try:
        feed(end, data, step=step)
    except Http2ProtocolError as error:
        return error.fault.code
    return ""


def sent(end: Http2Connection) -> list[tuple[int, int, int, bytes]]:
    """Take what an end has sent, as frames: type, flags, stream, payload."""
    out = b"".join(bytes(piece) for piece in end.take_output())
    out = out.removeprefix(PREFACE)
    frames: list[tuple[int, int, int, bytes]] = []
    while out:
        high, low, kind, flags, stream = struct.unpack_from(">BHBBL", out)
        size = high << 16 | low
        frames.append((kind, flags, stream, out[9 : 9 + size]))
        out = out[9 + size :]
    return frames


def gone_away(end: Http2Connection) -> int | None:
    """The error code of the GOAWAY that an end has sent; None: it has sent none."""
    for kind, _, _, payload in sent(end):
        if kind == GOAWAY:
            code: int = struct.unpack_from(">LL", payload)[1]
            return code
    return None


def shown(events: Iterable[Http2Event]) -> list[tuple[object, ...]]:
    """Events as they can be compared, wherever bodies were cut."""
    seen: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case RequestBegan(stream, request, is_whole, protocol):
                fields = tuple(request.fields.items())
                seen.append(
                    ("request", stream, str(request), fields, request.framing, is_whole, protocol)
                )
            case ResponseBegan(stream, response, is_whole):
                fields = tuple(response.fields.items())
                seen.append(
                    ("response", stream, response.status, fields, response.framing, is_whole)
                )
            case MalformedRequest(stream, fault, _):
                seen.append(("malformed", stream, fault.code))
            case BodyPiece(stream, piece, _):
                seen.append(("data", stream, bytes(piece)))
            case StreamEnded(stream, trailers):
                seen.append(("end", stream, tuple(trailers.items())))
            case StreamReset(stream, code, fault):
                seen.append(("reset", stream, code, fault.code if fault is not None else ""))
            case WindowOpened(stream):
                seen.append(("window", stream))
            case PeerLeaves(last, code):
                seen.append(("leaves", last, code))
    return seen
