"""Connections of one client whose TLS is opened share those to a server; nobody else does."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.identity import User, hash_password
from sluicegate.testing.peers import PeerStream
from tests.chains import root
from tests.flows.entry_kit import CHEAP, MODES, Ask, Names, proxy_settings
from tests.flows.entry_kit import asks as asks_for
from tests.flows.gate_kit import CLIENT, Gate
from tests.flows.http2_kit import Http2Peer, asks
from tests.flows.opening_kit import (
    NAME,
    SITE,
    Inside,
    Met,
    Opened,
    TlsOrigin,
    client_context,
    get,
    meets,
    open_tls,
    plan_of,
    requests,
    rule,
    unshared,
    untrusted,
)
from tests.flows.test_http2_opened import ask
from tests.flows.test_http2_servers import Http2Origin
from tests.flows.tls_kit import server_context, verifying
from tests.flows.web_kit import Message, reply

STRANGER = SocketAddress.parse("10.1.0.99:40000")


@dataclasses.dataclass
class Visit:
    """One client, after those before it have ended."""

    sends: Sequence[bytes] = (get("/next"),)
    source: SocketAddress | None = CLIENT
    context: ssl.SSLContext | None = None
    host: str = NAME
    name: str | None = NAME
    met: Met = dataclasses.field(default_factory=Met)


def visited(
    *visits: Visit,
    first: Sequence[bytes] = (get("/first"),),
    before: Callable[[Gate], Any] | None = None,
    mode: EntryMode = EntryMode.HTTP_CONNECT,
    **options: Any,
) -> Opened:
    """Let one client after the other in; ``before`` happens when the first has ended."""

    async def come_again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        if before is not None:
            await before(gate)
        for one in visits:
            peer = meets(
                requests(*one.sends), context=one.context, name=one.name, mode=mode, host=one.host, met=one.met
            )  # fmt: skip
            await gate.ended(gate.call(peer, source=one.source), within_s=60.0)

    return open_tls(*first, during=come_again, mode=mode, **options)


@pytest.mark.parametrize("mode", MODES)
def test_the_next_connection_of_a_client_needs_no_new_server(mode: EntryMode) -> None:
    visits = [Visit(), Visit(), Visit()]
    found = visited(*visits, mode=mode)
    assert [one.met.statuses for one in visits] == [[200]] * 3
    assert found.origin.connections == 1
    assert {one.met.serial for one in visits} == {found.met.serial}
    assert [one.tls_verification for one in found.gate.ends] == ["verified"] * 4
    assert [one.server for one in found.gate.ends] == [SITE.text] * 4
    assert {one.tls_issuer for one in found.gate.ends} == {found.gate.ends[0].tls_issuer}
    assert all(one.outcome == "released" for one in found.gate.ends)


def test_those_at_the_same_time_have_a_server_each_and_those_after_them_none_more() -> None:
    async def crowd(gate: Gate) -> None:
        calls = [gate.call(meets(requests(get("/a"), get("/b")), met=met)) for met in crowded]
        await gate.ended(*calls)
        for met in others:
            await gate.ended(gate.call(meets(requests(get("/c")), met=met)))

    crowded, others = [Met() for _ in range(5)], [Met() for _ in range(5)]
    found = open_tls(get("/"), during=crowd)
    assert [met.statuses for met in crowded] == [[200, 200]] * 5
    assert [met.statuses for met in others] == [[200]] * 5
    assert 1 <= found.origin.connections <= 6


def test_connections_of_http_2_share_one_connection_of_the_server() -> None:
    async def talk(inside: Inside, met: Met) -> None:
        assert met.alpn == "h2"
        client = Http2Peer(inside)
        await client.begin()
        statuses.extend(one.status for one in await asks(ask("/a"), ask("/b"))(client))

    async def come_again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        await gate.ended(gate.call(meets(talk, context=context, met=Met())))

    statuses: list[int] = []
    context = client_context("h2", "http/1.1")
    found = open_tls(talk=talk, origin=Http2Origin(), context=context, during=come_again)
    assert statuses == [200] * 4
    assert found.origin.connections == 1


# -- with whom nothing is shared -------------------------------------------------------------------


async def reload(gate: Gate) -> None:
    await gate.service.apply(plan_of(rule(more='comment = "another"')))


async def distrust(gate: Gate) -> None:
    await gate.service.apply(plan_of(rule(), (), root(), root("another authority")))


async def wait_long(gate: Gate) -> None:
    limit = gate.service.limits.web_servers_idle_s
    until = gate.clock.monotonic() + limit * 2
    await gate.until(lambda: gate.clock.monotonic() > until)


TWO_NAMES = rule(to='"site.example", "alias.example"')

# id, what the second client and the gate are like
APART: list[tuple[str, Visit, dict[str, Any]]] = [
    ("another client's address", Visit(source=STRANGER), {}),
    ("another protocol offered", Visit(context=client_context("h2", "http/1.1")), {}),
    ("no protocol offered", Visit(context=client_context()), {}),
    ("another name of the same server", Visit(host="alias.example", name="alias.example", sends=[get("/next", "alias.example")]), {"policy": TWO_NAMES, "origin": lambda: TlsOrigin(root().issue(names=[NAME, "alias.example"]))}),
    ("the address of the same server", Visit(host=SITE.host), {"policy": rule(to='"site.example", "93.184.216.34"')}),
    ("a policy in between", Visit(), {"before": reload}),
    ("other authorities in between", Visit(), {"before": distrust}),
    ("a server that nobody has asked for long", Visit(), {"before": wait_long}),
    ("by setting", Visit(), {"plan": unshared}),
    ("a connection that was logged in by", Visit(), {"first": [get("/first", NAME, "Authorization: NTLM abc")]}),
    ("a server that closes", Visit(), {"origin": lambda: TlsOrigin(answers=lambda _: reply(b"", "Connection: close"))}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("visit", "options"), [one[1:] for one in APART], ids=[one[0] for one in APART]
)
def test_a_server_is_met_anew_for(visit: Visit, options: dict[str, Any]) -> None:
    made = {key: value() if key in {"origin", "plan"} else value for key, value in options.items()}
    visit.met = Met()
    found = visited(visit, **made)
    assert (found.met.statuses, visit.met.statuses) == ([200], [200]), visit.met.error
    assert found.origin.connections == 2


def test_a_server_that_asks_for_a_certificate_is_shared_with_nobody() -> None:
    context = server_context(root().issue(names=[NAME]), protocols=("http/1.1",))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=root().pem)
    visit = Visit()
    ignores = rule('mode = "inspect", client_certificates = "ignore"')
    found = visited(visit, policy=ignores, origin=TlsOrigin(context=context))
    assert (found.met.statuses, visit.met.statuses) == ([200], [200])
    assert found.origin.connections == 2


@pytest.mark.parametrize(("names", "connections"), [("aa", 1), ("ab", 2), ("aba", 2)])
def test_users_at_the_same_address_share_nothing(names: str, connections: int) -> None:
    users = {
        name: User(name, hash_password(b"open sesame", CHEAP), ("staff",)) for name in set(names)
    }
    settings = proxy_settings(
        rule(), authenticate=Authenticate.REQUIRED, users=list(users.values())
    )
    mets = [Met() for _ in names]

    def peer(name: str, met: Met) -> Any:
        async def in_tunnel(stream: PeerStream) -> bytes:
            inside = Inside(stream, client_context("http/1.1"))
            await inside.shake_hands()
            await requests(get())(inside, met)
            inside.close()
            return b""

        return asks_for(Ask(EntryMode.HTTP_CONNECT, NAME, 443, name, "open sesame"), in_tunnel)

    async def come(gate: Gate) -> None:
        for name, met in zip(names, mets, strict=True):
            await gate.ended(gate.call(peer(name, met)), within_s=60.0)

    # (The first client of the kit has no password, and is turned away.)
    found = open_tls(during=come, plan=verifying(settings))
    assert [met.statuses for met in mets] == [[200]] * len(names)
    assert found.origin.connections == connections


def test_a_server_that_is_not_who_it_should_be_is_shared_with_nobody() -> None:
    visit = Visit()
    shown = 'mode = "inspect", unverified = "show"'
    origin = TlsOrigin(root("nobody").issue(names=[NAME]))
    context = client_context("http/1.1", knows=untrusted())
    visit.context = context
    found = visited(visit, policy=rule(shown), origin=origin, context=context)
    assert (found.met.statuses, visit.met.statuses) == ([200], [200])
    assert found.origin.connections == 2


# -- servers that have gone ------------------------------------------------------------------------


class Leaving(TlsOrigin):
    """Its connections can be ended, and it can refuse further ones."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[PeerStream] = []
        self.is_gone = False

    @override
    async def serve(self, stream: PeerStream) -> None:
        self.streams.append(stream)
        if self.is_gone:
            stream.reset()
        else:
            await super().serve(stream)


