"""Groups A to D for what clients ask a proxy for beside connections: datagrams and binds.

The same corpora as in ``test_entry_hostile``, in clear and inside TLS: each line is one datagram,
or one bind. Refused means: nothing is sent, no query leaves, nobody gets in, a record says why.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.policy import FloodBounds
from sluicegate.testing import HostCase, address_corpus, host_corpus
from tests.flows import entry_kit
from tests.flows import test_socks_bind as binds
from tests.flows.entry_kit import Names, carried, carried_plan, proxy_settings
from tests.flows.gate_kit import Gate, play
from tests.flows.test_socks_associate import ONE, Client, Server, frame, of_association

PATIENT = FloodBounds(
    connects_per_minute=100_000, udp_sessions_max=100_000, denied_per_minute=100_000
)
EVERYTHING = '[[rule]]\nname = "all"\nto = ["*"]\nprotocols = ["udp", "bind"]\n'
LAST = SocketAddress(ONE.host, 5300)
"""Where the datagram goes that shows that all before it have been judged."""

ADDRESSES = [case for case in address_corpus() if not case.own and not case.nat64_prefixes]
SPECIAL = [case for case in ADDRESSES if not case.expect.is_public]
HOSTS = [case for case in host_corpus() if case.kind == "host" and not case.allow_underscore]


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client ask in clear, and inside TLS; datagrams come as they are."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


def send_all(
    *datagrams: bytes, policy: str = EVERYTHING, names: Names | None = None, **more: Any
) -> tuple[Gate, dict[str, int]]:
    """Send them by one association, wait until all are judged; return what was dropped of them."""

    async def scenario(gate: Gate) -> None:
        last = Server(gate, LAST)
        client = Client(gate)
        assert await client.associate() == 0
        for data in datagrams:
            client.send(data)
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
        client.send(frame(LAST, b"last"))
        await gate.until(lambda: last.got and client.raw)
        assert [data for data, _ in client.got] == [b"re:last"]
        client.leave()
        await gate.idle()

    plan = carried_plan(proxy_settings(policy, **more))
    gate = play(scenario, plan, exchange=names or Names(), flood=PATIENT, udp_peers_max=4096)
    sent = sum(one.datagrams_to_server for one in gate.ends if one.primary)
    assert sent == 1, "only the last one"
    return gate, dict(of_association(gate).dropped)


def denied(gate: Gate) -> list[str]:
    """Return the reasons of what was refused."""
    return [one.reason for one in gate.decisions if one.verdict == "denied"]


def bind_all(mode: EntryMode, *hosts: str, policy: str = EVERYTHING) -> Gate:
    """Ask for a bind for a peer at each of these addresses; all are refused."""
    clients = [binds.Client(mode, host) for host in hosts]

    async def scenario(gate: Gate) -> None:
        for client in clients:
            await gate.ended(gate.call(carried(client)))
        await gate.idle()

    gate = play(scenario, carried_plan(proxy_settings(policy)), exchange=Names(), flood=PATIENT)
    refused = [[1 if mode is EntryMode.SOCKS4 else 2]] * len(hosts)
    assert [[code for code, _ in client.answers] for client in clients] == refused
    assert {one.outcome for one in gate.ends} <= {"refused"}
    return gate


# -- A: addresses ----------------------------------------------------------------------------------


def test_a_datagrams_to_special_addresses_are_dropped_under_a_rule_for_everything() -> None:
    sent = [frame(SocketAddress(case.input, 53), b"x") for case in SPECIAL]
    names = Names()
    gate, dropped = send_all(*sent, names=names)
    assert dropped == {"denied": len(SPECIAL)}
    assert (set(denied(gate)), dict(names.asked)) == ({"no-rule"}, {})


def test_a_datagrams_to_names_that_lead_to_special_addresses_are_dropped() -> None:
    names = Names()
    for number, case in enumerate(SPECIAL):
        names.put(f"n{number}.example", str(ipaddress.ip_address(case.input)))
    sent = [frame((f"n{number}.example", 53), b"x") for number in range(len(SPECIAL))]
    gate, dropped = send_all(*sent, names=names)
    assert dropped == {"denied": len(SPECIAL)}
    assert all(reason.startswith("address-denied") for reason in denied(gate)), denied(gate)


A_NAMED = [
    # what the rule lists, where the datagram goes, whether it is sent
    ("10.0.0.0/8", "10.9.9.9", True),
    ("10.8.0.0/16", "10.9.9.9", False),
    ("127.0.0.0/8", "127.0.0.2", True),
    ("169.254.0.0/16", "169.254.169.254", False),
    ("10.0.0.0/8", "10.0.0.1", False),
    ("224.0.0.0/4", "224.0.0.1", False),
    ("255.255.255.255", "255.255.255.255", False),
    ("10.0.0.0/8", "::ffff:10.9.9.9", False),
    ("10.0.0.0/8", "64:ff9b::a09:909", False),
    ("10.0.0.0/8", "2002:a09:909::1", False),
]


@pytest.mark.parametrize(("listed", "host", "is_sent"), A_NAMED)
def test_a_datagrams_go_to_special_addresses_only_where_a_rule_names_them(
    listed: str, host: str, is_sent: bool
) -> None:
    target = SocketAddress(host, 53)

    async def scenario(gate: Gate) -> None:
        client = Client(gate)
        server = Server(gate, target) if is_sent else None
        assert await client.associate() == 0
        client.send(frame(target, b"x"))
        await gate.until(lambda: server.got if server else denied(gate))
        client.leave()
        await gate.idle()

    policy = f'[[rule]]\nname = "some"\nto = ["{listed}"]\nprotocols = ["udp"]\n'
    gate = play(scenario, carried_plan(proxy_settings(policy)), exchange=Names())
    assert len(denied(gate)) == (0 if is_sent else 1)


@pytest.mark.parametrize("mode", binds.MODES)
def test_a_binds_for_peers_at_special_addresses_are_refused_under_a_rule_for_everything(
    mode: EntryMode,
) -> None:
    hosts = [case.input for case in SPECIAL if ipaddress.ip_address(case.input).version == 4]
    gate = bind_all(mode, *hosts)
    assert len(denied(gate)) == len(hosts)


@pytest.mark.parametrize("mode", binds.MODES)
def test_a_binds_for_the_gate_itself_are_refused(mode: EntryMode) -> None:
    own = '[[rule]]\nname = "own"\nto = ["10.0.0.0/8"]\nprotocols = ["bind"]\n'
    gate = bind_all(mode, "10.0.0.1", policy=own)
    assert denied(gate) == ["address-denied: 10.0.0.1 is own: 10.0.0.1 is the gate's own"]


# -- B: host text ----------------------------------------------------------------------------------


def is_octets(text: str) -> bool:
    """Whether SOCKS has another form for it than a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def fits(case: HostCase) -> bool:
    return 0 < len(case.input.encode()) < 256 and not is_octets(case.input)


