"""Network rules: what servers see of clients, in every entry mode; who is not named is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from typing import Any

import pytest

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.policy import NetworkRelation, NetworkRule, PolicySnapshot
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.testing.peers import PeerStream
from tests.flows import test_socks_associate as socks_udp
from tests.flows import test_socks_bind as socks_bind
from tests.flows.entry_kit import MODES, WEB, WEB6, Ask, Names, asks, proxy_settings, says_hello
from tests.flows.gate_kit import (
    CLIENT,
    SERVER,
    Gate,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
)
from tests.flows.model_kit import Telling

GATE_ADDRESS = "10.0.0.5"
CLIENTS = ("10.0.0.0/8",)


def rule(
    relation: str,
    *to: str,
    address: str = "",
    clients: tuple[str, ...] = CLIENTS,
) -> NetworkRule:
    return NetworkRule(
        "lab",
        tuple(map(ipaddress.ip_network, clients)),
        tuple(map(ipaddress.ip_network, to or ("0.0.0.0/0",))),
        NetworkRelation(relation),
        ipaddress.ip_address(address) if address else None,
    )


def under(plan: ServiceSettings, *rules: NetworkRule) -> ServiceSettings:
    policy = dataclasses.replace(plan.policy.policy, network_rules=rules)
    return dataclasses.replace(plan, policy=PolicySnapshot(policy))


class Seen:
    """A server that notes whom it sees."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def __call__(self, stream: PeerStream) -> bytes:
        self.hosts.append(SocketAddress.from_kernel(stream.socket.getpeername()).host)
        data = await stream.receive_all()
        await stream.send_all(data)
        stream.close()
        return data


def may_route(gate: Gate) -> None:
    gate.network.may_be_transparent = True


def has_address(gate: Gate) -> None:
    gate.network.own_hosts.add(GATE_ADDRESS)


def call_published(*rules: NetworkRule, **options: Any) -> tuple[Gate, Seen, Any]:
    seen = Seen()
    answers: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(seen)
        answers.extend(await gate.ended(gate.call(sends(b"hello"))))
        await gate.idle()

    gate = play(scenario, under(settings(publication()), *rules), **options)
    return gate, seen, answers[0]


def test_without_network_rules_a_server_sees_what_the_system_chooses() -> None:
    _, seen, answer = call_published()
    assert (seen.hosts, answer) == (["10.255.255.254"], b"hello")


def test_nat_without_an_address_changes_nothing() -> None:
    _, seen, answer = call_published(rule("nat"))
    assert (seen.hosts, answer) == (["10.255.255.254"], b"hello")


def test_nat_with_an_address_is_what_the_server_sees() -> None:
    _, seen, answer = call_published(rule("nat", address=GATE_ADDRESS), prepare=has_address)
    assert (seen.hosts, answer) == ([GATE_ADDRESS], b"hello")


def test_a_routed_server_sees_its_client() -> None:
    _, seen, answer = call_published(rule("route"), prepare=may_route)
    assert (seen.hosts, answer) == ([CLIENT.host], b"hello")


def test_the_first_network_rule_that_names_both_ends_decides() -> None:
    rules = rule("route", "192.0.2.0/24"), rule("nat", address=GATE_ADDRESS), rule("route")
    _, seen, _ = call_published(*rules, prepare=has_address)
    assert seen.hosts == [GATE_ADDRESS]


def test_a_pair_that_no_network_rule_names_is_refused_when_it_comes() -> None:
    gate, seen, _ = call_published(rule("nat", "192.0.2.0/24"))
    assert seen.hosts == []
    assert [(one.verdict, one.reason, one.rule) for one in gate.decisions] == [
        ("denied", NO_NETWORK_RULE, "web")
    ]


@pytest.mark.parametrize(
    ("network_rule", "why"),
    [
        (rule("nat", address="192.0.2.5"), "this machine does not have the address"),
        (rule("route"), "the gate has not the right to (CAP_NET_ADMIN)"),
        (rule("nat", address="fd00::fe"), "are of two IP versions"),
    ],
    ids=["not-own", "no-right", "other-version"],
)
def test_what_cannot_be_followed_ends_the_connection_with_a_reason(
    network_rule: NetworkRule, why: str
) -> None:
    gate, seen, _ = call_published(network_rule)
    assert seen.hosts == []
    assert [one.outcome in ("failed", "refused") for one in gate.ends] == [True]
    assert why in gate.ends[0].reason
    assert "lab" in gate.ends[0].reason


