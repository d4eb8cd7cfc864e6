"""Messages as they are sent: written anew from the model, in one canonical way.

Both ends write with it. The invariant: no byte of framing or of a head comes from a peer: lines,
lengths and chunk sizes are made here, and fields that could split a message cannot exist.
"""

from __future__ import annotations

import re
from typing import Final

from sluicegate.errors import BadContext
from sluicegate.protocols.http1.fields import Fields
from sluicegate.protocols.http1.framing import has_no_body
from sluicegate.protocols.http1.messages import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Framing,
    FramingKind,
    Request,
    Response,
)
from sluicegate.protocols.text import printable

__all__ = [
    "BodyWriter",
    "Pieces",
    "framing_to_client",
    "write_request",
    "write_response",
    "written_connect",
]

Pieces = tuple[bytes | memoryview, ...]
"""What is to be sent, in this order; a body's bytes are the caller's own memory."""


def write_request(request: Request, *, closes: bool) -> bytes:
    """Return the head of a request as an HTTP/1.1 client sends it.

    Raises:
        BadContext: It has no Host, a body without an end, or a line that cannot be sent.
    """
    if b"host" not in request.fields:
        raise BadContext("a request needs a Host")
    options = [b"close"] if closes else []
    lines = [_framing_line(request.framing)]
    if request.framing is NO_BODY and request.method in _METHODS_WITH_BODY:
        lines = [b"Content-Length: 0\r\n"]
    if request.accepts_trailers:
        options.append(b"TE")
        lines.append(b"TE: trailers\r\n")
    if request.upgrade:
        options.append(b"Upgrade")
        lines.append(_upgrade_line(request.upgrade))
    if request.framing.kind is FramingKind.UNTIL_CLOSE:
        raise BadContext("a request's body cannot end with its connection")
    if options:
        lines.append(b"Connection: %b\r\n" % b", ".join(options))
    line = b"%b %b HTTP/1.1\r\n" % (request.method, bytes(request.target))
    if _REQUEST_LINE.fullmatch(line) is None:
        raise BadContext(f"the method or target cannot be sent: {printable(line[:80])}")
    return b"%b%b%b\r\n" % (line, request.fields.written(), b"".join(lines))


def written_connect(request: Request) -> bytes:
    """Return the head of a CONNECT that was read, for the reader of those (``http_connect``)."""
    version = b"1.1" if request.is_http_1_1 else b"1.0"
    credentials = b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in request.hop_fields
        if name.lower() == b"proxy-authorization"
    )
    line = b"CONNECT %b HTTP/%b\r\n" % (bytes(request.target), version)
    return b"%b%b%b\r\n" % (line, request.fields.written(), credentials)


def write_response(
    response: Response, framing: Framing, *, option: bytes = b"", reason: bytes = b""
) -> bytes:
    """Return the head of a response.

    Args:
        response: What to say; its own framing is the other connection's.
        framing: What ``framing_to_client`` made of it.
        option: Of ``Connection``: close, keep-alive, or nothing.
        reason: Instead of a reason that is missing.

    Raises:
        BadContext: Its line cannot be sent.
    """
    tail = _framing_line(framing)
    if response.upgrade:
        tail += _upgrade_line(response.upgrade) + b"Connection: Upgrade\r\n"
    elif option:
        tail += b"Connection: %b\r\n" % option
    line = b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason or reason)
    if _STATUS_LINE.fullmatch(line) is None:
        raise BadContext(f"the status or reason cannot be sent: {printable(line[:80])}")
    return b"%b%b%b\r\n" % (line, response.fields.written(), tail)


def framing_to_client(response: Response, method: bytes, *, is_http_1_1: bool) -> Framing:
    """Tell how a client of this version is told where the body ends.

    A body that ended with the server's connection is sent in chunks, so that the client can tell
    its end from a failure; HTTP/1.0 has no chunks, and its connection ends with the body.
    """
    framing = response.framing
    is_bodiless = has_no_body(response.status, method)
    if is_bodiless and (framing is NO_BODY or response.status < _OK):
        return NO_BODY
    if response.status == _NO_CONTENT or (method == b"CONNECT" and is_bodiless):
        return NO_BODY
    match framing.kind:
        case FramingKind.NO_BODY:
            return Framing.of_length(0)
        case FramingKind.LENGTH:
            return framing
        case FramingKind.CHUNKED | FramingKind.UNTIL_CLOSE:
            if is_bodiless and framing is UNTIL_CLOSE:
                return NO_BODY
            if is_http_1_1:
                return CHUNKED
            return NO_BODY if is_bodiless else UNTIL_CLOSE


class BodyWriter:
    """Writes one message's body as its head declared it."""

    __slots__ = ("_is_chunked", "_left")

    def __init__(self, framing: Framing) -> None:
        self._is_chunked = framing is CHUNKED
        self._left: int | None = None if framing.kind in _WITHOUT_LENGTH else framing.length

    @property
    def is_chunked(self) -> bool:
        """Whether the body goes out in chunks."""
        return self._is_chunked

    def skip(self, count: int) -> None:
        """Take that somebody else has sent so many bytes of the body, framed as it has to be."""
        if self._left is not None:
            assert count <= self._left, "nobody sends more than was declared"
            self._left -= count

    def write(self, data: bytes | memoryview) -> Pieces:
        """Frame some bytes.

        Raises:
            BadContext: There are more than the head declared.
        """
        size = len(data)
        if not size:
            return ()
        if self._left is not None:
            if size > self._left:
                raise BadContext(f"the body has {size - self._left} bytes more than was declared")
            self._left -= size
        if self._is_chunked:
            return b"%x\r\n" % size, data, b"\r\n"
        return (data,)

    def end(self, trailers: Fields) -> Pieces:
        """Frame the end; trailers are sent where they can be (RFC 9110 section 6.5).

        Raises:
            BadContext: There are fewer bytes than the head declared: abort the connection, so that
                the peer does not take the message for whole.
        """
        if self._left:
            raise BadContext(f"the body has {self._left} bytes less than was declared")
        if self._is_chunked:
            return (b"0\r\n%b\r\n" % trailers.written(),)
        return ()


def _framing_line(framing: Framing) -> bytes:
    match framing.kind:
        case FramingKind.LENGTH:
            return b"Content-Length: %d\r\n" % framing.length
        case FramingKind.CHUNKED:
            return b"Transfer-Encoding: chunked\r\n"
        case FramingKind.NO_BODY | FramingKind.UNTIL_CLOSE:
            return b""


def _upgrade_line(protocols: tuple[bytes, ...]) -> bytes:
    if not all(_PROTOCOL.fullmatch(protocol) for protocol in protocols):
        raise BadContext("Upgrade is not a list of protocols")
    return b"Upgrade: %b\r\n" % b", ".join(protocols)


_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]+ [!-~]+ HTTP/1\.1\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 [1-9][0-9]{2} [\t -~\x80-\xff]*\r\n")
_PROTOCOL: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?")
_WITHOUT_LENGTH: Final = frozenset({FramingKind.CHUNKED, FramingKind.UNTIL_CLOSE})
_METHODS_WITH_BODY: Final = frozenset({b"PATCH", b"POST", b"PUT"})
_OK: Final = 200
_NO_CONTENT: Final = 204
