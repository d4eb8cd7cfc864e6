"""Bodies as they come: each piece handed out where it was received, none collected.

Both ends own one reader per message. The invariant: a reader ends exactly where the head said that
the body does, and what frames a body (sizes, extensions, line ends) is never part of it.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from sluicegate.errors import Side
from sluicegate.protocol_limits import HTTP_CHUNK_LINE_BYTES_MAX
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.field_lines import split_fields
from sluicegate.protocols.http1.fields import CONNECTION_FIELDS, Fields
from sluicegate.protocols.http1.incoming import BlockBounds, Incoming
from sluicegate.protocols.http1.messages import Body, EndOfMessage, Framing, FramingKind
from sluicegate.protocols.text import printable

__all__ = ["FORBIDDEN_TRAILERS", "BodyReader", "body_reader"]

FORBIDDEN_TRAILERS: Final = CONNECTION_FIELDS | frozenset(
    {
        b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range",
        b"content-type", b"cookie", b"date", b"expect", b"expires", b"forwarded", b"host",
        b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since",
        b"location", b"max-forwards", b"pragma", b"proxy-authenticate", b"proxy-authorization",
        b"range", b"retry-after", b"set-cookie", b"trailer", b"vary", b"via", b"warning",
        b"www-authenticate", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
    }
)  # fmt: skip
"""What frames, routes, authorizes or changes the reading of a message, and so comes too late in a
trailer (RFC 9110 section 6.5.1): some readers would merge it into the head all the same."""


class BodyReader(Protocol):
    """Reads one message's body."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing frames the body's bytes, so that somebody else may take them."""
        ...  # pragma: no cover - a protocol

    @property
    def left(self) -> int | None:
        """Of a plain one: how many bytes are to come; None: all until the connection ends."""
        ...  # pragma: no cover - a protocol

    def skip(self, count: int) -> None:
        """Of a plain one: take that somebody else has taken so many bytes."""
        ...  # pragma: no cover - a protocol

    def next_event(self, incoming: Incoming) -> Body | EndOfMessage | None:
        """Return the next piece, the end, or None until more bytes come.

        Raises:
            HttpProtocolError: Its framing is malformed.
        """
        ...  # pragma: no cover - a protocol

    def end(self) -> EndOfMessage | None:
        """Say what the end of the connection means: the end of the message, or None, too early."""
        ...  # pragma: no cover - a protocol


def body_reader(framing: Framing, bounds: HttpBounds, side: Side) -> BodyReader:
    """Make the reader for a body that is really sent, of a peer of this side."""
    match framing.kind:
        case FramingKind.CHUNKED:
            return _ChunkedReader(bounds, side)
        case FramingKind.UNTIL_CLOSE:
            return _CloseReader()
        case FramingKind.NO_BODY | FramingKind.LENGTH:
            return _LengthReader(framing.length)


class _LengthReader:
    """Content-Length bytes."""

    __slots__ = ("left",)

    is_plain = True

    def __init__(self, length: int) -> None:
        self.left = length

    def skip(self, count: int) -> None:
        assert count <= self.left, "nobody takes more than the body"
        self.left -= count

    def next_event(self, incoming: Incoming) -> Body | EndOfMessage | None:
        if not self.left:
            return EndOfMessage()
        data = incoming.take(self.left)
        self.left -= len(data)
        return Body(data) if data else None

    def end(self) -> EndOfMessage | None:
        return None


class _CloseReader:
    """Everything until the connection ends."""

    __slots__ = ()

    is_plain = True
    left = None

    def skip(self, count: int) -> None:
        """Nothing is counted."""

    def next_event(self, incoming: Incoming) -> Body | EndOfMessage | None:
        waiting = incoming.waiting
        return Body(incoming.take(waiting)) if waiting else None

    def end(self) -> EndOfMessage | None:
        return EndOfMessage()


class _ChunkedReader:
    """Chunks, the last one, and trailers (RFC 9112 section 7.1)."""

    __slots__ = ("_block", "_bounds", "_extensions", "_is_behind_data", "_left", "_side")

    is_plain = False
    left = None

    def skip(self, count: int) -> None:
        raise AssertionError(f"{count} bytes that may frame the body were not read")

    def __init__(self, bounds: HttpBounds, side: Side) -> None:
        self._bounds = bounds
        self._side = side
        self._left: int | None = 0
        #: Of the chunk's data; None behind the last chunk.
        self._is_behind_data = False
        self._extensions = 0
        self._block = BlockBounds(
            bounds.trailer_bytes_max,
            HttpFault.TRAILERS_TOO_LARGE,
            bounds.trailer_bytes_max,
            HttpFault.TRAILERS_TOO_LARGE,
        )

    def next_event(self, incoming: Incoming) -> Body | EndOfMessage | None:
        if self._left == 0 and not self._read_size(incoming):
            return None
        if self._left is None:
            return self._read_trailers(incoming)
        data = incoming.take(self._left)
        self._left -= len(data)
        if not data:
            return None
        self._is_behind_data = True
        return Body(data)

    def end(self) -> EndOfMessage | None:
        return None

    def _read_size(self, incoming: Incoming) -> bool:
        """Read the line before a chunk's data; False until it is there."""
        if self._is_behind_data:
            line = incoming.take_line(len(_LINE_END))
            if line != _LINE_END:
                beginning = incoming.beginning if line is None else line
                if _LINE_END.startswith(beginning):
                    return False
                raise self._refused(HttpFault.CHUNK_END)
            self._is_behind_data = False
        line = incoming.take_line(HTTP_CHUNK_LINE_BYTES_MAX)
        if line is None:
            if len(incoming.beginning) >= HTTP_CHUNK_LINE_BYTES_MAX:
                raise self._refused(HttpFault.CHUNK_EXTENSIONS_TOO_LARGE)
            return False
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise self._fault_of(line)
        digits, extension = found.groups()
        self._extensions += len(extension)
        if self._extensions > self._bounds.chunk_extensions_bytes_max:
            raise self._refused(HttpFault.CHUNK_EXTENSIONS_TOO_LARGE)
        size = int(digits, 16)
        if size > _SIZE_MAX:
            raise self._refused(HttpFault.CHUNK_SIZE)
        self._left = size or None
        return True

    def _fault_of(self, line: bytes) -> HttpProtocolError:
        found = _SIZE.match(line)
        rest = line[found.end() :] if found is not None else line
        if found is None or rest[:1] not in {b";", b"\r", b"\n"}:
            return self._refused(HttpFault.CHUNK_SIZE)
        if not rest.endswith(_LINE_END) or rest[:1] != b";" or b"\r" in rest[:-2]:
            return self._refused(HttpFault.CHUNK_LINE_END)
        return self._refused(HttpFault.CHUNK_EXTENSION)

    def _read_trailers(self, incoming: Incoming) -> EndOfMessage | None:
        block = incoming.take_trailers(self._bounds.trailer_bytes_max)
        if block == _LINE_END:
            return EndOfMessage()
        fault = self._block.check(block) if block is not None else incoming.check(self._block)
        if fault is not None:
            raise self._refused(fault)
        if block is None:
            return None
        raw = split_fields(b"\r\n" + block, 2, self._bounds, self._block, self._side)
        if len(raw) > self._bounds.trailers_max:
            raise self._refused(HttpFault.TRAILERS_TOO_LARGE)
        items = [(name.lower(), name, value.strip(b" \t")) for name, value in raw]
        for lower, _, _ in items:
            if lower in FORBIDDEN_TRAILERS:
                raise HttpProtocolError(HttpFault.TRAILER_FORBIDDEN, self._side, printable(lower))
        return EndOfMessage(Fields.from_checked(items))

    def _refused(self, fault: HttpFault) -> HttpProtocolError:
        return HttpProtocolError(fault, self._side)


_LINE_END: Final = b"\r\n"
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_SIZE_MAX: Final = (1 << 63) - 1
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
#: No white space around ";" and "=": RFC 9112 section 7.1.1 calls it bad, some readers refuse it.
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"((?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"(?:[\t !#-\[\]-~]|\\[\t -~])*"))?)*)\r\n'
)
