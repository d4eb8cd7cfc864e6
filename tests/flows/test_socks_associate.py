"""SOCKS UDP ASSOCIATE on the simulated network: who sends, where to, what comes back, its end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord
from sluicegate.filterapi import (
    DROP,
    FORWARD,
    ConnectionTerminating,
    DatagramFilter,
    Deny,
    Events,
    NameLookup,
    Pass,
    Rewrite,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.gate.settings import ListenerSettings
from sluicegate.policy import FloodBounds
from sluicegate.protocols.socks_udp import decode_socks_datagram, encode_socks_udp_header
from sluicegate.testing import FaultPlan
from sluicegate.testing.datagrams import inject
from sluicegate.testing.peers import PeerStream
from tests.flows import entry_kit
from tests.flows.entry_kit import Names, carried, carried_plan, proxy_settings
from tests.flows.gate_kit import CLIENT, ENTRY, Gate, installation, play
from tests.flows.model_kit import Telling

RULES = """
[[rule]]
name = "dns"
to = ["*"]
protocols = ["udp:53"]
"""
DENIED = """
[[rule]]
name = "bad"
action = "deny"
to = ["93.184.216.35"]
protocols = ["udp"]
"""
ONE = SocketAddress.parse("93.184.216.34:53")
TWO = SocketAddress.parse("93.184.216.35:53")
SIX = SocketAddress.parse("[2606:2800:220:1::34]:53")
HERE = SocketAddress.parse(f"{CLIENT.host}:4000")


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client ask in clear, and inside TLS; datagrams and peers come as they are."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


def frame(to: SocketAddress | tuple[str, int], data: bytes) -> bytes:
    """Put the header of a client in front of a datagram."""
    if isinstance(to, SocketAddress):
        return encode_socks_udp_header(to) + data
    name, port = to
    return b"\0\0\0\3" + bytes([len(name)]) + name.encode() + port.to_bytes(2, "big") + data


class Client:
    """A client with an association, and the datagrams that came back to it."""

    def __init__(self, gate: Gate, address: SocketAddress = HERE) -> None:
        self.gate = gate
        self.end = gate.peers.bind_datagrams(address)
        self.address = address
        self.code = -1
        self.relay = ENTRY
        self.control: PeerStream | None = None
        self.is_over = False
        self.raw: list[tuple[bytes, SocketAddress]] = []
        gate.peers.spawn("client", self._listen())

    async def _listen(self) -> None:
        while True:
            self.raw.append(await self.end.receive())

    @property
    def got(self) -> list[tuple[bytes, str]]:
        found: list[tuple[bytes, str]] = []
        for data, _ in self.raw:
            head = decode_socks_datagram(data)
            address = head.destination.address
            assert address is not None
            found.append((data[head.payload_at :], f"{address}:{head.destination.port}"))
        return found

    async def associate(self, announced: SocketAddress | None = None) -> int:
        """Ask for an association; return the reply's code."""
        told = announced or SocketAddress("0.0.0.0", 0)
        packed = ipaddress.IPv4Address(told.host).packed + told.port.to_bytes(2, "big")

        async def talk(stream: PeerStream) -> None:
            self.control = stream
            await stream.send_all(b"\5\1\0" + b"\5\3\0\1" + packed)
            assert await stream.receive_exactly(2) == b"\5\0"
            reply = await stream.receive_exactly(10)
            host = str(ipaddress.IPv4Address(reply[4:8]))
            self.relay = SocketAddress(host, int.from_bytes(reply[8:10], "big"))
            self.code = reply[1]
            with contextlib.suppress(OSError):
                await stream.receive_all()
            self.is_over = True
            stream.close()

        source = SocketAddress(self.address.host, 0)
        self.gate.call(carried(talk), source=source)
        await self.gate.until(lambda: self.code >= 0)
        return self.code

    def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.end.send(data, self.relay)

    def leave(self) -> None:
        assert self.control is not None
        self.control.end_stream()

    async def answered(self, count: int) -> list[tuple[bytes, str]]:
        await self.gate.until(lambda: len(self.raw) >= count)
        return self.got