def test_b_names_in_datagrams_that_have_no_reading_are_dropped_without_a_query() -> None:
    cases = [case for case in HOSTS if case.expect.refused and fits(case)]
    assert len(cases) > 80
    names = Names()
    gate, dropped = send_all(*(named(case.input) for case in cases), names=names)
    assert sum(dropped.values()) == len(cases), dropped
    assert dict(names.asked) == {}
    targets = [one.target for one in gate.decisions]
    assert not any("\n" in target or "\0" in target for target in targets)


def test_b_names_in_datagrams_are_asked_for_by_their_one_reading() -> None:
    cases = [
        case for case in HOSTS if case.expect.host and case.expect.is_address is None and fits(case)
    ]
    names = Names()
    for case in cases:
        names.put(case.expect.host, "10.9.9.9")
    gate, dropped = send_all(*(named(case.input) for case in cases), names=names)
    assert len(cases) > 20
    assert sum(dropped.values()) == len(cases)
    assert set(names.asked) <= {case.expect.host for case in cases}
    asked = {one.target.rpartition(":")[0] for one in gate.decisions if one.verdict == "denied"}
    assert asked == {case.expect.host for case in cases}


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "[::1]", "0x7f.1", "2130706433",
     "127.1"],
)  # fmt: skip
def test_b_address_in_the_place_of_a_name_gets_around_nothing(text: str) -> None:
    names = Names()
    _, dropped = send_all(named(text), names=names)
    assert (sum(dropped.values()), dict(names.asked)) == (1, {})


def named(text: str) -> bytes:
    """Return a datagram to a name, as SOCKS 5 has it."""
    octets = text.encode()
    return b"\0\0\0\3" + bytes([len(octets)]) + octets + b"\0\x35x"


