"""Marks the subject of mails whose headers or text contain a keyword, on their way by SMTP.

A `ConnectionFilter` puts one `DataFilter` into each connection of its rules. Read it in this order:
what is done to a mail (pure functions), the dialogue (`SmtpTalk`: bytes in, bytes out), the filter.
The invariant: what the server gets was read here exactly as the server will read it, so whatever
may be read in two ways ends the connection.

One command is under way at a time, whatever the client pipelines; each mail is held whole, in
memory, until it is judged. TLS would hide the mail, so `STARTTLS` is neither offered nor accepted.
"""

import asyncio
import email
import email.header
import enum
import errno
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    Connection,
    ConnectionFilter,
    DataFilter,
    DataSocket,
    ProtocolError,
    Side,
)


class SmtpSubjectSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keywords: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """What to look for, in either case; a space stands for any white space."""
    mark: str = Field(default="[suspicious]", pattern=r"^[!-~]{1,60}$")
    """What is put before the subject."""
    message_bytes_max: int = Field(default=1 << 20, ge=1000, le=1 << 26)
    """The largest mail; told to clients (RFC 1870). A larger one could not be judged: refused."""
    held_bytes_max: int = Field(default=64 << 20, ge=1000)
    """What all connections together may hold; clients above it are told to come back later."""


# -- a mail ----------------------------------------------------------------------------------------


def find_keyword(message: bytes, keywords: tuple[str, ...]) -> str | None:
    """Return the first keyword that a mail contains, or why it cannot be told; blocks."""
    try:
        texts = [_comparable(text) for text in _texts_of(message)]
    except Exception as error:  # noqa: BLE001 - hostile mail finds every bug of a parser
        # What nobody can read is marked, as if it had been found guilty.
        return f"unreadable: {type(error).__name__}"
    return next((one for one in keywords if any(_comparable(one) in text for text in texts)), None)


def _comparable(text: str) -> str:
    return " ".join(text.casefold().split())


def _texts_of(message: bytes) -> Iterator[str]:
    if _OVERLONG_FIELD.search(message):
        raise OverflowError  # the parser's time grows with the square of their length
    yield message.decode(errors="replace")  # also what claims to be an attachment
    for part in email.message_from_bytes(message).walk():
        for value in part.values():
            yield str(email.header.make_header(email.header.decode_header(value)))
        body = part.get_payload(decode=True)
        if part.get_content_maintype() == "text" and isinstance(body, bytes):
            yield body.decode(part.get_content_charset() or "utf-8", errors="replace")


def mark_subject(message: bytes, mark: bytes) -> bytes:
    """Put a mark before the subject, every one if there are several, or add a subject."""
    edited = bytearray()
    position = 0
    is_marked = False
    while (end := message.find(b"\r\n", position) + 2) > 1:
        line = message[position:end]
        if subject := _SUBJECT.match(line):
            # A line of RFC 5322 has 998 bytes; a longer one is folded.
            space = b" " if len(line) + len(mark) < _LINE_BYTES_MAX else b"\r\n "
            edited += b"Subject: " + mark + space + line[subject.end() :]
            is_marked = True
        elif _FIELD.match(line) or (edited and line.startswith((b" ", b"\t"))):
            edited += line
        else:
            break
        position = end
    added = b"" if is_marked else b"Subject: " + mark + b"\r\n"
    if not edited and not message.startswith(b"\r\n"):
        added += b"\r\n"  # a mail without a header: what was added must not look like part of it
    return added + bytes(edited) + message[position:]


_SUBJECT: Final = re.compile(rb"subject[ \t]*:[ \t]*", re.IGNORECASE)
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_OVERLONG_FIELD: Final = re.compile(
    rb"^content-[!-9;-~]+[ \t]*:.*(?:\n[ \t].*){16}", re.IGNORECASE | re.MULTILINE
)
_LINE_BYTES_MAX: Final = 998
"""Bytes of a line of text without its end, RFC 5321 section 4.5.3.1.6 and RFC 5322 2.1.1."""


# -- the dialogue ----------------------------------------------------------------------------------


