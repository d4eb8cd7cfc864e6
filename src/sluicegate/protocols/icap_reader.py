"""IcapReader: what an ICAP server answers, byte by byte: bytes in, events out.

``scan/icap`` feeds it what a connection brings. The invariant: an answer is told only as far as it
is well-formed and within bounds; what is cut off, contradicts itself or goes on unasked raises, and
what was told before is then worth nothing.

States: HEAD -> INNER -> CHUNK_LINE -> CHUNK -> CHUNK_END -> CHUNK_LINE ... -> TRAILERS -> HEAD.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sluicegate.errors import ProtocolError
from sluicegate.scan_limits import (
    ICAP_CHUNK_LINE_BYTES_MAX,
    ICAP_FIELDS_MAX,
    ICAP_HEAD_BYTES_MAX,
    ICAP_INNER_BYTES_MAX,
)

__all__ = ["HttpHead", "IcapBody", "IcapEnd", "IcapEvent", "IcapHead", "IcapReader"]


@dataclass(frozen=True, slots=True)
class HttpHead:
    """The head of a message inside an answer."""

    start_line: str
    status: int
    """0 for a request."""
    fields: Mapping[str, str]
    """By name in lower case; several of one name are joined by a comma."""


@dataclass(frozen=True, slots=True)
class IcapHead:
    """An answer has begun; 100 has nothing behind it, and another answer follows."""

    status: int
    reason: str
    fields: Mapping[str, str]
    request: HttpHead | None = None
    response: HttpHead | None = None
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class IcapBody:
    """More of the body of the message inside."""

    data: bytes


@dataclass(frozen=True, slots=True)
class IcapEnd:
    """The answer is over."""

    original_from: int | None = None
    """From which byte on the object's own body follows (206); None: nothing follows."""


IcapEvent: TypeAlias = IcapHead | IcapBody | IcapEnd


class _State(enum.Enum):
    HEAD = "head"
    INNER = "inner"
    CHUNK_LINE = "chunk line"
    CHUNK = "chunk"
    CHUNK_END = "chunk end"
    TRAILERS = "trailers"


