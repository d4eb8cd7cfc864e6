"""The explicit web proxy on the simulated port: what passes, and how it is changed on its way."""

from __future__ import annotations

import pytest

from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from sluicegate.testing.peers import _Signal as Flag
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, play
from tests.flows.web_kit import (
    OTHER,
    SITE,
    Message,
    Origin,
    asks,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)


def test_a_request_is_answered_by_the_server_that_its_url_names() -> None:
    found = browse(get("/a?b=c"))
    assert [(one.status, one.body) for one in found.answers] == [(200, b"hello")]
    assert found.origin.lines == ["GET /a?b=c HTTP/1.1"]
    (record,) = found.gate.requests
    decided = (record.verdict, record.reason, record.outcome)
    assert decided == ("allowed", "allowed-by-rule", "released")
    assert (record.url, record.status, record.rule) == ("http://site.example/a", 200, "web")
    assert (record.server, record.bytes_to_client) == (str(SITE), 5)
    (end,) = found.gate.ends
    assert (end.entry, end.outcome, end.rule) == ("http", "released", "web")


def test_requests_of_one_client_share_connections_on_both_sides() -> None:
    found = browse(*[get(f"/{n}") for n in range(5)])
    assert found.statuses == [200] * 5
    assert found.origin.connections == 1
    assert [record.url[-2:] for record in found.gate.requests] == ["/0", "/1", "/2", "/3", "/4"]


def test_every_request_is_judged_by_itself() -> None:
    found = browse(get(), get("/", "evil.example"), get("/again"))
    assert found.statuses == [200, 403, 200]
    assert found.origin.lines == ["GET / HTTP/1.1", "GET /again HTTP/1.1"]
    assert [record.verdict for record in found.gate.requests] == ["allowed", "denied", "allowed"]
    assert found.reasons[1] == "no-rule"


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def peer(stream: PeerStream) -> list[Message]:
        await stream.send_all(b"".join(get(f"/{n}") for n in range(50)))
        answers = []
        for _ in range(50):
            answer = await read_message(stream, is_response=True)
            assert answer is not None
            answers.append(answer)
        stream.close()
        return answers

    origin = Origin(lambda request: reply(request.line.split(" ")[1].encode()))
    found = browse(origin=origin, peer=peer)
    assert [one.body for one in found.answers] == [f"/{n}".encode() for n in range(50)]
    assert origin.connections == 1


def test_a_thousand_pipelined_requests_that_are_refused_are_each_answered() -> None:
    async def peer(stream: PeerStream) -> int:
        rest, received = memoryview(get("/", "evil.example") * 1000), bytearray()
        while rest:
            try:
                rest = rest[stream.socket.send(rest) :]
            except BlockingIOError:
                received += await stream.receive()
        while received.count(b"HTTP/1.1 4") < 1000:
            piece = await stream.receive()
            assert piece, "it ended before the last answer"
            received += piece
        stream.close()
        return received.count(b"HTTP/1.1 ")

    found = browse(peer=peer)
    assert found.answers == 1000
    assert found.gate.service.denied == 1000


BODIES = [
    b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("wire", BODIES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "QUERY"])
