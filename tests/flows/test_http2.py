"""HTTP/2 from clients of an HTTPS proxy, on the simulated port: what HTTP/1 has not."""

from __future__ import annotations

import pathlib
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer
from sluicegate.protocol_limits import HTTP2_TINY_FRAME_BYTES
from sluicegate.protocols.http2 import PREFACE, ErrorCode
from sluicegate.testing.peers import PeerStream, SimulatedPeers
from sluicegate.testing.peers import _Signal as Flag
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, installation, play
from tests.flows.http2_kit import (
    Answer,
    Http2Peer,
    ask,
    asks,
    http2_context,
    http2_settings,
    speaks_http2,
    visit,
)
from tests.flows.tls_kit import TlsPeer, client_context
from tests.flows.web_kit import (
    NAMES,
    OTHER,
    RULES,
    SITE,
    Message,
    Origin,
    browse,
    get,
    read_message,
    reply,
)
from tests.unit.http2.http2_kit import (
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    data,
    head,
    literal,
    raw,
    word,
)

LARGE = bytes(range(256)) * 8192
"""2 MiB."""


async def pause(stream: PeerStream, seconds: float) -> None:
    """Let the time of the simulation pass."""
    await SimulatedPeers(stream._network).sleep(seconds)


def test_a_request_is_answered_by_the_server_that_its_authority_names() -> None:
    found = visit(asks(ask("/a?b=c")))
    [answer] = found.answers
    assert (answer.status, answer.body, answer.is_whole) == (200, b"hello", True)
    assert found.origin.lines == ["GET /a?b=c HTTP/1.1"]
    (record,) = found.gate.requests
    decided = (record.verdict, record.reason, record.outcome)
    assert decided == ("allowed", "allowed-by-rule", "released")
    assert (record.url, record.status, record.rule) == ("http://site.example/a", 200, "web")
    (end,) = found.gate.ends
    assert (end.entry, end.outcome, end.rule) == ("http", "released", "web")
    assert record.connection == end.connection
    assert record.request == f"{end.connection}-1"


def test_streams_are_exchanges_of_their_own_and_answers_come_as_they_are_ready() -> None:
    order: list[str] = []
    late = Flag()

    class Slow(Origin):
        async def serve(self, stream: PeerStream) -> None:
            while (request := await read_message(stream)) is not None:
                if request.line.startswith("GET /slow"):
                    await late
                await stream.send_all(reply(request.line.encode()))
            stream.close()

    async def then(client: Http2Peer) -> list[Answer]:
        slow = await client.send(ask("/slow"))
        for place in range(5):
            answer = await client.ask(ask(f"/{place}"))
            order.append(answer.body.decode())
        assert not client.answers[slow].status
        late.set()
        return [await client.answered(slow)]

    found = visit(then, origin=Slow())
    assert order == [f"GET /{place} HTTP/1.1" for place in range(5)]
    assert found.answers[0].body == b"GET /slow HTTP/1.1"
    assert [record.outcome for record in found.gate.requests] == ["released"] * 6
    assert len(found.gate.ends) == 1


def test_every_stream_is_judged_by_itself() -> None:
    """Hostile case E3: another host on a later stream of the same connection."""
    wanted = ["site.example", "evil.example", "site.example", "evil.example", "site.example"]
    found = visit(asks(*[ask("/", host) for host in wanted]))
    assert [one.status for one in found.answers] == [200, 403, 200, 403, 200]
    assert len(found.origin.seen) == 3
    assert sorted(one.verdict for one in found.gate.requests) == ["allowed"] * 3 + ["denied"] * 2


def test_a_hundred_streams_at_once_are_served_and_the_next_is_to_come_again() -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        # The client's own bound is not asked: it sends more than it may.
        client.h2.remote_settings.max_concurrent_streams = 1000
        numbers = [await client.send(ask(f"/{place}")) for place in range(101)]
        return [await client.answered(number) for number in numbers]

    class Waits(Origin):
        async def serve(self, stream: PeerStream) -> None:
            while (request := await read_message(stream)) is not None:
                await pause(stream, 1)
                await stream.send_all(reply(request.line.encode()))
            stream.close()

    found = visit(then, origin=Waits())
    assert [one.status for one in found.answers[:100]] == [200] * 100
    assert found.answers[100].reset == ErrorCode.REFUSED_STREAM


