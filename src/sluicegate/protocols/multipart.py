"""Multipart bodies (RFC 2046 section 5.1, RFC 7578): bytes in, parts out, with one reading.

The web proxy judges each part of an upload as an object. The invariant: servers cut a body that is
accepted where this does. Wherever their parsers are known to differ, the body is refused: text
before the first boundary or behind the last, a boundary that does not stand alone on its line, line
ends that are no CR LF, folded or repeated fields, parts inside parts, encoded parts.

``receive`` gives the events of the bytes so far; ``finish`` says that there are no more.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.protocol_limits import (
    MULTIPART_FIELDS_BYTES_MAX,
    MULTIPART_FIELDS_MAX,
    MULTIPART_PARTS_MAX,
)
from sluicegate.protocols.text import printable

__all__ = [
    "MultipartError",
    "MultipartEvent",
    "MultipartReader",
    "PartBegin",
    "PartData",
    "PartEnd",
    "multipart_boundary",
]


class MultipartError(ProtocolError):
    """A multipart body is refused."""


@dataclass(frozen=True, slots=True)
class PartBegin:
    """The fields of a part; names in lower case."""

    fields: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of a part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is whole."""


MultipartEvent = PartBegin | PartData | PartEnd


class _State(enum.Enum):
    START = "start"
    BOUNDARY = "boundary"
    """Behind a boundary: another part, or the end."""
    FIELDS = "fields"
    DATA = "data"
    END = "end"


def multipart_boundary(content_type: bytes) -> bytes | None:
    """Return the boundary of a ``Content-Type``; None: it is not multipart.

    Raises:
        MultipartError: It has no boundary that everybody reads alike.
    """
    if content_type[:10].lower() != b"multipart/":
        return None
    found: list[bytes] = []
    essence, *_ = content_type.split(b";", 1)
    at = len(essence)
    while at < len(content_type):
        parameter = _PARAMETER.match(content_type, at)
        if parameter is None:
            break
        name, quoted, plain = parameter.groups()
        if name.lower() == b"boundary":
            found.append(plain if quoted is None else quoted)
        elif name.lower() in _BOUNDARY_NAMES:
            found.append(b"")
        at = parameter.end()
    is_read = at == len(content_type) and _MULTIPART.fullmatch(essence) is not None
    if not is_read or len(found) != 1 or _BCHARS.fullmatch(found[0]) is None:
        raise MultipartError("a multipart type without exactly one plain boundary")
    return found[0]