class Lines:
    """Cuts one side's bytes into lines, which end in CR LF and in nothing else.

    A lone CR or LF ends a line for some servers and not for others, which is how a second mail is
    smuggled inside the text of a first one; a NUL ends it for some programs behind them.
    """

    def __init__(self, side: Side) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._side = side

    def feed(self, data: bytes) -> None:
        """Add what the side sent."""
        self._buffer += data

    def __len__(self) -> int:
        return len(self._buffer)

    def next(self, bytes_max: int) -> bytes | None:
        """Return the next line without its end; None until it is complete."""
        end = self._buffer.find(b"\n", self._scanned)
        self._scanned = len(self._buffer)
        if (end if end >= 0 else len(self._buffer)) > bytes_max + 1:
            raise ProtocolError(f"a line is longer than {bytes_max} bytes", self._side)
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        if not line.endswith(b"\r") or b"\r" in line[:-1] or b"\0" in line:
            raise ProtocolError("a lone CR, a lone LF or a NUL", self._side)
        return line[:-1]


class Awaited(enum.Enum):
    """What the server's next reply answers."""

    NOTHING = "nothing"
    COMMAND = "command"  # also the greeting, and the end of a mail
    EHLO = "ehlo"
    AUTH = "auth"
    DATA = "data"


class Said(enum.Enum):
    """What the client's next line is."""

    COMMAND = "command"
    CREDENTIALS = "credentials"
    TEXT = "text"


class SmtpTalk:
    """Follows one dialogue. Feed it both sides; send what it leaves in `to_server`, `to_client`.

    When `mail` is set, it waits for `release`. Every method but that raises `ProtocolError`.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self.to_client = bytearray()
        self.to_server = bytearray()
        self.mail: bytes | None = None
        #: A complete mail as it was sent, dots and all, without the line that ended it.
        self._message_bytes_max = message_bytes_max
        self._from_client = Lines(Side.CLIENT)
        self._from_server = Lines(Side.SERVER)
        self._awaited = Awaited.COMMAND
        self._said = Said.COMMAND
        self._text = bytearray()
        self._reply: list[bytes] = []
        self._refusals = 0

    @property
    def held_bytes(self) -> int:
        """How much of the client's is kept here."""
        return len(self._text) + len(self.mail or b"") + len(self._from_client)

    @property
    def is_behind(self) -> bool:
        """Whether the client has said more than can be answered now; read no more of it."""
        return len(self._from_client) > 0 and not self._may_go_on

    @property
    def _may_go_on(self) -> bool:
        return self._awaited is Awaited.NOTHING and self.mail is None

    def feed_client(self, data: bytes) -> None:
        """Take what the client sent."""
        self._from_client.feed(data)
        self._go_on()

    def feed_server(self, data: bytes) -> None:
        """Take what the server sent."""
        self._from_server.feed(data)
        while (line := self._from_server.next(_REPLY_LINE_BYTES_MAX)) is not None:
            self._on_reply_line(line)
        self._go_on()

    def release(self, mail: bytes) -> None:
        """Send the mail that was held, or what it was edited to."""
        assert self.mail is not None, "no mail is held"
        self.to_server += mail + b".\r\n"
        self.mail = None
        self._awaited = Awaited.COMMAND

    def _go_on(self) -> None:
        """Take the client's lines for as long as the server owes no reply."""
        while self._may_go_on:
            bytes_max = _TEXT_LINE_BYTES_MAX if self._said is Said.TEXT else _COMMAND_BYTES_MAX
            line = self._from_client.next(bytes_max)
            if line is None:
                return
            match self._said:
                case Said.COMMAND:
                    self._on_command(line)
                case Said.CREDENTIALS:
                    self._forward(line, Awaited.AUTH)
                case Said.TEXT:
                    self._on_text(line)

    def _on_command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        refusal = _find_refusal(verb, argument, self._message_bytes_max)
        if verb == b"BDAT":
            # What follows is a mail (RFC 3030) to whoever accepts it and commands to others.
            raise ProtocolError("BDAT was not offered", Side.CLIENT)
        if refusal is None:
            self._forward(line, _AWAITED.get(verb, Awaited.COMMAND))
            return
        self._refusals += 1
        if self._refusals > _REFUSALS_MAX:
            raise ProtocolError("too many commands that are not supported", Side.CLIENT)
        self.to_client += refusal + b"\r\n"

    def _on_text(self, line: bytes) -> None:
        if line == b".":
            self.mail, self._text = bytes(self._text), bytearray()
            self._said = Said.COMMAND
            return
        self._text += line + b"\r\n"
        if len(self._text) > self._message_bytes_max:
            raise ProtocolError(f"a mail above {self._message_bytes_max} bytes", Side.CLIENT)

    def _forward(self, line: bytes, awaited: Awaited) -> None:
        self.to_server += line + b"\r\n"
        self._awaited = awaited

    def _on_reply_line(self, line: bytes) -> None:
        found = _REPLY_LINE.fullmatch(line)
        if found is None or (self._reply and not line.startswith(self._reply[0][:3])):
            raise ProtocolError("not a reply of SMTP", Side.SERVER)
        self._reply.append(line)
        if len(self._reply) > _REPLY_LINES_MAX:
            raise ProtocolError(f"a reply of more than {_REPLY_LINES_MAX} lines", Side.SERVER)
        if found[2] != b"-":
            reply, self._reply = self._reply, []
            self._on_reply(int(found[1]), reply)

    def _on_reply(self, code: int, lines: list[bytes]) -> None:
        awaited, self._awaited = self._awaited, Awaited.NOTHING
        if awaited is Awaited.NOTHING and code != _CLOSING:
            raise ProtocolError(f"reply {code} to nothing", Side.SERVER)
        goes_on = _GOES_ON.get(awaited, {}).get(code)
        if goes_on is None and (300 <= code < 400 or (awaited is Awaited.DATA and code < 400)):
            raise ProtocolError(f"reply {code} out of place", Side.SERVER)
        if awaited is not Awaited.NOTHING:
            self._said = goes_on or Said.COMMAND
        if awaited is Awaited.EHLO and code == 250:
            lines = _offered(lines, self._message_bytes_max)
        self.to_client += b"".join(line + b"\r\n" for line in lines)