@pytest.mark.parametrize("has_length", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("size", [1, 5000, len(LARGE)])
def test_bodies_go_both_ways_whole(size: int, has_length: bool) -> None:
    body = LARGE[:size]

    async def then(client: Http2Peer) -> list[Answer]:
        fields = [("content-length", str(size))] if has_length else []
        return [await client.ask(ask("/", "site.example", *fields, method="POST"), body)]

    found = visit(then, origin=Origin(lambda request: reply(request.body)))
    [answer] = found.answers
    assert answer.body == body
    [seen] = found.origin.seen
    assert seen.field("Content-Length" if has_length else "Transfer-Encoding") is not None
    [record] = found.gate.requests
    assert (record.bytes_to_server, record.bytes_to_client) == (size, size)


def test_trailers_pass_both_ways_and_so_do_informational_answers() -> None:
    """Hostile case I5, as gRPC has them."""
    wire = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/grpc\r\n\r\n"
        b"2\r\nok\r\n0\r\nGrpc-Status: 0\r\nGrpc-Message: fine\r\n\r\n"
    )

    async def then(client: Http2Peer) -> list[Answer]:
        fields = ask("/", "site.example", ("te", "trailers"), method="POST")
        number = await client.send(fields, ends=False)
        await client.send_body(number, b"a", ends=False)
        client.h2.send_headers(number, [("x-check", "2")], end_stream=True)
        await client.flush()
        return [await client.answered(number)]

    found = visit(then, origin=Origin([wire]))
    [answer] = found.answers
    assert answer.informational == [103]
    assert answer.body == b"ok"
    assert answer.trailers == {"grpc-status": "0", "grpc-message": "fine"}
    [seen] = found.origin.seen
    assert seen.trailers.lower() == b"x-check: 2\r\n"
    assert seen.field("TE") == "trailers"


def test_what_belongs_to_one_connection_of_a_server_does_not_pass() -> None:
    fields = ("Connection: X-Back", "X-Back: 1", "Keep-Alive: 5", 'Alt-Svc: h3=":443"', "A: b")
    [answer] = visit(asks(ask()), origin=Origin([reply(b"ok", *fields)])).answers
    assert {"connection", "x-back", "keep-alive", "alt-svc"}.isdisjoint(answer.fields)
    assert answer.fields["a"] == "b"
    assert answer.fields["content-length"] == "2"


def test_crumbs_of_cookies_reach_servers_as_one_field() -> None:
    fields = [*ask(), (b"cookie", b"a=b"), (b"cookie", b"c=d")]
    found = visit(asks(fields))
    assert found.origin.seen[0].field("Cookie") == "a=b; c=d"


ENDS: list[tuple[str, bytes, int | None]] = [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", 200),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
]


@pytest.mark.parametrize(("method", "wire", "status"), ENDS)
def test_answers_without_a_body_end_with_their_head(method: str, wire: bytes, status: int) -> None:
    found = visit(asks(ask(method=method), ask(method=method)), origin=Origin([wire]))
    assert [(one.status, one.body, one.is_whole) for one in found.answers] == [
        (status, b"", True),
        (status, b"", True),
    ]


CUT: list[bytes] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
]


@pytest.mark.parametrize("wire", CUT)
def test_an_answer_that_is_cut_off_is_reset_and_never_looks_whole(wire: bytes) -> None:
    """Hostile case M10."""
    origin = Origin([wire], closes=True)
    found = visit(asks(ask(), ask()), origin=origin)
    for answer in found.answers:
        assert not answer.is_whole
        assert answer.reset is not None
    assert [record.outcome for record in found.gate.requests] == ["failed"] * 2