class Server:
    """Answers every datagram, and keeps them."""

    def __init__(self, gate: Gate, address: SocketAddress) -> None:
        self.end = gate.peers.bind_datagrams(address)
        self.got: list[tuple[bytes, SocketAddress]] = []
        gate.peers.spawn(f"server {address}", self._serve())

    async def _serve(self) -> None:
        while True:
            data, sender = await self.end.receive()
            self.got.append((data, sender))
            self.end.send(b"re:" + data, sender)


def run(
    scenario: Callable[[Gate], Coroutine[Any, Any, None]],
    policy: str = RULES,
    *,
    names: Names | None = None,
    filters: dict[str, Any] | None = None,
    **limits: Any,
) -> Gate:
    installed = [installation(one, name) for name, one in (filters or {}).items()]
    plan = carried_plan(proxy_settings(policy, filters=installed))
    return play(scenario, plan, exchange=names or Names(), **limits)


async def moment() -> None:
    """Let everything that is on its way arrive."""
    await asyncio.sleep(1.0)


def of_rules(gate: Gate) -> list[Any]:
    """The records of connections under a rule, and not of associations."""
    return [record for record in gate.ends if record.primary]


def of_association(gate: Gate) -> Any:
    (record,) = [record for record in gate.ends if not record.primary]
    return record


def test_datagrams_go_to_several_peers_and_come_back_under_their_addresses():
    async def scenario(gate: Gate) -> None:
        servers = [Server(gate, address) for address in (ONE, TWO, SIX)]
        client = Client(gate)
        assert await client.associate() == 0
        assert client.relay.host == ENTRY.host
        client.send(*(frame(one, b"q") for one in (ONE, TWO, SIX)), frame(ONE, b""))
        answers = await client.answered(4)
        assert sorted(answers) == sorted(
            [
                (b"re:q", str(ONE)),
                (b"re:q", str(TWO)),
                (b"re:q", f"{SIX.host}:53"),
                (b"re:", str(ONE)),
            ]
        )
        assert {who for _, who in client.raw} == {client.relay}
        assert [len(server.got) for server in servers] == [2, 1, 1]
        views = gate.service.connections()
        assert [(one.transport, bool(one.primary)) for one in views] == [
            ("udp", True),
            ("udp", False),
        ]
        client.leave()
        await gate.idle()
        assert client.is_over

    gate = run(scenario)

    (end,), association = of_rules(gate), of_association(gate)
    assert (end.rule, end.entry, end.transport, end.peers) == ("dns", "socks5", "udp", 3)
    assert (end.datagrams_to_server, end.datagrams_to_client) == (4, 4)
    assert (end.primary, end.reason) == (association.connection, "control connection closed")
    assert (association.outcome, association.dropped) == ("released", {})
    assert [(r.verdict, r.target) for r in gate.decisions] == [
        ("allowed", "udp-associate"),
        ("allowed", str(ONE)),
    ]


def test_association_needs_a_rule_that_allows_the_client_datagrams():
    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        assert await client.associate() == 2
        await gate.idle()

    gate = run(scenario, RULES.replace('"udp:53"', '"tcp:53"'))
    assert [(r.verdict, r.reason) for r in gate.decisions] == [("denied", "no-rule")]


