"""Clients that speak HTTP/2 inside TLS over the simulated network, by the ``h2`` package."""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from sluicegate.gate.settings import ServiceSettings
from sluicegate.testing.peers import PeerStream
from tests.flows.tls_kit import TlsPeer, client_context, with_tls
from tests.flows.web_kit import Message, Visit, browse, web_settings

Pairs = Iterable[tuple[bytes, bytes]]


def http2_settings(policy: str | None = None, **options: Any) -> ServiceSettings:
    """Make the settings of a gate with one HTTPS proxy listener that takes HTTP/2."""
    plan = web_settings(**options) if policy is None else web_settings(policy, **options)
    return with_tls(plan, protocols=("h2", "http/1.1"))


@functools.cache
def http2_context() -> ssl.SSLContext:
    context = client_context()
    context.set_alpn_protocols(["h2"])
    return context


def ask(
    path: str = "/", host: str = "site.example", *fields: tuple[str, str], method: str = "GET"
) -> list[tuple[bytes, bytes]]:
    """Return the fields of a request as a browser sends it to a proxy."""
    return [
        (b":method", method.encode()),
        (b":scheme", b"http"),
        (b":authority", host.encode()),
        (b":path", path.encode()),
        *((name.encode(), value.encode()) for name, value in fields),
    ]


