"""gRPC's own clients and servers (grpcio) on the two sides of a gate, HTTP/2 on both."""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.chains import root
from tests.pki import authority

from .test_published_tls import PublishedGate

FILTERS = '''
from sluicegate.filterapi import (
    GO_ON, ContentFilter, Refuse, Release, Wants, WebFilter,
)


class Heads(WebFilter):
    """Sees heads alone."""

    name = "heads"

    def on_request(self, exchange):
        exchange.request.headers.set("x-seen", "yes")
        return GO_ON


class Objects(ContentFilter):
    """Refuses what says so, and takes no object above a megabyte."""

    name = "objects"
    wants = Wants(bytes_max=1 << 20)

    async def inspect(self, transfer):
        async with transfer.open() as file:
            return Refuse("a secret") if b"secret" in await file.read() else Release()
'''
LARGE = 4 << 20
OPTIONS = [
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_receive_message_length", 64 << 20),
]


class Server:
    """Methods of each kind; messages are plain bytes."""

    def __init__(self) -> None:
        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "Fail": grpc.unary_stream_rpc_method_handler(self.fail),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
        }
        self.seen: list[dict[str, Any]] = []
        self.cancelled = threading.Event()
        pool = concurrent.futures.ThreadPoolExecutor(8)
        self.server = grpc.server(pool, options=OPTIONS)
        generic = grpc.method_handlers_generic_handler("test.Service", handlers)
        self.server.add_generic_rpc_handlers((generic,))
        issued = root().issue(names=["localhost"])
        pair = (issued.key_pem.encode(), issued.sent.encode())
        credentials = grpc.ssl_server_credentials([pair])
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()

    def _note(self, context: Any) -> None:
        self.seen.append(dict(context.invocation_metadata()))
        context.send_initial_metadata((("first", "head"),))
        context.set_trailing_metadata((("last", "trailer"), ("raw-bin", b"\0\xff")))

    def echo(self, request: bytes, context: Any) -> bytes:
        self._note(context)
        return request

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._note(context)
        for number in range(int(request)):
            yield b"%d" % number

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._note(context)
        return b"|".join(requests)

    def talk(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._note(context)
        for one in requests:
            yield b"re: " + one

    def fail(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._note(context)
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, f"after one: {request.decode()} ünd €")

    def wait(self, request: bytes, context: Any) -> Iterator[bytes]:
        del request
        context.add_callback(self.cancelled.set)
        yield b"one"
        self.cancelled.wait(60)


class Gate(PublishedGate):
    """Publishes a server of gRPC."""

    def write_main(self, more: str = "") -> None:
        (self.folder / "filters.py").write_text(FILTERS)
        super().write_main(
            '[[filter]]\nname = "heads"\nuse = "filters.py:Heads"\n'
            '[[filter]]\nname = "objects"\nuse = "filters.py:Objects"\n' + more
        )

    def write_certificates(self) -> None:
        super().write_certificates()
        authority("proxy").server("localhost").write(self.folder / "certificates", "localhost")


@contextlib.contextmanager
def calling(folder: pathlib.Path, server: Server, filters: str) -> Iterator[tuple[Gate, Any]]:
    """Run a gate before a server; yield it, and a channel of a client."""
    publication = f'http = true\nserver_tls = "localhost"\nfilters = [{filters}]'
    folder.mkdir()
    gate = type("Gate", (Gate,), {"publication": publication})(folder, server.port)
    try:
        gate.start()
        trust = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{gate.port}", trust, options=OPTIONS) as channel:
            yield gate, channel
    finally:
        gate.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.stop(None)


@pytest.fixture(scope="module", params=["", '"heads"'])
def streaming(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Server
) -> Iterator[Any]:
    """Nobody wants bodies: everything passes message by message."""
    with calling(tmp_path_factory.mktemp("grpc") / "gate", server, request.param) as (
        gate,
        channel,
    ):
        yield gate, channel


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Any]:
    """Messages are objects of a content filter."""
    with calling(tmp_path_factory.mktemp("held") / "gate", server, '"objects"') as (gate, channel):
        yield gate, channel