def test_bodies_of_requests_reach_the_server(wire: bytes, method: str) -> None:
    head = f"{method} http://site.example/up HTTP/1.1\r\nHost: site.example\r\n".encode()
    found = browse(head + wire, get())
    assert found.statuses == [200, 200]
    assert found.origin.seen[0].body == b"hello"
    assert found.gate.requests[0].bytes_to_server == 5


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (reply(b"x" * 300_000), b"x" * 300_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
def test_bodies_of_responses_reach_the_client(wire: bytes, body: bytes) -> None:
    found = browse(get(), get(), origin=Origin([wire]))
    assert [one.body for one in found.answers] == [body, body]


def test_a_body_that_ends_with_its_connection_is_told_by_its_last_chunk() -> None:
    origin = Origin([b"HTTP/1.1 200 OK\r\n\r\nuntil the end"], closes=True)
    found = browse(get(), get(), origin=origin)
    assert [(one.body, one.whole) for one in found.answers] == [(b"until the end", True)] * 2
    assert found.answers[0].field("Transfer-Encoding") == "chunked"
    assert origin.connections == 2


def test_trailers_pass_both_ways() -> None:
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    request = (
        b"POST http://site.example/ HTTP/1.1\r\nHost: site.example\r\nTE: trailers\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Check: 2\r\n\r\n"
    )
    found = browse(request, origin=Origin([wire]))
    assert found.answers[0].trailers == b"X-Sum: 1\r\n"
    assert found.origin.seen[0].trailers == b"X-Check: 2\r\n"


def test_head_has_the_fields_and_no_body() -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
    found = browse(get(method="HEAD"), get(method="HEAD"), origin=Origin([wire]))
    assert [one.field("Content-Length") for one in found.answers] == ["999", "999"]
    assert found.origin.connections == 1


def test_what_belongs_to_a_connection_does_not_pass() -> None:
    fields = (
        "Proxy-Connection: keep-alive",
        "Connection: X-Hop",
        "X-Hop: secret",
        "Keep-Alive: timeout=5",
        "Proxy-Authorization: Basic YTpi",
        "X-End: kept",
    )
    wire = reply(b"ok", "Connection: X-Back", "X-Back: 1", "Keep-Alive: 5", "Alt-Svc: h3", "A: b")
    found = browse(get("/", "site.example", *fields), origin=Origin([wire]))
    (seen,) = found.origin.seen
    for name in ("Proxy-Connection", "X-Hop", "Keep-Alive", "Proxy-Authorization"):
        assert seen.field(name) is None, name
    assert (seen.field("X-End"), seen.field("Host")) == ("kept", "site.example")
    (answer,) = found.answers
    for name in ("X-Back", "Keep-Alive", "Alt-Svc"):
        assert answer.field(name) is None, name
    assert answer.field("A") == "b"
    via = answer.field("Via")
    assert via is not None
    assert seen.field("Via") == via
    assert via.startswith("1.1 sluicegate-")


def test_a_request_that_has_passed_this_gate_is_not_sent_round_again() -> None:
    first = browse(get())
    via = first.answers[0].field("Via")
    found = browse(get("/", "site.example", f"Via: 1.1 elsewhere, {via}"))
    assert (found.statuses, found.reasons) == ([508], ["loop"])
    assert found.origin.connections == 0


@pytest.mark.parametrize(
    ("method", "forwards", "status", "passes"),
    [
        ("TRACE", "0", 405, False),
        ("OPTIONS", "0", 204, False),
        ("TRACE", "2", 200, True),
        ("OPTIONS", "1", 200, True),
    ],
)
def test_trace_and_options_go_as_far_as_they_say(
    method: str, forwards: str, status: int, passes: bool
) -> None:
    found = browse(get("/", "site.example", f"Max-Forwards: {forwards}", method=method))
    assert found.statuses == [status]
    seen = [one.field("Max-Forwards") for one in found.origin.seen]
    assert seen == ([str(int(forwards) - 1)] if passes else [])


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/", 400, "target-not-absolute"),
        ("https://site.example/", 403, "no-rule"),
        ("ftp://site.example/", 501, "scheme-not-served"),
        ("http://site.example./", 200, "allowed-by-rule"),
        ("http://SITE.example:80/", 200, "allowed-by-rule"),
        ("http://site.example:81/", 403, "no-rule"),
        ("http://0x7f000001/", 400, "host-numeric"),
        ("http://127.0.0.1/", 403, "no-rule"),
    ],
)
def test_targets(target: str, status: int, reason: str) -> None:
    host = target.split("/")[2] if "//" in target else "site.example"
    wire = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    found = browse(wire)
    assert found.statuses == [status]
    assert found.reasons[0].startswith(reason.split("-", 1)[0]), found.reasons