class MultipartReader:
    """Reads one body."""

    __slots__ = ("_delimiter", "_held", "_lead", "_parts", "_scanned", "_state")

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"--" + boundary
        self._held = bytearray()
        #: What came and is not told yet.
        self._scanned = 0
        #: How much of it cannot hold the beginning of a boundary.
        self._lead = 0
        self._state = _State.START
        self._parts = 0

    def receive(self, data: bytes) -> list[MultipartEvent]:
        """Take the next bytes.

        Raises:
            MultipartError: The body is refused.
        """
        self._held += data
        events: list[MultipartEvent] = []
        while self._step(events):
            pass
        return events

    def finish(self) -> None:
        """Take that no more comes.

        Raises:
            MultipartError: The last boundary is missing.
        """
        if self._state is not _State.END or bytes(self._held) not in (b"", _CRLF):
            raise MultipartError("a multipart body ends before its last boundary, or behind it")

    def _step(self, events: list[MultipartEvent]) -> bool:
        """Read one thing; False when more bytes are needed."""
        match self._state:
            case _State.START:
                return self._read_start()
            case _State.BOUNDARY:
                return self._read_boundary()
            case _State.FIELDS:
                return self._read_fields(events)
            case _State.DATA:
                return self._read_data(events)
            case _State.END:
                if not b"\r\n".startswith(self._held):
                    raise MultipartError("something follows the last boundary")
                return False

    def _read_start(self) -> bool:
        delimiter = self._delimiter
        if not self._held.startswith(delimiter[: len(self._held)]):
            raise MultipartError("a multipart body does not begin with its boundary")
        if len(self._held) < len(delimiter):
            return False
        del self._held[: len(delimiter)]
        self._state = _State.BOUNDARY
        return True

    def _read_boundary(self) -> bool:
        if len(self._held) < len(_CRLF):
            return False
        behind = bytes(self._held[: len(_CRLF)])
        del self._held[: len(_CRLF)]
        if behind == b"--" and self._parts:
            self._state = _State.END
            return True
        if behind != _CRLF:
            raise MultipartError("something follows a boundary on its line")
        self._parts += 1
        if self._parts > MULTIPART_PARTS_MAX:
            raise MultipartError(f"more than {MULTIPART_PARTS_MAX} parts")
        self._state = _State.FIELDS
        return True

    def _read_fields(self, events: list[MultipartEvent]) -> bool:
        held = self._held
        if held.startswith(_CRLF):
            raise MultipartError("a part without fields")
        end = held.find(_CRLF * 2, 0, MULTIPART_FIELDS_BYTES_MAX)
        if end < 0:
            if len(held) >= MULTIPART_FIELDS_BYTES_MAX:
                raise MultipartError("the fields of a part are too large")
            return False
        events.append(PartBegin(_fields(bytes(held[:end]))))
        # The empty line's CR LF stays: a part of no bytes is ended by it.
        del held[: end + len(_CRLF)]
        self._scanned = 0
        self._lead = len(_CRLF)
        self._state = _State.DATA
        return True

    def _read_data(self, events: list[MultipartEvent]) -> bool:
        """Read up to a boundary.

        What is held begins with the CR LF of the empty line (``_lead`` bytes), until data was told:
        it may be the one before the boundary of a part of no bytes.
        """
        held, delimiter = self._held, self._delimiter
        at = held.find(delimiter, self._scanned)
        if at < 0:
            # The beginning of a boundary, with its CR LF, may be the last that came.
            self._tell(events, len(held) - len(delimiter) - len(_CRLF) + 1)
            self._scanned = max(0, len(held) - len(delimiter) + 1)
            return False
        if not held.startswith(_CRLF, at - len(_CRLF)):
            raise MultipartError("a boundary inside a line")
        at -= self._tell(events, at - len(_CRLF))
        del held[: at + len(delimiter)]
        events.append(PartEnd())
        self._state = _State.BOUNDARY
        return True

    def _tell(self, events: list[MultipartEvent], stop: int) -> int:
        """Tell data up to a place; return how much of what is held has gone."""
        if stop <= self._lead:
            return 0
        events.append(PartData(bytes(self._held[self._lead : stop])))
        del self._held[:stop]
        self._lead = 0
        return stop


def _fields(block: bytes) -> dict[bytes, bytes]:
    """Read the fields of a part.

    Raises:
        MultipartError: Servers may read them otherwise.
    """
    found: dict[bytes, bytes] = {}
    lines = block.split(_CRLF)
    if len(lines) > MULTIPART_FIELDS_MAX:
        raise MultipartError(f"a part with more than {MULTIPART_FIELDS_MAX} fields")
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise MultipartError(f"a malformed field of a part: {printable(line[:40])}")
        name = match[1].lower()
        if name in found:
            raise MultipartError(f"a part with two {printable(name)}")
        found[name] = match[2]
    encoding = found.get(b"content-transfer-encoding", b"binary").strip().lower()
    if encoding not in _PLAIN:
        raise MultipartError(f"an encoded part: {printable(encoding[:40])}")
    if found.get(b"content-type", b"").strip()[:10].lower() == b"multipart/":
        raise MultipartError("a part of parts")
    return found


_CRLF: Final = b"\r\n"
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_PLAIN: Final = frozenset({b"binary", b"8bit", b"7bit"})
_MULTIPART: Final = re.compile(rb"multipart/[!#$&^_.+\-0-9A-Za-z]+[ \t]*", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    rb";[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)="
    rb"(?:\"([^\"\\]*)\"|([!#$%&'*+\-.^_`|~0-9A-Za-z]+))[ \t]*"
)
_BOUNDARY_NAMES: Final = frozenset({b"boundary*", b"boundary*0", b"boundary*0*"})
_BCHARS: Final = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