def _find_refusal(verb: bytes, argument: bytes, message_bytes_max: int) -> bytes | None:
    """Return the gate's own answer to a command that the server must not get."""
    if verb not in _COMMANDS:
        return b"502 5.5.1 Not supported"
    if verb == b"AUTH" and not _AUTH_IN_CLEAR.match(argument):
        # Others may encrypt what comes after (RFC 4954 section 4).
        return b"504 5.5.4 Mechanism not supported"
    size = _SIZE_ARGUMENT.search(argument) if verb == b"MAIL" else None
    if size is not None and int(size[1]) > message_bytes_max:
        return b"552 5.3.4 Larger than can be inspected"
    return None


def _offered(lines: list[bytes], message_bytes_max: int) -> list[bytes]:
    """Take from a reply to EHLO what would change the dialogue in ways unknown here."""
    kept = [lines[0][4:]]
    for line in lines[1:]:
        keyword, _, value = line[4:].partition(b" ")
        if keyword.upper() == b"SIZE":
            size = int(value) if value.isdigit() else 0
            kept.append(b"SIZE %d" % min(size or message_bytes_max, message_bytes_max))
        elif keyword.upper() in _EXTENSIONS:
            kept.append(line[4:])
    return [b"250-" + one for one in kept[:-1]] + [b"250 " + kept[-1]]


_COMMANDS: Final = frozenset(b"HELO EHLO MAIL RCPT DATA RSET VRFY EXPN HELP NOOP QUIT AUTH".split())
_EXTENSIONS: Final = frozenset(
    b"8BITMIME AUTH DELIVERBY DSN ENHANCEDSTATUSCODES EXPN HELP LIMITS PIPELINING SMTPUTF8".split()
)
_AWAITED: Final = {b"EHLO": Awaited.EHLO, b"AUTH": Awaited.AUTH, b"DATA": Awaited.DATA}
_GOES_ON: Final = {Awaited.AUTH: {334: Said.CREDENTIALS}, Awaited.DATA: {354: Said.TEXT}}
_AUTH_IN_CLEAR: Final = re.compile(
    rb"(PLAIN|LOGIN|CRAM-MD5|SCRAM-SHA-(1|256)|XOAUTH2|OAUTHBEARER)(?![^ ])", re.IGNORECASE
)
_SIZE_ARGUMENT: Final = re.compile(rb" SIZE=([0-9]{1,20})", re.IGNORECASE)
_REPLY_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -]).*)?")
_CLOSING: Final = 421
_COMMAND_BYTES_MAX: Final = 12288
"""Bytes of a line of credentials, the longest there are (RFC 4954 section 4)."""
_TEXT_LINE_BYTES_MAX: Final = _LINE_BYTES_MAX + 1
"""With the dot that is added before a dot (RFC 5321 section 4.5.2)."""
_REPLY_LINE_BYTES_MAX: Final = 2048
_REPLY_LINES_MAX: Final = 100
_REFUSALS_MAX: Final = 20


