"""WebSockets through a published port, each message shown to a filter, which drops some of them."""

import asyncio
import contextlib

from typing_extensions import override
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

from benchmarks.soak.kind import Kind, check, connection, content, tcp_server

MESSAGES = 20
SIZE = 2_000
DROPPED = "drop this"


class WebSocketTraffic(Kind):
    """Messages to a server that echoes, each behind one that must not arrive."""

    name = "websocket"
    clients = 6

    @override
    def main_toml(self) -> str:
        filters = self.site.folder.joinpath("drops.py")
        filters.write_text(DROPS)
        drops = f'[[filter]]\nname = "drops"\nuse = "{filters}:Drops"\n'
        return self.listener() + drops

    @override
    def policy_toml(self) -> str:
        return self.publish('["drops"]', 'http = true\nupgrades = ["websocket"]\n')

    @override
    def serve(self) -> contextlib.AbstractAsyncContextManager[object]:
        return tcp_server(self.site.server_port, echo)

    @override
    async def one(self, client: str, number: int) -> int:
        async with connection(self.site.gate_port, client) as (reader, writer):
            end = WSConnection(ConnectionType.CLIENT)
            writer.write(end.send(Request(host="soak.test", target="/")))
            if not isinstance(answer := await next_event(end, reader), AcceptConnection):
                raise ConnectionError(f"{answer} is the answer to a handshake")
            count = 0
            for place in range(number * MESSAGES, (number + 1) * MESSAGES):
                data = content(place, SIZE)
                writer.write(end.send(TextMessage(DROPPED)) + end.send(BytesMessage(data)))
                count += check(await message_of(end, reader), data)
            writer.write(end.send(CloseConnection(1000)))
            while not isinstance(await next_event(end, reader), CloseConnection):
                pass
            return count


async def next_event(end: WSConnection, reader: asyncio.StreamReader) -> Event:
    """The next thing that the other end says.

    Raises:
        ConnectionError: It is gone, or does not switch.
    """
    while True:
        for event in end.events():
            if isinstance(event, RejectConnection):
                raise ConnectionError(f"refused with {event.status_code}")
            return event
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("ended without a close")
        end.receive_data(data)


async def message_of(end: WSConnection, reader: asyncio.StreamReader) -> bytes:
    """The next message, whole."""
    parts: list[bytes] = []
    while True:
        event = await next_event(end, reader)
        if isinstance(event, CloseConnection):
            raise ConnectionError(f"closed with {event.code}: {event.reason}")
        if isinstance(event, TextMessage | BytesMessage):
            data = event.data
            parts.append(data.encode() if isinstance(data, str) else bytes(data))
            if event.message_finished:
                return b"".join(parts)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts a WebSocket and sends back what comes."""
    end = WSConnection(ConnectionType.SERVER)
    while True:
        try:
            event = await next_event(end, reader)
        except ConnectionError:
            return
        if isinstance(event, Request):
            writer.write(end.send(AcceptConnection()))
        elif isinstance(event, TextMessage | BytesMessage):
            writer.write(end.send(event))
        elif isinstance(event, Ping):
            writer.write(end.send(event.response()))
        elif isinstance(event, CloseConnection):
            writer.write(end.send(event.response()))
            return
        await writer.drain()


DROPS = '''
from sluicegate.filterapi import DROP, FORWARD, Needs, WebFilter


class Drops(WebFilter):
    """Lets bytes pass, and drops texts."""

    name = "drops"
    needs = Needs(messages=True)

    def on_message(self, exchange, message):
        return DROP if message.text else FORWARD
'''