def test_refused_destinations_are_dropped_counted_and_recorded_once_each():
    policy = DENIED + RULES

    async def scenario(gate: Gate) -> None:
        two, private = Server(gate, TWO), Server(gate, SocketAddress.parse("10.9.9.9:53"))
        other = Server(gate, ONE.with_port(54))
        own = Server(gate, SocketAddress.parse("127.0.0.1:80"))
        client = Client(gate)
        await client.associate()
        for _ in range(3):
            client.send(
                frame(TWO, b"x"),
                frame(SocketAddress.parse("10.9.9.9:53"), b"x"),
                frame(ONE.with_port(54), b"x"),
                frame(SocketAddress.parse("127.0.0.1:80"), b"x"),
                frame(("bad..name", 53), b"x"),
            )
        await moment()
        assert [two.got, private.got, other.got, own.got, client.raw] == [[]] * 5
        client.leave()
        await gate.idle()

    gate = run(scenario, policy)

    assert of_association(gate).dropped == {"denied": 15}
    assert of_rules(gate) == []
    denied = [r for r in gate.decisions if r.verdict == "denied"]
    assert len(denied) == 5
    assert {(r.transport, r.entry) for r in denied} == {("udp", "socks5")}
    assert "denied-by-rule" in {r.reason for r in denied}


def test_records_of_refused_destinations_are_bounded():
    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        await client.associate()
        for port in range(1000, 1200):
            client.send(frame(ONE.with_port(port), b"x"))
        await moment()
        client.leave()
        await gate.idle()

    gate = run(scenario, udp_peers_max=64)
    assert of_association(gate).dropped == {"denied": 200}
    assert len([r for r in gate.decisions if r.verdict == "denied"]) == 64


def test_listeners_of_the_gate_itself_are_not_reached_by_datagrams():
    policy = '[[rule]]\nname = "all"\nto = ["10.0.0.1"]\nprotocols = ["udp"]\n'
    published = ListenerSettings("dns", SocketAddress.parse("10.0.0.1:53"), is_udp=True)

    async def scenario(gate: Gate) -> None:
        near = Server(gate, SocketAddress.parse("10.0.0.1:5353"))
        client = Client(gate)
        await client.associate()
        client.send(*(frame(SocketAddress("10.0.0.1", port), b"x") for port in (53, 80, 5353)))
        await moment()
        assert [data for data, _ in near.got] == [b"x"], "the rule names the address itself"
        client.leave()
        await gate.idle()

    plan = carried_plan(proxy_settings(policy))
    plan = dataclasses.replace(plan, listeners=(*plan.listeners, published))
    gate = play(scenario, plan, exchange=Names())
    reasons = [r.reason for r in gate.decisions if r.verdict == "denied"]
    assert len(reasons) == 2
    assert all("listener of the gate itself" in reason for reason in reasons)


def test_nobody_but_one_port_of_the_client_sends_through_it():
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        stranger = gate.peers.bind_datagrams(SocketAddress.parse("10.1.1.2:4000"))
        stranger.send(frame(ONE, b"stranger first"), client.relay)
        await moment()
        client.send(frame(ONE, b"mine"))
        await client.answered(1)
        second = gate.peers.bind_datagrams(SocketAddress(CLIENT.host, 4001))
        second.send(frame(ONE, b"second port"), client.relay)
        stranger.send(frame(ONE, b"stranger"), client.relay)
        await moment()
        assert [data for data, _ in server.got] == [b"mine"]
        assert len(client.raw) == 1
        client.leave()
        await gate.idle()

    assert of_association(run(scenario)).dropped == {"stranger": 3}


def test_announced_port_is_the_only_one_and_an_announced_address_changes_nothing():
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        await client.associate(SocketAddress("10.7.7.7", HERE.port))
        other = gate.peers.bind_datagrams(SocketAddress(CLIENT.host, 4001))
        other.send(frame(ONE, b"other port"), client.relay)
        elsewhere = gate.peers.bind_datagrams(SocketAddress("10.7.7.7", HERE.port))
        elsewhere.send(frame(ONE, b"announced"), client.relay)
        await moment()
        client.send(frame(ONE, b"mine"))
        await client.answered(1)
        assert [data for data, _ in server.got] == [b"mine"]
        client.leave()
        await gate.idle()

    assert of_association(run(scenario)).dropped == {"stranger": 2}


