"""An error of ours, in any function of the gate, ends whatever it was raised in, and at once.

Each flow is run once as it is, which tells what is called; then once for each completion among
that, which raises.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.hello_reading import HelloReading
from sluicegate.gate.udp_connection import UdpConnection
from sluicegate.gate.web.gate_exchange import GateExchange
from sluicegate.protocols.websocket import Message
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.signed_leaves import SignedLeaves
from tests.flows import http2_kit, opening_kit, web_kit
from tests.flows.chain_filters import Callbacks, Passing
from tests.flows.entry_kit import Ask, asks, proxy_settings, says_hello
from tests.flows.gate_kit import SERVER, Gate, echoes, installation, publication, sends, settings
from tests.flows.opening_kit import RealClock
from tests.flows.published_tls_kit import WWW, published, trusting
from tests.flows.test_clear_tunnels import RULE, Heads
from tests.flows.test_clear_tunnels import get as get_inside
from tests.flows.test_http2_servers import Http2Origin
from tests.flows.test_udp import World, play_udp
from tests.flows.test_web_held import RULES as HELD
from tests.flows.test_web_held import Judge as HoldingJudge
from tests.flows.test_web_server_tls import RULES as SECURE
from tests.flows.test_web_server_tls import get as get_secure
from tests.flows.tls_kit import inside_tls, verifying
from tests.flows.web_kit import SITE, Origin, read_message, reply
from tests.flows.websocket_kit import End, Judge, echo, handshake, says, switched
from tests.simulation.raising import Breaker, Flow, Met, meet

CONNECT = EntryMode.HTTP_CONNECT
NAMES = {"site.example": [SITE.host]}


def serving(peer: Any, address: Any = SITE) -> Callable[[Gate], object]:
    return lambda gate: gate.serve(peer, address=address)


def opened() -> Flow:
    met = opening_kit.Met()

    def serve(gate: Gate) -> None:
        keys = LeafKeys(has_rsa=False)
        gate.service.leaves = SignedLeaves(opening_kit.minter(), keys, RealClock())
        gate.serve(opening_kit.TlsOrigin().serve, address=opening_kit.SITE)

    talk = opening_kit.requests(opening_kit.get())
    plan = opening_kit.plan_of(opening_kit.rule())
    return Flow(
        plan,
        lambda: opening_kit.meets(talk, met=met),
        serve,
        {name: [found] for name, found in opening_kit.NAMES.items()},
    )


def in_the_clear() -> Flow:
    async def inside(stream: Any) -> bytes:
        await stream.send_all(get_inside("/a"))
        answer = await read_message(stream, is_response=True)
        return b"" if answer is None else answer.head

    heads = installation(Heads(), "f0")
    plan = proxy_settings(RULE.format(names='["f0"]', more=""), filters=[heads])
    return Flow(
        plan, lambda: asks(Ask(CONNECT, "site.example", 80), inside), serving(Origin().serve), NAMES
    )


def tunnelled(mode: EntryMode) -> Flow:
    plan = proxy_settings()
    return Flow(
        plan,
        lambda: asks(Ask(mode, "site.example", 443), says_hello),
        serving(echoes, SITE.with_port(443)),
        NAMES,
    )


def websocket() -> Flow:
    async def talk(stream: Any) -> Any:
        await stream.send_all(handshake())
        head = await stream.receive_until(b"\r\n\r\n")
        said = None
        if b" 101 " in head:
            said = await says(Message("hi"))(End(stream, is_client=True, deflate=None))
        stream.close()
        return said

    async def server(stream: Any) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send_all(switched())
        await echo(End(stream, is_client=False, deflate=None))
        stream.close()

    policy = web_kit.RULES + 'upgrades = ["websocket"]\nfilters = ["judge"]\n'
    plan = web_kit.web_settings(policy, filters=[installation(Judge(), "judge")])
    return Flow(plan, lambda: talk, serving(server), NAMES)


def held() -> Flow:
    judge = installation(HoldingJudge(), "judge")
    plan = web_kit.web_settings(HELD.format(more=""), filters=[judge])
    origin = Origin(lambda _request: reply(b"text " * 4000))
    asked = web_kit.get("/a.txt"), web_kit.get("/b.txt")
    return Flow(plan, lambda: web_kit.asks(*asked), serving(origin.serve), NAMES, spools=True)


def through_filters() -> Flow:
    chain = [installation(Passing, "f0"), installation(Callbacks, "f1")]
    plan = settings(publication("f0", "f1"), filters=chain)
    return Flow(plan, lambda: sends(b"hello"), serving(echoes, SERVER))


def server_of_http2() -> Flow:
    plan = verifying(web_kit.web_settings(SECURE))
    asked = get_secure("/a"), get_secure("/b")
    return Flow(
        plan,
        lambda: web_kit.asks(*asked),
        serving(Http2Origin().serve, SITE.with_port(443)),
        NAMES,
    )


FLOWS: dict[str, Callable[[], Flow]] = {
    "a published server": lambda: Flow(
        settings(publication()), lambda: sends(b"hello"), serving(echoes, SERVER)
    ),
    "a tunnel by CONNECT": lambda: tunnelled(CONNECT),
    "a tunnel by SOCKS": lambda: tunnelled(EntryMode.SOCKS5),
    "a tunnel that is read": in_the_clear,
    "TLS that is opened": opened,
    "a published server inside TLS": lambda: Flow(
        published(), lambda: inside_tls(says_hello, trusting(), WWW), serving(echoes, SERVER)
    ),
    "a web proxy": lambda: Flow(
        web_kit.web_settings(),
        lambda: web_kit.asks(web_kit.get(), web_kit.get("/b")),
        serving(Origin().serve),
        NAMES,
    ),
    "a WebSocket that is read": websocket,
    "downloads that are held": held,
    "filters of bytes": through_filters,
    "a server of HTTP/2": server_of_http2,
    "a web proxy over HTTP/2": lambda: Flow(
        http2_kit.http2_settings(),
        lambda: http2_kit.speaks_http2(http2_kit.asks(http2_kit.ask(), http2_kit.ask("/b"))),
        serving(Origin().serve),
        NAMES,
    ),
}


EXEMPT = {
    # what keeps accounts: if that itself is broken, nobody can
    "FloodGuard.end_half_open",
    "StreamConnection.end_half_open",
    "FirewallService.add_connection",
    "FirewallService.drop_connection",
    "WebDesk.record",
    "TlsEngine.take_back",
    # what is the last to have a socket
    "ClientEnd.on_wire_closed",
    "GateConnection.join",
    "OriginEnd.on_wire_closed",
    "OriginPool.on_closed",
    "StreamConnection._finish",
    "WebConnection.on_wire_closed",
    "Wire._join",
    # what runs coroutines
    "TransferService.spawn",
    # nothing is known of the client yet
    "EntryListener.take_client",
}


def complaint(flow: Callable[[], Flow], place: CodeType, calm: Met) -> str:
    """Say what is wrong with how an error in one place ends; empty: nothing."""
    breaker = Breaker(place)
    try:
        met = meet(flow(), breaker)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{last.line}: {type(error).__name__} {str(error)[:200]}"
    if not breaker.has_raised:
        return ""
    return objection(met, calm)


def objection(met: Met, calm: Met) -> str:
    counted = met.gate.port.statistics().unhandled_errors
    reasons = {one.reason for one in (*met.gate.ends, *met.gate.decisions)}
    reasons |= {one.ended for one in met.gate.requests}
    # (What fails below a connection, TLS or a dial, fails to it as a socket does.)
    is_said = any("internal error: Broken" in one or one.endswith("EIO") for one in reasons)
    is_served = met.result == calm.result  # the error came behind everything that it was about
    return "" if counted and (is_said or is_served) else f"{counted} counted; {sorted(reasons)}"


@pytest.mark.parametrize("name", FLOWS)
def test_an_error_of_ours_ends_its_client_at_once_and_is_on_record(name: str) -> None:
    flow, watched = FLOWS[name], Breaker()
    calm = meet(flow(), watched)
    assert not calm.errors
    found = {
        f"{one.co_qualname} ({one.co_filename.rpartition('/')[2]}:{one.co_firstlineno})": complaint(
            flow, one, calm
        )
        for one in watched.called
        if one.co_qualname not in EXEMPT
    }
    complaints = [f"{place}: {why}" for place, why in found.items() if why]
    assert complaints == [], "\n".join(complaints)


def test_a_hello_that_we_fail_to_read_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(HelloReading, "_judge", fail)
    met = meet(opened(), Breaker())
    assert [type(one) for one in met.errors] == [KeyError]
    (end,) = met.gate.ends
    assert (end.outcome, end.reason) == ("failed", "internal error: KeyError")
    assert met.took_s < 1


def test_only_what_was_in_hand_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, asked = GateExchange.on_admitted, []

    def fail_for_one(exchange: GateExchange) -> None:
        asked.append(exchange.path)
        if exchange.path == "/bad":
            raise KeyError("ours")
        begin(exchange)

    monkeypatch.setattr(GateExchange, "on_admitted", fail_for_one)
    good: list[Any] = []

    def serve(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)
        good.append(gate.call(web_kit.asks(web_kit.get("/good"), web_kit.get("/later"))))

    flow = Flow(
        web_kit.web_settings(), lambda: web_kit.asks(web_kit.get("/bad")), serve, dict(NAMES)
    )
    met = meet(flow, Breaker())
    assert [one.status for one in good[0].result()] == [200, 200]
    assert sorted(asked) == ["/bad", "/good", "/later"]
    (bad,) = [one for one in met.gate.requests if one.url.endswith("/bad")]
    assert (bad.outcome, bad.ended) == ("failed", "internal error: KeyError")


def test_a_datagram_that_we_fail_to_pass_ends_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = UdpConnection.on_client_datagram

    def fail_for_one(connection: UdpConnection, data: bytes) -> None:
        if data == b"bad":
            raise KeyError("ours")
        take(connection, data)

    monkeypatch.setattr(UdpConnection, "on_client_datagram", fail_for_one)

    async def scenario(gate: Gate) -> None:
        world = World(gate)
        one, two = world.client("10.1.1.1"), world.client("10.1.1.2")
        one.send(b"bad")
        await gate.until(lambda: gate.ends)
        two.send(b"good")
        assert await two.answered(1) == [b"re:good"]
        await gate.idle_udp()

    gate = play_udp(scenario, errors=1)
    ended = {one.client.partition(":")[0]: (one.outcome, one.reason) for one in gate.ends}
    assert ended["10.1.1.1"] == ("failed", "internal error: KeyError")
    assert ended["10.1.1.2"] == ("released", "idle")
