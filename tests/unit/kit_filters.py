"""Filters of every tier for the kit's tests: right ones, and ones that break one promise each."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from sluicegate.errors import Side
from sluicegate.filterapi import (
    FORWARD,
    HOLD,
    LEAVE,
    CallbackDataFilter,
    Connection,
    ConnectRequested,
    ContentFilter,
    ContentVerdict,
    Cut,
    DataFilter,
    DataSocket,
    Deny,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Refuse,
    Release,
    Rewrite,
    Session,
    SessionFilter,
    StreamFilter,
    StreamVerdict,
    Transfer,
    Window,
)


class OnlySsh(StreamFilter):
    name = "only-ssh"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        if side is not Side.CLIENT:
            return FORWARD
        start = bytes(window.window(0, min(4, len(window))))
        if start == b"SSH-":
            return LEAVE
        return HOLD if b"SSH-".startswith(start) else Cut("not an SSH client")


class Shouting(StreamFilter):
    """Rewrites what it sees."""

    name = "shouting"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        return Rewrite(bytes(window).upper())


class Naive(StreamFilter):
    """Looks at chunks, not at the stream."""

    name = "naive"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        return Cut("private") if b"/private" in bytes(window) else FORWARD


class Raising(StreamFilter):
    name = "raising"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        raise ValueError("boom")


class Keeping(StreamFilter):
    """Keeps a slice beyond its time."""

    name = "keeping"

    def __init__(self) -> None:
        self.kept: list[memoryview] = []

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        with window.lease() as view:
            self.kept.append(view[:1])
        return FORWARD


class Shared(StreamFilter):
    """Keeps what belongs to a connection in the class."""

    name = "shared"
    seen: ClassVar[dict[str, bytes]] = {}

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        before = self.seen.get(side, b"")
        self.seen[side] = bytes(window)
        return Rewrite(before + bytes(window)) if before == bytes(window) else FORWARD

    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        self.seen.clear()
        return FORWARD


class Relay(DataFilter):
    name = "relay"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        await asyncio.gather(self.one_way(client, server), self.one_way(server, client))

    async def one_way(self, source: DataSocket, target: DataSocket) -> None:
        while len(window := await source.receive()):
            await target.send(window)
        target.shutdown()


class Greeting(DataFilter):
    """Sends the server's first words on, and leaves."""

    name = "greeting"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        await client.send(await server.receive())


class EndsNever(Relay):
    """Forgets to pass the end of the stream on."""

    async def one_way(self, source: DataSocket, target: DataSocket) -> None:
        while len(window := await source.receive()):
            await target.send(window)


class Hoarding(Relay):
    """Takes everything in before it sends anything on."""

    async def one_way(self, source: DataSocket, target: DataSocket) -> None:
        pieces: list[bytes] = []
        while len(window := await source.receive()):
            pieces.append(bytes(window))
            if len(pieces[-1]) < 4096:
                await target.send(b"".join(pieces))
                pieces.clear()
        await target.send(b"".join(pieces))
        target.shutdown()


class Fussy(Relay):
    """Raises at what it does not understand, and when a side breaks off."""

    async def one_way(self, source: DataSocket, target: DataSocket) -> None:
        try:
            while len(window := await source.receive()):
                bytes(window).decode("utf-8")
                await target.send(window)
        except OSError:
            return
        target.shutdown()


class RelayByCallbacks(CallbackDataFilter):
    name = "relay-by-callbacks"

    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> None:
        assert server is not None
        self.connection = connection
        self.ways = {Side.CLIENT: (client, server), Side.SERVER: (server, client)}
        for side, (source, _) in self.ways.items():
            source.start_receive(None, self, ("received", side))

    def complete_socket_io(
        self, success: bool, error: int, buffer: Any, user_data: Any, address: Any
    ) -> None:
        what, side = user_data
        source, target = self.ways[side]
        if not success:
            self.connection.fail("a socket failed", error, side)
        elif what == "sent":
            source.start_receive(None, self, ("received", side))
        elif len(buffer):
            target.start_send(buffer, self, ("sent", side))
        else:
            target.shutdown()

    def detach(self) -> None:
        self.ways.clear()


class NoScripts(ContentFilter):
    name = "no-scripts"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Refuse("a script") if transfer.head.startswith(b"#!") else Release()


class Swallowing(ContentFilter):
    """Takes the whole object into memory."""

    name = "swallowing"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            body = await file.read()
        return Release() if body.count(b"#!") < 100 else Refuse("many")


class Moody(ContentFilter):
    """Releases the first object only."""

    name = "moody"
    count = 0

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.count += 1
        return Release() if self.count == 1 else Refuse("enough")


class Speechless(ContentFilter):
    name = "speechless"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return None  # type: ignore[return-value]


class OneServerPerClient(Filter):
    name = "one-server-per-client"

    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    def attach(self, session: Session) -> SessionFilter:
        return FirstServerOnly(session)


class FirstServerOnly(SessionFilter):
    first = ""

    def on_event(self, event: Event) -> EventVerdict:
        assert isinstance(event, ConnectRequested)
        bound = event.rule_settings.get("only", "")
        self.first = self.first or str(bound) or event.target.host
        return Pass() if event.target.host == self.first else Deny("another server than the first")