ROUTED_V4 = rule("route", "93.184.216.0/24")


def ask_proxy(
    mode: EntryMode, host: str, *rules: NetworkRule, names: Names | None = None
) -> tuple[Gate, Seen, Any]:
    seen = Seen()
    answers: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(seen, address=WEB)
        gate.serve(seen, address=WEB6)
        answers.extend(await gate.ended(gate.call(asks(Ask(mode, host), says_hello))))
        await gate.idle()

    plan = under(proxy_settings(), *rules)
    gate = play(scenario, plan, exchange=names or Names(), prepare=may_route)
    return gate, seen, answers[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_proxied_server_sees_its_client_in_every_mode(mode: EntryMode) -> None:
    gate, seen, _ = ask_proxy(mode, WEB.host, ROUTED_V4)
    assert seen.hosts == [CLIENT.host], gate.ends


@pytest.mark.parametrize("mode", MODES)
def test_a_proxied_pair_that_is_not_named_is_refused_in_every_mode(mode: EntryMode) -> None:
    gate, seen, _ = ask_proxy(mode, WEB.host, rule("nat", "192.0.2.0/24"))
    assert seen.hosts == []
    assert [(one.outcome, one.reason) for one in gate.ends] == [("refused", NO_NETWORK_RULE)]


def test_of_several_addresses_only_those_that_are_named_are_raced() -> None:
    names = Names().put("www.example", WEB6.host, WEB.host)
    gate, seen, _ = ask_proxy(EntryMode.SOCKS5, "www.example", ROUTED_V4, names=names)
    assert seen.hosts == [CLIENT.host], gate.ends


def test_a_name_none_of_whose_addresses_is_named_is_refused() -> None:
    names = Names().put("www.example", WEB6.host, WEB.host)
    unnamed = rule("nat", "192.0.2.0/24")
    gate, seen, _ = ask_proxy(EntryMode.SOCKS5, "www.example", unnamed, names=names)
    assert seen.hosts == []
    assert [(one.outcome, one.reason) for one in gate.ends] == [("refused", NO_NETWORK_RULE)]


def test_a_known_destination_is_held_against_network_rules_each_time() -> None:
    seen = Seen()

    async def scenario(gate: Gate) -> None:
        gate.serve(seen, address=WEB)
        ask = Ask(EntryMode.SOCKS5, WEB.host)
        for _ in range(2):
            await gate.ended(gate.call(asks(ask, says_hello)))
        await gate.service.apply(under(proxy_settings(), rule("nat", "192.0.2.0/24")))
        await gate.ended(gate.call(asks(ask, says_hello)))
        await gate.idle()

    gate = play(scenario, under(proxy_settings(), ROUTED_V4), exchange=Names(), prepare=may_route)
    assert seen.hosts == [CLIENT.host, CLIENT.host]
    assert gate.ends[-1].reason == NO_NETWORK_RULE


def test_a_policy_that_names_a_pair_no_more_ends_what_is_open_between_it() -> None:
    plan = under(settings(publication()), rule("nat"))

    async def scenario(gate: Gate) -> None:
        async def stays(stream: PeerStream) -> bytes:
            return await stream.receive_all()

        gate.serve(stays)
        task = gate.call(stays)
        await gate.until(lambda: gate.service.connection_count and gate.decisions)
        await gate.service.apply(under(settings(publication()), rule("nat", "192.0.2.0/24")))
        await gate.ended(task)
        await gate.idle()

    gate = play(scenario, plan)
    assert [one.outcome for one in gate.ends] == ["refused"]
    assert NO_NETWORK_RULE in gate.ends[0].reason


UDP_ENTRY = SocketAddress.parse("10.0.0.1:5353")


def send_udp(*rules: NetworkRule, prepare: Any = None) -> tuple[Gate, list[str]]:
    seen: list[str] = []
    listener = ListenerSettings("dns", UDP_ENTRY, is_udp=True)
    plan = under(settings(publication(listener="dns"), listeners=(listener,)), *rules)

    async def scenario(gate: Gate) -> None:
        server = gate.peers.bind_datagrams(SERVER)

        async def answers() -> None:
            data, sender = await server.receive()
            seen.append(sender.host)
            server.send(data, sender)

        gate.peers.spawn("server", answers())
        client = gate.peers.bind_datagrams(SocketAddress("10.1.1.1", 4000))
        client.send(b"question", UDP_ENTRY)
        await gate.until(lambda: seen or gate.decisions)
        await asyncio.sleep(0.5)

    return play(scenario, plan, prepare=prepare), seen


def test_a_published_udp_server_sees_its_client_where_it_is_routed() -> None:
    _, seen = send_udp(rule("route"), prepare=may_route)
    assert seen == [CLIENT.host]


def test_a_published_udp_server_sees_the_address_of_nat() -> None:
    _, seen = send_udp(rule("nat", address=GATE_ADDRESS), prepare=has_address)
    assert seen == [GATE_ADDRESS]


def test_datagrams_between_a_pair_that_is_not_named_are_refused() -> None:
    gate, seen = send_udp(rule("nat", "192.0.2.0/24"))
    assert seen == []
    assert [(one.verdict, one.reason) for one in gate.decisions] == [("denied", NO_NETWORK_RULE)]


# -- what clients ask a proxy for beside connections --------------------------------------------


def route_and_nat(kind: str) -> tuple[NetworkRule, str, Any]:
    """Return a rule, whom a server then sees, and what the gate needs for it."""
    if kind == "route":
        return rule("route"), CLIENT.host, may_route
    return rule("nat", address=GATE_ADDRESS), GATE_ADDRESS, has_address


BIND_RULES = '[[rule]]\nname = "back"\nto = ["*"]\nprotocols = ["bind"]\n'


@pytest.mark.parametrize("mode", socks_bind.MODES)
@pytest.mark.parametrize(
    ("rules", "is_let_in"),
    [
        ((), True),
        ((rule("nat"),), True),
        ((rule("route", "93.184.216.0/24"),), True),
        ((rule("nat", "192.0.2.0/24"),), False),
        ((rule("nat", clients=("10.9.0.0/16",)),), False),
    ],
    ids=["none", "nat", "route", "another server", "another client"],
)
def test_a_peer_of_a_bind_gets_to_its_client_only_where_the_pair_is_named(
    mode: EntryMode, rules: tuple[NetworkRule, ...], is_let_in: bool
) -> None:
    client, came = socks_bind.Client(mode), list[Any]()

    async def scenario(gate: Gate) -> None:
        task = gate.call(client)
        await gate.until(lambda: client.answers or task.is_done)
        if client.answers and client.answers[0][0] == 0:
            address, peer = client.answers[0][1], socks_bind.PEER
            came.extend(await gate.ended(gate.call(echoes, address=address, source=peer)))
        await gate.ended(task)
        await gate.idle()

    plan = under(proxy_settings(BIND_RULES), *rules)
    gate = play(scenario, plan, exchange=Names(), prepare=may_route)
    if is_let_in:
        assert client.received == b"hello"
    else:
        assert client.received == b""
        assert NO_NETWORK_RULE in [one.reason for one in (*gate.decisions, *gate.ends)]


UDP_RULES = '[[rule]]\nname = "dns"\nto = ["*"]\nprotocols = ["udp:53"]\n'


@pytest.mark.parametrize("kind", ["route", "nat"])
def test_a_server_of_datagrams_sees_whom_the_rule_says_of_a_socks_client(kind: str) -> None:
    wanted, seen_as, prepare = route_and_nat(kind)

    async def scenario(gate: Gate) -> None:
        server = socks_udp.Server(gate, socks_udp.ONE)
        client = socks_udp.Client(gate)
        assert await client.associate() == 0
        client.send(socks_udp.frame(socks_udp.ONE, b"a"))
        assert await client.answered(1) == [(b"re:a", str(socks_udp.ONE))]
        assert [sender.host for _, sender in server.got] == [seen_as]
        client.leave()

    play(scenario, under(proxy_settings(UDP_RULES), wanted), exchange=Names(), prepare=prepare)


def test_datagrams_of_a_socks_client_to_servers_that_are_not_named_are_dropped() -> None:
    async def scenario(gate: Gate) -> None:
        named, unnamed = (
            socks_udp.Server(gate, address) for address in (socks_udp.ONE, socks_udp.TWO)
        )
        client = socks_udp.Client(gate)
        assert await client.associate() == 0
        client.send(*(socks_udp.frame(to, b"a") for to in (socks_udp.TWO, socks_udp.ONE)))
        assert await client.answered(1) == [(b"re:a", str(socks_udp.ONE))]
        await socks_udp.moment()
        assert (len(named.got), len(unnamed.got)) == (1, 0)
        client.leave()

    only = rule("nat", f"{socks_udp.ONE.host}/32")
    gate = play(scenario, under(proxy_settings(UDP_RULES), only), exchange=Names())
    assert [(one.verdict, one.reason) for one in gate.decisions if one.verdict == "denied"] == [
        ("denied", NO_NETWORK_RULE)
    ]


def announce(
    scene: Any, *rules: NetworkRule, prepare: Any = None, published: bool = False
) -> tuple[Gate, Seen]:
    """Open a primary connection, and let a filter of it announce another one, as FTP's does."""
    telling, seen = Telling(), Seen()

    async def scenario(gate: Gate) -> None:
        server = SERVER if published else WEB
        gate.serve(seen, address=server)
        gate.serve(seen, address=server.with_port(2021))

        async def stays(stream: PeerStream) -> bytes:
            return await stream.receive_all()

        gate.call(stays if published else asks(Ask(EntryMode.SOCKS5, WEB.host), stays))
        await gate.until(lambda: telling.seen and telling.seen[0].connection.state.name == "OPEN")
        await scene(gate, telling.seen[0].connection, server.with_port(2021))

    installed = [installation(telling, "f")]
    plan = (
        settings(publication("f"), filters=installed)
        if published
        else proxy_settings(
            '[[rule]]\nname = "web"\nto = ["*"]\nfilters = ["f"]\n', filters=installed
        )
    )
    return play(scenario, under(plan, *rules), exchange=Names(), prepare=prepare), seen


every_way = pytest.mark.parametrize("published", [True, False], ids=["published", "socks5"])


@every_way
@pytest.mark.parametrize("kind", ["route", "nat"])
def test_a_server_sees_whom_the_rule_says_of_an_announced_connection(
    published: bool, kind: str
) -> None:
    wanted, seen_as, prepare = route_and_nat(kind)

    async def scene(gate: Gate, primary: Any, target: SocketAddress) -> None:
        action = primary.session.allow_future_connect(primary, target)
        await gate.ended(gate.call(sends(b"hello"), address=action.address))

    _, seen = announce(scene, wanted, prepare=prepare, published=published)
    assert seen.hosts[-1] == seen_as


@every_way
def test_an_announced_connection_to_a_server_that_is_named_no_more_is_not_dialled(
    published: bool,
) -> None:
    async def scene(gate: Gate, primary: Any, target: SocketAddress) -> None:
        elsewhere = target.host.rsplit(".", 1)[0] + ".200"
        action = primary.session.allow_future_connect(primary, SocketAddress(elsewhere, 2021))
        (answer,) = await gate.ended(gate.call(sends(b"hello"), address=action.address))
        assert answer != b"hello"

    only = rule("nat", f"{(SERVER if published else WEB).host}/32")
    gate, seen = announce(scene, only, published=published)
    assert len(seen.hosts) == 1
    assert [one.reason for one in gate.ends if one.primary] == [NO_NETWORK_RULE]


@every_way
@pytest.mark.parametrize("is_named", [True, False])
def test_a_server_that_is_expected_gets_to_the_client_only_where_the_pair_is_named(
    published: bool, is_named: bool
) -> None:
    """FTP's active mode: the server calls, and the gate dials the client."""
    heard: list[bytes] = []

    async def scene(gate: Gate, primary: Any, target: SocketAddress) -> None:
        async def listens(stream: PeerStream) -> bytes:
            heard.append(await stream.receive_all())
            stream.close()
            return b""

        at_client = CLIENT.with_port(5021)
        gate.serve(listens, address=at_client)
        peer = target.with_port(0) if is_named else SocketAddress("203.0.113.9", 0)
        action = primary.session.bind_for_client(
            primary, at_client, peers=AddressFilter.only(peer.host)
        )
        await gate.ended(gate.call(sends(b"hello"), address=action.address, source=peer))
        await asyncio.sleep(0.5)

    only = rule("nat", f"{(SERVER if published else WEB).host}/32")
    gate, _ = announce(scene, only, published=published)
    assert heard == ([b"hello"] if is_named else [])
    refused = [one.reason for one in gate.decisions if one.verdict == "denied"]
    assert refused == ([] if is_named else [NO_NETWORK_RULE])
