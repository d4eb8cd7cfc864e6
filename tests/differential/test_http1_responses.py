"""Whatever response we accept, and whatever we make of it, Node and h11 read as we do (H16).

A server on loopback sends each response and ends the connection. A reader may refuse what we
accept; it may not read it otherwise.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import socket
import subprocess
import threading
from collections.abc import Iterator

import h11
import pytest

from sluicegate.errors import ProtocolError
from sluicegate.protocols.http1 import (
    Body,
    EndOfMessage,
    Http1Client,
    Http1Server,
    Request,
    Response,
    Target,
    to_client,
)
from sluicegate.protocols.http1.fields import Fields
from tests.differential.http1_corpus import responses
from tests.differential.http1_peers import PATIENCE_S, grouped, tool

pytestmark = pytest.mark.real

FETCHER = pathlib.Path(__file__).parent / "servers" / "fetcher.mjs"
CORPUS = responses(20_240_618, 700)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A final response as somebody read it."""

    status: int
    body: bytes
    fields: dict[bytes, list[bytes]]


@dataclasses.dataclass(frozen=True)
class Served:
    """What a server sends, to which method, and how we read it."""

    method: bytes
    data: bytes
    ours: Answer


def accepted(method: bytes, data: bytes) -> tuple[Response, Answer] | None:
    client = Http1Client()
    client.send(Request(method, Target.origin(b"/"), Fields([(b"Host", b"a.example")])))
    client.send(EndOfMessage())
    client.receive_data(data)
    client.receive_end()
    final: Response | None = None
    body = b""
    is_whole = False
    try:
        while (event := client.next_event()) is not None:
            match event:
                case Response() if not event.is_informational:
                    final = event
                case Body(piece):
                    body += bytes(piece)
                case EndOfMessage():
                    is_whole = True
    except ProtocolError:
        return None
    if final is None or not is_whole:
        return None
    fields = grouped([*final.fields.items(), *final.hop_fields])
    return final, Answer(final.status, body, fields)


def emitted(method: bytes, final: Response, answer: Answer) -> bytes:
    """What the client gets to see of a response."""
    server = Http1Server()
    server.receive_data(method + b" / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert isinstance(server.next_event(), Request)
    assert isinstance(server.next_event(), EndOfMessage)
    pieces = [*server.send(to_client(final, b"gate"))]
    for at in range(0, len(answer.body), 40):
        pieces += server.send(Body(answer.body[at : at + 40]))
    return b"".join([*pieces, *server.send(EndOfMessage())])


def all_served() -> list[Served]:
    """Return what we accept as it came, and as it is sent on."""
    found = []
    for method, sample in CORPUS:
        read = accepted(method, sample.data)
        if read is None:
            continue
        found.append(Served(method, sample.data, read[1]))
        data = emitted(method, *read)
        again = accepted(method, data)
        assert again is not None, data
        assert (again[1].status, again[1].body) == (read[1].status, read[1].body)
        found.append(Served(method, data, again[1]))
    return found


SERVED = all_served()


@contextlib.contextmanager
def serving(served: list[Served]) -> Iterator[int]:
    """Send the n-th response for ``/n``, and end the connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE_S)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                connection.sendall(served[int(request.split(b" ")[1][1:])].data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


def read_by_node(served: list[Served]) -> list[Answer | None]:
    with serving(served) as port:
        methods = [one.method.decode() for one in served]
        command = [tool("node"), str(FETCHER), str(port), *methods]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    answers: list[Answer | None] = []
    for line in shown.stdout.splitlines():
        if line == "-":
            answers.append(None)
            continue
        status, body, fields = line.split("|")
        pairs = [pair.split(":") for pair in fields.split(",") if pair]
        named = grouped([(bytes.fromhex(name), bytes.fromhex(value)) for name, value in pairs])
        answers.append(Answer(int(status), bytes.fromhex(body), named))
    return answers


def read_by_h11(one: Served) -> Answer | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=one.method, target="/", headers=[("Host", "a.example")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(one.data)
    connection.receive_data(b"")
    answer: Answer | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        match event:
            case h11.Response():
                answer = Answer(event.status_code, b"", grouped(list(event.headers)))
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                return dataclasses.replace(answer, body=body) if answer is not None else None
            case h11.InformationalResponse():
                continue
            case _:
                return None


def check_alike(name: str, answers: list[Answer | None]) -> None:
    differ = [
        f"{name} reads {answer}\n  of {one.data!r}\n  and we {one.ours}"
        for one, answer in zip(SERVED, answers, strict=True)
        if answer is not None and answer != one.ours
    ]
    assert not differ, "\n".join(differ[:10])
    read = collections.Counter(answer is not None for answer in answers)
    assert read[True] > 0.8 * len(SERVED), read


def test_node_reads_what_we_accept_and_emit_as_we_do() -> None:
    check_alike("node", read_by_node(SERVED))


def test_h11_reads_what_we_accept_and_emit_as_we_do() -> None:
    check_alike("h11", [read_by_h11(one) for one in SERVED])


def test_corpus_has_both_kinds_in_numbers() -> None:
    refused = [sample for method, sample in CORPUS if accepted(method, sample.data) is None]

    assert all(sample.is_hostile for sample in refused)
    assert len(refused) > 150
    assert len(SERVED) > 700