class IcapReader:
    """Reads the answers on one connection."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._state = _State.HEAD
        self._expected = 0
        #: Final answers that were asked for and have not ended.
        self._head: tuple[int, str, dict[str, str]] = (0, "", {})
        self._inner: list[tuple[str, int, int]] = []
        #: What the heads inside are, and from where to where.
        self._body_name = ""
        self._left = 0
        #: Of a chunk.
        self._trailer_bytes = 0
        self._original_from: int | None = None

    def expect(self) -> None:
        """Take that a request was sent, or begun: one final answer is due.

        Raises:
            ProtocolError: The server has said more than was asked before.
        """
        if self._data or self._expected:
            raise ProtocolError("the ICAP server says more than was asked")
        self._expected = 1

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due and nothing came."""
        return not self._expected and not self._data and self._state is _State.HEAD

    def receive_data(self, data: bytes) -> list[IcapEvent]:
        """Take what came; return what it tells.

        Raises:
            ProtocolError: It is no answer, not one that was asked for, or over a bound; or the
                connection ended in the middle of it (``data`` is empty).
        """
        if not data:
            raise ProtocolError("the ICAP server closed the connection before its answer was whole")
        self._data += data
        events: list[IcapEvent] = []
        while self._step(events):
            pass
        return events

    def _step(self, events: list[IcapEvent]) -> bool:
        """Read one thing; False until more has come."""
        if not self._expected:
            if self._data:
                raise ProtocolError("the ICAP server says more than was asked")
            return False
        match self._state:
            case _State.HEAD:
                return self._read_head(events)
            case _State.INNER:
                return self._read_inner(events)
            case _State.CHUNK_LINE:
                return self._read_chunk_line()
            case _State.CHUNK:
                return self._read_chunk(events)
            case _State.CHUNK_END:
                return self._read_chunk_end()
            case _State.TRAILERS:
                return self._read_trailer(events)

    # -- heads -----------------------------------------------------------------------------------

    def _read_head(self, events: list[IcapEvent]) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end > ICAP_HEAD_BYTES_MAX or (end < 0 and len(self._data) > ICAP_HEAD_BYTES_MAX + 3):
            raise ProtocolError(f"a head of more than {ICAP_HEAD_BYTES_MAX} bytes")
        if end < 0:
            self._check_beginning()
            return False
        block = bytes(self._data[:end])
        del self._data[: end + 4]
        line, _, rest = block.partition(b"\r\n")
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise ProtocolError(f"no ICAP answer: {line[:60]!r}")
        status, reason = int(found[1]), _text(found[2] or b"")
        fields = _fields(rest)
        if status == _CONTINUE:
            if "encapsulated" in fields and not _IS_NOTHING.fullmatch(fields["encapsulated"]):
                raise ProtocolError("100 Continue with a message inside")
            events.append(IcapHead(status, reason, fields))
            return True
        if status < _FINAL_MIN:
            raise ProtocolError(f"the ICAP server answers {status}")
        self._head = (status, reason, fields)
        self._inner, self._body_name, size = _encapsulated(fields.get("encapsulated"))
        if status == _NO_CONTENT and size:
            raise ProtocolError("204 with a message inside")
        self._left = size
        self._state = _State.INNER
        return True

    def _check_beginning(self) -> None:
        beginning = bytes(self._data[: len(_PROTOCOL)])
        if not _PROTOCOL.startswith(beginning):
            raise ProtocolError(f"no ICAP answer: {bytes(self._data[:60])!r}")

    def _read_inner(self, events: list[IcapEvent]) -> bool:
        if len(self._data) < self._left:
            return False
        heads = {
            name: _http_head(name, bytes(self._data[start:end])) for name, start, end in self._inner
        }
        del self._data[: self._left]
        status, reason, fields = self._head
        has_body = bool(self._body_name) and self._body_name != "null-body"
        events.append(
            IcapHead(status, reason, fields, heads.get("req-hdr"), heads.get("res-hdr"), has_body)
        )
        self._original_from = None
        self._trailer_bytes = 0
        if has_body:
            self._state = _State.CHUNK_LINE
        else:
            self._finish(events)
        return True

    def _finish(self, events: list[IcapEvent]) -> None:
        events.append(IcapEnd(self._original_from))
        self._expected = 0
        self._state = _State.HEAD

    # -- the body --------------------------------------------------------------------------------

    def _take_line(self, most: int) -> bytes | None:
        end = self._data.find(b"\r\n")
        if end > most or (end < 0 and len(self._data) > most + 1):
            raise ProtocolError(f"a line of more than {most} bytes in a body")
        if end < 0:
            return None
        line = bytes(self._data[:end])
        del self._data[: end + 2]
        return line

    def _read_chunk_line(self) -> bool:
        line = self._take_line(ICAP_CHUNK_LINE_BYTES_MAX)
        if line is None:
            return False
        found = _CHUNK_LINE.fullmatch(line)
        if found is None:
            raise ProtocolError(f"no chunk: {line[:40]!r}")
        self._left = int(found[1], 16)
        extension = found[2].strip(b" \t;")
        if self._left:
            self._state = _State.CHUNK
        else:
            self._original_from = self._partial(extension)
            self._state = _State.TRAILERS
        return True

    def _partial(self, extension: bytes) -> int | None:
        """Read what the last chunk says of the original body."""
        found = _ORIGINAL.fullmatch(extension)
        if found is not None:
            if self._head[0] != _PARTIAL:
                raise ProtocolError(f"an original body is used in a {self._head[0]}")
            return int(found[1])
        if extension:
            raise ProtocolError(f"the last chunk says {extension[:40]!r}")
        return None

    def _read_chunk(self, events: list[IcapEvent]) -> bool:
        if not self._data:
            return False
        data = bytes(self._data[: self._left])
        del self._data[: self._left]
        self._left -= len(data)
        events.append(IcapBody(data))
        if not self._left:
            self._state = _State.CHUNK_END
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._data) < 2:  # noqa: PLR2004 - a line end
            return False
        if not self._data.startswith(b"\r\n"):
            raise ProtocolError("a chunk is longer than it says")
        del self._data[:2]
        self._state = _State.CHUNK_LINE
        return True

    def _read_trailer(self, events: list[IcapEvent]) -> bool:
        line = self._take_line(ICAP_HEAD_BYTES_MAX)
        if line is None:
            return False
        self._trailer_bytes += len(line)
        if self._trailer_bytes > ICAP_HEAD_BYTES_MAX:
            raise ProtocolError(f"trailers of more than {ICAP_HEAD_BYTES_MAX} bytes")
        if line:
            _fields(line)
        else:
            self._finish(events)
        return True