def test_a_client_that_gives_a_stream_up_ends_that_request_alone() -> None:
    gone: list[bytes] = []

    class Endless(Origin):
        async def serve(self, stream: PeerStream) -> None:
            request = await read_message(stream)
            assert request is not None
            if "endless" not in request.line:
                await stream.send_all(reply())
                stream.close()
                return
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            await stream.send_all(head)
            try:
                gone.append(await stream.receive())
            except OSError:
                gone.append(b"reset")
            stream.close()

    async def then(client: Http2Peer) -> list[Answer]:
        number = await client.send(ask("/endless"))
        await client.until(lambda: client.answers[number].body == b"hello")
        client.h2.reset_stream(number, 8)
        await client.flush()
        return [await client.ask(ask("/other"))]

    found = visit(then, origin=Endless())
    assert found.answers[0].body == b"hello"
    assert gone == [b"reset"]
    reasons = {record.url[19:]: (record.outcome, record.ended) for record in found.gate.requests}
    assert reasons["/endless"] == ("failed", "client-left")
    assert reasons["/other"] == ("released", "")


def test_a_client_that_leaves_ends_all_of_its_requests() -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        for place in range(3):
            await client.send(ask(f"/{place}"))
        await pause(client.tls.stream, 1)
        return []

    class Silent(Origin):
        async def serve(self, stream: PeerStream) -> None:
            await read_message(stream)
            try:
                await stream.receive()
            except OSError:
                return
            stream.close()

    found = visit(then, origin=Silent())
    assert [one.ended for one in found.gate.requests] == ["client-left"] * 3


# -- back-pressure ---------------------------------------------------------------------------------


def test_a_server_is_read_as_fast_as_the_windows_of_its_stream_let() -> None:
    sent = 0

    class Pours(Origin):
        async def serve(self, stream: PeerStream) -> None:
            nonlocal sent
            await read_message(stream)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n")
            for start in range(0, len(LARGE), 16384):
                await stream.send_all(LARGE[start : start + 16384])
                sent += 16384
            stream.close()

    async def then(client: Http2Peer) -> list[Answer]:
        client.acknowledges = False
        number = await client.send(ask("/large"))
        answer = client.answers[number]
        # What is left of a window may be too little for a frame that is worth it.
        await client.until(lambda: len(answer.body) > 65535 - HTTP2_TINY_FRAME_BYTES)
        await pause(client.tls.stream, 5)
        assert sent < 1 << 20, "it is read although nobody takes it"
        # The connection's window is used up, too; now both are opened.
        client.acknowledges = True
        client.h2.increment_flow_control_window(1 << 20)
        client.h2.increment_flow_control_window(1 << 20, number)
        await client.flush()
        return [await client.answered(number)]

    found = visit(then, origin=Pours())
    assert found.answers[0].body == LARGE


def test_a_client_sends_as_fast_as_the_server_takes() -> None:
    go_on = Flag()

    class Stalls(Origin):
        async def serve(self, stream: PeerStream) -> None:
            head = await stream.receive_until(b"\r\n\r\n")
            await go_on
            body = await stream.receive_exactly(len(LARGE))
            self.seen.append(Message(head, body))
            await stream.send_all(reply())
            stream.close()

    async def then(client: Http2Peer) -> list[Answer]:
        fields = ask("/", "site.example", ("content-length", str(len(LARGE))), method="PUT")
        number = await client.send(fields, ends=False)
        rest = LARGE
        while room := min(client.h2.local_flow_control_window(number), 16384, len(rest)):
            client.h2.send_data(number, rest[:room])
            rest = rest[room:]
            await client.flush()
            await pause(client.tls.stream, 0.01)
        assert len(rest) > len(LARGE) // 2, "it could send although nobody takes it"
        # Another stream gets through meanwhile.
        go_on.set()
        await client.send_body(number, rest)
        return [await client.answered(number)]

    found = visit(then, origin=Stalls())
    assert found.answers[0].status == 200
    assert found.origin.seen[0].body == LARGE