def test_a_client_that_waits_for_100_gets_it_from_the_server() -> None:
    async def serve(stream: PeerStream) -> None:
        head = await stream.receive_until(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await stream.receive_exactly(2) == b"ok"
        await stream.send_all(reply(b"done"))
        await stream.receive_all()
        stream.close()

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(
            b"POST http://site.example/ HTTP/1.1\r\nHost: site.example\r\n"
            b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await stream.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"ok")
        answer = await read_message(stream, is_response=True)
        assert answer is not None
        stream.close()
        return answer.body

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    assert browse(origin=origin, peer=peer).answers == b"done"  # type: ignore[comparison-overlap]


def test_a_kept_connection_that_its_server_closes_is_not_used_again() -> None:
    origin = Origin(closes=True)
    found = browse(get(), get(), origin=origin)
    assert found.statuses == [200, 200]
    assert origin.connections == 2


def test_a_request_is_sent_again_when_a_kept_connection_ends_instead_of_an_answer() -> None:
    connections: list[int] = []

    async def serve(stream: PeerStream) -> None:
        connections.append(0)
        while await stream.receive_until(b"\r\n\r\n"):
            connections[-1] += 1
            if len(connections) == 1 and connections[-1] == 2:
                break
            await stream.send_all(reply())
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    found = browse(get(), get(), origin=origin)
    assert found.statuses == [200, 200]
    assert connections == [2, 1]


def test_a_post_is_never_sent_twice() -> None:
    connections: list[int] = []

    async def serve(stream: PeerStream) -> None:
        connections.append(0)
        while (await read_message(stream)) is not None:
            connections[-1] += 1
            if connections[-1] == 2:
                break
            await stream.send_all(reply())
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    post = b"POST http://site.example/ HTTP/1.1\r\nHost: site.example\r\nContent-Length: 1\r\n\r\nx"
    found = browse(post, post, origin=origin)
    assert found.statuses == [200, 502]
    assert connections == [2]
    assert found.reasons[1].startswith("server-truncated")


@pytest.mark.parametrize("ends", ["close", "reset"])
@pytest.mark.parametrize(
    ("method", "body"), [("POST", "x"), ("POST", ""), ("PUT", "x"), ("GET", "")]
)
def test_a_request_is_sent_on_no_connection_that_has_just_ended(
    ends: str, method: str, body: str
) -> None:
    """The server's end comes right behind the request: the gate hears of the request first."""
    heard: list[int] = []
    leaves = Flag()

    async def serve(stream: PeerStream) -> None:
        number = len(heard)
        heard.append(0)
        while number or not heard[0]:
            if await read_message(stream) is None:
                return
            heard[number] += 1
            await stream.send_all(reply())
        await leaves
        getattr(stream, ends)()

    fields = ("Content-Length: 1",) if body else ()
    request = get("/", "site.example", *fields, method=method) + body.encode()
    statuses: list[int] = []

    async def peer(stream: PeerStream) -> None:
        for number in range(2):
            await stream.send_all(request)
            if number:
                leaves.set()
            answer = await read_message(stream, is_response=True)
            assert answer is not None
            statuses.append(answer.status)
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    browse(origin=origin, peer=peer, faults=FaultPlan(latency_s=(0.001, 0.001)))
    assert statuses == [200, 200]
    assert heard == [1, 1]


def test_clients_share_connections_to_servers() -> None:
    origin = Origin()

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=SITE)
        for _ in range(3):
            await gate.ended(gate.call(asks(get())))
        await gate.idle()

    play(scenario, web_settings(), exchange=Names().put("site.example", "93.184.216.34"))
    assert origin.connections == 1


def test_sites_have_connections_of_their_own() -> None:
    site, other = Origin(lambda _: reply(b"site")), Origin(lambda _: reply(b"other"))
    names = Names().put("site.example", "93.184.216.34").put("other.example", "93.184.216.35")
    found: list[list[Message]] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(site.serve, address=SITE)
        gate.serve(other.serve, address=OTHER)
        wanted = [get(), get("/", "other.example"), get(), get("/", "other.example")]
        found.extend(await gate.ended(gate.call(asks(*wanted))))
        await gate.idle()

    play(scenario, web_settings(), exchange=names)
    assert [one.body for one in found[0]] == [b"site", b"other", b"site", b"other"]
    assert (site.connections, other.connections) == (1, 1)