def test_answers_of_others_than_those_sent_to_are_not_delivered():
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"q"))
        await client.answered(1)
        ((_, towards),) = server.got
        for forged in (TWO, ONE.with_port(54)):
            inject(gate.network, b"forged", forged, towards)
        await moment()
        assert client.got == [(b"re:q", str(ONE))]
        client.leave()
        await gate.idle()

    (end,) = of_rules(run(scenario))
    assert end.dropped == {"unsolicited": 2}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\1" + frame(ONE, b"x")[3:], "fragment"),
        (b"\0\0\x81" + frame(ONE, b"x")[3:], "fragment"),
        (b"\0\1\0" + frame(ONE, b"x")[3:], "malformed"),
        (b"\0\0\0\1\1\2", "malformed"),
        (b"", "malformed"),
        (b"\0\0\0\7abcdefgh", "malformed"),
        (frame(SocketAddress("93.184.216.34", 0), b"x"), "malformed"),
    ],
)
def test_fragments_and_malformed_datagrams_are_dropped_and_it_goes_on(data, reason):
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        client.send(data, frame(ONE, b"good"))
        await client.answered(1)
        assert [one for one, _ in server.got] == [b"good"]
        client.leave()
        await gate.idle()

    assert of_association(run(scenario)).dropped == {reason: 1}


def test_names_are_resolved_by_the_gate_and_a_slow_one_delays_no_other():
    names = Names(good_test=[ONE.host], hidden_test=["10.9.9.9"])
    names.fail = lambda name: "silent" if name == "slow.test" else None

    async def scenario(gate: Gate) -> None:
        server, private = Server(gate, ONE), Server(gate, SocketAddress.parse("10.9.9.9:53"))
        client = Client(gate)
        await client.associate()
        client.send(
            frame(("slow.test", 53), b"slow"),
            frame(("good.test", 53), b"a"),
            frame(("GOOD.test", 53), b"b"),
            frame(("hidden.test", 53), b"rebound"),
            frame(("nobody.test", 53), b"none"),
            frame(("good.test", 54), b"other port"),
        )
        assert sorted(await client.answered(2)) == [(b"re:a", str(ONE)), (b"re:b", str(ONE))]
        await asyncio.sleep(60)
        assert [len(server.got), private.got] == [2, []]
        client.leave()
        await gate.idle()

    gate = run(scenario, names=names)
    assert of_association(gate).dropped == {"denied": 2, "unresolved": 2}
    assert names.asked["hidden.test"] > 0


def test_name_that_no_rule_allows_causes_no_query():
    names = Names(other_test=[ONE.host])

    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        await client.associate()
        client.send(frame(("other.test", 53), b"q"))
        await moment()
        client.leave()
        await gate.idle()

    run(scenario, RULES.replace('"*"', '"good.test"'), names=names)
    assert not names.asked


def test_datagrams_that_wait_for_lookups_are_bounded():
    names = Names()
    names.fail = lambda _: "silent"

    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        await client.associate()
        for index in range(5):
            client.send(frame(("slow.test", 53), b"%d" % index), frame((f"n{index}.test", 53), b""))
        await moment()
        client.leave()
        await gate.idle()

    gate = run(scenario, names=names, udp_awaiting_max=4)
    assert of_association(gate).dropped == {"awaiting": 6, "unresolved": 4}


