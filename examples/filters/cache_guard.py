"""Holds what clients store in a memcached until the rule's content filters have released it.

A `ConnectionFilter` puts one `DataFilter` into each connection of its rules. Read it in this order:
what a line says (pure functions), one side's bytes (`Incoming`), the dialogue. The invariant: the
server gets nothing but commands that were understood here, written anew, and whole values that were
released; one command is under way at a time, whatever the client pipelines.
"""

import errno
import re
from dataclasses import dataclass
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    Connection,
    ConnectionFilter,
    DataFilter,
    DataSocket,
    Direction,
    Outcome,
    ProtocolError,
    Shown,
    Side,
    TransferOffer,
    copy,
)


class CacheGuardSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value_bytes_max: int = Field(default=1 << 20, ge=1, le=1 << 30)
    """The largest value; memcached takes 1 MiB unless it is told otherwise."""


# -- what a line says ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command that the server may get."""

    line: bytes
    """As it is sent, without its end; of a storing one, with a place for the size."""
    verb: str
    key: str = ""
    size: int = -1
    """Bytes of the value that follows; negative where none does."""
    is_quiet: bool = False
    """Whether the client wants no reply (`noreply`). The server is asked for one all the same."""


def parse_command(line: bytes) -> Command | None:
    """Return what a client's line says; None for what the server must not get.

    Not understood on purpose: `append` and `prepend`, because a value that comes in parts is never
    seen as a whole, the meta commands, and everything that changes the server itself.
    """
    if found := _STORE.fullmatch(line):
        verb, key, flags, expiry, size, unique, quiet = found.groups()
        if (verb == b"cas") is (unique is None):
            return None
        sent = b"%s %s %s %s %%d%s" % (verb, key.replace(b"%", b"%%"), flags, expiry, unique or b"")
        return Command(sent, verb.decode(), _shown(key), int(size), quiet is not None)
    if found := _PLAIN.fullmatch(line):
        return Command(found[1], found[1].split(b" ")[0].decode(), is_quiet=found[2] is not None)
    return None


def value_size(line: bytes) -> int | None:
    """Return how many bytes follow a line of the reply to `get`; None when it is the last one."""
    found = _VALUE.fullmatch(line)
    if found is not None:
        return int(found[1])
    if line == b"END" or line.startswith((b"ERROR", b"CLIENT_ERROR ", b"SERVER_ERROR ")):
        return None
    raise ProtocolError("not a reply to get", Side.SERVER)


def _shown(key: bytes) -> str:
    return key.decode("ascii", "backslashreplace")


_KEY: Final = rb"[^\x00-\x20\x7f]{1,250}"
_STORE: Final = re.compile(
    rb"(set|add|replace|cas) (%b) (\d{1,10}) (-?\d{1,10}) (\d{1,10})( \d{1,20})?( noreply)?" % _KEY
)
_PLAIN: Final = re.compile(
    rb"((?:delete %(key)b|(?:incr|decr) %(key)b \d{1,20}|touch %(key)b -?\d{1,10}"
    rb"|gets?(?: %(key)b){1,100}|gats? -?\d{1,10}(?: %(key)b){1,100}|version|quit))( noreply)?"
    % {b"key": _KEY}
)
_VALUE: Final = re.compile(rb"VALUE %b \d{1,10} (\d{1,10})(?: \d{1,20})?" % _KEY)
_FETCHING: Final = frozenset({"get", "gets", "gat", "gats"})
_LINE_BYTES_MAX: Final = 32 << 10
"""A hundred keys, the most that one `get` may name here."""


# -- one side's bytes ------------------------------------------------------------------------------


class Incoming:
    """Lines, and values of known size, of one side; read when they are asked for."""

    def __init__(self, socket: DataSocket, side: Side) -> None:
        self._socket = socket
        self._side = side
        self._ahead = b""

    async def line(self) -> bytes | None:
        """Return the next line without its end; None at the end of the stream."""
        while (end := self._ahead.find(b"\r\n")) < 0:
            if len(self._ahead) > _LINE_BYTES_MAX:
                raise ProtocolError(f"a line is longer than {_LINE_BYTES_MAX} bytes", self._side)
            if not (came := bytes(await self._socket.receive())):
                if self._ahead:
                    raise ProtocolError("the end of the stream inside a line", self._side)
                return None
            self._ahead += came
        line, self._ahead = self._ahead[:end], self._ahead[end + 2 :]
        return line

    async def piece(self, bytes_max: int) -> bytes:
        """Return the next bytes, at least one and at most so many."""
        if not self._ahead:
            self._ahead = bytes(await self._socket.receive())
        if not self._ahead:
            raise ProtocolError("the end of the stream inside a value", self._side)
        piece, self._ahead = self._ahead[:bytes_max], self._ahead[bytes_max:]
        return piece


