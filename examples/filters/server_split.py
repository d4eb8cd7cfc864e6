"""Spreads the clients of one address over several servers, one after the other (round robin).

A `ConnectionFilter` emulates every server: its `DataFilter` dials the next one of the list itself,
and relays. The invariant: a client has exactly one server for its whole connection, and none gets
a byte before it has taken the connection.
"""

from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import override

from sluicegate.errors import TransportError
from sluicegate.filterapi import (
    Connection,
    ConnectionFilter,
    DataFilter,
    DataSocket,
    Emulate,
    Side,
    SocketAddress,
    relay,
)


class ServerSplitSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """Addresses with ports (`192.0.2.10:80`), in the order in which they take their turns."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """How long one server is waited for before the next one is tried."""

    @field_validator("servers")
    @classmethod
    def _are_addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            SocketAddress.parse(server)
        return servers


class ServerSplit(ConnectionFilter[ServerSplitSettings]):
    """Installed once; knows whose turn it is."""

    name = "server_split"
    Settings = ServerSplitSettings

    def __init__(self, settings: ServerSplitSettings) -> None:
        super().__init__(settings)
        self._servers = [SocketAddress.parse(server) for server in settings.servers]
        self._next = 0

    @override
    def make(self, connection: Connection, settings: ServerSplitSettings) -> Emulate:
        return Emulate(_Split(self))

    def turn(self) -> list[SocketAddress]:
        """Return the servers for one client: the one whose turn it is, then the rest."""
        first = self._next
        self._next = (first + 1) % len(self._servers)
        return self._servers[first:] + self._servers[:first]


class _Split(DataFilter):
    """One client and the server that it got."""

    name = "server_split"

    def __init__(self, split: ServerSplit) -> None:
        self._split = split

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        chosen = await self._dial(connection)
        is_whole = False
        try:
            await relay(client, chosen)
            is_whole = True
        finally:
            # A server must not take half of something for all of it.
            chosen.close(abortive=not is_whole)

    async def _dial(self, connection: Connection) -> DataSocket:
        split = self._split
        failure = TransportError(0, Side.SERVER)
        for address in split.turn():
            try:
                chosen = await split.firewall.port.connect(
                    address, timeout_s=split.settings.connect_timeout_s
                )
            except TransportError as error:
                failure = error
                continue
            connection.note(self, "chosen", {"server": str(address)})
            return chosen
        raise failure