def _encapsulated(value: str | None) -> tuple[list[tuple[str, int, int]], str, int]:
    """Read what is inside an answer (RFC 3507, 4.4.1).

    Returns:
        The heads, with their places; what the body is called, if there is one; and the size of all
        heads.
    """
    if value is None:
        return [], "", 0
    places: list[tuple[str, int]] = []
    for one in value.split(","):
        found = _PLACE.fullmatch(one.strip(" \t"))
        if found is None:
            raise ProtocolError(f"Encapsulated is {value[:80]!r}")
        places.append((found[1], int(found[2])))
    names = tuple(name for name, _ in places)
    offsets = [offset for _, offset in places]
    if names not in _LAYOUTS or offsets[0] or offsets != sorted(set(offsets)):
        raise ProtocolError(f"Encapsulated is {value[:80]!r}")
    if offsets[-1] > ICAP_INNER_BYTES_MAX:
        raise ProtocolError(f"heads of more than {ICAP_INNER_BYTES_MAX} bytes inside an answer")
    heads = [
        (name, start, end) for (name, start), end in zip(places[:-1], offsets[1:], strict=True)
    ]
    return heads, names[-1], offsets[-1]


def _http_head(name: str, block: bytes) -> HttpHead:
    if not block.endswith(b"\r\n\r\n"):
        raise ProtocolError(f"{name} does not end where Encapsulated says")
    line, _, rest = block[:-4].partition(b"\r\n")
    if name == "req-hdr":
        if _REQUEST_LINE.fullmatch(line) is None:
            raise ProtocolError(f"no request: {line[:60]!r}")
        return HttpHead(_text(line), 0, _fields(rest))
    found = _HTTP_STATUS_LINE.fullmatch(line)
    if found is None:
        raise ProtocolError(f"no response: {line[:60]!r}")
    return HttpHead(_text(line), int(found[1]), _fields(rest))


def _fields(block: bytes) -> dict[str, str]:
    """Read the fields of a head; folded lines are one (c-icap writes X-Violations-Found so)."""
    fields: dict[str, str] = {}
    if not block:
        return fields
    lines = _FOLD.sub(b" ", block).split(b"\r\n")
    if len(lines) > ICAP_FIELDS_MAX:
        raise ProtocolError(f"more than {ICAP_FIELDS_MAX} fields")
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise ProtocolError(f"no field: {line[:60]!r}")
        name, value = found[1].decode().lower(), _text(found[2].strip(b" \t"))
        if name in fields and name in _SINGLE:
            raise ProtocolError(f"{name} twice")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _text(value: bytes) -> str:
    return value.decode("latin-1")


_PROTOCOL: Final = b"ICAP/1.0 "
_STATUS_LINE: Final = re.compile(rb"ICAP/1\.0 ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_HTTP_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40} [!-~\x80-\xff]+ HTTP/1\.[01]")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:([\t -~\x80-\xff]*)")
_FOLD: Final = re.compile(rb"\r\n[ \t]+")
_PLACE: Final = re.compile(r"([a-z]+-[a-z]+)=([0-9]{1,9})", re.ASCII)
_IS_NOTHING: Final = re.compile(r"null-body=0", re.ASCII)
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[\t -~]*)?)")
_ORIGINAL: Final = re.compile(rb"use-original-body=([0-9]{1,18})")
_LAYOUTS: Final = frozenset(
    {
        ("null-body",),
        ("opt-body",),
        ("req-hdr", "req-body"),
        ("req-hdr", "null-body"),
        ("res-hdr", "res-body"),
        ("res-hdr", "null-body"),
        ("req-hdr", "res-hdr", "res-body"),
        ("req-hdr", "res-hdr", "null-body"),
        ("res-body",),
    }
)
#: What an answer is read by: two of them would be read in two ways.
_SINGLE: Final = frozenset({"encapsulated", "istag", "preview", "options-ttl", "max-connections"})
_CONTINUE, _NO_CONTENT, _PARTIAL, _FINAL_MIN = 100, 204, 206, 200
