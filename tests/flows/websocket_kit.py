"""Clients and servers of WebSocket on the simulated port."""

from __future__ import annotations

import functools
import json
import pathlib
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluicegate.filterapi import FORWARD, Needs, WebExchange, WebFilter, WebMessage
from sluicegate.gate.settings import Installation, ServiceSettings
from sluicegate.protocols.websocket import (
    Close,
    Deflate,
    Message,
    Ping,
    Pong,
    WebSocketCodec,
    WebSocketEvent,
    accept_of,
)
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import installation
from tests.flows.web_kit import Visit, browse, web_settings

RULES = """
[[rule]]
name = "web"
to = ["site.example"]
protocols = ["tcp:80"]
upgrades = ["websocket"]
filters = {names}
{more}
"""
STAYS = object()
"""What a client returns that reads nothing more, and does not close either."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(*fields: str, key: str = KEY, version: str = "13") -> bytes:
    lines = [
        "GET http://site.example/chat HTTP/1.1",
        "Host: site.example",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Version: {version}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def switched(*fields: str, key: str = KEY) -> bytes:
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Accept: {accept_of(key.encode()).decode()}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class End:
    """One end of a WebSocket, for tests that talk."""

    def __init__(self, stream: PeerStream, *, is_client: bool, deflate: Deflate | None) -> None:
        self.stream = stream
        self.codec = WebSocketCodec(is_client=is_client, deflate=deflate)
        self.head = b""

    async def send(self, *events: WebSocketEvent) -> None:
        await self.stream.send_all(b"".join(map(self.codec.send, events)))

    async def receive(self) -> WebSocketEvent | None:
        """Return the next event; None at the end of the stream, or when it was reset."""
        while True:
            event = self.codec.next_event()
            if event is not None:
                return event
            try:
                data = await self.stream.receive()
            except OSError:
                return None
            if not data:
                return None
            self.codec.receive_data(data)

    async def receive_all(self) -> list[WebSocketEvent]:
        found: list[WebSocketEvent] = []
        while (event := await self.receive()) is not None:
            found.append(event)
        return found


Talk = Callable[[End], Awaitable[Any]]


async def echo(end: End) -> list[WebSocketEvent]:
    """Be a server that sends every message back, answers pings and the close."""
    seen: list[WebSocketEvent] = []
    while (event := await end.receive()) is not None:
        seen.append(event)
        if isinstance(event, Ping):
            await end.send(Pong(event.data))
        elif isinstance(event, Message | Close):
            await end.send(event)
        if isinstance(event, Close):
            break
    return seen


def says(*events: WebSocketEvent) -> Talk:
    """Be a client that sends, and reads until the end; closes if it was not told to."""

    async def talk(end: End) -> list[WebSocketEvent]:
        last = events[-1] if events else None
        closing = () if isinstance(last, Close) else (Close(1000),)
        for event in (*events, *closing):
            await end.send(event)
        return await end.receive_all()

    return talk


@dataclass
class Chat:
    """What came of one WebSocket."""

    visit: Visit
    client: Any
    server: Any
    heads: list[bytes] = field(default_factory=list)

    @property
    def record(self) -> Any:
        (record,) = self.visit.gate.requests
        return record

    @property
    def outcome(self) -> tuple[str, str]:
        return self.record.outcome, self.record.ended


def chat(
    client: Talk | None = None,
    server: Talk = echo,
    *,
    filters: Sequence[Any] = (),
    more: str = "",
    deflate: Deflate | None = None,
    ask: bytes | None = None,
    answer: bytes | None = None,
    meanwhile: Callable[[Any, ServiceSettings], Awaitable[None]] | None = None,
    **options: Any,
) -> Chat:
    """Let a client and a server talk through a gate with filters."""
    chat_ = Chat(None, None, None)  # type: ignore[arg-type]
    extensions = ["Sec-WebSocket-Extensions: permessage-deflate"] if deflate else []

    class Server:
        connections = 0

        async def serve(self, stream: PeerStream) -> None:
            self.connections += 1
            head = await stream.receive_until(b"\r\n\r\n")
            chat_.heads.append(head)
            await stream.send_all(answer if answer is not None else switched(*extensions))
            end = End(stream, is_client=False, deflate=deflate)
            if answer is None or b" 101 " in answer:
                chat_.server = await server(end)
            stream.close()

    async def peer(stream: PeerStream) -> Any:
        try:
            return await visit_gate(stream)
        except OSError:
            return None  # it was reset; what came of it is in the records

    async def visit_gate(stream: PeerStream) -> Any:
        await stream.send_all(ask if ask is not None else handshake(*extensions))
        end = End(stream, is_client=True, deflate=deflate)
        end.head = await stream.receive_until(b"\r\n\r\n")
        chat_.heads.append(end.head)
        result = await (client or says())(end) if b" 101 " in end.head else None
        if result is not STAYS:
            stream.close()
        return result

    installed = [
        one if isinstance(one, Installation) else installation(one, f"f{number}")
        for number, one in enumerate(filters)
    ]
    names = json.dumps([one.name for one in installed])
    plan = web_settings(RULES.format(names=names, more=more), filters=installed)
    with tempfile.TemporaryDirectory() as folder:
        limits = {"spool_free_bytes_min": 0, "spool_free_inodes_min": 0, **options}
        visit = browse(
            origin=Server(),  # type: ignore[arg-type]
            peer=peer,
            plan=plan,
            spool=pathlib.Path(folder),
            meanwhile=functools.partial(meanwhile, settings=plan) if meanwhile else None,
            **limits,
        )
    chat_.visit, chat_.client = visit, visit.answers
    return chat_


class Judge(WebFilter):
    """Answers as a test says, and writes down what it was shown."""

    name = "judge"
    needs = Needs(messages=True)

    def __init__(self, answer: Callable[[WebMessage], object] | object = FORWARD) -> None:
        self.answer = answer
        self.seen: list[WebMessage] = []
        self.ended: list[tuple[str, str, int]] = []

    def on_message(self, exchange: WebExchange, message: WebMessage) -> Any:
        self.seen.append(message)
        return self.answer(message) if callable(self.answer) else self.answer

    def on_end(self, exchange: WebExchange, outcome: Any) -> None:
        self.ended.append((outcome.verdict, outcome.reason, outcome.status))

    @property
    def shown(self) -> list[tuple[str, str, str | bytes]]:
        return [(one.direction.value, one.kind.value, one.payload) for one in self.seen]
