"""TLS for clients of published servers: names, alerts, hosts inside, users, HTTP/2, reloads."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.gate.settings import ServiceSettings
from sluicegate.names import canonical_host
from sluicegate.policy import SendProxyProtocol
from sluicegate.protocols.proxy_protocol import encode_proxy_v1
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from sluicegate.tls import ClientCertificates, TlsSettings
from tests.chains import root
from tests.flows.chain_filters import Passing
from tests.flows.gate_kit import SERVER, Gate, echoes, installation, play
from tests.flows.http2_kit import Http2Peer
from tests.flows.published_tls_kit import WILD, WWW, own, published, trusting
from tests.flows.test_no_garbage import Garbage, collecting
from tests.flows.tls_kit import (
    TlsPeer,
    inside_tls,
    server_context,
    serving_tls,
    verifying,
)
from tests.flows.web_kit import Origin, Visit, asks, browse
from tests.pki import authority
from tests.unit.hello_kit import browser_hello, hello_to

UNRECOGNIZED_NAME = 112
LARGE = bytes(range(256)) * 2048
CLIENTS = authority("clients")
Peer = Callable[[PeerStream], Coroutine[Any, Any, Any]]


def visit(
    peer: Peer, *, serve: Peer = echoes, plan: ServiceSettings | None = None, **options: Any
) -> tuple[Any, Gate, int]:
    """Let one client in; return what it saw, the gate, and how many connections the server had."""
    seen: list[Any] = []
    served: list[Any] = []

    async def scenario(gate: Gate) -> None:
        served.append(gate.serve(serve))
        seen.extend(await gate.ended(gate.call(peer)))
        await gate.idle()
        await gate.until(lambda: gate.service.entries.handshake_count == 0)

    gate = play(scenario, published() if plan is None else plan, **options)
    return seen[0], gate, len(served[0])


async def says_hello(stream: PeerStream) -> bytes:
    await stream.send_all(b"hello")
    stream.end_stream()
    return await stream.receive_all()


def get(path: str = "/", host: str = WWW, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def ask(
    *requests: bytes,
    name: str | None = WWW,
    tls: TlsSettings | None = None,
    protocols: tuple[str, ...] = (),
    **changes: Any,
) -> Visit:
    """Let a client ask a published web server inside TLS."""
    context = trusting(protocols=protocols, checks=name is not None)
    plan = published(tls, is_http=True, **changes)
    peer = inside_tls(asks(*requests), context, name)
    return browse(plan=plan, address=SERVER, peer=peer)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WWW, WILD, "other.wild.example", "WWW.Example"])
def test_the_name_in_the_hello_chooses_the_certificate(name: str) -> None:
    seen, gate, _ = visit(inside_tls(says_hello, trusting(), name))
    assert seen == b"hello"
    (end,) = gate.ends
    assert (end.outcome, end.tls, end.sni) == ("released", "own", name)
    assert end.tls_client.startswith("TLSv1.3 TLS_")
    (decision,) = gate.decisions
    assert (decision.verdict, decision.rule) == ("allowed", "web")


REFUSED = [
    ("no name", None, "tls-sni-missing"),
    ("an unknown name", "evil.example", "tls-sni-unknown: evil.example"),
    ("the name under the wildcard", "wild.example", "tls-sni-unknown: wild.example"),
    ("two labels for one", "a.b.wild.example", "tls-sni-unknown: a.b.wild.example"),
]


@pytest.mark.parametrize(
    ("name", "reason"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_who_asks_for_nothing_that_is_here_gets_an_alert_and_reaches_nobody(
    name: str | None, reason: str
) -> None:
    seen, gate, count = visit(inside_tls(says_hello, trusting(checks=name is not None), name))
    assert isinstance(seen, ssl.SSLError)
    assert "unrecognized name" in str(seen).lower().replace("_", " ")
    (decision,) = gate.decisions
    assert (decision.verdict, decision.reason, decision.rule) == ("denied", reason, "web")
    assert (count, gate.ends) == (0, [])


@pytest.mark.parametrize(
    ("raw", "reason", "alert"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "tls-not-tls", 10),
        (b"SSH-2.0-x\r\n", "tls-not-tls", 10),
        (hello_to("192.0.2.1"), "tls-sni-address: 192.0.2.1", 112),
        (hello_to("www.example."), "tls-sni-form: final dot", 112),
        (hello_to("www..example"), "tls-sni-form: ", 112),
    ],
)
def test_what_is_no_hello_or_has_no_name_gets_one_alert(
    raw: bytes, reason: str, alert: int
) -> None:
    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(raw)
        stream.end_stream()
        return await stream.receive_all()

    seen, gate, count = visit(peer)
    assert seen == bytes((21, 3, 3, 0, 2, 2, alert))
    (decision,) = gate.decisions
    assert decision.reason.startswith(reason)
    assert count == 0


def test_a_default_certificate_is_shown_to_who_asks_for_nothing_known() -> None:
    tls = own(needs_known_name=False)
    for name in (None, "evil.example"):
        context = trusting(checks=False)
        seen, gate, _ = visit(inside_tls(says_hello, context, name), plan=published(tls))
        assert seen == b"hello"
        assert gate.ends[0].sni == (name or "")


def test_a_hello_that_may_hide_another_one_is_taken_by_the_name_outside() -> None:
    """Filler of browsers (GREASE): what the gate does not speak is as if it was not there."""

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(browser_hello(WWW))
        answer = await stream.receive_exactly(7)
        stream.close()
        return answer

    seen, gate, _ = visit(peer)
    assert seen[-1] != UNRECOGNIZED_NAME
    (decision,) = gate.decisions
    assert decision.reason.startswith("tls-failed: "), "its key is made up, as OpenSSL finds"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_byte_may_come_alone(version: ssl.TLSVersion) -> None:
    context = trusting()
    context.maximum_version = version

    async def peer(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream, context, name=WILD)
        tls.most_sent = 1
        await tls.shake_hands()
        return await says_hello(tls)

    seen, _, _ = visit(peer, faults=FaultPlan(short_receive=1.0))
    assert seen == b"hello"


@pytest.mark.parametrize("seed", range(6))
def test_much_goes_both_ways_whatever_the_network_does_to_it(seed: int) -> None:
    async def peer(stream: PeerStream) -> bytes:
        back = bytearray()
        for start in range(0, len(LARGE), 50_000):
            await stream.send_all(LARGE[start : start + 50_000])
            back += await stream.receive_exactly(len(LARGE[start : start + 50_000]))
        stream.end_stream()
        return bytes(back) + await stream.receive_all()

    faults = FaultPlan(short_receive=0.3, partial_send=0.3, multishot_end=0.2, late_result=0.2)
    seen, gate, _ = visit(inside_tls(peer, trusting(), WWW), seed=seed, faults=faults)
    assert seen == LARGE
    (end,) = gate.ends
    assert (end.bytes_to_server, end.bytes_to_client) == (len(LARGE), len(LARGE))


def test_the_server_may_speak_first() -> None:
    async def greets(stream: PeerStream) -> None:
        await stream.send_all(b"220 ready\r\n")
        await stream.receive_until(b"\r\n")
        stream.close()

    async def peer(stream: PeerStream) -> bytes:
        line = await stream.receive_until(b"\r\n")
        await stream.send_all(b"QUIT\r\n")
        line += await stream.receive_all()
        stream.close()
        return line

    assert visit(inside_tls(peer, trusting(), WWW), serve=greets)[0] == b"220 ready\r\n"


def test_filters_see_what_is_inside() -> None:
    made: list[Passing] = []

    def make() -> Passing:
        made.append(Passing())
        return made[-1]

    plan = published(filters=("passing",))
    plan = dataclasses.replace(plan, filters=(installation(make, "passing"),))
    seen, gate, _ = visit(inside_tls(says_hello, trusting(), WWW), plan=plan)
    assert seen == b"hello"
    assert gate.ends[0].filters == ("passing",)
    assert len(made) == 1


def test_a_client_that_says_nothing_has_a_deadline_and_reaches_nobody() -> None:
    async def silent(stream: PeerStream) -> bytes:
        return await stream.receive_all()

    _, gate, count = visit(silent)
    assert [one.reason for one in gate.decisions] == ["handshake-timeout"]
    assert count == 0


@pytest.mark.parametrize("sent", [0, 1, 5, 100])
def test_a_client_that_leaves_before_it_is_there_is_recorded_once(sent: int) -> None:
    async def leaves(stream: PeerStream) -> None:
        await stream.send_all(hello_to(WWW)[:sent])
        stream.close()

    _, gate, count = visit(leaves)
    (decision,) = gate.decisions
    assert decision.reason == ("tls-failed: cut off" if sent else "client-left")
    assert count == 0


def test_clients_in_the_midst_of_a_handshake_are_bounded() -> None:
    async def waits(stream: PeerStream) -> bytes:
        try:
            return await stream.receive_all()
        except OSError:
            return b"reset"

    seen: list[Any] = []

    async def scenario(gate: Gate) -> None:
        tasks = [gate.call(waits, name=f"client {index}") for index in range(3)]
        seen.extend(await gate.ended(*tasks))

    gate = play(scenario, published(), handshakes_max=2)
    reasons = sorted(one.reason for one in gate.decisions)
    assert reasons == ["handshake-timeout", "handshake-timeout", "limit handshakes_max"]


def test_a_stop_ends_who_is_in_the_midst_of_a_handshake() -> None:
    async def waits(stream: PeerStream) -> bytes:
        try:
            return await stream.receive_all()
        except OSError:
            return b"reset"

    async def scenario(gate: Gate) -> None:
        gate.call(waits)
        await gate.until(lambda: gate.service.entries.handshake_count == 1)

    gate = play(scenario, published())
    assert [one.reason for one in gate.decisions] == ["service stopping"]


def test_a_peer_may_announce_clients_in_front_of_their_tls() -> None:
    plan = published()
    peers = (ipaddress.ip_network("10.7.7.7/32"),)
    listeners = tuple(dataclasses.replace(one, proxy_peers=peers) for one in plan.listeners)
    announced = SocketAddress.parse("10.1.2.3:4567")
    seen: list[object] = []

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(encode_proxy_v1(announced, SocketAddress.parse("192.0.2.1:443")))
        reply = await inside_tls(says_hello, trusting(), WWW)(stream)
        assert isinstance(reply, bytes)
        return reply

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        source = SocketAddress.parse("10.7.7.7:0")
        seen.extend(await gate.ended(gate.call(peer, source=source)))
        await gate.idle()

    gate = play(scenario, dataclasses.replace(plan, listeners=listeners))
    assert seen == [b"hello"]
    assert [(one.client, one.tls) for one in gate.ends] == [(str(announced), "own")]


# -- who comes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_http", [False, True])
def test_a_client_is_who_its_certificate_names(is_http: bool) -> None:
    tls = own(client_certificates=ClientCertificates.REQUIRED, client_authorities=CLIENTS.pem)
    context = trusting(CLIENTS.client("ann", units=["builders"]))
    if is_http:
        plan = published(tls, is_http=True)
        found = browse(plan=plan, address=SERVER, peer=inside_tls(asks(get()), context, WWW))
        gate = found.gate
        assert found.statuses == [200]
        assert gate.requests[0].user == "ann"
    else:
        seen, gate, _ = visit(inside_tls(says_hello, context, WWW), plan=published(tls))
        assert seen == b"hello"
    assert [one.user for one in gate.ends] == ["ann"]


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (None, "tls-failed: peer did not return a certificate"),
        (authority("another").client("ann"), "tls-failed: certificate: "),
        (CLIENTS.client("ann", days=(-9, -1)), "tls-failed: certificate: certificate has expired"),
        (CLIENTS.client(""), "certificate-refused: "),
        (CLIENTS.client("a n n"), "certificate-refused: "),
    ],
)
def test_who_has_no_good_certificate_reaches_nobody(client: Any, reason: str) -> None:
    tls = own(client_certificates=ClientCertificates.REQUIRED, client_authorities=CLIENTS.pem)

    async def peer(stream: PeerStream) -> bytes:
        try:
            return await inside_tls(says_hello, trusting(client), WWW)(stream)
        except OSError:
            return b"refused"

    seen, gate, count = visit(peer, plan=published(tls))
    assert seen in {b"refused", b""} or isinstance(seen, ssl.SSLError)
    (decision,) = gate.decisions
    assert decision.reason.startswith(reason)
    assert count == 0


def test_sessions_are_resumed_for_their_own_certificate_only() -> None:
    context = trusting()
    sessions: list[ssl.SSLSession | None] = [None]
    reused: list[bool] = []

    def peer(name: str, session: ssl.SSLSession | None) -> Peer:
        async def talks(stream: PeerStream) -> bytes:
            tls = TlsPeer(stream, context, session, name=name)
            await tls.shake_hands()
            echoed = await says_hello(tls)
            sessions.append(tls.tls.session)
            reused.append(tls.tls.session_reused)
            return echoed

        return talks

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        for name in (WWW, WWW, WILD):
            assert await gate.ended(gate.call(peer(name, sessions[-1]))) == [b"hello"]
        await gate.idle()

    play(scenario, published())
    assert reused == [False, True, False]


# -- requests --------------------------------------------------------------------------------------


def test_requests_inside_go_to_the_server_and_say_how_they_came() -> None:
    found = ask(get("/a"), get("/b"))
    assert found.statuses == [200, 200]
    assert found.origin.lines == ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]
    assert {one.field("X-Forwarded-Proto") for one in found.origin.seen} == {"https"}
    assert [one.url for one in found.gate.requests] == [f"https://{WWW}/a", f"https://{WWW}/b"]
    assert [(one.tls, one.sni) for one in found.gate.ends] == [("own", WWW)]


HOSTS = [
    (get("/", WWW), 200, ""),
    (get("/", f"{WWW}:8443"), 200, ""),
    (get("/", "WWW.EXAMPLE"), 200, ""),
    (get("/", WILD), 421, "inside-other-host: shop.wild.example"),
    (get("/", "evil.example"), 421, "inside-other-host: evil.example"),
    (get("/", "192.0.2.1"), 421, "inside-other-host: 192.0.2.1"),
    (get(f"https://{WWW}/", WWW), 200, ""),
    (get(f"http://{WWW}/", WWW), 421, "inside-other-scheme"),
    (get("https://evil.example/", "evil.example"), 421, "inside-other-host: evil.example"),
    (b"CONNECT www.example:443 HTTP/1.1\r\nHost: www.example:443\r\n\r\n", 405, ""),
    (b"GET / HTTP/1.1\r\n\r\n", 400, ""),
]


@pytest.mark.parametrize(("wire", "status", "reason"), HOSTS)
def test_e2_e5_the_host_inside_is_the_name_in_the_hello(
    wire: bytes, status: int, reason: str
) -> None:
    found = ask(wire)
    assert found.statuses == [status]
    assert len(found.origin.seen) == (status == 200)
    if reason:
        assert found.reasons == [reason]


def test_e4_the_second_request_is_held_to_it_too() -> None:
    found = ask(get("/a"), get("/b", WILD))
    assert found.statuses == [200, 421]
    assert found.origin.lines == ["GET /a HTTP/1.1"]


def test_without_a_name_the_default_certificate_says_which_hosts_are_meant() -> None:
    tls = own([WWW, "10.0.0.1"], ["*.wild.example"], needs_known_name=False)
    for host, status in ((WWW, 200), ("10.0.0.1", 200), (WILD, 421), ("evil.example", 421)):
        assert ask(get("/", host), name=None, tls=tls).statuses == [status], host


# -- HTTP/2 ----------------------------------------------------------------------------------------


def fields(host: str = WWW, path: str = "/", scheme: bytes = b"https") -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"GET"),
        (b":scheme", scheme),
        (b":authority", host.encode()),
        (b":path", path.encode()),
    ]


def multiplexed(*heads: list[tuple[bytes, bytes]], plan: ServiceSettings | None = None) -> Visit:
    async def peer(stream: PeerStream) -> list[int]:
        client = Http2Peer(TlsPeer(stream, trusting(protocols=["h2"]), name=WWW))
        await client.begin()
        numbers = [await client.send(one) for one in heads]
        while not client.is_ended and not all(
            client.answers[one].is_whole or client.answers[one].reset is not None for one in numbers
        ):
            await client.read()
        client.tls.close()
        return [client.answers[one].status for one in numbers]

    return browse(plan=plan or published(is_http=True), address=SERVER, peer=peer)


def test_http2_is_served_where_clients_choose_it() -> None:
    found = multiplexed(fields(path="/a"), fields(path="/b"))
    assert found.answers == [200, 200]
    assert sorted(found.origin.lines) == ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]
    assert {one.field("X-Forwarded-Proto") for one in found.origin.seen} == {"https"}
    assert [(one.tls, one.sni) for one in found.gate.ends] == [("own", WWW)]


def test_e3_a_later_stream_for_another_host_is_misdirected() -> None:
    found = multiplexed(fields(path="/a"), fields(WILD, "/b"), fields(path="/c"))
    assert found.answers == [200, 421, 200]
    assert sorted(found.origin.lines) == ["GET /a HTTP/1.1", "GET /c HTTP/1.1"]


def test_a_stream_by_another_scheme_is_malformed() -> None:
    found = multiplexed(fields(scheme=b"http"))
    assert found.answers == [400]
    assert found.origin.seen == []


@pytest.mark.parametrize(
    ("offered", "is_http", "agreed"),
    [
        (["h2", "http/1.1"], True, "h2"),
        (["http/1.1", "h2"], True, "h2"),
        (["http/1.1"], True, "http/1.1"),
        (["spdy/3"], True, None),
        (["h2", "http/1.1"], False, None),
        ([], True, None),
    ],
)
def test_alpn_offers_what_the_publication_serves(
    offered: list[str], is_http: bool, agreed: str | None
) -> None:
    chosen: list[str | None] = []

    async def peer(stream: PeerStream) -> None:
        tls = TlsPeer(stream, trusting(protocols=offered), name=WWW)
        await tls.shake_hands()
        chosen.append(tls.tls.selected_alpn_protocol())
        tls.close()

    visit(peer, plan=published(is_http=is_http))
    assert chosen == [agreed]


# -- servers inside TLS ----------------------------------------------------------------------------


def inside(name: str, **changes: Any) -> ServiceSettings:
    return verifying(published(server_tls=canonical_host(name), **changes))


def test_both_sides_may_be_inside_tls() -> None:
    context = server_context(root().issue(names=["inside.example"]))
    seen, gate, _ = visit(
        inside_tls(says_hello, trusting(), WWW),
        serve=serving_tls(echoes, context),
        plan=inside("inside.example"),
    )
    assert seen == b"hello"
    assert [one.outcome for one in gate.ends] == ["released"]


def test_a_stream_in_clear_may_go_on_inside_tls() -> None:
    plan = inside("inside.example")
    listeners = tuple(dataclasses.replace(one, tls=None) for one in plan.listeners)
    context = server_context(root().issue(names=["inside.example"]))
    seen, _, _ = visit(
        says_hello,
        serve=serving_tls(echoes, context),
        plan=dataclasses.replace(plan, listeners=listeners),
    )
    assert seen == b"hello"


def test_a_server_that_is_somebody_else_is_sent_nothing() -> None:
    ends: list[object] = []
    context = server_context(root().issue(names=["other.example"]))
    _, gate, _ = visit(
        inside_tls(says_hello, trusting(), WWW),
        serve=serving_tls(echoes, context, ends),
        plan=inside("inside.example"),
    )
    (end,) = gate.ends
    assert end.outcome == "refused"
    assert end.reason.startswith("server-certificate-wrong-host")
    assert all(isinstance(one, ssl.SSLError) for one in ends)


def test_a_server_that_says_nothing_has_a_deadline() -> None:
    async def silent(stream: PeerStream) -> None:
        try:
            await stream.receive_all()
        except OSError:
            return
        stream.close()

    _, gate, _ = visit(
        inside_tls(says_hello, trusting(), WWW), serve=silent, plan=inside("inside.example")
    )
    (end,) = gate.ends
    assert (end.outcome, end.error) == ("failed", "ETIMEDOUT")


def test_who_the_client_is_stands_in_front_of_the_servers_tls() -> None:
    lines: list[bytes] = []
    context = server_context(root().issue(names=["inside.example"]))

    async def serve(stream: PeerStream) -> None:
        lines.append(await stream.receive_until(b"\r\n"))
        await serving_tls(echoes, context)(stream)

    plan = inside("inside.example", send_proxy_protocol=SendProxyProtocol.V1)
    seen, _, _ = visit(inside_tls(says_hello, trusting(), WWW), serve=serve, plan=plan)
    assert seen == b"hello"
    assert [one.split(b" ")[:3] for one in lines] == [[b"PROXY", b"TCP4", b"10.1.1.1"]]


def test_http2_streams_reach_a_published_server_inside_tls() -> None:
    context = server_context(root().issue(names=["inside.example"]))
    origin = Origin()
    serve = origin.serve
    origin.serve = serving_tls(serve, context)  # type: ignore[method-assign]

    async def peer(stream: PeerStream) -> int:
        client = Http2Peer(TlsPeer(stream, trusting(protocols=["h2"]), name=WWW))
        await client.begin()
        number = await client.send(fields())
        while not (client.answers[number].is_whole or client.is_ended):
            await client.read()
        client.tls.close()
        return client.answers[number].status

    plan = inside("inside.example", is_http=True)
    found = browse(plan=plan, address=SERVER, peer=peer, origin=origin)
    assert found.answers == 200


# -- reloads ---------------------------------------------------------------------------------------


def test_a_reload_shows_new_certificates_and_leaves_open_connections_alone() -> None:
    shown: list[bytes] = []
    turns: list[str] = []

    async def looks(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream, trusting(), name=WWW)
        await tls.shake_hands()
        shown.append(tls.tls.getpeercert(binary_form=True) or b"")
        return await says_hello(tls)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)

        async def stays(stream: PeerStream) -> bytes:
            tls = TlsPeer(stream, trusting(), name=WWW)
            await tls.shake_hands()
            await tls.send_all(b"before ")
            echoed = await tls.receive_exactly(7)
            turns.append("before")
            while "after" not in turns:
                await gate.peers.sleep(0.05)
            await tls.send_all(b"after")
            tls.end_stream()
            return echoed + await tls.receive_all()

        long = gate.call(stays)
        await gate.until(lambda: turns)
        assert await gate.ended(gate.call(looks)) == [b"hello"]
        issued = authority("proxy").server(WWW)
        await gate.service.apply(
            published(own(certificate=issued.certificate_pem, key=issued.key_pem))
        )
        assert await gate.ended(gate.call(looks)) == [b"hello"]
        turns.append("after")
        assert await gate.ended(long) == [b"before after"]
        await gate.idle()

    play(scenario, published())
    assert shown[0] != shown[1]


def test_what_a_reload_does_not_change_keeps_its_tickets() -> None:
    context = trusting()
    sessions: list[ssl.SSLSession | None] = [None]
    reused: list[bool] = []

    async def talks(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream, context, sessions[-1], name=WWW)
        await tls.shake_hands()
        echoed = await says_hello(tls)
        sessions.append(tls.tls.session)
        reused.append(tls.tls.session_reused)
        return echoed

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        await gate.ended(gate.call(talks))
        await gate.service.apply(published(own([WWW], ["*.new.example"])))
        await gate.ended(gate.call(talks))
        await gate.service.apply(published(own([WWW], minimum=ssl.TLSVersion.TLSv1_3)))
        await gate.ended(gate.call(talks))
        await gate.idle()

    play(scenario, published())
    assert reused == [False, True, False]


def test_a_policy_that_comes_during_the_handshake_counts() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        turns: list[str] = []

        async def slow(stream: PeerStream) -> object:
            hello = TlsPeer(stream, trusting(), name=WWW)
            await hello.stream.send_all(b"")
            while not turns:
                await gate.peers.sleep(0.05)
            try:
                await hello.shake_hands()
                return await says_hello(hello)
            except OSError as error:
                return type(error).__name__

        client = gate.call(slow)
        await gate.until(lambda: gate.service.entries.handshake_count == 1)
        await gate.service.apply(published(clients=()))
        turns.append("on")
        await gate.ended(client)
        await gate.until(lambda: gate.service.entries.handshake_count == 0)

    gate = play(scenario, published())
    assert [(one.verdict, one.reason) for one in gate.decisions] == [
        ("denied", "client-not-listed")
    ]


@pytest.mark.parametrize("name", [WWW, "evil.example", None], ids=["good", "refused", "unnamed"])
@pytest.mark.parametrize("is_http", [False, True])
def test_ended_clients_leave_nothing_to_the_collector(name: str | None, is_http: bool) -> None:
    found: list[Garbage] = []
    origin = Origin(closes=True)

    async def peer(stream: PeerStream) -> object:
        talk = asks(get()) if is_http else says_hello
        try:
            return await inside_tls(talk, trusting(checks=name is not None), name)(stream)
        except OSError as error:
            return type(error).__name__

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve if is_http else echoes)
        await gate.ended(gate.call(peer))
        await gate.idle()
        with collecting() as garbage:
            await gate.ended(gate.call(peer))
            await gate.idle()
            await asyncio.sleep(10.0)
        found.append(garbage)

    play(scenario, published(is_http=is_http))
    # (The circle of a client's connection and its end is HTTP's own, and has the socket's face.)
    heavy = ("engine", "record_connection", "handshake", "published")
    assert [one for one in found[0].kinds if any(word in one for word in heavy)] == []
