"""FTP data connections: announced first, used later.

A client announces a data connection (``PASV``, ``PORT``) before it says what for (``RETR``), and
may connect in between. ``ftp_control`` makes one ``DataChannel`` per announcement and tells it what
its dialogue decided; the filter that the channel puts on the connection waits for that. The
invariant: no byte of a data connection is read before it was decided how it is to be inspected.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass

from typing_extensions import override

from sluicegate.filterapi import (
    Action,
    Connection,
    DataFilter,
    DataSocket,
    HeldTransfer,
    Position,
    SocketAddress,
)

__all__ = ["DataChannel"]


class _Fate(enum.Enum):
    """What becomes of a data connection that holds no object."""

    PASS = "pass"  # noqa: S105 - no secret
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class _Dial:
    """Dial the server, then wait for more."""

    address: SocketAddress


_Order = HeldTransfer | _Fate | _Dial


class DataChannel:
    """One announced data connection, from its announcement to its end.

    It carries one transfer at most: what comes after on the same announcement is refused.
    """

    def __init__(self, channels: dict[str, DataChannel]) -> None:
        self.action: Action | None = None
        #: The expectation at the gate; None before the announcement was accepted.
        self.client: SocketAddress | None = None
        #: Active: where the client listens.
        self.is_used = False
        #: A transfer was assigned.
        self.connection: Connection | None = None
        #: The data connection, while it is there.
        self.has_ended = False
        #: The data connection was there, and is not any more.
        self.needs_server = False
        #: Whether the gate has to dial the server for it; else the server came by itself.
        self._channels = channels
        #: By the identifier of their connection, for ``on_ended``.
        self._server: SocketAddress | None = None
        self._is_dialling = False
        self._is_decided = False
        self._held: HeldTransfer | None = None
        self._orders: asyncio.Queue[_Order] = asyncio.Queue()
        self._arrival = asyncio.Event()
        self._answer = asyncio.Event()

    # -- what the dialogue decides -------------------------------------------------------------

    def expect_client(self, action: Action, server: SocketAddress) -> None:
        """Take the expectation of a client; ``server`` is where its passive server listens."""
        self.action = action
        self.needs_server = True
        self._server = server
        self._answer.set()
        if self._is_dialling:
            self.dial()

    def expect_server(self, action: Action, client: SocketAddress) -> None:
        """Take the expectation of a server, which the client at ``client`` asked to connect."""
        self.action = action
        self.client = client

    def dial_client(self, action: Action) -> None:
        """Take that the client is dialled at once, whether the server comes or not."""
        if self.action is not None:
            self.action.cancel()
        self.action = action
        self.needs_server = True

    def on_answer(self) -> None:
        """Take that the server accepted the announcement, by which time it may have come."""
        self._answer.set()

    def dial(self) -> None:
        """Connect to a passive server as soon as the client is there, and its address is known."""
        self._is_dialling = True
        if self._server is not None:
            self._orders.put_nowait(_Dial(self._server))

    def hold(self, held: HeldTransfer) -> None:
        """Hold the object that comes."""
        self._held = held
        if self.has_ended:
            held.cancel("the data connection had ended before")
        self._decide(held)

    def let_pass(self) -> None:
        """Let what comes pass unheld (listings, exempted clients)."""
        self._decide(_Fate.PASS)

    def drop(self, reason: str) -> None:
        """Give the announcement up; harmless when its transfer has begun or ended."""
        if self.action is not None:
            self.action.cancel()
        if self._held is not None:
            self._held.cancel(reason)
        self._decide(_Fate.DROP)
        self._answer.set()
        self._arrival.set()

    async def answer(self) -> None:
        """Wait until the announcement was answered, or dropped."""
        await self._answer.wait()

    async def arrival(self, timeout_s: float) -> bool:
        """Wait until the data connection came, or was dropped; False when it never did."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrival.wait()
        except TimeoutError:
            return False
        return True

    def _decide(self, order: _Order) -> None:
        if not self._is_decided:
            self._is_decided = True
            self._orders.put_nowait(order)

    # -- what the gate tells -------------------------------------------------------------------

    def make_filter(self, connection: Connection) -> DataFilter:
        """Make the data filter for the connection that came (a ``DataFilterFactory``)."""
        self.connection = connection
        self._channels[connection.id] = self
        self._arrival.set()
        return _AwaitOrder(self)

    def on_ended(self) -> None:
        """Take the end of the data connection: what is not decided or begun by now never will."""
        self.connection = None
        self.has_ended = True
        self.drop("the data connection ended")

    async def next_order(self) -> _Order:
        """Wait for what to do (its filter only)."""
        return await self._orders.get()


class _AwaitOrder(DataFilter):
    """Stands on a data connection until it is known what to do with it."""

    name = "ftp_access"
    position = Position.MIDDLE

    def __init__(self, channel: DataChannel) -> None:
        self._channel = channel

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        order = await self._channel.next_order()
        if isinstance(order, _Dial):
            if self._channel.connection is not None:
                connection.dial_server(order.address)
            order = await self._channel.next_order()
        if self._channel.connection is None:
            return  # it has ended meanwhile
        if order is _Fate.DROP:
            client.close()
            if server is not None:
                server.close()
        elif order is not _Fate.PASS:
            assert not isinstance(order, _Dial | _Fate), "the server is dialled once"
            connection.hand_over(self, order.factory(connection))