# -- the filter ------------------------------------------------------------------------------------


class CacheGuard(ConnectionFilter[CacheGuardSettings]):
    """Installed once."""

    name = "cache_guard"
    shows: ClassVar[tuple[Shown, ...]] = ("transfers",)
    Settings = CacheGuardSettings

    @override
    def make(self, connection: Connection, settings: CacheGuardSettings) -> DataFilter:
        return _Dialogue(settings)


class _Dialogue(DataFilter):
    """One connection: a command, its reply, the next command."""

    name = "cache_guard"

    def __init__(self, settings: CacheGuardSettings) -> None:
        self._settings = settings
        self._client: DataSocket
        self._server: DataSocket
        self._connection: Connection
        self._commands: Incoming
        self._replies: Incoming

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None, "this filter emulates no server"
        self._client, self._server, self._connection = client, server, connection
        self._commands = Incoming(client, Side.CLIENT)
        self._replies = Incoming(server, Side.SERVER)
        try:
            while (line := await self._commands.line()) is not None and line != b"quit":
                await self._obey(line)
            server.shutdown()
            await copy(server, client)
        except ProtocolError as error:
            if error.side is Side.SERVER:
                told = b"SERVER_ERROR %s\r\n" % error.hint.encode()
                connection.fail(error.hint, errno.EPROTO, error.side, to_client=told)
            else:
                told = b"CLIENT_ERROR %s\r\n" % error.hint.encode()
                connection.refuse(error.hint, to_client=told)
        else:
            # Returning alone would let the rest of the connection pass unseen.
            client.close()

    async def _obey(self, line: bytes) -> None:
        command = parse_command(line)
        if command is None:
            await self._client.send(b"ERROR\r\n")
        elif command.size >= 0:
            await self._store(command)
        else:
            await self._server.send(command.line + b"\r\n")
            if command.verb in _FETCHING:
                await self._pass_values()
            else:
                await self._pass_reply(command)

    async def _store(self, command: Command) -> None:
        """Hold a value; store it, or say why not."""
        if command.size > self._settings.value_bytes_max:
            raise ProtocolError("object too large for cache", Side.CLIENT)
        offer = TransferOffer(
            command.key, Direction.UPLOAD, "memcached", facts={"command": command.verb}
        )
        with self._connection.open_transfer(offer) as transfer:
            rest = command.size
            while rest:
                piece = await self._commands.piece(rest)
                rest -= len(piece)
                await transfer.feed(piece)
            if await self._commands.line() != b"":
                raise ProtocolError("bad data chunk", Side.CLIENT)
            outcome = await transfer.finish()
            if outcome.outcome is not Outcome.RELEASED:
                if not command.is_quiet:
                    reason = outcome.reason.encode("ascii", "backslashreplace")
                    await self._client.send(b"SERVER_ERROR refused: %s\r\n" % reason)
                return
            await self._server.send(command.line % transfer.size + b"\r\n")
            await transfer.deliver(self._server)
        await self._server.send(b"\r\n")
        await self._pass_reply(command)

    async def _pass_reply(self, command: Command) -> None:
        reply = await self._replies.line()
        if reply is None:
            raise ProtocolError("the server went away", Side.SERVER)
        if not command.is_quiet:
            await self._client.send(reply + b"\r\n")

    async def _pass_values(self) -> None:
        while (line := await self._replies.line()) is not None:
            await self._client.send(line + b"\r\n")
            rest = value_size(line)
            if rest is None:
                return
            rest += 2  # the value's own end of line
            while rest:
                piece = await self._replies.piece(rest)
                rest -= len(piece)
                await self._client.send(piece)
        raise ProtocolError("the server went away", Side.SERVER)