def method(channel: Any, kind: str, name: str) -> Any:
    return getattr(channel, kind)(f"/test.Service/{name}")


def test_a_call_has_its_answer_and_metadata_of_both_ends(streaming: Any, server: Server) -> None:
    _, channel = streaming
    call = method(channel, "unary_unary", "Echo")
    answer, done = call.with_call(
        b"hello", metadata=(("asked", "yes"), ("x-bin", b"\0\1")), timeout=60
    )
    assert answer == b"hello"
    assert dict(done.initial_metadata())["first"] == "head"
    assert dict(done.trailing_metadata()) == {"last": "trailer", "raw-bin": b"\0\xff"}
    assert (server.seen[-1]["asked"], server.seen[-1]["x-bin"]) == ("yes", b"\0\1")


@pytest.mark.parametrize("size", [0, 1, 70_000, LARGE])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_of_any_size_pass(streaming: Any, size: int, compression: Any) -> None:
    call = method(streaming[1], "unary_unary", "Echo")
    assert call(bytes(size), compression=compression, timeout=60) == bytes(size)


def test_a_stream_of_answers_comes_with_its_trailers(streaming: Any) -> None:
    answers = method(streaming[1], "unary_stream", "Count")(b"500", timeout=60)
    assert list(answers) == [b"%d" % number for number in range(500)]
    assert dict(answers.trailing_metadata())["last"] == "trailer"
    assert answers.code() is grpc.StatusCode.OK


def test_a_stream_of_requests_is_one_answer(streaming: Any) -> None:
    call = method(streaming[1], "stream_unary", "Join")
    assert call((b"%d" % number for number in range(500)), timeout=60).count(b"|") == 499


def test_each_message_of_a_talk_is_answered_before_the_next_is_said(streaming: Any) -> None:
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = method(streaming[1], "stream_stream", "Talk")(iter(said.get, None), timeout=60)
    for number in range(100):
        said.put(b"%d" % number)
        assert next(answers) == b"re: %d" % number
    said.put(None)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_a_failure_behind_messages_is_the_servers_own(streaming: Any) -> None:
    answers = method(streaming[1], "unary_stream", "Fail")(b"that", timeout=60)
    assert next(answers) == b"one"
    with pytest.raises(grpc.RpcError):
        next(answers)
    assert answers.code() is grpc.StatusCode.DATA_LOSS
    assert answers.details() == "after one: that ünd €"
    assert dict(answers.trailing_metadata())["last"] == "trailer"


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(
    streaming: Any, server: Server
) -> None:
    server.cancelled.clear()
    answers = method(streaming[1], "unary_stream", "Wait")(b"", timeout=60)
    assert next(answers) == b"one"
    answers.cancel()
    assert server.cancelled.wait(60)


def test_methods_that_are_not_there_are_the_servers_answer(streaming: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        method(streaming[1], "unary_unary", "Nothing")(b"", timeout=60)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


# -- held for a content filter ---------------------------------------------------------------------


def test_calls_pass_a_content_filter_whole_with_their_trailers(holding: Any) -> None:
    answer, done = method(holding[1], "unary_unary", "Echo").with_call(b"hello", timeout=60)
    assert answer == b"hello"
    assert dict(done.trailing_metadata())["last"] == "trailer"


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (b"a secret", grpc.StatusCode.PERMISSION_DENIED, "a secret"),
        (bytes(LARGE), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than"),
    ],
)
def test_j8_what_is_refused_is_told_as_a_status_of_grpc(
    holding: Any, server: Server, said: bytes, code: Any, reason: str
) -> None:
    gate, channel = holding
    asked = len(server.seen)
    with pytest.raises(grpc.RpcError) as raised:
        method(channel, "unary_unary", "Echo")(said, timeout=60)
    assert raised.value.code() is code
    assert reason in raised.value.details()
    assert len(server.seen) == asked, "nothing of it has left"
    details = raised.value.details()
    (record,) = gate.recorded("request", lambda one: one["request"] in details)
    assert record["outcome"] == "refused"


def test_j8_an_answer_over_the_limit_is_refused_as_a_status(holding: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        list(method(holding[1], "unary_stream", "Count")(b"300000", timeout=60))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