def test_who_takes_nothing_is_given_up_in_time() -> None:
    async def then(client: Http2Peer) -> list[Answer]:
        client.acknowledges = False
        number = await client.send(ask())
        return [await client.answered(number)]

    found = visit(then, origin=Origin(lambda _: reply(LARGE)), within_s=1000)
    [answer] = found.answers
    assert answer.reset == ErrorCode.INTERNAL_ERROR
    [record] = found.gate.requests
    assert (record.outcome, record.ended) == ("failed", "client takes its answer too slowly")


# -- verdicts --------------------------------------------------------------------------------------

HELD = """
[[rule]]
name = "web"
to = ["site.example"]
protocols = ["tcp:80"]
filters = ["judge"]
"""


class Judge(ContentFilter):
    """Refuses what begins with MZ."""

    name = "judge"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Refuse("executable") if transfer.head.startswith(b"MZ") else Release()


def test_objects_are_held_stream_by_stream(tmp_path: pathlib.Path) -> None:
    bodies = {"/exe": b"MZ" + LARGE, "/text": LARGE}
    origin = Origin(lambda request: reply(bodies[request.line.split(" ")[1]]))
    plan = http2_settings(HELD, filters=[installation(Judge(), "judge")])
    limits = {"spool_free_bytes_min": 0, "spool_free_inodes_min": 0}
    wanted = asks(ask("/exe"), ask("/text"), ask("/exe"))
    found = visit(wanted, plan=plan, origin=origin, spool=tmp_path, **limits)
    assert [one.status for one in found.answers] == [403, 200, 403]
    assert found.answers[1].body == LARGE
    assert b"executable" in found.answers[0].body or found.answers[0].body


# -- what clients do wrong -------------------------------------------------------------------------


def test_a_malformed_head_is_answered_and_recorded_and_the_others_go_on() -> None:
    bad = [*ask(), (b"transfer-encoding", b"chunked")]
    found = visit(asks(ask("/1"), bad, ask("/2")))
    assert [one.status for one in found.answers] == [200, 400, 200]
    assert len(found.origin.seen) == 2
    [record] = [one for one in found.gate.requests if one.verdict == "denied"]
    assert record.reason.startswith("malformed-request: field-of-connection")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b"x", b"y")] * 101, 431),
        ([(b"expect", b"what")], 417),
        ([(b"content-length", b"1"), (b"content-length", b"1")], 400),
    ],
)
def test_what_is_malformed_has_its_status(fields: list[tuple[bytes, bytes]], status: int) -> None:
    found = visit(asks([*ask(), *fields], ask()))
    assert [one.status for one in found.answers] == [status, 200]


Wrong = Callable[[Http2Peer], Coroutine[Any, Any, None]]