# -- the filter ------------------------------------------------------------------------------------


class SmtpSubject(ConnectionFilter[SmtpSubjectSettings]):
    """Installed once; counts what all connections hold."""

    name = "smtp_subject"
    Settings = SmtpSubjectSettings

    def __init__(self, settings: SmtpSubjectSettings) -> None:
        super().__init__(settings)
        self.held_bytes = 0

    @override
    def make(self, connection: Connection, settings: SmtpSubjectSettings) -> DataFilter:
        return _Dialogue(self)


class _Dialogue(DataFilter):
    """One connection: two tasks feed the talk, and both send what it leaves."""

    name = "smtp_subject"

    def __init__(self, owner: SmtpSubject) -> None:
        self._owner = owner
        self._talk = SmtpTalk(owner.settings.message_bytes_max)
        self._counted_bytes = 0
        self._is_mine = asyncio.Lock()
        self._has_answer = asyncio.Event()
        self._client: DataSocket
        self._server: DataSocket
        self._connection: Connection

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None, "this filter emulates no server"
        self._client, self._server, self._connection = client, server, connection
        try:
            async with asyncio.TaskGroup() as both:
                reading = both.create_task(self._read_client())
                await self._read_server()
                reading.cancel()
        except ExceptionGroup as group:
            # The first is the cause; what follows from it stands behind.
            error = group.exceptions[0]
            if not isinstance(error, ProtocolError):
                raise error from None
            self._end(error)
        else:
            # Returning alone would let the rest of the connection pass unseen.
            client.close()
            server.close()

    @override
    def detach(self) -> None:
        self._owner.held_bytes -= self._counted_bytes
        self._counted_bytes = 0

    async def _read_client(self) -> None:
        while data := bytes(await self._client.receive()):
            await self._take(self._talk.feed_client, data)
            while self._talk.is_behind:
                self._has_answer.clear()
                await self._has_answer.wait()
        async with self._is_mine:  # a mail that is judged now is still to be sent
            self._server.shutdown()

    async def _read_server(self) -> None:
        while data := bytes(await self._server.receive()):
            await self._take(self._talk.feed_server, data)
            self._has_answer.set()

    async def _take(self, feed: Callable[[bytes], None], data: bytes) -> None:
        """Let the talk have what came, judge the mail that this completed, send what is due."""
        async with self._is_mine:
            try:
                feed(data)
                self._count()
            finally:
                await self._send()
            while self._talk.mail is not None:
                self._talk.release(await self._judged(self._talk.mail))
                self._count()
                await self._send()

    async def _judged(self, mail: bytes) -> bytes:
        """Return a mail, marked if it has to be."""
        settings, firewall = self._owner.settings, self._connection.firewall
        text = mail.replace(b"\r\n.", b"\r\n").removeprefix(b".")
        found = await firewall.run_blocking(find_keyword, text, settings.keywords)
        if found is None:
            return mail
        self._connection.note(self, "subject marked", {"keyword": found, "bytes": len(text)})
        return mark_subject(mail, settings.mark.encode())

    async def _send(self) -> None:
        talk = self._talk
        for socket, due in ((self._server, talk.to_server), (self._client, talk.to_client)):
            if due:
                data = bytes(due)
                due.clear()
                await socket.send(data)

    def _count(self) -> None:
        """Count what is held here with what all connections hold."""
        owner, held_bytes = self._owner, self._talk.held_bytes
        owner.held_bytes += held_bytes - self._counted_bytes
        self._counted_bytes = held_bytes
        if owner.held_bytes > owner.settings.held_bytes_max:
            raise ProtocolError("too much mail at once, come back later", Side.INTERNAL)

    def _end(self, error: ProtocolError) -> None:
        """Tell the client why, and reset both sides: no server takes a mail without its end."""
        code = b"554 5.5.0" if error.side is Side.CLIENT else b"421 4.3.0"
        reply = b"%s Closing: %s\r\n" % (code, error.hint.encode())
        if error.side is Side.SERVER:
            self._connection.fail(f"SMTP: {error.hint}", errno.EPROTO, error.side, to_client=reply)
        else:
            self._connection.refuse(f"SMTP: {error.hint}", to_client=reply)