def test_peers_are_bounded_and_forgotten_when_silent():
    async def scenario(gate: Gate) -> None:
        hosts = [SocketAddress(f"93.184.216.{n}", 53) for n in range(40, 43)]
        servers = [Server(gate, host) for host in hosts]
        client = Client(gate)
        await client.associate()
        client.send(*(frame(host, b"q") for host in hosts))
        await client.answered(2)
        await moment()
        assert [len(server.got) for server in servers] == [1, 1, 0]
        (_, towards) = servers[0].got[0]
        await asyncio.sleep(20)
        inject(gate.network, b"late", hosts[0], towards)
        client.send(frame(hosts[2], b"q"))
        await client.answered(3)
        assert client.got[-1] == (b"re:q", str(hosts[2]))
        client.leave()
        await gate.idle()

    gate = run(scenario, udp_peers_max=2, udp_peer_idle_s=10.0)
    (end,) = of_rules(gate)
    assert end.dropped == {"peers-full": 1, "unsolicited": 1}
    assert "udp_peers_max" in {record.limit for record in gate.recorder.of(LimitRecord)}


def test_datagrams_that_are_too_large_are_dropped_in_both_directions():
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"x" * 200), frame(ONE, b"x" * 88))
        await gate.until(lambda: server.got)
        server.end.send(b"y" * 101, server.got[0][1])
        server.end.send(b"y" * 100, server.got[0][1])
        await client.answered(2)
        assert [len(data) for data, _ in client.got] == [91, 100]
        client.leave()
        await gate.idle()

    gate = run(scenario, udp_datagram_bytes_max=100)
    (end,) = of_rules(gate)
    assert (end.dropped, of_association(gate).dropped) == ({"oversized": 1}, {"oversized": 1})


def test_idle_association_ends_and_its_control_connection_is_closed():
    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        quiet, busy = Client(gate), Client(gate, SocketAddress("10.1.1.9", 4000))
        await quiet.associate()
        await busy.associate()
        for _ in range(5):
            busy.send(frame(ONE, b"q"))
            await asyncio.sleep(10)
        assert (quiet.is_over, busy.is_over) == (True, False)
        await gate.idle()
        await gate.until(lambda: busy.is_over)

    gate = run(scenario, udp_idle_timeout_s=20.0)
    assert {(end.outcome, end.reason) for end in gate.ends} == {("released", "idle")}


def test_data_on_the_control_connection_ends_it_when_there_is_much_of_it():
    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        await client.associate()
        assert client.control is not None
        await client.control.send_all(b"x" * 1000)
        await moment()
        assert not client.is_over
        for _ in range(10):
            with contextlib.suppress(OSError):
                await client.control.send_all(b"x" * 8000)
            await moment()
        await gate.idle()

    end = of_association(run(scenario))
    assert end.outcome == "refused"
    assert end.reason == "data on the control connection of an association"


def test_connections_of_associations_count_among_those_of_the_client():
    policy = RULES + '\n[[rule]]\nname = "ntp"\nto = ["*"]\nprotocols = ["udp:123"]\n'

    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        Server(gate, ONE.with_port(123))
        clients = [Client(gate, SocketAddress(CLIENT.host, 4000 + n)) for n in range(3)]
        await clients[0].associate()
        clients[0].send(frame(ONE, b"q"), frame(ONE.with_port(123), b"q"))
        await clients[0].answered(2)
        await asyncio.sleep(1)
        await clients[1].associate()
        await moment()
        assert not clients[0].is_over, "it lost the connection that was silent longest"
        await clients[2].associate()
        await moment()
        assert [client.is_over for client in clients] == [True, False, False]
        clients[2].send(frame(ONE, b"q"))
        await clients[2].answered(1)
        for client in clients:
            if not client.is_over:
                client.leave()
        await gate.idle()

    gate = run(scenario, policy, flood=FloodBounds(udp_sessions_max=2))
    replaced = [end.reason for end in gate.ends if end.reason == "udp_sessions_max reached"]
    assert len(replaced) == 3, "two connections, and then their association"


def test_association_beyond_the_limit_of_the_worker_is_refused():
    async def scenario(gate: Gate) -> None:
        one, two = Client(gate), Client(gate, SocketAddress("10.1.1.9", 4000))
        assert (await one.associate(), await two.associate()) == (0, 1)
        one.send(frame(ONE, b"q"))
        await moment()
        one.leave()
        await gate.idle()

    gate = run(scenario, udp_connections_max=1)
    assert of_association(gate).dropped == {"denied": 1}


