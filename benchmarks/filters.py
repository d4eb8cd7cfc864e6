"""The filters that the bench attaches: the least that each tier can do, so the tier is measured.

Written against the public filter API alone, and loaded by path as an operator's own would be.
"""

import asyncio
from typing import ClassVar

from typing_extensions import override

from sluicegate.filterapi import (
    FORWARD,
    GO_ON,
    Connection,
    ConnectRequested,
    ContentFilter,
    ContentVerdict,
    DataFilter,
    DataSocket,
    Direction,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    HeadVerdict,
    Pass,
    Release,
    Session,
    SessionFilter,
    Side,
    StreamFilter,
    StreamVerdict,
    Transfer,
    TransferOffer,
    WebExchange,
    WebFilter,
    Window,
)

__all__ = [
    "Hold",
    "HoldAll",
    "Look",
    "Mark",
    "RelayInPython",
    "ReplyAsObject",
    "StreamAsObject",
]


HELD_AT_A_TIME = 200

SMALL_BYTES = 4096
"""Up to here a copy costs less than a lease."""


class Look(StreamFilter):
    """Sees every chunk: a small one as bytes, a large one in place; reads its first and last."""

    __slots__ = ("bytes_seen", "edges")
    name: ClassVar[str] = "look"

    def __init__(self) -> None:
        self.bytes_seen = 0
        self.edges = 0

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        """Looks, and releases all of it."""
        del side
        if len(window) <= SMALL_BYTES:
            data = bytes(window)
            self.bytes_seen += len(data)
            self.edges ^= data[0] ^ data[-1]
            return FORWARD
        with window.lease() as view:
            self.bytes_seen += len(view)
            self.edges ^= view[0] ^ view[-1]
        return FORWARD


class RelayInPython(DataFilter):
    """Awaits every chunk of both directions and sends it on: the dearest way through the gate."""

    name: ClassVar[str] = "relay"

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        """Relays both directions until both have ended."""
        del connection
        assert server is not None, "a published port has a server"
        async with asyncio.TaskGroup() as directions:
            directions.create_task(relay(client, server))
            await relay(server, client)


async def relay(source: DataSocket, target: DataSocket) -> None:
    """Moves one direction to its end of stream, and hands that on too."""
    while window := await source.receive():
        await target.send(window)
    target.shutdown()


class StreamAsObject(Filter):
    """A protocol filter for the simplest protocol: what the server sends is one object."""

    name: ClassVar[str] = "object"

    @override
    def start(self, firewall: Firewall) -> Events:
        """Asks for every connection of its rule."""
        return Events.of(ConnectRequested)

    @override
    def attach(self, session: Session) -> SessionFilter | None:
        """Makes the session's part."""
        return HoldEachStream(session)


class HoldEachStream(SessionFilter):
    """Has the server's stream of every connection of one session held."""

    @override
    def on_event(self, event: Event) -> EventVerdict:
        """Puts the service's own holding filter on the connection."""
        offer = TransferOffer(name="stream", direction=Direction.DOWNLOAD, protocol="stream")
        held = self.session.hold_transfer(event.connection, offer)
        event.attach_data_filter(held.factory(event.connection))
        return Pass()


class ReplyAsObject(DataFilter):
    """Holds what the server says as one object, and delivers it when it was judged."""

    name: ClassVar[str] = "reply"

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        """Relays the client's direction, and holds the server's."""
        assert server is not None, "a published port has a server"
        async with asyncio.TaskGroup() as directions:
            directions.create_task(relay(client, server))
            offer = TransferOffer(name="reply", direction=Direction.DOWNLOAD, protocol="reply")
            with connection.open_transfer(offer) as transfer:
                while window := await server.receive():
                    await transfer.feed(window)
                await transfer.finish()
                await transfer.deliver(client)
            client.shutdown()


class HoldAll(ContentFilter):
    """Has every object held until as many have come as are expected at a time."""

    name: ClassVar[str] = "hold-all"

    def __init__(self) -> None:
        self._waiting = 0
        self._all_here = asyncio.Event()

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        """Releases all of them together."""
        assert transfer.sha256, "a held object has its hash"
        self._waiting += 1
        if self._waiting == HELD_AT_A_TIME:
            self._all_here.set()
        await self._all_here.wait()
        return Release()


class Hold(ContentFilter):
    """Has every object held and hashed, and releases it unread."""

    name: ClassVar[str] = "hold"

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        """Releases what arrived whole."""
        assert transfer.sha256, "a held object has its hash"
        return Release()


class Mark(WebFilter):
    """Sees both heads of every exchange, reads one field and sets another in each."""

    name = "mark"

    @override
    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        headers = exchange.request.headers
        headers.set("X-Mark", headers.first("Host") or "")
        return GO_ON

    @override
    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        assert exchange.response is not None
        headers = exchange.response.headers
        headers.set("X-Mark", headers.first("Content-Type") or "")
        return GO_ON