@pytest.mark.parametrize("is_gone", [False, True], ids=["comes back", "stays away"])
def test_a_server_that_goes_before_the_hello_is_dialled_for_the_request(is_gone: bool) -> None:
    origin, met, waiting = Leaving(), Met(), list[int]()

    async def come_again(gate: Gate) -> None:
        class LateHello(Inside):
            @override
            async def shake_hands(self) -> None:
                waiting.append(len(gate.service.web.pool))
                origin.streams[0].reset()
                origin.is_gone = is_gone
                await gate.peers.sleep(0.5)
                waiting.append(len(gate.service.web.pool))
                await super().shake_hands()

        await gate.until(lambda: bool(gate.ends))
        peer = meets(requests(get("/next")), made=LateHello, met=met)
        await gate.ended(gate.call(peer), within_s=60.0)

    found = open_tls(get("/first"), origin=origin, during=come_again)
    assert waiting == [1, 0]
    assert len(origin.streams) == 2, "it was dialled for the second client only when it asked"
    assert met.statuses == [502 if is_gone else 200]
    assert found.gate.ends[-1].outcome == "released"
    if is_gone:
        (page,) = met.answers
        assert b"server-tls-cut-off" in page.body
        assert found.gate.requests[-1].ended.startswith("server-tls-cut-off")


