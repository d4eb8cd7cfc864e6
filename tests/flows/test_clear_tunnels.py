"""Tunnels that speak HTTP in the clear, under rules whose filters are for its messages."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from sluicegate.filterapi import DROP, FORWARD, GO_ON, EntryMode, Needs, Refuse, Rewrite, WebFilter
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.registry import BYTES_UNSEEN
from sluicegate.gate.web.parent_proxy import ParentProxy
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.protocols.websocket import Close, Message
from sluicegate.testing.peers import PeerStream
from sluicegate.testing.peers import _Signal as Flag
from tests.flows.chain_filters import Passing
from tests.flows.entry_kit import ANN, MODES, REFUSED, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, installation, play
from tests.flows.http2_kit import Http2Peer, speaks_http2
from tests.flows.model_kit import PlayingEcho
from tests.flows.opening_kit import Came
from tests.flows.test_emulation import emulating
from tests.flows.test_no_garbage import collecting
from tests.flows.tls_kit import with_tls
from tests.flows.web_kit import SITE, Origin, read_message
from tests.flows.websocket_kit import End, Judge, echo, handshake, says, switched
from tests.unit.hello_kit import hello_to

CONNECT = EntryMode.HTTP_CONNECT
RULE = """
[[rule]]
name = "web"
to = ["site.example", "other.example"]
protocols = ["tcp:80", "tcp:443", "tcp:8080"]
upgrades = ["websocket"]
filters = {names}
{more}
"""
ASK = handshake().replace(b"GET http://site.example/chat", b"GET /chat")


class Heads(WebFilter):
    """Refuses the path ``/no``."""

    needs = Needs()

    def on_request(self, exchange: Any) -> Any:
        return Refuse("not this") if exchange.request.path == "/no" else GO_ON


def get(path: str = "/", host: str = "site.example", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


@dataclasses.dataclass
class Found(Came):
    """Where it was asked in a tunnel."""

    statuses: list[int]
    rest: bytes


def tunnel(
    *requests: bytes,
    mode: EntryMode = CONNECT,
    filters: Sequence[Any] = (),
    more: str = "",
    ask: Ask | None = None,
    origin: Any = None,
    then: Any = None,
    plan: Any = None,
    address: Any = SITE,
    during: Any = None,
    peer: Any = None,
    within_s: float = 120.0,
    **options: Any,
) -> Found:
    """Let a client ask for a tunnel, and send one request after the other in it."""
    server = origin or Origin()
    statuses: list[int] = []
    rest: list[bytes] = []

    async def inside(stream: PeerStream) -> bytes:
        try:
            for one in requests:
                await stream.send_all(one)
                answer = await read_message(stream, is_response=True)
                if answer is None:
                    return b""
                statuses.append(answer.status)
            if then is not None:
                rest.append(await then(stream))
        except OSError:
            statuses.append(0)  # it was reset
        return b""

    installed = [installation(one, f"f{n}") for n, one in enumerate(filters or [Heads()])]
    names = json.dumps([one.name for one in installed])
    wanted = plan or proxy_settings(RULE.format(names=names, more=more), filters=installed)
    replies: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(server.serve, address=address)
        client = gate.call(peer or asks(ask or Ask(mode, "site.example", 80), inside))
        if during is not None:
            await during(gate)
        replies.extend(await gate.ended(client, within_s=within_s))
        await gate.idle()

    names_known = Names(site_example=[SITE.host], other_example=["93.184.216.35"])
    gate = play(scenario, wanted, exchange=names_known, **options)
    return Found(gate, replies[0], server, statuses, rest[0] if rest else b"")


# -- what is judged --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_requests_in_a_tunnel_are_judged_one_by_one(mode: EntryMode) -> None:
    found = tunnel(get("/a"), get("/no"), get("/b"), get("/c"), mode=mode)
    assert found.statuses == [200, 403, 200, 200]
    assert found.reasons[1] == "not this"
    assert [one.url for one in found.gate.requests][:2] == [
        "http://site.example/a",
        "http://site.example/no",
    ]
    assert found.origin.lines == ["GET /a HTTP/1.1", "GET /b HTTP/1.1", "GET /c HTTP/1.1"]
    assert found.origin.connections == 1
    assert (found.end.entry, found.end.outcome, found.end.server) == (mode, "released", SITE.text)
    assert {one.connection for one in found.gate.requests} == {found.end.connection}


class Echo(Origin):
    """A server of WebSockets."""

    heard: Any = None

    async def serve(self, stream: PeerStream) -> None:
        self.connections += 1
        await stream.receive_until(b"\r\n\r\n")
        await stream.send_all(switched())
        self.heard = await echo(End(stream, is_client=False, deflate=None))
        stream.close()


@pytest.mark.parametrize("mode", MODES)
def test_messages_of_a_websocket_in_a_tunnel_are_seen_changed_and_refused(mode: EntryMode) -> None:
    answers = {"drop": DROP, "old": Rewrite(b"new"), "secret": Refuse("a secret")}
    judge = Judge(lambda one: answers.get(one.text or "", FORWARD))
    got: list[object] = []

    async def then(stream: PeerStream) -> bytes:
        await stream.send_all(ASK)
        await stream.receive_until(b"\r\n\r\n")
        talk = says(
            Message("hi"), Message("drop"), Message("old"), Message("secret"), Message("late")
        )
        got.extend(await talk(End(stream, is_client=True, deflate=None)))
        return b""

    found = tunnel(mode=mode, filters=[judge], then=then, origin=Echo())
    assert found.origin.heard == [Message("hi"), Message("new"), Close(1008)]
    assert got[-1] == Close(1008, "a secret")
    (record,) = found.gate.requests
    assert (record.status, record.outcome, record.ended) == (101, "refused", "a secret")
    assert record.url == "http://site.example/chat"


def test_a_client_may_ask_before_it_was_told_that_its_tunnel_is_there() -> None:
    async def then(stream: PeerStream) -> bytes:
        answer = await read_message(stream, is_response=True)
        assert answer is not None
        return b"%d" % answer.status

    for early in (get("/early"), get("/early")[:3]):

        async def rest(stream: PeerStream, early: bytes = early) -> bytes:
            await stream.send_all(get("/early")[len(early) :])
            return await then(stream)

        found = tunnel(ask=Ask(CONNECT, "site.example", 80, early=early), then=rest)
        assert (found.rest, found.origin.lines) == (b"200", ["GET /early HTTP/1.1"])


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_what_it_says_may_come_in_pieces(size: int) -> None:
    async def then(stream: PeerStream) -> bytes:
        request = get("/pieces")
        for start in range(0, len(request), size):
            await stream.send_all(request[start : start + size])
        answer = await read_message(stream, is_response=True)
        return b"" if answer is None else b"%d" % answer.status

    assert tunnel(then=then).rest == b"200"


def test_the_port_of_the_tunnel_is_the_port_that_is_asked() -> None:
    address = SITE.with_port(8080)
    found = tunnel(
        get("/", "site.example:8080"),
        get("/", "site.example"),
        ask=Ask(CONNECT, "site.example", 8080),
        address=address,
    )
    assert found.statuses == [200, 421]
    assert found.gate.requests[0].server == address.text


def test_a_server_that_cannot_be_reached_is_told_in_a_page() -> None:
    found = tunnel(get("/"), ask=Ask(CONNECT, "other.example", 80))
    # (the tunnel is for other.example)
    assert found.statuses == [421]
    found = tunnel(get("/", "other.example"), ask=Ask(CONNECT, "other.example", 80))
    assert found.statuses == [502]
    assert found.reply.is_granted


# -- what is refused -------------------------------------------------------------------------------

# what is asked inside, status, reason
MISFITS = [
    (get("/", "other.example"), 421, "inside-other-host: other.example"),
    (get("/", "site.example:8080"), 421, "inside-other-host: site.example:8080"),
    (get("/", "other.example").replace(b"GET /", b"GET http://other.example/"), 421, "inside-other-host: other.example"),
    (get("/").replace(b"GET /", b"GET http://other.example/"), 400, ""),
    (get("/").replace(b"GET /", b"GET https://site.example/"), 421, "inside-other-scheme"),
    (b"CONNECT site.example:80 HTTP/1.1\r\nHost: site.example:80\r\n\r\n", 405, "inside-connect"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, ""),
    (b"GET / HTTP/1.1\r\nHost: site.example\r\nHost: other.example\r\n\r\n", 400, ""),
    (b"POST / HTTP/1.1\r\nHost: site.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
    (b"GET / HTTP/1.1\nHost: site.example\n\n", 400, ""),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, ""),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "status", "reason"), MISFITS)
@pytest.mark.parametrize("before", [(), (get("/first"),)], ids=["first", "later"])
def test_requests_that_are_not_for_the_tunnel_reach_no_server(
    sent: bytes, status: int, reason: str, before: tuple[bytes, ...]
) -> None:
    found = tunnel(*before, sent)
    assert found.statuses == [*(200 for _ in before), status]
    assert reason in found.reasons[-1]
    assert found.origin.lines == [line.decode().split("\r\n")[0] for line in before]


def test_an_upgrade_to_http_2_is_not_passed_on() -> None:
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    found = tunnel(get("/", "site.example", *fields))
    assert found.statuses == [200]
    (seen,) = found.origin.seen
    assert seen.field("Upgrade") is None
    assert seen.field("HTTP2-Settings") is None


async def hears(stream: PeerStream) -> bytes:
    return await stream.receive_all()


def says_raw(data: bytes) -> Any:
    async def then(stream: PeerStream) -> bytes:
        await stream.send_all(data)
        return await stream.receive_all()

    return then


# what a client says that is no HTTP
ODD = [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0\0\x01", b"get / HTTP/1.1\r\n", b"EHLO\r\n", b"\x05\x01\0", b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"]  # fmt: skip


@pytest.mark.parametrize("said", ODD)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_http_is_refused_as_no_filter_sees_it(said: bytes, mode: EntryMode) -> None:
    found = tunnel(mode=mode, then=says_raw(said))
    assert (found.end.outcome, found.end.reason) == ("refused", BYTES_UNSEEN)
    assert found.statuses == [0]
    assert found.origin.connections == 0


def test_tls_in_a_tunnel_that_is_read_is_answered_by_an_alert() -> None:
    found = tunnel(ask=Ask(CONNECT, "site.example", 8080), then=says_raw(hello_to("site.example")))
    assert found.rest == b"\x15\x03\x03\x00\x02\x02\x31"  # access_denied
    assert (found.end.outcome, found.end.reason) == ("refused", BYTES_UNSEEN)


def test_a_client_that_waits_for_its_server_to_speak_is_refused_in_time() -> None:
    found = tunnel(then=hears)
    assert (found.end.outcome, found.end.reason) == ("refused", BYTES_UNSEEN)
    assert found.statuses == [0]
    assert found.origin.connections == 0


@pytest.mark.parametrize(
    "more", ["", 'tls = { ports = [80], not_tls = "allow", mode = "inspect" }']
)
@pytest.mark.parametrize(("said", "outcome"), [(b"", "released"), (b"GE", "refused")])
def test_a_client_may_leave_before_it_has_asked(said: bytes, outcome: str, more: str) -> None:
    async def then(stream: PeerStream) -> bytes:
        if said:
            await stream.send_all(said)
        stream.end_stream()
        return await stream.receive_all()

    found = tunnel(then=then, more=more)
    assert found.end.outcome == outcome


@pytest.mark.parametrize(
    "more", ["", 'tls = { ports = [80], not_tls = "allow", mode = "inspect" }']
)
def test_a_client_may_end_its_direction_behind_its_request(more: str) -> None:
    async def peer(stream: PeerStream) -> None:
        await stream.send_all(Ask(CONNECT, "site.example", 80, early=get("/a")).wire())
        stream.end_stream()
        answers.append(await stream.receive_all())
        stream.close()

    answers: list[bytes] = []
    found = tunnel(peer=peer, more=more)
    assert b"HTTP/1.1 200 OK\r\n" in answers[0]
    assert found.origin.lines == ["GET /a HTTP/1.1"]


# id, options, whether the tunnel is granted
KINDS: list[tuple[str, dict[str, Any], bool]] = [
    ("filters of messages", {}, True),
    ("where TLS is spoken", {"ask": Ask(CONNECT, "site.example", 443)}, False),
    ("where a rule holds clients to TLS", {"more": "tls = { ports = [80] }"}, False),
    ("where TLS may be left out", {"more": 'tls = { ports = [80], not_tls = "allow" }'}, True),
    ("where a rule counts bytes", {"more": "limits = { bytes_max = 100_000 }"}, True),
    ("filters of bytes besides", {"filters": [Heads(), Passing]}, False),
    ("a filter that plays the server", {"filters": [Heads(), emulating(PlayingEcho)]}, False),
]


@pytest.mark.parametrize(("options", "is_granted"), [one[1:] for one in KINDS], ids=[one[0] for one in KINDS])  # fmt: skip
def test_a_tunnel_is_read_where_nothing_else_would_see_it(
    options: dict[str, Any], is_granted: bool
) -> None:
    found = tunnel(get("/"), **options)
    assert found.reply.is_granted is is_granted
    if is_granted:
        assert found.statuses == [200]
    else:
        assert found.reply.code == REFUSED[CONNECT]
        assert found.end.reason == BYTES_UNSEEN
        assert found.origin.connections == 0


def test_a_rule_that_opens_tls_reads_what_it_lets_be_in_the_clear() -> None:
    opening = 'tls = { mode = "inspect", ports = [80], not_tls = "allow" }'
    found = tunnel(get("/a"), get("/no"), more=opening)
    assert found.statuses == [200, 403]
    assert found.origin.lines == ["GET /a HTTP/1.1"]
    found = tunnel(then=says_raw(b"SSH-2.0-x\r\n"), more=opening)
    assert (found.end.outcome, found.end.reason) == ("refused", BYTES_UNSEEN)


def test_users_of_a_tunnel_are_those_of_its_requests() -> None:
    rule = RULE.format(names='["f0"]', more='users = ["ann"]')
    plan = proxy_settings(
        rule,
        filters=[installation(Heads(), "f0")],
        authenticate=Authenticate.REQUIRED,
        users=[ANN],
        protocols=[EntryProtocol.HTTP_CONNECT],
    )
    ask = Ask(CONNECT, "site.example", 80, user="ann", password="open sesame")
    found = tunnel(get("/"), plan=plan, ask=ask)
    assert found.statuses == [200]
    assert [one.user for one in found.gate.requests] == ["ann"]
    assert all(one.field("Proxy-Authorization") is None for one in found.origin.seen)


@pytest.mark.parametrize(
    ("more", "second", "outcome"),
    [
        ('comment = "as before"', 200, ("released", "")),
        ("tls = { ports = [80] }", 0, ("refused", "revoked: tls-not-tls (web)")),
        ('users = ["ann"]', 0, ("refused", "revoked: user-needed")),
    ],
)
def test_another_policy_is_asked_about_the_tunnel_again(
    more: str, second: int, outcome: tuple[str, str]
) -> None:
    heads = installation(Heads(), "f0")

    def made(more: str) -> Any:
        return proxy_settings(RULE.format(names='["f0"]', more=more), filters=[heads])

    async def reload(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.requests))
        await gate.service.apply(made(more))
        reloaded.set()

    async def then(stream: PeerStream) -> bytes:
        await reloaded
        await stream.send_all(get("/b"))
        answer = await read_message(stream, is_response=True)
        return b"%d" % (0 if answer is None else answer.status)

    reloaded = Flag()
    found = tunnel(get("/a"), plan=made(""), then=then, during=reload)
    assert found.statuses[0] == 200
    assert int(found.rest or b"0") == second
    assert (found.end.outcome, found.end.reason) == outcome


@pytest.mark.parametrize("said", [get("/a"), b"SSH-2.0-x\r\n", b"", hello_to("site.example")])
def test_tunnels_that_are_read_leave_nothing_to_the_collector(said: bytes) -> None:
    heads = installation(Heads(), "f0")
    plan = proxy_settings(RULE.format(names='["f0"]', more=""), filters=[heads])
    kinds: list[object] = []

    async def inside(stream: PeerStream) -> bytes:
        await stream.send_all(said)
        await (read_message(stream, is_response=True) if said == get("/a") else stream.receive())
        return b""

    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)

        async def visit() -> None:
            for _ in range(3):
                await gate.ended(gate.call(asks(Ask(CONNECT, "site.example", 80), inside)))
            await gate.idle()

        await visit()  # so that pools are filled
        with collecting() as garbage:
            await visit()
        kinds.append(garbage.kinds)

    play(scenario, plan, exchange=Names(site_example=[SITE.host]))
    assert kinds == [{}]


def test_a_tunnel_on_a_stream_of_http_2_is_read_as_any_other() -> None:
    heads = installation(Heads(), "f0")
    plan = proxy_settings(RULE.format(names='["f0"]', more=""), filters=[heads])
    origin = Origin()
    found: list[bytes] = []

    async def then(client: Http2Peer) -> None:
        asked = [(b":method", b"CONNECT"), (b":authority", b"site.example:80")]
        number = await client.send(asked, ends=False)
        answer = client.answers[number]
        await client.until(lambda: bool(answer.status))
        for path, end in (("/a", b"hello"), ("/no", b"}")):
            await client.send_body(number, get(path), ends=False)
            await client.until(lambda end=end: answer.body.endswith(end))
        found.append(answer.body)
        await client.send_body(number, b"")
        await client.answered(number)

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=SITE)
        await gate.ended(gate.call(speaks_http2(then)))
        await gate.idle()

    settings = with_tls(plan, protocols=("h2", "http/1.1"))
    gate = play(scenario, settings, exchange=Names(site_example=[SITE.host]))
    assert found[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"HTTP/1.1 403 " in found[0]
    assert origin.lines == ["GET /a HTTP/1.1"]
    assert [one.status for one in gate.requests] == [200, 403]


def test_requests_in_a_tunnel_go_through_a_parent_as_all_others() -> None:
    heads = installation(Heads(), "f0")
    parent = SITE.with_port(3128)
    plan = dataclasses.replace(
        proxy_settings(RULE.format(names='["f0"]', more=""), filters=[heads]),
        parent_proxies=(ParentProxy(parent),),
    )
    found = tunnel(get("/a"), get("/no"), plan=plan, address=parent)
    assert found.statuses == [200, 403]
    assert found.origin.lines == ["GET http://site.example/a HTTP/1.1"]
