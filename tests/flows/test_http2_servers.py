"""HTTP/2 to servers, on the simulated port: streams of one verified connection."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, TrailersReceived, WindowUpdated
from h2.exceptions import ProtocolError
from typing_extensions import override

from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer
from sluicegate.testing.peers import PeerStream, SimulatedPeers
from tests.chains import root
from tests.flows.gate_kit import installation
from tests.flows.http2_kit import Answer, Http2Peer, ask, asks, speaks_http2
from tests.flows.test_no_garbage import Garbage, collecting
from tests.flows.test_web_server_tls import RULES, SITE, TlsOrigin, get
from tests.flows.tls_kit import server_context, serving_tls, verifying, with_tls
from tests.flows.web_kit import Message, Visit, browse, reply, web_settings

LARGE = random.Random(3).randbytes(1 << 20)


class Http2Origin(TlsOrigin):
    """A web server that chooses HTTP/2."""

    def __init__(self, answers: Any = None) -> None:
        context = server_context(root().issue(names=["site.example"]))
        context.set_alpn_protocols(["h2", "http/1.1"])
        super().__init__(answers=answers, context=context)
        self.heads: list[list[tuple[bytes, bytes]]] = []
        self.left_after = 0
        #: Leaves behind so many requests.

    @override
    async def serve(self, stream: PeerStream) -> None:
        await serving_tls(self._serve_streams, self.context, self.ends)(stream)

    async def _serve_streams(self, stream: PeerStream) -> None:
        self.connections += 1
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        h2 = H2Connection(config)
        h2.initiate_connection()
        self.open: dict[int, Message] = {}
        waiting: dict[int, bytes] = {}
        try:
            await stream.send_all(h2.data_to_send())
            while data := await stream.receive():
                for event in h2.receive_data(data):
                    self._take(h2, event, waiting)
                self._pour(h2, waiting)
                await stream.send_all(h2.data_to_send())
        except (OSError, ProtocolError):
            return
        stream.close()

    def _take(self, h2: H2Connection, event: Any, waiting: dict[int, bytes]) -> None:
        if isinstance(event, RequestReceived):
            pairs = [(bytes(name), bytes(value)) for name, value in event.headers]
            self.heads.append(pairs)
            pseudo = dict(pairs)
            lines = [b"%b %b HTTP/2" % (pseudo[b":method"], pseudo[b":path"])]
            lines += [b"%b: %b" % one for one in pairs if not one[0].startswith(b":")]
            self.open[event.stream_id] = Message(b"\r\n".join([*lines, b"", b""]))
        elif isinstance(event, DataReceived):
            self.open[event.stream_id].body += event.data
            h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.open[event.stream_id].trailers = b"".join(
                b"%b: %b\r\n" % (bytes(n), bytes(v)) for n, v in event.headers
            )
        elif isinstance(event, StreamEnded):
            self.answer(h2, event.stream_id, waiting)
        elif isinstance(event, WindowUpdated):
            pass

    def answer(self, h2: H2Connection, number: int, waiting: dict[int, bytes]) -> None:
        """Answer a whole request; tests have servers that do it otherwise."""
        request = self.open.pop(number)
        place = len(self.seen)
        self.seen.append(request)
        wire = self.answers(request) if callable(self.answers) else self.answers[place]
        head, _, body = wire.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        fields = [(b":status", line.split(b" ")[1])]
        for one in lines:
            name, _, value = one.partition(b": ")
            fields.append((name.lower(), value))
        has_body = bool(body) and not request.line.startswith("HEAD")
        h2.send_headers(number, fields, end_stream=not has_body)
        if has_body:
            waiting[number] = body

    @staticmethod
    def _pour(h2: H2Connection, waiting: dict[int, bytes]) -> None:
        for number in list(waiting):
            while room := min(h2.local_flow_control_window(number), 16384):
                piece, waiting[number] = waiting[number][:room], waiting[number][room:]
                h2.send_data(number, piece, end_stream=not waiting[number])
                if not waiting[number]:
                    del waiting[number]
                    break


def visit(
    *requests: bytes,
    origin: Http2Origin | None = None,
    then: Any = None,
    policy: str = RULES,
    filters: Any = (),
    **options: Any,
) -> Visit:
    """Let a client of HTTP/1 ask for ``https`` URLs; one of HTTP/2 where there is a ``then``."""
    plan = verifying(web_settings(policy, filters=filters))
    peer = None
    if then is not None:
        plan = with_tls(plan, protocols=("h2", "http/1.1"))
        peer = speaks_http2(then)
    server = origin or Http2Origin()
    return browse(*requests, origin=server, plan=plan, address=SITE, peer=peer, **options)


def secure(*wanted: str) -> list[list[tuple[bytes, bytes]]]:
    """Return requests for ``https`` URLs."""
    scheme = (b":scheme", b"https")
    return [[scheme if one[0] == b":scheme" else one for one in ask(path)] for path in wanted]


def test_a_server_that_offers_it_is_asked_in_http_2_by_clients_of_http_1() -> None:
    found = visit(get("/a?b"), get("/c"))
    assert found.statuses == [200, 200]
    assert [one.body for one in found.answers] == [b"hello", b"hello"]
    assert found.origin.lines == ["GET /a?b HTTP/2", "GET /c HTTP/2"]
    assert found.origin.connections == 1
    assert {one.server for one in found.gate.requests} == {str(SITE)}


def test_clients_and_servers_of_http_2_have_streams_both_sides() -> None:
    found = visit(then=asks(*secure("/1", "/2", "/3")))
    assert [(one.status, one.body) for one in found.answers] == [(200, b"hello")] * 3
    assert all("x-" not in name for one in found.answers for name in one.fields)


@pytest.mark.parametrize("in_http2", [False, True])
def test_via_says_which_version_came(*, in_http2: bool) -> None:
    """RFC 9110 section 7.6.3: what was received, of each message."""
    found = visit(then=asks(*secure("/"))) if in_http2 else visit(get("/"))
    [pairs], [answer] = found.origin.heads, found.answers
    came = dict(pairs)[b"via"].decode()
    assert came.partition(" ")[0] == ("2.0" if in_http2 else "1.1")
    back = answer.fields["via"] if in_http2 else answer.field("Via")
    assert back.partition(" ")[0] == "2.0", "the server's version"
    assert came.partition(" ")[2] == back.partition(" ")[2]


def test_requests_share_one_connection_once_it_is_there() -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        [first, *rest] = secure(*[f"/{place}" for place in range(20)])
        answers = [await client.ask(first)]
        numbers = [await client.send(one) for one in rest]
        return [*answers, *[await client.answered(number) for number in numbers]]

    found = visit(then=then)
    assert [one.status for one in found.answers] == [200] * 20
    assert found.origin.connections == 1


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
def test_bodies_go_both_ways_whole(size: int) -> None:
    body = LARGE[:size]
    head = f"POST https://site.example/ HTTP/1.1\r\nHost: site.example\r\nContent-Length: {size}"
    request = f"{head}\r\n\r\n".encode() + body
    found = visit(request, request, origin=Http2Origin(lambda request: reply(request.body)))
    assert [one.body for one in found.answers] == [body, body]
    assert all(one.whole for one in found.answers)
    assert [one.body for one in found.origin.seen] == [body, body]


def test_chunks_and_their_trailers_are_data_and_trailers() -> None:
    request = (
        b"POST https://site.example/ HTTP/1.1\r\nHost: site.example\r\nTE: trailers\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Check: 2\r\n\r\n"
    )
    found = visit(request)
    [seen] = found.origin.seen
    assert (seen.body, seen.trailers) == (b"a", b"x-check: 2\r\n")
    assert (b"te", b"trailers") in found.origin.heads[0]


def test_credentials_never_enter_the_table_that_clients_share() -> None:
    fields = ["Authorization: Basic eDp5", "Cookie: secret=1", "X-Other: y"]
    found = visit(get("/", "site.example", *fields))
    assert found.statuses == [200]
    [pairs] = found.origin.heads
    assert dict(pairs)[b"authorization"] == b"Basic eDp5"
    assert not {b"host", b"connection", b"proxy-connection"} & {name for name, _ in pairs}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_answers_without_a_body_are_whole(method: str) -> None:
    wire = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        if method == "HEAD"
        else (b"HTTP/1.1 204 No Content\r\n\r\n")
    )
    request = get().replace(b"GET", method.encode(), 1)
    found = visit(request, get("/2"), origin=Http2Origin([wire, reply()]))
    assert found.statuses[1] == 200


class Judge(ContentFilter):
    """Refuses what begins with MZ."""

    name = "judge"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Refuse("executable") if transfer.head.startswith(b"MZ") else Release()


def test_objects_are_held(tmp_path: pathlib.Path) -> None:
    bodies = {"/exe": b"MZ" + LARGE, "/text": LARGE}
    origin = Http2Origin(lambda request: reply(bodies[request.line.split(" ")[1]]))
    policy = RULES.replace("[[rule]]", '[[rule]]\nfilters = ["judge"]')
    limits = {"spool_free_bytes_min": 0, "spool_free_inodes_min": 0}
    found = visit(
        get("/exe"),
        get("/text"),
        get("/exe"),
        origin=origin,
        policy=policy,
        filters=[installation(Judge(), "judge")],
        spool=tmp_path,
        **limits,
    )
    assert found.statuses == [403, 200, 403]
    assert found.answers[1].body == LARGE


# -- what servers do wrong -------------------------------------------------------------------------


class Wrong(Http2Origin):
    """Does something else with each request, until it is asked for something good."""

    def __init__(self, does: Callable[[H2Connection, int], None]) -> None:
        super().__init__()
        self.does = does

    @override
    def answer(self, h2: H2Connection, number: int, waiting: dict[int, bytes]) -> None:
        if self.open[number].line.startswith("GET /good"):
            super().answer(h2, number, waiting)
        else:
            self.seen.append(self.open.pop(number))
            self.does(h2, number)


OK = (b":status", b"200")


def short(h2: H2Connection, number: int) -> None:
    h2.send_headers(number, [OK, (b"content-length", b"10")])
    h2.send_data(number, b"hello", end_stream=True)


def cut(h2: H2Connection, number: int) -> None:
    h2.send_headers(number, [OK])
    h2.send_data(number, b"hello")
    h2.reset_stream(number, 2)


def refused(h2: H2Connection, number: int) -> None:
    h2.reset_stream(number, 7)


BROKEN: list[tuple[str, Callable[[H2Connection, int], None], int]] = [
    ("reset", lambda h2, number: h2.reset_stream(number, 2), 502),
    ("upper", lambda h2, n: h2.send_headers(n, [OK, (b"X-A", b"b")], end_stream=True), 502),
    ("line", lambda h2, n: h2.send_headers(n, [OK, (b"x", b"a\r\nb: c")], end_stream=True), 502),
    ("te", lambda h2, n: h2.send_headers(n, [OK, (b"transfer-encoding", b"chunked")]), 502),
    ("status", lambda h2, n: h2.send_headers(n, [(b":status", b"2000")], end_stream=True), 502),
    ("407", lambda h2, n: h2.send_headers(n, [(b":status", b"407")], end_stream=True), 502),
]


@pytest.mark.parametrize(("name", "does", "status"), BROKEN, ids=[one[0] for one in BROKEN])
def test_a_malformed_answer_becomes_502_and_the_connection_goes_on(
    name: str, does: Callable[[H2Connection, int], None], status: int
) -> None:
    del name
    found = visit(get("/bad"), get("/good"), origin=Wrong(does))
    assert found.statuses == [status, 200]
    assert found.origin.connections == 1


@pytest.mark.parametrize("does", [short, cut])
def test_an_answer_that_is_cut_off_never_looks_whole(
    does: Callable[[H2Connection, int], None],
) -> None:
    found = visit(get("/bad"), origin=Wrong(does))
    assert [one.whole for one in found.answers] in ([], [False])
    assert [one.outcome for one in found.gate.requests] == ["failed"]
    found = visit(then=asks(*secure("/bad")), origin=Wrong(does))
    [answer] = found.answers
    assert not answer.is_whole
    assert answer.reset is not None


def test_what_a_server_did_not_look_at_is_asked_again_once() -> None:
    """Hostile case I4: only what may be repeated."""
    times = 0

    def first_refused(h2: H2Connection, number: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            h2.reset_stream(number, 7)
        else:
            h2.send_headers(number, [OK, (b"content-length", b"0")], end_stream=True)

    found = visit(get("/bad"), origin=Wrong(first_refused))
    assert found.statuses == [200]
    assert times == 2

    post = (
        b"POST https://site.example/bad HTTP/1.1\r\nHost: site.example\r\nContent-Length: 0\r\n\r\n"
    )
    times = 0
    found = visit(post, origin=Wrong(first_refused))
    assert found.statuses == [502]
    assert times == 1


def test_a_server_that_leaves_is_asked_nothing_more_and_its_answer_is_taken() -> None:
    class Leaves(Http2Origin):
        @override
        def answer(self, h2: H2Connection, number: int, waiting: dict[int, bytes]) -> None:
            super().answer(h2, number, waiting)
            while waiting:
                self._pour(h2, waiting)
            h2.close_connection()

    found = visit(get("/1"), get("/2"), origin=Leaves())
    assert found.statuses == [200, 200]
    assert found.origin.connections == 2


def test_a_server_that_breaks_the_protocol_ends_its_connection_alone() -> None:
    class Breaks(Http2Origin):
        async def _serve_streams(self, stream: PeerStream) -> None:
            if self.connections:
                await super()._serve_streams(stream)
                return
            self.connections += 1
            await stream.receive()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            while await stream.receive():
                pass
            stream.close()

    found = visit(get("/1"), get("/2"), origin=Breaks())
    assert found.statuses == [502, 200]
    assert "server-frame-too-long" in found.reasons[0] or "server-preface" in found.reasons[0]


def test_servers_that_do_not_choose_it_are_asked_in_http_1() -> None:
    found = browse(get(), origin=TlsOrigin(), plan=verifying(web_settings(RULES)), address=SITE)
    assert found.origin.lines == ["GET / HTTP/1.1"]


def test_a_request_that_may_switch_protocols_is_asked_in_http_1() -> None:
    fields = ["Connection: Upgrade", "Upgrade: websocket"]

    class Both(Http2Origin):
        @override
        async def serve(self, stream: PeerStream) -> None:
            await TlsOrigin.serve(self, stream)

    policy = RULES + 'upgrades = ["websocket"]\n'
    found = visit(get("/", "site.example", *fields), origin=Both(), policy=policy)
    assert found.origin.lines == ["GET / HTTP/1.1"]


def test_a_client_that_leaves_resets_its_stream_alone() -> None:
    resets: list[int] = []

    class Notes(Http2Origin):
        def _take(self, h2: H2Connection, event: Any, waiting: dict[int, bytes]) -> None:
            if type(event).__name__ == "StreamReset":
                resets.append(event.stream_id)
            super()._take(h2, event, waiting)

        @override
        def answer(self, h2: H2Connection, number: int, waiting: dict[int, bytes]) -> None:
            if "endless" in self.open[number].line:
                h2.send_headers(number, [OK])
                h2.send_data(number, b"x")
            else:
                super().answer(h2, number, waiting)

    async def then(client: Http2Peer) -> list[Answer]:
        [wanted, good] = secure("/endless", "/good")
        number = await client.send(wanted)
        await client.until(lambda: client.answers[number].body == b"x")
        client.h2.reset_stream(number, 8)
        await client.flush()
        return [await client.ask(good)]

    found = visit(then=then, origin=Notes())
    assert found.answers[0].status == 200
    assert resets == [1]
    assert found.origin.connections == 1


def test_exchanges_leave_nothing_to_the_collector() -> None:
    found: list[Garbage] = []

    async def then(client: Http2Peer) -> list[Answer]:
        for path in secure("/1", "/2"):
            await client.ask(path)
        with collecting() as garbage:
            answers = [await client.ask(one) for one in secure("/3", "/4", "/5")]
        found.append(garbage)
        return answers

    seen = visit(then=then)
    assert [one.status for one in seen.answers] == [200] * 3
    assert found[0].kinds == {}


def test_an_answer_that_has_come_reaches_a_slow_client_though_its_server_has_closed() -> None:
    body = LARGE[:200_000]

    class Closes(Http2Origin):
        async def _serve_streams(self, stream: PeerStream) -> None:
            await super()._serve_streams(_UntilPoured(stream, self))  # type: ignore[arg-type]

    async def then(client: Http2Peer) -> list[Answer]:
        client.acknowledges = False
        number = await client.send(secure("/large")[0])
        await client.until(lambda: len(client.answers[number].body) == 65535)
        await SimulatedPeers(client.tls.stream._network).sleep(5)
        client.acknowledges = True
        client.h2.increment_flow_control_window(1 << 20)
        client.h2.increment_flow_control_window(1 << 20, number)
        await client.flush()
        return [await client.answered(number)]

    found = visit(then=then, origin=Closes(lambda _: reply(body)))
    [answer] = found.answers
    assert (answer.body, answer.is_whole) == (body, True)
    assert [one.outcome for one in found.gate.requests] == ["released"]


class _UntilPoured:
    """A stream that ends when its server has sent a whole answer."""

    def __init__(self, stream: PeerStream, origin: Http2Origin) -> None:
        self._stream, self._origin = stream, origin
        self._sent = 0

    async def receive(self) -> bytes:
        return b"" if self._sent > 200_000 else await self._stream.receive()

    async def send_all(self, data: bytes) -> None:
        self._sent += len(data)
        await self._stream.send_all(data)

    def close(self) -> None:
        self._stream.close()
