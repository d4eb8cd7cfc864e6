"""Network rules: what servers see of clients, in every entry mode; who is not named is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.policy import NetworkRelation, NetworkRule, PolicySnapshot
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import MODES, WEB, WEB6, Ask, Names, asks, proxy_settings, says_hello
from tests.flows.gate_kit import CLIENT, SERVER, Gate, play, publication, sends, settings

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
