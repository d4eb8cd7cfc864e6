r"""The text of an FTP control connection: commands one way, replies the other (RFC 959).

``ftp_dialogue`` and filters call it; it stands on ``receive``. The invariant: a ``FtpCommand`` or
``FtpReply`` written with ``to_bytes`` reads the same to every peer, so filters forward that and
never ``raw``.

>>> parser = FtpCommandParser()
>>> parser.receive_data(b"user anonymous\r\nRETR a b\r\nNO")
>>> [str(command) for command in iter(parser.next_event, None)]
['USER anonymous', 'RETR a b']
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from sluicegate.errors import Side
from sluicegate.protocol_limits import (
    FTP_COMMAND_LINE_BYTES_MAX,
    FTP_REPLY_BYTES_MAX,
    FTP_REPLY_LINE_BYTES_MAX,
    FTP_REPLY_LINES_MAX,
)
from sluicegate.protocols.receive import Line, LineBuffer, LineEnds, escape_iac
from sluicegate.protocols.text import printable

__all__ = [
    "FtpCommand",
    "FtpCommandParser",
    "FtpReply",
    "FtpReplyParser",
    "encode_command",
    "encode_reply",
]


@dataclass(frozen=True, slots=True)
class FtpCommand:
    """One command of the client."""

    verb: str
    #: Upper case, letters and digits only.
    argument: bytes = b""
    #: What follows the one space after the verb, byte for byte (paths may begin with a space).
    raw: bytes = b""
    #: As received, line end and Telnet signals included; for logs.

    def to_bytes(self) -> bytes:
        """Return the line to forward; a missing and an empty argument are the same."""
        return encode_command(self.verb, self.argument)

    @override
    def __str__(self) -> str:
        """Show the command for logs: no password, nothing unprintable."""
        if not self.argument:
            return self.verb
        return f"{self.verb} {'****' if self.verb in _SECRET_VERBS else printable(self.argument)}"


class FtpCommandParser:
    """The client's direction of one control connection: bytes in, commands out.

    After each ``receive_data`` take ``next_event`` until it is None.
    """

    __slots__ = ("_lines",)

    def __init__(self, *, line_bytes_max: int = FTP_COMMAND_LINE_BYTES_MAX) -> None:
        self._lines = LineBuffer(
            Side.CLIENT, line_bytes_max=line_bytes_max, line_ends=LineEnds.STRICT
        )

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        self._lines.receive_data(data)

    def next_event(self) -> FtpCommand | None:
        """Return the next command, or None until more bytes come.

        Raises:
            ProtocolError: The line is refused by ``LineBuffer`` or does not begin with a verb.
                The error is final; the connection must end.
        """
        line = self._lines.next_line()
        if line is None:
            return None
        match = _COMMAND.fullmatch(line.content)
        if match is None:
            raise self._lines.fail("a command line does not begin with a verb")
        verb, argument = match.groups(b"")
        return FtpCommand(verb.decode("ascii").upper(), argument, line.raw)

    @property
    def partial_bytes(self) -> int:
        """How many bytes of an unfinished command are held."""
        return self._lines.partial_bytes


@dataclass(frozen=True, slots=True)
class FtpReply:
    """One complete reply of the server, of one or more lines."""

    code: int
    #: 100 to 599.
    lines: tuple[bytes, ...] = (b"",)
    #: The text of each line: first and last without code, those between as they came.
    raw: bytes = b""
    #: As received; for logs.

    def to_bytes(self) -> bytes:
        """Return the reply to forward.

        Clients disagree on what ends a multi-line reply (curl: any three digits and a space;
        ftplib: the code and anything but a hyphen), so a line between that begins with three
        digits gets a space in front, as RFC 959 section 4.2 asks of servers.
        """
        code = b"%03d" % self.code
        if len(self.lines) == 1:
            return escape_iac(code + b" " + self.lines[0] + b"\r\n")
        between = (
            b" " + text if _THREE_DIGITS.match(text) and not text.startswith(code + b"-") else text
            for text in self.lines[1:-1]
        )
        every = (code + b"-" + self.lines[0], *between, code + b" " + self.lines[-1], b"")
        return escape_iac(b"\r\n".join(every))

    @property
    def is_preliminary(self) -> bool:
        """Whether another reply to the same command follows (1yz)."""
        return self.code < _COMPLETION

    @property
    def is_success(self) -> bool:
        """Whether the command was done (2yz)."""
        return _COMPLETION <= self.code < _INTERMEDIATE

    @property
    def is_intermediate(self) -> bool:
        """Whether the server waits for a further command (3yz)."""
        return _INTERMEDIATE <= self.code < _NEGATIVE

    @property
    def is_failure(self) -> bool:
        """Whether the command was refused, for now or for good (4yz, 5yz)."""
        return self.code >= _NEGATIVE

    @override
    def __str__(self) -> str:
        """Show code and first line for logs."""
        return f"{self.code} {printable(self.lines[0])}".rstrip()


class FtpReplyParser:
    """The server's direction of one control connection: bytes in, whole replies out.

    After each ``receive_data`` take ``next_event`` until it is None. A reply is handed out when
    its last line has come, so a server cannot have half a reply shown to the client.
    """

    __slots__ = ("_code", "_lines", "_raw", "_raw_bytes", "_reply_bytes_max", "_texts")

    def __init__(
        self,
        *,
        line_bytes_max: int = FTP_REPLY_LINE_BYTES_MAX,
        reply_bytes_max: int = FTP_REPLY_BYTES_MAX,
    ) -> None:
        self._lines = LineBuffer(
            Side.SERVER, line_bytes_max=line_bytes_max, line_ends=LineEnds.LENIENT
        )
        self._reply_bytes_max = reply_bytes_max
        self._code = b""
        self._texts: list[bytes] = []
        self._raw: list[bytes] = []
        self._raw_bytes = 0

    def receive_data(self, data: bytes) -> None:
        """Add what the server sent."""
        self._lines.receive_data(data)

    def next_event(self) -> FtpReply | None:
        """Return the next complete reply, or None until more bytes come.

        Raises:
            ProtocolError: A line is refused by ``LineBuffer``, carries no reply code where one
                must stand, or the reply is too large. The error is final.
        """
        while (line := self._lines.next_line()) is not None:
            is_last = self._add_line(line)
            if is_last:
                reply = FtpReply(int(self._code), tuple(self._texts), b"".join(self._raw))
                self._texts, self._raw = [], []
                self._raw_bytes = 0
                return reply
        return None

    @property
    def is_inside_reply(self) -> bool:
        """Whether a reply has begun and not ended: the end of the stream now cuts it."""
        return bool(self._texts) or self._lines.partial_bytes > 0

    def _add_line(self, line: Line) -> bool:
        """Take one line; tell whether it is the reply's last."""
        self._raw_bytes += len(line.raw)
        if self._raw_bytes > self._reply_bytes_max or len(self._texts) >= FTP_REPLY_LINES_MAX:
            bound = f"{self._reply_bytes_max} bytes or {FTP_REPLY_LINES_MAX} lines"
            raise self._lines.fail(f"a reply is longer than {bound}")
        self._raw.append(line.raw)
        if self._texts:
            separator = line.content[3:4]
            is_last = line.content[:3] == self._code and separator in (b"", b" ")
            self._texts.append(line.content[4:] if is_last else line.content)
            return is_last
        match = _REPLY.fullmatch(line.content)
        if match is None:
            raise self._lines.fail("a reply does not begin with a code")
        self._code, separator, text = match.groups(b"")
        self._texts.append(text)
        return separator != b"-"


