"""The head of one HTTP/1 message, line by line, in the strictest reading (RFC 9112).

``http_connect`` stands on it. The invariant: a head that is handed out reads the same to every
implementation: where any two are known to differ (RFC 9112 sections 2.2, 5.1 and 5.2 allow
repairs), it is refused.

What is refused: a line end other than CR LF, a CR or NUL or other control inside a line (but a tab
in a value), bytes above 126, a first line that is empty, a field without a colon, a name that is no
token or has white space before its colon, a continued line (obs-fold), and more than the three
bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.protocols.entry import EntryBuffer

__all__ = ["HeadBounds", "HttpHead", "HttpHeadReader"]


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """How large a head may be."""

    line_bytes_max: int
    #: Without its line end.
    head_bytes_max: int
    #: With every line end.
    fields_max: int


@dataclass(frozen=True, slots=True)
class HttpHead:
    """One complete head."""

    first_line: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    #: Names in lower case, values without the white space around them, in their order.

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of a field; ``name`` is in lower case."""
        return [value for known, value in self.fields if known == name]


class HttpHeadReader:
    """Takes lines off a client's buffer until the empty one; each parser owns one."""

    __slots__ = ("_bounds", "_buffer", "_fields", "_read_bytes", "_scanned", "first_line")

    def __init__(self, buffer: EntryBuffer, bounds: HeadBounds) -> None:
        self._buffer = buffer
        self._bounds = bounds
        self._fields: list[tuple[bytes, bytes]] = []
        self._read_bytes = 0
        self._scanned = 0
        self.first_line: bytes | None = None
        #: Known before the rest, so that what is not meant for us is refused at once.

    def next_line(self) -> bytes | None:
        """Take one line without its end, or None until more bytes come.

        Raises:
            ProtocolError: It is too long, or it has a byte that no line may have.
        """
        data = self._buffer.data
        end = data.find(b"\n", self._scanned)
        # Counting everything before the LF, complete or not, makes the outcome the same for every
        # cut of the input.
        self._check_length(end if end >= 0 else len(data))
        if end < 0:
            self._scanned = len(data)
            return None
        raw = self._buffer.take(end + 1)
        self._read_bytes += len(raw)
        self._scanned = 0
        if not raw.endswith(b"\r\n"):
            raise self._fail("a line ends in LF without CR")
        if _LINE.fullmatch(raw, 0, len(raw) - 2) is None:
            raise self._fail("a control character or a byte above 126 stands in the head")
        return raw[:-2]

    def read_first_line(self) -> bytes | None:
        """Take the first line, or None until it is there.

        Raises:
            ProtocolError: It is refused as every line is, or empty.
        """
        if self.first_line is None:
            self.first_line = self.next_line()
            if self.first_line == b"":
                raise self._fail("the first line is empty")
        return self.first_line

    def read_fields(self) -> HttpHead | None:
        """Take what has come of the fields; return the head when the empty line was there.

        Raises:
            ProtocolError: A field is malformed, or there are too many.
        """
        assert self.first_line is not None, "fields follow the first line"
        while (line := self.next_line()) is not None:
            if not line:
                return HttpHead(self.first_line, tuple(self._fields))
            if line[:1] in {b" ", b"\t"}:
                raise self._fail("a field begins with white space, or continues the line before it")
            name, colon, value = line.partition(b":")
            if not colon:
                raise self._fail("a field has no colon")
            if TOKEN.fullmatch(name) is None:
                raise self._fail("a field's name is not a token")
            if len(self._fields) >= self._bounds.fields_max:
                raise self._fail(f"there are more than {self._bounds.fields_max} fields")
            self._fields.append((name.lower(), value.strip(b" \t")))
        return None

    def _check_length(self, length: int) -> None:
        """Bound a line that is ``length`` bytes long before its LF, so far."""
        line_room = self._bounds.line_bytes_max + 1
        head_room = self._bounds.head_bytes_max - self._read_bytes - 1
        if length <= min(line_room, head_room):
            return
        # Named is the bound that is reached first, however many bytes came at once.
        if line_room <= head_room:
            raise self._fail(f"a line is longer than {self._bounds.line_bytes_max} bytes")
        raise self._fail(f"the head is longer than {self._bounds.head_bytes_max} bytes")

    def _fail(self, hint: str) -> ProtocolError:
        return self._buffer.fail(hint)


#: RFC 9110, section 5.6.2.
TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE: Final = re.compile(rb"[\t -~]*")
