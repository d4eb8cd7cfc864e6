"""Lets the secondary connections of a line protocol through, on the ports that its peers announce.

One line of the primary connection, a fixed beginning and a port, announces one connection: a
`StreamFilter` has the gate listen for it and puts the gate's port in the line. The invariant: an
announced connection joins the same two hosts as the primary one, above port 1023, and nothing else.

Where a protocol says addresses too, or its replies matter, see how `ftp_access` does it.
"""

import re
from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    Action,
    AddressFilter,
    Connection,
    Cut,
    LimitExceeded,
    Rewrite,
    Side,
    StreamFilter,
    StreamVerdict,
    TransportError,
    Window,
)


class ConnectorSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server_announces: str = Field(default="", max_length=200, examples=["DATA PORT "])
    """How a server's line begins that tells its client to connect to the port behind it."""
    client_announces: str = Field(default="", max_length=200, examples=["LISTENING ON "])
    """How a client's line begins that tells the server to connect back."""


class PortLines:
    """One direction's bytes: finds the lines that announce a port, and puts another one in."""

    def __init__(self, beginning: bytes, offer: Callable[[int], int]) -> None:
        self._line = re.compile(re.escape(beginning) + rb"([0-9]{1,5})(\r?\n)")
        self._beginning = beginning
        self._offer = offer
        #: Returns the port to announce instead.
        self._held = b""
        self._is_line_start = True
        #: Of what comes next, held bytes first.

    def feed(self, data: bytes) -> bytes:
        """Return what may pass; the beginning of an announcing line is held."""
        if not self._beginning:
            return data
        *lines, rest = (self._held + data).split(b"\n")
        passed = bytearray()
        for line in lines:
            passed += self._edited(line + b"\n")
        self._held = rest if self._is_line_start and self._may_announce(rest) else b""
        if rest and not self._held:
            # Prompts have no line end: what announces nothing waits for none.
            passed += rest
            self._is_line_start = False
        return bytes(passed)

    def finish(self) -> bytes:
        """Return what may pass at the end of the stream; half a line announces nothing."""
        return self._held

    def _edited(self, line: bytes) -> bytes:
        found = self._line.fullmatch(line) if self._is_line_start else None
        self._is_line_start = True
        if found is None:
            return line
        return self._beginning + b"%d" % self._offer(int(found[1])) + found[2]

    def _may_announce(self, start: bytes) -> bool:
        """Tell whether an announcing line may begin so."""
        if len(start) <= len(self._beginning):
            return self._beginning.startswith(start)
        return self._line.fullmatch(start.removesuffix(b"\r") + b"\n") is not None


class Connector(StreamFilter):
    """One primary connection."""

    name = "connector"
    Settings = ConnectorSettings

    def __init__(self, settings: ConnectorSettings) -> None:
        self._lines: Final = {
            Side.CLIENT: PortLines(settings.client_announces.encode(), self._listen_for_server),
            Side.SERVER: PortLines(settings.server_announces.encode(), self._listen_for_client),
        }
        self._connection: Connection

    @override
    def on_start(self, connection: Connection) -> None:
        self._connection = connection

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        try:
            return Rewrite(self._lines[side].feed(bytes(window)))
        except (LimitExceeded, TransportError, UnusablePortError) as error:
            return Cut(f"what the {side} announced cannot be had: {error}")

    @override
    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        return Rewrite(self._lines[side].finish())

    def _listen_for_client(self, port: int) -> int:
        """Let this client connect to a port of its server, once."""
        connection = self._connection
        target = connection.server_address.with_port(_checked(port))
        return self._announced(port, connection.session.allow_future_connect(connection, target))

    def _listen_for_server(self, port: int) -> int:
        """Let this server connect to a port of its client, once."""
        connection = self._connection
        target = connection.client_address.with_port(_checked(port))
        peers = AddressFilter.only(connection.server_address.host)
        action = connection.session.bind_for_client(connection, target, peers=peers)
        return self._announced(port, action)

    def _announced(self, port: int, action: Action) -> int:
        offered = action.address.port
        self._connection.note(self, "port announced", {"port": port, "offered": offered})
        return offered


class UnusablePortError(Exception):
    """A port was announced that no secondary connection may go to."""


def _checked(port: int) -> int:
    if not _PORT_MIN <= port <= _PORT_MAX:
        raise UnusablePortError(f"port {port} is not between {_PORT_MIN} and {_PORT_MAX}")
    return port


_PORT_MIN: Final = 1024
_PORT_MAX: Final = 65535
