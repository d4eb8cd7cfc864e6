"""Clients and servers of HTTP on the simulated port, for flows of the web proxy."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.settings import ServiceSettings
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names, proxy_settings
from tests.flows.gate_kit import Gate, play

SITE = SocketAddress.parse("93.184.216.34:80")
NAMES = {"site.example": ["93.184.216.34"], "other.example": ["93.184.216.35"]}
OTHER = SocketAddress.parse("93.184.216.35:80")

RULES = """
[[rule]]
name = "web"
to = ["site.example", "other.example"]
protocols = ["tcp:80"]
"""


def web_settings(policy: str = RULES, **options: Any) -> ServiceSettings:
    """Make the settings of a gate with one proxy listener that takes HTTP."""
    options.setdefault("protocols", (EntryProtocol.HTTP, EntryProtocol.HTTP_CONNECT))
    options.setdefault("authenticate", Authenticate.OFF)
    return proxy_settings(policy, **options)


def get(path: str = "/", host: str = "site.example", *fields: str, method: str = "GET") -> bytes:
    """Return a request as a browser sends it to a proxy."""
    lines = [f"{method} http://{host}{path} HTTP/1.1", f"Host: {host}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def reply(body: bytes = b"hello", *fields: str, status: str = "200 OK") -> bytes:
    """Return a whole response with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Message:
    """One message as a simple reader takes it."""

    head: bytes
    body: bytes = b""
    whole: bool = True
    trailers: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])

    def field(self, name: str) -> str | None:
        found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*(.*?)\r\n", self.head)
        return found[1].decode("latin-1") if found is not None else None


async def read_message(
    stream: PeerStream, *, has_body: bool = True, is_response: bool = False
) -> Message | None:
    """Read one message; None at the end of the stream."""
    head = await stream.receive_until(b"\r\n\r\n")
    if not head.endswith(b"\r\n\r\n"):
        return None
    message = Message(head)
    if not has_body or (is_response and message.status in {204, 304}):
        return message
    length = message.field("Content-Length")
    if message.field("Transfer-Encoding") == "chunked":
        await _read_chunks(stream, message)
    elif length is not None:
        message.body = await stream.receive_exactly(int(length))
        message.whole = len(message.body) == int(length)
    elif is_response and message.status >= 200:
        message.body = await stream.receive_all()
    return message


async def _read_chunks(stream: PeerStream, message: Message) -> None:
    while True:
        line = await stream.receive_until(b"\r\n")
        if not line.endswith(b"\r\n"):
            message.whole = False
            return
        size = int(line, 16)
        if not size:
            break
        data = await stream.receive_exactly(size + 2)
        message.body += data[:-2]
        if len(data) < size + 2:
            message.whole = False
            return
    while (line := await stream.receive_until(b"\r\n")) != b"\r\n":
        if not line:
            message.whole = False
            return
        message.trailers += line


@dataclass
class Origin:
    """A web server: answers each request with what ``answers`` says, and notes what it got."""

    answers: Callable[[Message], bytes] | Sequence[bytes] = field(
        default_factory=lambda: lambda _request: reply()
    )
    seen: list[Message] = field(default_factory=list)
    connections: int = 0
    closes: bool = False

    async def serve(self, stream: PeerStream) -> None:
        self.connections += 1
        try:
            while (request := await read_message(stream)) is not None:
                number = len(self.seen)
                self.seen.append(request)
                if callable(self.answers):
                    answer = self.answers(request)
                else:
                    answer = self.answers[min(number, len(self.answers) - 1)]
                await stream.send_all(answer)
                if self.closes:
                    break
        except OSError:
            return
        stream.close()

    @property
    def lines(self) -> list[str]:
        return [one.line for one in self.seen]


def asks(*requests: bytes) -> Callable[[PeerStream], Coroutine[Any, Any, list[Message]]]:
    """Be a client that sends one request after the other and reads each answer."""

    async def peer(stream: PeerStream) -> list[Message]:
        answers: list[Message] = []
        for request in requests:
            try:
                await stream.send_all(request)
                is_head = request.startswith(b"HEAD ")
                answer = await read_message(stream, has_body=not is_head, is_response=True)
            except OSError:
                answer = None
            if answer is None:
                break
            answers.append(answer)
        stream.close()
        return answers

    return peer


@dataclass
class Visit:
    """What came of one client at a gate."""

    gate: Gate
    answers: Any
    origin: Origin

    @property
    def statuses(self) -> list[int]:
        return [one.status for one in self.answers]

    @property
    def reasons(self) -> list[str]:
        return [one.ended or one.reason for one in self.gate.requests]


def browse(
    *requests: bytes,
    origin: Origin | None = None,
    plan: ServiceSettings | None = None,
    peer: Callable[[PeerStream], Coroutine[Any, Any, Any]] | None = None,
    names: Names | None = None,
    address: SocketAddress = SITE,
    within_s: float = 120.0,
    meanwhile: Callable[[Gate], Awaitable[None]] | None = None,
    **options: Any,
) -> Visit:
    """Let one client ask a gate with one web server behind it."""
    server = origin or Origin()
    names = names or Names()
    for name, rows in NAMES.items():
        if name not in names.records:
            names.put(name, *rows)
    found: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(server.serve, address=address)
        client = gate.call(peer or asks(*requests))
        if meanwhile is not None:
            await meanwhile(gate)
        (result,) = await gate.ended(client, within_s=within_s)
        if isinstance(result, BaseException):
            raise result
        found.append(result)
        await gate.idle()

    gate = play(scenario, plan or web_settings(), exchange=names, **options)
    return Visit(gate, found[0], server)