def test_a_server_that_is_somebody_else_when_it_comes_back_is_sent_nothing() -> None:
    origin, met = Leaving(), Met()

    async def come_again(gate: Gate) -> None:
        class LateHello(Inside):
            @override
            async def shake_hands(self) -> None:
                origin.streams[0].reset()
                origin.context = server_context(root("nobody").issue(names=[NAME]))
                await gate.peers.sleep(0.5)
                await super().shake_hands()

        await gate.until(lambda: bool(gate.ends))
        await gate.ended(gate.call(meets(requests(get("/next")), made=LateHello, met=met)))

    found = open_tls(get("/first"), origin=origin, during=come_again)
    assert met.statuses == [502]
    assert found.gate.requests[-1].ended.startswith("server-certificate-untrusted")
    assert origin.lines == ["GET /first HTTP/1.1"]


def test_a_request_whose_server_was_taken_by_another_gets_one_of_its_own() -> None:
    """Both were opened by the same connection that waited; one of them finds it in use."""
    mets = [Met(), Met()]

    async def come_again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        calls = [gate.call(meets(requests(get("/x"), get("/y")), met=met)) for met in mets]
        await gate.ended(*calls)

    found = open_tls(get("/first"), during=come_again)
    assert [met.statuses for met in mets] == [[200, 200]] * 2
    assert found.origin.connections <= 3


def test_what_one_address_is_let_to_is_not_enough_for_another() -> None:
    """The name leads elsewhere now: what waits at the old address is not for it."""
    names = Names()
    elsewhere = SocketAddress.parse("93.184.216.77:443")
    visit = Visit()

    async def move(gate: Gate) -> None:
        names.put(NAME, elsewhere.host)
        gate.service.entries.resolver.forget()
        gate.service.entries.known.forget()
        gate.serve(moved.serve, address=elsewhere)

    moved = TlsOrigin()
    found = visited(visit, before=move, names=names)
    assert visit.met.statuses == [200]
    assert (found.origin.connections, moved.connections) == (1, 1)


def answers_in_turn(request: Message) -> bytes:
    return reply(request.line.split(" ")[1].encode())


def test_each_gets_the_answer_to_its_own_request() -> None:
    visits = [Visit(sends=[get(f"/{number}"), get(f"/{number}b")]) for number in range(6)]
    found = visited(*visits, origin=TlsOrigin(answers=answers_in_turn))
    said = [[one.body.decode() for one in visit.met.answers] for visit in visits]
    assert said == [[f"/{number}", f"/{number}b"] for number in range(6)]
    assert found.origin.connections == 1