# -- filters ---------------------------------------------------------------------------------------


ALL = Events.of(UdpBindRequested, UdpDestination, NameLookup, ConnectionTerminating)
FILTERED = RULES + 'filters = ["f"]\n'


def test_filters_are_told_of_the_bind_once_and_of_each_peer_once():
    told: list[str] = []

    def answer(event: Any) -> Any:
        match event:
            case UdpBindRequested():
                told.append(f"bind {event.address.host}")
            case UdpDestination():
                told.append(f"peer {event.address} {event.connection.entry_mode.value}")
                if event.address == TWO:
                    return Deny("not this one")
            case NameLookup():
                told.append(f"lookup {event.host} {[str(one) for one in event.addresses]}")
            case _:
                told.append("end")
        return Pass()

    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        two = Server(gate, TWO)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(ONE, b"b"), frame(TWO, b"c"), frame(TWO, b"d"))
        await client.answered(2)
        client.send(frame(("good.test", 53), b"e"))
        await client.answered(3)
        assert two.got == []
        client.leave()
        await gate.idle()

    names = Names(good_test=[ONE.host])
    gate = run(scenario, FILTERED, names=names, filters={"f": Telling(answer, ALL)})
    assert told == [
        f"bind {ENTRY.host}",
        f"peer {ONE} socks5",
        f"peer {TWO} socks5",
        "lookup good.test []",
        f"lookup good.test ['{ONE.host}']",
        "end",
    ]
    (end,) = of_rules(gate)
    assert end.dropped == {"peer-denied": 2}
    assert ("denied", "not this one") in {(r.verdict, r.reason) for r in gate.decisions}


def test_denied_bind_refuses_what_comes_under_its_rule_and_nothing_else():
    policy = FILTERED + '\n[[rule]]\nname = "ntp"\nto = ["*"]\nprotocols = ["udp:123"]\n'

    async def scenario(gate: Gate) -> None:
        one, ntp = Server(gate, ONE), Server(gate, ONE.with_port(123))
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(ONE, b"b"), frame(ONE.with_port(123), b"time"))
        await client.answered(1)
        assert (one.got, len(ntp.got)) == ([], 1)
        client.leave()
        await gate.idle()

    telling = Telling(lambda event: Deny("no binds"), Events.of(UdpBindRequested))
    gate = run(scenario, policy, filters={"f": telling})
    assert of_association(gate).dropped == {"denied": 2}
    assert [(r.verdict, r.reason, r.rule) for r in gate.decisions][1:] == [
        ("denied", "no binds", "dns"),
        ("allowed", "allowed-by-rule", "ntp"),
    ]


class Shouting(DatagramFilter):
    def on_datagram(self, side, peer, data):
        text = bytes(data)
        if text.startswith(b"drop"):
            return DROP
        return Rewrite(text.upper()) if text.startswith(b"re:") else FORWARD


def test_data_filters_see_payloads_without_headers_and_only_under_their_rule():
    policy = FILTERED + '\n[[rule]]\nname = "ntp"\nto = ["*"]\nprotocols = ["udp:123"]\n'

    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        Server(gate, ONE.with_port(123))
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(ONE, b"drop"), frame(ONE.with_port(123), b"drop"))
        answers = sorted(await client.answered(2))
        assert answers == [(b"RE:A", str(ONE)), (b"re:drop", f"{ONE.host}:123")]
        client.leave()
        await gate.idle()

    gate = run(scenario, policy, filters={"f": Shouting})
    assert {end.rule: end.dropped for end in of_rules(gate)} == {"dns": {"filter": 1}, "ntp": {}}


