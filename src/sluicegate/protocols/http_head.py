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

from sluicegate.protocols.entry import EntryBuffer

__all__ = ["TOKEN", "HeadBounds", "HttpField", "HttpHeadReader"]


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """How large a head may be."""

    line_bytes_max: int
    #: Without its line end.
    head_bytes_max: int
    #: With every line end.
    fields_max: int


class HttpHeadReader:
    """Takes one head off a client's buffer; each parser owns one.

    The buffer keeps the head until it is complete: ``_at`` is where the next line begins.
    """

    __slots__ = ("_at", "_bounds", "_buffer", "_fields", "_scanned", "first_line")

    def __init__(self, buffer: EntryBuffer, bounds: HeadBounds) -> None:
        self._buffer = buffer
        self._bounds = bounds
        self._fields: list[HttpField] = []
        self._at = 0
        self._scanned = 0
        self.first_line: bytes | None = None
        #: Known before the rest, so that what is not meant for us is refused at once.

    def read_first_line(self) -> bytes | None:
        """Return the first line, or None until it is there.

        Raises:
            ProtocolError: It is refused as every line is, or empty.
        """
        if self.first_line is None:
            self.first_line = self._next_line()
            if self.first_line == b"":
                raise self._buffer.fail("the first line is empty")
        return self.first_line

    def read_fields(self) -> tuple[HttpField, ...] | None:
        """Return all fields when the empty line behind them was there; None until then.

        Raises:
            ProtocolError: A field is malformed, or there are too many.
        """
        assert self.first_line is not None, "fields follow the first line"
        data = self._buffer.data
        while True:
            # A good line needs one match; what is wrong with another, _next_line finds out. It also
            # remembers how far an unfinished one was looked at, so that single bytes cost little.
            is_whole = data.find(b"\n", max(self._scanned, self._at)) >= 0
            found = _FIELD_LINE.match(data, self._at) if is_whole else None
            if found is not None and self._has_room(found.end()):
                name, value = found.groups()
                self._fields.append((name.lower(), value.strip(b" \t")))
                self._at = found.end()
                continue
            line = self._next_line()
            if line is None:
                return None
            if line:
                raise self._buffer.fail(self._fault_of(line))
            self._buffer.take(self._at)
            return tuple(self._fields)

    def _next_line(self) -> bytes | None:
        """Return one line without its end, or None until more bytes come.

        Raises:
            ProtocolError: It is too long, or it has a byte that no line may have.
        """
        data = self._buffer.data
        end = data.find(b"\n", max(self._scanned, self._at))
        # Counting everything before the LF, complete or not, makes the outcome the same for every
        # cut of the input.
        self._check_length((end if end >= 0 else len(data)) - self._at)
        if end < 0:
            self._scanned = len(data)
            return None
        raw = bytes(data[self._at : end + 1])
        self._at = end + 1
        if not raw.endswith(b"\r\n"):
            raise self._buffer.fail("a line ends in LF without CR")
        if _LINE.fullmatch(raw, 0, len(raw) - 2) is None:
            raise self._buffer.fail("a control character or a byte above 126 stands in the head")
        return raw[:-2]

    def _has_room(self, end: int) -> bool:
        """Tell whether a line that ends before ``end`` keeps all bounds."""
        return (
            end - self._at - 2 <= self._bounds.line_bytes_max
            and end <= self._bounds.head_bytes_max
            and len(self._fields) < self._bounds.fields_max
        )

    def _check_length(self, length: int) -> None:
        """Bound a line that is ``length`` bytes long before its LF, so far."""
        line_room = self._bounds.line_bytes_max + 1
        head_room = self._bounds.head_bytes_max - self._at - 1
        if length <= min(line_room, head_room):
            return
        # Named is the bound that is reached first, however many bytes came at once.
        if line_room <= head_room:
            raise self._buffer.fail(f"a line is longer than {self._bounds.line_bytes_max} bytes")
        raise self._buffer.fail(f"the head is longer than {self._bounds.head_bytes_max} bytes")

    def _fault_of(self, line: bytes) -> str:
        """Say why a line of allowed bytes is no field, or one too many."""
        if line[:1] in {b" ", b"\t"}:
            return "a field begins with white space, or continues the line before it"
        name, colon, _ = line.partition(b":")
        if not colon:
            return "a field has no colon"
        if TOKEN.fullmatch(name) is None:
            return "a field's name is not a token"
        return f"there are more than {self._bounds.fields_max} fields"


HttpField = tuple[bytes, bytes]
"""A name in lower case, and a value without the white space around it."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
#: RFC 9110, section 5.6.2.
TOKEN: Final = re.compile(_TOKEN)
_LINE: Final = re.compile(rb"[\t -~]*")
_FIELD_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):([\t -~]*)\r\n")