WRONG: list[tuple[str, bytes, str]] = [
    ("push", raw(5, 4, 1, word(2) + literal([])), "push"),
    ("idle", data(99, b"x"), "stream-idle"),
    ("settings", raw(SETTINGS, 0, 0, b"\x00\x02\x00\x00\x00\x02"), "setting"),
    ("hpack", raw(HEADERS, 5, 99, b"\xff\xff\xff\xff\xff"), "compression"),
    ("long", b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", "frame-too-long"),
    ("pings", raw(PING, 0, 0, bytes(8)) * 1000, "control-flood"),
    (
        "rapid-reset",
        b"".join(
            head(number, ask()) + raw(RST_STREAM, 0, number, word(8))
            for number in range(99, 99 + 600, 2)
        ),
        "reset-flood",
    ),
    (
        "malformed",
        b"".join(head(number, [(b"x", b"y")]) for number in range(99, 799, 2)),
        "reset-flood",
    ),
]


@pytest.mark.parametrize(("name", "came", "code"), WRONG, ids=[case[0] for case in WRONG])
def test_who_breaks_the_protocol_is_told_and_ended(name: str, came: bytes, code: str) -> None:
    """Hostile groups I1 and I3, through a whole gate."""
    del name

    async def then(client: Http2Peer) -> list[Any]:
        first = await client.ask(ask())
        await client.tls.send_all(came)
        while True:
            received = await client.tls.receive()
            if not received:
                break
            if raw(GOAWAY, 0, 0, b"")[3:4] in received:
                pass
            client.left = client.left or received[-8:]  # type: ignore[assignment]
        return [first.status]

    found = visit(then)
    assert found.answers == [200]
    [end] = found.gate.ends
    assert (end.outcome, end.reason) == ("refused", f"malformed-http2: {code}")
    assert len(found.origin.seen) <= 220


def test_a_client_that_agreed_on_http_2_and_speaks_http_1_is_refused() -> None:
    async def peer(stream: PeerStream) -> list[bytes]:
        tls = TlsPeer(stream, http2_context())
        await tls.shake_hands()
        await tls.send_all(get())
        received = b""
        while piece := await tls.receive():
            received += piece
        tls.close()
        return [received]

    found = browse(peer=peer, plan=http2_settings())
    assert b"HTTP/1.1" not in found.answers[0]
    assert not found.origin.seen
    assert [end.reason for end in found.gate.ends] == ["malformed-http2: preface"]


@pytest.mark.parametrize("is_tls", [False, True], ids=["clear", "http/1.1 in TLS"])
def test_http_2_that_nobody_agreed_on_is_refused(is_tls: bool) -> None:
    """No h2c: neither by prior knowledge nor by an upgrade."""

    async def peer(stream: PeerStream) -> list[bytes]:
        used: Any = stream
        if is_tls:
            context = client_context()
            context.set_alpn_protocols(["http/1.1"])
            used = TlsPeer(stream, context)
            await used.shake_hands()
        await used.send_all(PREFACE + raw(SETTINGS, 0, 0))
        received = b""
        while piece := await used.receive():
            received += piece
        used.close()
        return [received]

    from tests.flows.web_kit import web_settings

    plan = http2_settings() if is_tls else web_settings()
    found = browse(peer=peer, plan=plan)
    assert not found.origin.seen
    assert found.answers[0].startswith((b"HTTP/1.1 505", b"HTTP/1.1 400")) or not found.answers[0]


def test_an_upgrade_to_h2c_is_not_passed_on() -> None:
    offer = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
    found = browse(get("/", "site.example", *offer))
    [seen] = found.origin.seen
    assert (seen.field("Upgrade"), seen.field("HTTP2-Settings")) == (None, None)


def test_clients_choose_by_alpn_and_who_offers_none_speaks_http_1() -> None:
    for offered, taken in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):

        async def peer(stream: PeerStream, offered: list[str] = offered) -> list[str | None]:
            context: ssl.SSLContext = client_context()
            if offered:
                context.set_alpn_protocols(offered)
            tls = TlsPeer(stream, context)
            await tls.shake_hands()
            chosen = tls.tls.selected_alpn_protocol()
            tls.close()
            return [chosen]

        assert browse(peer=peer, plan=http2_settings()).answers == [taken]


# -- the end ---------------------------------------------------------------------------------------


def test_a_drain_answers_what_is_open_and_takes_nothing_more() -> None:
    released = Flag()
    gates: list[Gate] = []

    class Late(Origin):
        async def serve(self, stream: PeerStream) -> None:
            request = await read_message(stream)
            assert request is not None
            gates[0].service.web.drain()
            await released
            await stream.send_all(reply())
            stream.close()

    async def then(client: Http2Peer) -> list[Any]:
        number = await client.send(ask())
        await pause(client.tls.stream, 1)
        other = await client.answered(await client.send(ask()))
        released.set()
        answer = await client.answered(number)
        await client.until(lambda: False)
        left = client.left
        return [answer.body, other.reset, left is not None and left.error_code]

    origin = Late()
    found = run_with_gate(then, origin, gates)
    assert found.answers == [b"hello", ErrorCode.REFUSED_STREAM, 0]
    assert [one.outcome for one in found.gate.requests] == ["released"]


def run_with_gate(then: Any, origin: Origin, gates: list[Gate]) -> Any:
    """As ``visit``, and hand the gate out."""
    from tests.flows import web_kit

    serve = Gate.serve

    def noting(self: Gate, *args: Any, **options: Any) -> Any:
        gates.append(self)
        return serve(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_kit.Gate, "serve", noting)
        return visit(then, origin=origin)