# -- C: DNS ----------------------------------------------------------------------------------------

C_ANSWERS: list[tuple[str, list[str], str]] = [
    ("C2 one of two is private", ["93.184.216.34", "10.9.9.9"], "addresses-mixed"),
    ("C3 an alias into a denied zone", ["a.example. 60 CNAME x.denied.example."], "alias-denied"),
    ("C3 an alias of a special name", ["a.example. 60 CNAME localhost."], "alias-denied"),
    ("C3 an address that a rule denies", ["93.184.216.35"], "address-denied"),
    ("C4 aliases in a circle", ["a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example."],
     "dns-alias-loop"),
    ("C6 AAAA of another class", ["93.184.216.34", "fd00::9"], "addresses-mixed"),
]  # fmt: skip
DENIED = (
    '[[rule]]\nname = "not-there"\naction = "deny"\nto = ["*.denied.example", "93.184.216.35"]\n'
    'protocols = ["udp"]\n'
)


@pytest.mark.parametrize(
    ("rows", "reason"), [case[1:] for case in C_ANSWERS], ids=[case[0] for case in C_ANSWERS]
)
def test_c_what_a_name_in_a_datagram_leads_to_is_judged(rows: list[str], reason: str) -> None:
    names = Names().put("a.example", *rows)
    gate, dropped = send_all(named("a.example"), policy=DENIED + EVERYTHING, names=names)
    assert sum(dropped.values()) == 1
    assert [one.startswith(reason) for one in denied(gate)] == [True], denied(gate)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("NXDOMAIN", "dns-no-such-name"),
        ("SERVFAIL", "dns-server-failed"),
        ("silent", "dns-servers-silent"),
    ],
)
def test_c10_failed_lookups_drop_the_datagram_and_the_next_name_is_judged_as_before(
    failure: str, reason: str
) -> None:
    names = Names().put("b.example", "10.9.9.9")
    names.fail = lambda name: failure if name == "a.example" else None
    gate, dropped = send_all(named("a.example"), named("b.example"), names=names)
    assert sum(dropped.values()) == 2
    first, second = denied(gate)
    assert first.startswith(reason), first
    assert second.startswith("address-denied")


def test_c11_name_that_no_rule_lists_causes_no_query() -> None:
    names = Names().put("other.example", ONE.host)
    only = f'[[rule]]\nname = "some"\nto = ["a.example", "{LAST.host}"]\nprotocols = ["udp"]\n'
    gate, dropped = send_all(named("other.example"), policy=only, names=names)
    assert (dropped, denied(gate), dict(names.asked)) == ({"denied": 1}, ["no-rule"], {})


# -- D: where a client may go ----------------------------------------------------------------------

D_RULES = [
    # name, the rule that there is beside one for the last datagram
    ("D1 another port", 'to = ["93.184.216.35"]\nprotocols = ["udp:54"]\n'),
    ("D1 another protocol", 'to = ["93.184.216.35"]\nprotocols = ["tcp:53"]\n'),
    ("D1 a bind", 'to = ["93.184.216.35"]\nprotocols = ["bind"]\n'),
    ("D1 an exception", 'to = ["*"]\nto_except = ["93.184.216.35"]\nprotocols = ["udp"]\n'),
    ("D1 other clients", 'to = ["*"]\nclients = ["10.7.0.0/16"]\nprotocols = ["udp"]\n'),
    ("D1 users", 'to = ["*"]\nusers = ["ann"]\nprotocols = ["udp"]\n'),
    ("D14 expired", 'to = ["*"]\nexpires = 2020-01-01T00:00:00Z\nprotocols = ["udp"]\n'),
    ("D4 what cannot be seen", 'to = ["*"]\nmethods = ["GET"]\nprotocols = ["udp"]\n'),
]


@pytest.mark.parametrize("rule", [case[1] for case in D_RULES], ids=[case[0] for case in D_RULES])
def test_d_datagrams_go_only_where_everything_that_a_rule_says_holds(rule: str) -> None:
    last = f'[[rule]]\nname = "last"\nto = ["{LAST.host}"]\nprotocols = ["udp:5300"]\n'
    policy = f'[[rule]]\nname = "some"\n{rule}{last}'
    target = SocketAddress.parse("93.184.216.35:53")
    gate, dropped = send_all(frame(target, b"x"), policy=policy)
    assert dropped == {"denied": 1}
    assert len(denied(gate)) == 1
