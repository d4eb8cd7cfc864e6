"""Flood limits in every entry mode, on virtual time: who is refused, and what is recorded.

The groups are those of the hostile cases: N2 (many connections of one client), N3 (caps), N8
(floods of the log), N10 (floods of lookups).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord
from sluicegate.filterapi import ConnectRequested, EntryMode, Events, Pass
from sluicegate.gate.settings import ListenerSettings
from sluicegate.policy import FloodBounds, FloodException, FloodLimits
from sluicegate.protocols.proxy_protocol import encode_proxy_v1
from sluicegate.testing.peers import PeerStream
from tests.flows import entry_kit
from tests.flows import test_socks_associate as associate
from tests.flows.entry_kit import WEB, Ask, Names, asks, carried, carried_plan, proxy_settings
from tests.flows.gate_kit import (
    CLIENT,
    ENTRY,
    SERVER,
    Gate,
    echoes,
    installation,
    play,
    publication,
    settings,
    what_comes,
    with_flood,
)
from tests.flows.model_kit import Telling
from tests.flows.test_socks_bind import request as bind_request
from tests.flows.test_udp import LISTENER as UDP_LISTENER
from tests.flows.test_udp import World
from tests.flows.tls_kit import TlsPeer, with_tls

OTHER = SocketAddress.parse("10.1.1.2:0")
POLICY = """
[[rule]]
name = "web"
to = ["*"]
protocols = ["tcp:443", "bind", "udp:443"]
"""
PROXY = proxy_settings(POLICY)
PUBLISHED = settings(publication())

INSIDE_TLS = "-in-tls"
PROXY_WAYS = ("socks4", "socks4a", "socks5", "http-connect", "bind", "udp-associate")
TCP_WAYS = ("published", *PROXY_WAYS, *(way + INSIDE_TLS for way in PROXY_WAYS))
every_way = pytest.mark.parametrize("way", TCP_WAYS)


def plan_of(way: str) -> Any:
    if way == "published":
        return PUBLISHED
    return with_tls(PROXY) if way.endswith(INSIDE_TLS) else PROXY


def begins(way: str) -> Callable[[PeerStream], Any]:
    """Be a client that comes in some way, stays, and tells what it was sent: nothing if reset."""
    modes = {
        "socks4": Ask(EntryMode.SOCKS4, WEB.host),
        "socks4a": Ask(EntryMode.SOCKS4, "www.example"),
        "socks5": Ask(EntryMode.SOCKS5, "www.example"),
        "http-connect": Ask(EntryMode.HTTP_CONNECT, "www.example"),
    }
    first = {
        "published": b"hello",
        "bind": bind_request(EntryMode.SOCKS5),
        "udp-associate": b"\5\1\0\5\3\0\1" + bytes(6),
    }

    inner = way.removesuffix(INSIDE_TLS)

    async def peer(stream: PeerStream) -> bytes:
        try:
            if inner != way:
                stream = TlsPeer(stream)
                await stream.shake_hands()
            await stream.send_all(first[inner] if inner in first else modes[inner].wire())
        except OSError as error:
            return f"<{error.errno}>".encode()
        return await what_comes(stream)

    return peer


def run(way: str, scenario: Any, flood: FloodBounds | FloodLimits, **more: Any) -> Gate:
    names = Names().put("www.example", WEB.host)

    async def whole(gate: Gate) -> None:
        gate.serve(echoes)
        gate.serve(echoes, address=WEB)
        await scenario(gate)

    return play(whole, plan_of(way), exchange=names, flood=flood, **more)


def end_all(gate: Gate) -> None:
    """End every connection, and whoever has none yet."""
    service = gate.service
    for view in service.connections():
        service.kill(view.connection, "test")


def limits(gate: Gate) -> Counter[str]:
    found: Counter[str] = Counter()
    for record in gate.recorder.of(LimitRecord):
        found[record.limit] += record.count
    return found


@every_way
def test_n3_connections_of_one_client_at_once_are_bounded_in_every_way(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        first = [gate.call(begins(way)) for _ in range(3)]
        await gate.until(lambda: gate.service.denied == 1)
        other = gate.call(begins(way), source=OTHER)
        await asyncio.sleep(0.5)
        assert sum(task.is_done for task in first) == 1
        assert not other.is_done, "others are not to suffer for it"
        end_all(gate)
        await gate.ended(*first, other)
        again = gate.call(begins(way))
        await asyncio.sleep(0.5)
        assert not again.is_done, "what has ended does not count"
        end_all(gate)
        await gate.ended(again)

    gate = run(way, scenario, FloodBounds(connections_max=2))
    assert limits(gate) == {"connections_max": 1}
    assert gate.service.flood.view().reached == {"connections_max": 1}


@every_way
def test_n3_connect_requests_of_a_minute_are_bounded_in_every_way(way: str) -> None:
    async def visit(gate: Gate, source: SocketAddress = CLIENT) -> bytes:
        task = gate.call(begins(way), source=source)
        await asyncio.sleep(0.5)
        was_heard = not task.is_done
        end_all(gate)
        await gate.ended(task)
        return b"heard" if was_heard else b"reset"

    async def scenario(gate: Gate) -> None:
        assert [await visit(gate) for _ in range(5)] == [b"heard"] * 3 + [b"reset"] * 2
        assert await visit(gate, OTHER) == b"heard"
        await asyncio.sleep(121)
        assert await visit(gate) == b"heard"

    gate = run(way, scenario, FloodBounds(connects_per_minute=3))
    assert limits(gate) == {"connects_per_minute": 2}
    assert gate.service.flood.view().reached == {"connects_per_minute": 2}
    refused = [one for one in gate.decisions if one.verdict == "denied" and one.reason != "test"]
    assert not refused, "the limit record stands for them"


@pytest.mark.parametrize(
    "way",
    ["socks4", "socks5", "http-connect", "socks4-in-tls", "socks5-in-tls", "http-connect-in-tls"],
)
def test_n3_clients_that_say_nothing_are_half_open_until_they_have_a_server(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        silent = [gate.call(what_comes) for _ in range(3)]
        await gate.until(lambda: gate.service.denied == 1)
        assert gate.service.entries.handshake_count == 2
        await gate.ended(*silent)
        tunnels = [gate.call(begins(way)) for _ in range(2)]
        await gate.until(lambda: len(gate.service.connections()) == 2)
        await asyncio.sleep(0.5)
        more = gate.call(begins(way))
        await asyncio.sleep(0.5)
        assert not more.is_done, "those that have a server are not half-open"
        end_all(gate)
        await gate.ended(*tunnels, more)

    gate = run(way, scenario, FloodBounds(half_open_max=2))
    assert limits(gate) == {"half_open_max": 1}


def test_n3_published_connections_are_half_open_until_the_server_is_there() -> None:
    async def ponders() -> Pass:
        await asyncio.sleep(5)
        return Pass()

    telling = Telling(lambda event: ponders(), Events.of(ConnectRequested))
    plan = settings(publication("f"), filters=[installation(telling, "f")])

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        first = [gate.call(begins("published")) for _ in range(4)]
        await gate.until(lambda: gate.service.denied == 2)
        await asyncio.sleep(6)
        assert [view.state for view in gate.service.connections()] == ["open"] * 2
        later = gate.call(begins("published"))
        await asyncio.sleep(6)
        assert not later.is_done
        end_all(gate)
        await gate.ended(*first, later)

    gate = play(scenario, plan, flood=FloodBounds(half_open_max=2))
    assert limits(gate) == {"half_open_max": 2}


def test_n3_bind_that_waits_for_its_peer_is_half_open() -> None:
    async def scenario(gate: Gate) -> None:
        waiting = [gate.call(begins("bind")) for _ in range(3)]
        await gate.until(lambda: gate.service.denied == 1)
        end_all(gate)
        await gate.ended(*waiting)

    assert limits(run("bind", scenario, FloodBounds(half_open_max=2))) == {"half_open_max": 1}


def test_n2_ten_thousand_connections_of_one_client_leave_room_for_everybody_else() -> None:
    async def scenario(gate: Gate) -> None:
        flood = [gate.call(begins("published")) for _ in range(10_000)]
        await gate.until(lambda: gate.service.denied >= 10_000 - 160)
        assert gate.service.connection_count == 160
        other = gate.call(begins("published"), source=OTHER)
        await asyncio.sleep(0.5)
        assert not other.is_done
        end_all(gate)
        await gate.ended(*flood, other)

    gate = run("published", scenario, FloodBounds(connects_per_minute=10_000, half_open_max=160))
    assert limits(gate) == {"connections_max": 10_000 - 160}
    records = gate.recorder.of(LimitRecord)
    assert len(records) <= 2, "a flood does not become a flood of records"


def test_client_that_a_peer_announces_is_the_one_that_is_counted() -> None:
    peers = (ipaddress.ip_network("10.7.7.7/32"),)
    plan = settings(publication(), listeners=[ListenerSettings("web", ENTRY, peers)])

    def announces(host: str) -> Any:
        async def peer(stream: PeerStream) -> bytes:
            client = SocketAddress(host, 4000)
            await stream.send_all(encode_proxy_v1(client, SERVER) + b"hello")
            return await what_comes(stream)

        return peer

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        source = SocketAddress.parse("10.7.7.7:0")
        hosts = ["10.1.1.1", "10.1.1.1", "10.1.1.2", "10.1.1.3"]
        calls = [gate.call(announces(host), source=source) for host in hosts]
        await asyncio.sleep(1)
        assert [task.is_done for task in calls].count(True) == 1
        assert gate.service.connection_count == 3
        end_all(gate)
        await gate.ended(*calls)

    gate = play(scenario, plan, flood=FloodBounds(connections_max=1))
    (record,) = gate.recorder.of(LimitRecord)
    assert record.client.startswith("10.1.1.1:")


def test_first_exception_decides_and_a_reload_changes_it_for_whoever_is_there() -> None:
    networks = (ipaddress.ip_network(f"{CLIENT.host}/32"),)
    few = FloodBounds(connections_max=1)
    wide = FloodLimits(bounds=few, exceptions=(FloodException(networks, FloodBounds()),))

    async def scenario(gate: Gate) -> None:
        calls = [gate.call(begins("published")) for _ in range(5)]
        others = [gate.call(begins("published"), source=OTHER) for _ in range(2)]
        await gate.until(lambda: gate.service.denied == 1)
        assert gate.service.connection_count == 6
        await gate.service.apply(with_flood(PUBLISHED, few))
        late = gate.call(begins("published"))
        await gate.until(lambda: gate.service.denied == 2)
        await gate.service.apply(with_flood(PUBLISHED, FloodLimits(enabled=False)))
        calls += [gate.call(begins("published")) for _ in range(200)]
        await gate.until(lambda: gate.service.connection_count == 206)
        end_all(gate)
        await gate.ended(*calls, *others, late)

    gate = run("published", scenario, wide)
    assert limits(gate) == {"connections_max": 2}


# -- datagrams -------------------------------------------------------------------------------------

UDP = settings(publication(), listeners=(UDP_LISTENER,))


async def quiet(gate: Gate) -> None:
    while gate.service.connection_count:
        await asyncio.sleep(0.5)


def test_n3_new_udp_connections_under_one_rule_are_bounded_for_all_clients_together() -> None:
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        clients = [world.client(f"10.1.1.{number}") for number in range(1, 8)]
        for client in clients:
            client.send(b"q")
        await asyncio.sleep(1)
        assert sum(bool(client.got) for client in clients) == 5
        clients[0].send(b"more of what is known")
        assert await clients[0].answered(2)
        await asyncio.sleep(121)
        world.client("10.1.1.9").send(b"q")
        await gate.until(lambda: len(world.got) == 7)
        await quiet(gate)

    gate = play(scenario, UDP, flood=FloodLimits(rule_udp_sessions_per_minute=5))
    assert limits(gate) == {"rule_udp_sessions_per_minute": 2}
    assert [one.verdict for one in gate.decisions] == ["allowed"] * 6


def test_n8_refused_datagrams_of_one_client_are_counted_and_not_recorded_one_by_one() -> None:
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        for port in range(10_000, 10_500):
            world.client("192.0.2.7", port).send(b"let me in")
        await gate.until(lambda: gate.service.denied == 500)
        await asyncio.sleep(11)

    gate = play(scenario, UDP, flood=FloodBounds(denied_per_minute=20))
    assert [one.reason for one in gate.decisions] == ["client-not-listed"] * 20
    assert limits(gate) == {"denied_per_minute": 480}
    records = gate.recorder.of(LimitRecord)
    assert (records[0].bound, records[0].count) == (20, 1)
    assert len(records) == 2


def test_n8_refused_datagrams_of_forged_addresses_do_not_flood_the_log() -> None:
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        for number in range(400):
            world.client(f"192.0.{2 + number // 200}.{number % 200 + 1}").send(b"let me in")
        await gate.until(lambda: gate.service.denied == 400)
        await asyncio.sleep(11)

    gate = play(scenario, UDP, flood=FloodLimits(rule_udp_sessions_per_minute=30))
    assert len(gate.decisions) == 30
    assert limits(gate) == {"denied_per_minute": 370}


@pytest.mark.parametrize(
    "way",
    ["published", "socks4a", "socks5", "http-connect", "socks5-in-tls", "http-connect-in-tls"],
)
def test_n8_refusals_of_one_client_are_recorded_up_to_the_bound_and_again_when_it_is_calm(
    way: str,
) -> None:
    plan = proxy_settings('[[rule]]\nname = "none"\nto = ["other.example"]\n')
    if way == "published":
        plan = settings(publication(clients=["192.0.2.0/24"]))
    elif way.endswith(INSIDE_TLS):
        plan = with_tls(plan)

    async def scenario(gate: Gate) -> None:
        await gate.ended(*[gate.call(begins(way)) for _ in range(50)])
        await asyncio.sleep(125)
        await gate.ended(gate.call(begins(way)))

    gate = play(scenario, plan, exchange=Names(), flood=FloodBounds(denied_per_minute=10))
    assert len(gate.decisions) == 11
    assert limits(gate) == {"denied_per_minute": 40}
    assert gate.service.denied == 51


# -- lookups ---------------------------------------------------------------------------------------


@pytest.fixture
def in_every_carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients ask in clear, or inside TLS."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


every_carriage = pytest.mark.parametrize("in_every_carriage", entry_kit.CARRIAGES, indirect=True)


@every_carriage
@pytest.mark.parametrize("mode", [EntryMode.SOCKS4, EntryMode.SOCKS5, EntryMode.HTTP_CONNECT])
def test_n10_names_that_one_client_has_looked_up_are_bounded(
    mode: EntryMode, in_every_carriage: None
) -> None:
    names = Names()

    async def scenario(gate: Gate) -> None:
        calls = [gate.call(carried(asks(Ask(mode, f"n{number}.example")))) for number in range(300)]
        await gate.ended(*calls)

    gate = play(
        scenario, carried_plan(PROXY), exchange=names, flood=FloodBounds(connects_per_minute=25)
    )
    assert len(names.asked) == 25
    assert limits(gate)["connects_per_minute"] == 275


@every_carriage
def test_n10_names_in_datagrams_are_bounded_as_connect_requests_are(
    in_every_carriage: None,
) -> None:
    names = Names()

    async def scenario(gate: Gate) -> None:
        client = associate.Client(gate)
        await client.associate()
        for number in range(300):
            client.send(associate.frame((f"n{number}.example", 443), b"q"))
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        client.leave()
        await gate.idle()

    gate = play(
        scenario, carried_plan(PROXY), exchange=names, flood=FloodBounds(connects_per_minute=25)
    )
    assert len(names.asked) == 24, "the association itself was the first"
    assert limits(gate)["connects_per_minute"] == 276
    (end,) = gate.ends
    assert sum(end.dropped.values()) == 300


@every_carriage
def test_n10_lookups_of_one_client_on_their_way_are_bounded_whatever_its_rate(
    in_every_carriage: None,
) -> None:
    class Silent(Names):
        async def ask_udp(self, server: Any, query: Any) -> bytes:
            self.asked[query.question.name] += 1
            await asyncio.sleep(600)
            raise TimeoutError

    names = Silent()

    async def scenario(gate: Gate) -> None:
        calls = [
            gate.call(carried(asks(Ask(EntryMode.SOCKS5, f"n{number}.example"))))
            for number in range(60)
        ]
        await gate.until(lambda: sum(task.is_done for task in calls) >= 50)
        assert len(names.asked) == 10
        await gate.ended(*calls)

    gate = play(scenario, carried_plan(PROXY), exchange=names, lookups_per_client_max=10)
    assert limits(gate)["lookups_per_client_max"] == 50