def test_the_last_request_that_a_connection_may_have_is_answered_and_ends_it() -> None:
    async def then(client: Http2Peer) -> list[Any]:
        answers = [await client.ask(ask(f"/{place}")) for place in range(3)]
        await client.until(lambda: False)
        return [*[one.status for one in answers], client.left is not None]

    assert visit(then, web_requests_per_connection_max=3).answers == [200, 200, 200, True]


def test_an_idle_client_is_told_and_closed_in_time() -> None:
    async def then(client: Http2Peer) -> list[Any]:
        answer = await client.ask(ask())
        await client.until(lambda: False)
        return [answer.status, client.left is not None and int(client.left.error_code or 0)]

    assert visit(then, within_s=400).answers == [200, 0]


def test_a_head_that_never_ends_has_its_time() -> None:
    async def then(client: Http2Peer) -> list[Any]:
        await client.ask(ask())
        await client.tls.send_all(head(99, ask())[:20])
        try:
            await client.until(lambda: False)
        except OSError:
            return ["reset"]
        return ["ended"]

    found = visit(then, within_s=400)
    assert [end.reason for end in found.gate.ends] == ["limit web_head_timeout_s"]


def test_a_client_that_says_nothing_at_all_is_closed() -> None:
    async def peer(stream: PeerStream) -> list[bytes]:
        tls = TlsPeer(stream, http2_context())
        await tls.shake_hands()
        try:
            while await tls.receive():
                pass
        except OSError:
            return [b"reset"]
        tls.close()
        return [b"closed"]

    found = browse(peer=peer, plan=http2_settings(), within_s=400)
    assert found.answers


def test_many_large_answers_share_the_windows_of_one_connection() -> None:
    wanted = [ask(f"/{place}") for place in range(60)]
    found = visit(asks(*wanted), origin=Origin(lambda _: reply(LARGE[: 1 << 20])))
    assert all(one.body == LARGE[: 1 << 20] for one in found.answers)
    assert [end.outcome for end in found.gate.ends] == ["released"]


@pytest.mark.parametrize("how", ["kill", "policy", "stop"])
def test_a_stream_that_waits_is_told_why_it_ends(how: str) -> None:
    """Hostile case P4: what policy refuses ends, and nothing beside it."""
    asked: list[str] = []

    class Waits(Origin):
        async def serve(self, stream: PeerStream) -> None:
            while (request := await read_message(stream)) is not None:
                asked.append(request.line)
                if "/slow" not in request.line:
                    await stream.send_all(reply())
            stream.close()

    answers: list[Answer] = []

    async def then(client: Http2Peer) -> None:
        slow = await client.send(ask("/slow"))
        other = await client.send(ask("/slow", "other.example"))
        await client.until(lambda: bool(client.answers[slow].status) or client.is_ended)
        answers.extend([client.answers[slow], client.answers[other]])

    async def scenario(gate: Gate) -> None:
        gate.serve(Waits().serve, address=SITE)
        gate.serve(Waits().serve, address=OTHER)
        client = gate.call(speaks_http2(then))
        await gate.until(lambda: len(asked) == 2)
        views = {view.connection for view in gate.service.connections()}
        assert len(views) == 3, "the client's connection, and its streams"
        if how == "kill":
            [stream] = [one for one in views if one.endswith(".1")]
            assert gate.service.kill(stream, "killed by test")
        elif how == "policy":
            plan = http2_settings(RULES.replace('"site.example", ', ""))
            await gate.service.apply(plan)
        else:
            await gate.service.stop()
        await gate.ended(client)

    names = Names()
    for name, rows in NAMES.items():
        names.put(name, *rows)
    gate = play(scenario, http2_settings(), exchange=names)
    by_url = {record.url: record for record in gate.requests}
    ended = by_url["http://site.example/slow"]
    assert (ended.verdict, ended.outcome) == ("allowed", "refused")
    if how != "stop":
        assert answers[0].status == 403
        assert not answers[1].status, "the other one goes on"
