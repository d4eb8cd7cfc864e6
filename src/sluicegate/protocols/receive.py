r"""A bounded line buffer for protocols that run over a Telnet-style text channel.

The FTP parsers of both directions feed it bytes and take whole lines. The invariant: no line it
hands out can be read in two ways, for what ends a line, and which bytes are data, is decided here
and nowhere else, and the raw bytes are never meant for forwarding.

The rules, where real peers disagree with each other or with RFC 854 and RFC 959:

=====================  ====================  ==========================================
bytes                  ``LineEnds.STRICT``   ``LineEnds.LENIENT``
=====================  ====================  ==========================================
CR LF                  ends the line         ends the line
LF alone               refused               ends the line (curl and ftplib read it so)
CR CR LF               refused               ends the line (banner files with DOS ends)
CR elsewhere, CR NUL   refused               refused
NUL                    refused               refused
IAC IAC                the byte 0xFF         the byte 0xFF
IAC IP, DM, AO, NOP    dropped before the first byte of a line, else refused
IAC IP IAC, data       dropped like IAC IP IAC DM: the DM travels as TCP urgent data, and a
                       socket without ``SO_OOBINLINE`` loses that one byte
any other IAC          refused: options are not negotiated on an FTP control connection
=====================  ====================  ==========================================

Clients are held to STRICT, for a line end that only some servers see is how commands are smuggled.
Servers get LENIENT, for a reply is only ever shown to the client re-encoded.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sluicegate.errors import ProtocolError, Side

__all__ = ["IAC", "Line", "LineBuffer", "LineEnds", "escape_iac"]


class LineEnds(enum.Enum):
    """What ends a line; the table is in the module's docstring."""

    STRICT = "strict"
    LENIENT = "lenient"


@dataclass(frozen=True, slots=True)
class Line:
    """One complete line: ``content`` is what it means, ``raw`` what was received."""

    content: bytes
    #: Without line end and Telnet signals, with every IAC IAC as one 0xFF.
    raw: bytes
    #: For logs; forwarding it would forward what the peer may read differently.


class LineBuffer:
    """Collects one direction of one control connection and cuts it into lines.

    The owner takes lines until ``None`` after each ``receive_data``; then never more than
    ``line_bytes_max`` bytes stay here. The first error is final: every later call raises it again.
    """

    __slots__ = ("_buffer", "_error", "_line_bytes_max", "_line_ends", "_scanned", "_side")

    def __init__(self, side: Side, *, line_bytes_max: int, line_ends: LineEnds) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._side = side
        self._line_bytes_max = line_bytes_max
        self._line_ends = line_ends
        self._error: ProtocolError | None = None

    def receive_data(self, data: bytes) -> None:
        """Add what the peer sent."""
        if self._error is None:
            self._buffer += data

    def next_line(self) -> Line | None:
        """Return the next complete line, or None until more bytes come.

        Raises:
            ProtocolError: The line is too long, or reads differently to different peers.
        """
        if self._error is not None:
            raise self._error
        end = self._buffer.find(b"\n", self._scanned)
        # Counting everything before the LF, complete or not, makes the outcome the same for every
        # cut of the input.
        if (end if end >= 0 else len(self._buffer)) > self._line_bytes_max:
            raise self.fail(f"a line is longer than {self._line_bytes_max} bytes")
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        raw = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._scanned = 0
        return Line(self._content(raw), raw)

    @property
    def partial_bytes(self) -> int:
        """How many bytes wait here for the rest of their line."""
        return len(self._buffer)

    def _content(self, raw: bytes) -> bytes:
        if self._line_ends is LineEnds.LENIENT:
            content = raw[:-1].rstrip(b"\r")
        elif raw.endswith(b"\r\n"):
            content = raw[:-2]
        else:
            raise self.fail("a line ends in LF without CR")
        if b"\r" in content:
            raise self.fail("a CR stands inside a line")
        if b"\0" in content:
            raise self.fail("a NUL stands inside a line")
        return self._unescape_iac(content) if IAC_BYTE in content else content

    def _unescape_iac(self, content: bytes) -> bytes:
        rest = content[self._signals_length(content) :]
        literal = rest.replace(IAC_BYTE * 2, b"")
        if IAC_BYTE in literal:
            raise self.fail("a Telnet command other than an interrupt stands inside a line")
        return rest.replace(IAC_BYTE * 2, IAC_BYTE)

    def _signals_length(self, content: bytes) -> int:
        """Count the bytes of the Telnet signals in front of a line."""
        position = 0
        interrupted = False
        while content[position : position + 1] == IAC_BYTE:
            command = content[position + 1 : position + 2]
            if command in _SIGNALS:
                interrupted = interrupted or command == _INTERRUPT_PROCESS
                position += 2
            elif interrupted and command != IAC_BYTE and command < _TELNET_COMMANDS_FROM:
                return position + 1
            else:
                break
        return position

    def fail(self, hint: str) -> ProtocolError:
        """Make and return an error of this direction; it is final for the buffer."""
        self._error = ProtocolError(hint, self._side)
        self._buffer.clear()
        return self._error


def escape_iac(content: bytes) -> bytes:
    """Return bytes as they travel on a Telnet channel: each 0xFF doubled."""
    return content.replace(IAC_BYTE, IAC_BYTE * 2)


#: "Interpret as command", RFC 854.
IAC = 0xFF
IAC_BYTE = b"\xff"
_INTERRUPT_PROCESS = b"\xf4"
#: NOP, data mark, interrupt process, abort output: what may precede ABOR and STAT (RFC 959, 4.1.3).
_SIGNALS = frozenset({b"\xf1", b"\xf2", _INTERRUPT_PROCESS, b"\xf5"})
#: Below SE (240) no Telnet command exists.
_TELNET_COMMANDS_FROM = b"\xf0"