@dataclass
class Answer:
    """What came on one stream."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    informational: list[int] = field(default_factory=list)
    is_whole: bool = False
    reset: int | None = None


class Http2Peer:
    """One client's connection."""

    def __init__(self, tls: TlsPeer) -> None:
        self.tls = tls
        config = H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        self.answers: dict[int, Answer] = {}
        self.left: ConnectionTerminated | None = None
        self.is_ended = False
        self.acknowledges = True
        #: Whether it gives back what it has received.

    async def begin(self) -> None:
        await self.tls.shake_hands()
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.tls.send_all(data)

    async def send(self, fields: Pairs, *, ends: bool = True) -> int:
        """Send a head on a stream of its own."""
        number = self.h2.get_next_available_stream_id()
        self.answers[number] = Answer()
        self.h2.send_headers(number, list(fields), end_stream=ends)
        await self.flush()
        return number

    async def send_body(self, number: int, body: bytes, *, ends: bool = True) -> None:
        """Send a body as the windows let it."""
        while body:
            room = min(self.h2.local_flow_control_window(number), 16384)
            if not room:
                await self.read()
                continue
            piece, body = body[:room], body[room:]
            self.h2.send_data(number, piece, end_stream=ends and not body)
            await self.flush()

    async def read(self) -> None:
        """Take what comes next."""
        data = await self.tls.receive()
        if not data:
            self.is_ended = True
            return
        for event in self.h2.receive_data(data):
            self.take(event)
        await self.flush()

    def take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.left = event
            return
        number = getattr(event, "stream_id", None)
        answer = self.answers.get(number) if number is not None else None
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            answer.status, answer.fields = int(fields.pop(":status")), fields
        elif isinstance(event, InformationalResponseReceived):
            status = next(value for name, value in event.headers if name == ":status")
            answer.informational.append(int(status))
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, StreamEnded):
            answer.is_whole = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until something holds, or the connection has ended."""
        while not (condition() or self.is_ended):
            await self.read()

    async def answered(self, number: int) -> Answer:
        """Return what has come on a stream, when it is over."""
        answer = self.answers[number]
        await self.until(lambda: answer.is_whole or answer.reset is not None)
        return answer

    async def ask(self, fields: Pairs, body: bytes = b"") -> Answer:
        """Ask, and return the answer."""
        number = await self.send(fields, ends=not body)
        if body:
            await self.send_body(number, body)
        return await self.answered(number)

    def close(self) -> None:
        self.tls.close()


Then = Callable[[Http2Peer], Coroutine[Any, Any, Any]]


def speaks_http2(then: Then) -> Callable[[PeerStream], Coroutine[Any, Any, Any]]:
    """Be a client that does something on a connection of HTTP/2."""

    async def peer(stream: PeerStream) -> Any:
        client = Http2Peer(TlsPeer(stream, http2_context()))
        try:
            await client.begin()
            return await then(client)
        finally:
            client.close()

    return peer


def visit(then: Then, *, plan: ServiceSettings | None = None, **options: Any) -> Visit:
    """Let one client of HTTP/2 ask a gate with one web server behind it."""
    return browse(peer=speaks_http2(then), plan=plan or http2_settings(), **options)


def asks(*requests: Pairs) -> Then:
    """Ask all of it at once, and return the answers."""

    async def then(client: Http2Peer) -> list[Answer]:
        numbers = [await client.send(fields) for fields in requests]
        return [await client.answered(number) for number in numbers]

    return then


# -- WebSockets on streams (RFC 8441) -------------------------------------------------------------


class StreamPeer(PeerStream):
    """A stream of HTTP/2 in the place of a client's connection, for what is written for HTTP/1.1.

    What is sent first is an upgrade; it goes out as the extended CONNECT that says the same, and
    what is answered is read as a 101, or as what else came.
    """

    def __init__(self, client: Http2Peer) -> None:
        self.client = client
        self.number = 0
        self.is_closed = False
        self._taken = 0
        self._pending = b""
        self._is_ended = self._is_shown = False

    @property
    def answer(self) -> Answer:
        return self.client.answers[self.number]

    @property
    def is_over(self) -> bool:
        answer = self.answer
        return answer.is_whole or answer.reset is not None or self.client.is_ended

    async def send_all(self, data: bytes) -> None:
        if not self.number:
            await self.client.until(
                lambda: bool(self.client.h2.remote_settings.enable_connect_protocol)
            )
            head, _, data = data.partition(b"\r\n\r\n")
            fields, _ = translated(head + b"\r\n\r\n")
            fields = [(n, b"CONNECT") if n == b":method" else (n, v) for n, v in fields]
            fields.insert(1, (b":protocol", b"websocket"))
            self.number = await self.client.send(fields, ends=False)
        if data and self.answer.reset is None:
            await self.client.send_body(self.number, data, ends=False)

    async def receive(self, size: int = 65536) -> bytes:
        if self._pending:
            data, self._pending = self._pending[:size], self._pending[size:]
            return data
        answer = self.answer
        await self.client.until(
            lambda: (
                len(answer.body) > self._taken
                or self.is_over
                or bool(answer.status and not self._is_shown)
            )
        )
        if answer.status and not self._is_shown:
            self._is_shown = True
            return self._head(answer)
        data = answer.body[self._taken : self._taken + size]
        self._taken += len(data)
        if not data and not answer.is_whole:
            raise ConnectionResetError
        return data

    @staticmethod
    def _head(answer: Answer) -> bytes:
        line = "101 Switching Protocols" if answer.status == 200 else f"{answer.status} "
        lines = [f"HTTP/1.1 {line}", *(f"{n}: {v}" for n, v in answer.fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def end_stream(self) -> None:
        if self.number and not (self._is_ended or self.is_over):
            self._is_ended = True
            self.client.h2.end_stream(self.number)
            self._send_now()

    def close(self) -> None:
        self.is_closed = True
        self.end_stream()

    def reset(self) -> None:
        self.is_closed = True
        self.client.h2.reset_stream(self.number, 8)
        self._send_now()

    def _send_now(self) -> None:
        tls = self.client.tls
        tls.tls.write(self.client.h2.data_to_send())
        rest = tls.outgoing.read()
        while rest:
            rest = rest[tls.socket.send(rest) :]


def on_a_stream(
    peer: Callable[[PeerStream], Coroutine[Any, Any, Any]],
) -> Callable[[PeerStream], Coroutine[Any, Any, Any]]:
    """Be a client of WebSockets of HTTP/1.1, on a stream of HTTP/2."""

    async def in_http2(stream: PeerStream) -> Any:
        client = Http2Peer(TlsPeer(stream, http2_context()))
        await client.begin()
        on_stream = StreamPeer(client)
        result = await peer(on_stream)
        if on_stream.is_closed:
            try:
                await client.until(lambda: on_stream.is_over)
                client.close()
            except OSError:
                pass  # the whole connection was ended
        return result

    return in_http2


# -- what is written for HTTP/1, said in HTTP/2 -------------------------------------------------


def translated(request: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the fields and the body of a request of HTTP/1, as HTTP/2 says it."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    method, target, _ = line.split(b" ")
    scheme, _, rest = target.partition(b"://")
    found = re.search(rb"[/?]", rest)
    authority, path = (rest[: found.start()], rest[found.start() :]) if found else (rest, b"/")
    fields = [
        (b":method", method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", path if path.startswith(b"/") else b"/" + path),
    ]
    for one in lines:
        name, _, value = one.partition(b":")
        lower = name.lower()
        if lower == b"transfer-encoding":
            body = unchunked(body)
        elif lower == b"host":
            if value.strip() != authority:
                fields.append((lower, value.strip()))
        elif lower not in {b"connection", b"keep-alive", b"proxy-connection", b"upgrade"}:
            fields.append((lower, value.strip()))
    return fields, body


def unchunked(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        if not (count := int(size, 16)):
            return whole
        whole, body = whole + rest[:count], rest[count + 2 :]


def as_message(answer: Answer) -> Message:
    """Return what came as a reader of HTTP/1 would show it."""
    lines = [f"HTTP/1.1 {answer.status} ", *(f"{n}: {v}" for n, v in answer.fields.items())]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    trailers = "".join(f"{n}: {v}\r\n" for n, v in answer.trailers.items()).encode()
    return Message(head, answer.body, answer.is_whole, trailers)


def asks_in_http2(
    *requests: bytes,
) -> Callable[[PeerStream], Coroutine[Any, Any, list[Message]]]:
    """As ``web_kit.asks``, on streams of one connection."""

    async def then(client: Http2Peer) -> list[Message]:
        answers = []
        for request in requests:
            try:
                answer = await client.ask(*translated(request))
            except OSError:
                break
            if not answer.status:
                break
            answers.append(as_message(answer))
        return answers

    return speaks_http2(then)


def hears_its_end(seen: list[str]) -> Callable[[PeerStream], Coroutine[Any, Any, None]]:
    """Make a server's end that notes whether what it is sent is ended, or reset."""

    async def serve(stream: PeerStream) -> None:
        try:
            while await stream.receive():
                pass
            seen.append("ended")
        except OSError:
            seen.append("reset")
        stream.close()

    return serve