def test_events_about_two_peers_may_overlap_and_each_takes_filters_to_its_end():
    async def later(event: Any) -> Any:
        await asyncio.sleep(0.5 if event.address == ONE else 1.0)
        if event.address == TWO:
            event.connection.attach_data_filter(Shouting(), peer=TWO)
        return Pass()

    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        Server(gate, TWO)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(TWO, b"b"))
        assert await client.answered(2) == [(b"re:a", str(ONE)), (b"RE:B", str(TWO))]
        client.leave()
        await gate.idle()

    telling = Telling(later, Events.of(UdpDestination))
    gate = run(scenario, FILTERED, filters={"f": telling})
    (end,) = of_rules(gate)
    assert (end.outcome, end.dropped) == ("released", {})


def test_filter_may_answer_later_and_for_the_resolver():
    async def later(event: Any) -> Any:
        await asyncio.sleep(0.5)
        if isinstance(event, NameLookup) and event.is_before:
            event.set_result([ipaddress.ip_address(ONE.host)])
        return Pass()

    names = Names()

    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        client.send(*(frame(("good.test", 53), b"%d" % n) for n in range(3)))
        assert sorted(await client.answered(3)) == [(b"re:%d" % n, str(ONE)) for n in range(3)]
        assert len(server.got) == 3
        client.send(frame(("private.test", 53), b"gone"))
        client.leave()
        await gate.idle()

    gate = run(scenario, FILTERED, names=names, filters={"f": Telling(later, ALL)})
    assert not names.asked
    assert of_association(gate).dropped in ({}, {"denied": 1})


def test_addresses_that_a_filter_gives_are_judged():
    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and event.is_before:
            event.set_result([ipaddress.ip_address("10.9.9.9")])
        return Pass()

    async def scenario(gate: Gate) -> None:
        private = Server(gate, SocketAddress.parse("10.9.9.9:53"))
        client = Client(gate)
        await client.associate()
        client.send(frame(("good.test", 53), b"q"))
        await moment()
        assert private.got == []
        client.leave()
        await gate.idle()

    gate = run(scenario, FILTERED, filters={"f": Telling(answer, ALL)})
    assert of_association(gate).dropped == {"denied": 1}


def test_another_policy_counts_for_the_next_datagram():
    async def scenario(gate: Gate) -> None:
        one, two = Server(gate, ONE), Server(gate, TWO)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(TWO, b"a"))
        await client.answered(2)
        await gate.service.apply(carried_plan(proxy_settings(DENIED + RULES)))
        client.send(frame(ONE, b"b"), frame(TWO, b"b"))
        await client.answered(3)
        await gate.service.apply(carried_plan(proxy_settings(RULES.replace("udp:53", "udp:54"))))
        client.send(frame(ONE, b"c"))
        await moment()
        assert [len(one.got), len(two.got)] == [2, 1]
        assert one.got[0][1] == one.got[1][1], "a rule that runs the same keeps its connection"
        filtered = carried_plan(proxy_settings(FILTERED, filters=[installation(Shouting, "f")]))
        await gate.service.apply(filtered)
        client.send(frame(ONE, b"d"))
        assert (await client.answered(4))[-1] == (b"RE:D", str(ONE))
        client.leave()
        await gate.idle()

    gate = run(scenario)
    assert [end.reason for end in of_rules(gate)] == [
        "revoked: no-rule",
        "control connection closed",
    ]
    assert of_association(gate).dropped == {"denied": 2}


REVOKING = [
    # name, the new policy, the end of the connection, the end of the association
    ("the same", RULES, "", ""),
    ("another rule", RULES.replace('"dns"', '"names"'), "", ""),
    ("nobody may", '[[rule]]\nname = "other"\nto = ["*"]\n', "", "revoked: no-rule"),
    ("one of two", DENIED + RULES, "", ""),
    ("both", RULES.replace("udp:53", "udp:54"), "revoked: no-rule", ""),
]