def encode_command(verb: str, argument: bytes = b"") -> bytes:
    r"""Return one command line.

    Raises:
        ValueError: The argument holds CR, LF or NUL, or the verb is none.

    >>> encode_command("RETR", b"a b")
    b'RETR a b\r\n'
    """
    line = verb.encode("ascii") + (b" " + argument if argument else b"")
    if _COMMAND.fullmatch(line) is None or _LINE_BREAKING.search(line) is not None:
        raise ValueError(f"{line!r} is not one FTP command")
    return escape_iac(line) + b"\r\n"


def encode_reply(code: int, text: str | Sequence[str], *, is_continued: bool = False) -> bytes:
    r"""Return a reply of the gate's own; several texts make a multi-line reply.

    Control characters become spaces and long texts are cut, so that a reason that quotes a file
    name cannot forge a reply. ``is_continued`` leaves the reply open (``150-``) for more lines of
    the same code; nothing else may be written to the client before the line that closes it.

    >>> encode_reply(550, "x.exe: executable\r\n226 done")
    b'550 x.exe: executable  226 done\r\n'
    """
    if not 100 <= code <= 599:  # noqa: PLR2004 - the codes of RFC 959 section 4.2
        raise ValueError(f"{code} is not an FTP reply code")
    texts = [text] if isinstance(text, str) else list(text)
    lines = [_CONTROL.sub(b" ", one[:_OWN_TEXT_MAX].encode("utf-8", "replace")) for one in texts]
    marks = [b"-"] * len(lines) if is_continued else [b"-"] * (len(lines) - 1) + [b" "]
    encoded = (
        b"%03d%s%s\r\n" % (code, mark, line) for mark, line in zip(marks, lines, strict=True)
    )
    return escape_iac(b"".join(encoded))


#: Longer than RFC 959's three or four letters, for XSHA256 and its like; a TAB, a colon or a
#: leading space (an HTTP header thrown at an FTP port) does not match.
_COMMAND = re.compile(rb"([A-Za-z][A-Za-z0-9]{2,15})(?: (.*))?", re.DOTALL)
_REPLY = re.compile(rb"([1-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_THREE_DIGITS = re.compile(rb"[0-9]{3}")
_LINE_BREAKING = re.compile(rb"[\r\n\0]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SECRET_VERBS = frozenset({"PASS", "ACCT"})
_COMPLETION = 200
_INTERMEDIATE = 300
_NEGATIVE = 400
#: ftplib refuses reply lines above 8,192 bytes; a reason needs far less.
_OWN_TEXT_MAX = 500