@pytest.mark.parametrize(
    ("after", "of_rule", "of_all"), [one[1:] for one in REVOKING], ids=[one[0] for one in REVOKING]
)
def test_another_policy_ends_what_it_refuses_before_the_next_datagram(after, of_rule, of_all):
    heard: list[int] = []

    async def scenario(gate: Gate) -> None:
        one, two = Server(gate, ONE), Server(gate, TWO)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(TWO, b"a"))
        await client.answered(2)
        await gate.service.apply(carried_plan(proxy_settings(after)))
        await moment()
        # What the servers send by themselves: nobody asks for it any more.
        for server in (one, two):
            server.end.send(b"late", server.got[0][1])
        await moment()
        heard.append(len(client.raw) - 2)
        if not client.is_over:
            client.leave()
        await gate.idle()

    gate = run(scenario)
    left = 0 if of_rule or of_all else 1 if after.startswith(DENIED) else 2
    assert heard == [left]
    closed = "control connection closed"
    assert [end.reason for end in of_rules(gate)] == [of_rule or of_all or closed]
    assert of_association(gate).reason == (of_all or closed)
    if "names" in after:
        assert [one.rule for one in gate.ends] == ["names", "names"]


def test_service_that_stops_ends_associations_and_what_waits_for_lookups():
    names = Names()
    names.fail = lambda _: "silent"

    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"a"), frame(("slow.test", 53), b"b"))
        await client.answered(1)

    gate = run(scenario, names=names)
    assert {(end.outcome, end.reason) for end in gate.ends} == {("refused", "service stopping")}


def test_control_connection_that_is_reset_ends_it():
    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        await client.associate()
        assert client.control is not None
        client.control.reset()
        await gate.idle()

    end = of_association(run(scenario))
    assert (end.outcome, end.error, end.side) == ("failed", "ECONNRESET", "client")


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_left_behind_when_datagrams_are_lost_doubled_and_refused(seed):
    faults = FaultPlan(
        datagram_loss=0.1, datagram_duplicate=0.1, datagram_overtaking=0.2, datagram_no_room=0.1
    )
    sent: set[bytes] = set()

    async def scenario(gate: Gate) -> None:
        servers = [Server(gate, ONE), Server(gate, TWO), Server(gate, SIX)]
        client = Client(gate)
        assert await client.associate() == 0
        for index in range(40):
            data = b"%d" % index
            sent.add(data)
            with contextlib.suppress(BlockingIOError):
                client.send(frame((ONE, TWO, SIX)[index % 3], data))
            await asyncio.sleep(0.01)
        await moment()
        assert {data for server in servers for data, _ in server.got} <= sent
        assert {data for data, _ in client.got} <= {b"re:" + data for data in sent}
        client.leave()
        await gate.idle()

    plan = carried_plan(proxy_settings(RULES))
    gate = play(scenario, plan, exchange=Names(), seed=seed, faults=faults)
    assert len(gate.ends) == 2


@pytest.mark.parametrize("what", ["association", "session", "connection"])
def test_operator_ends_an_association_by_its_own_or_the_session_identifier(what):
    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        client = Client(gate)
        await client.associate()
        client.send(frame(ONE, b"q"))
        await client.answered(1)
        connection, association = gate.service.connections()
        identifier = {
            "association": association.connection,
            "session": association.session,
            "connection": connection.connection,
        }[what]
        assert gate.service.kill(identifier, "killed by root")
        assert not gate.service.kill("nobody", "killed by root")
        if what == "connection":
            client.send(frame(ONE, b"again"))
            await moment()
            client.leave()
        await gate.idle()
        await gate.until(lambda: client.is_over)

    gate = run(scenario)
    (end,) = of_rules(gate)
    assert (end.outcome, end.reason) == ("refused", "killed by root")
    if what == "connection":
        assert of_association(gate).dropped == {"denied": 1}, "its rule is not asked again at once"
    else:
        assert of_association(gate).reason == "killed by root"
