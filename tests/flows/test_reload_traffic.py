"""A thousand reloads with traffic running: no moment in which a refused connection passes.

Two policies alternate. One host is allowed by both, one by neither, one by each: so every decision
can be held against the policy that the record says decided it, and every dial against both.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import DecisionRecord
from sluicegate.filterapi import EntryMode
from sluicegate.gate import revocation
from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.policy import FloodLimits, Policy, PolicySnapshot
from sluicegate.testing.peers import PeerTask
from tests.flows.entry_kit import MODES, REFUSED, Ask, Names, asks, proxy_settings, says_hello
from tests.flows.gate_kit import SERVER, Gate, echoes, play, publication
from tests.flows.test_revocation import Tunnel

RELOADS = 1000
PUBLISHED = SocketAddress.parse("10.0.0.1:81")
HOSTS = {
    "always.example": "93.184.216.1",
    "odd.example": "93.184.216.2",
    "even.example": "93.184.216.3",
    "never.example": "93.184.216.4",
}
ALLOWED = {"odd": {"always.example", "odd.example"}, "even": {"always.example", "even.example"}}
CLIENTS = {"odd": ["10.1.1.1/32", "10.1.2.0/24"], "even": ["10.1.1.1/32", "10.1.3.0/24"]}
"""Of the publication: one client always, one network at a time."""


def plan(which: str) -> ServiceSettings:
    hosts = ", ".join(f'"{host}"' for host in sorted(ALLOWED[which]))
    deny = '[[rule]]\nname = "never"\naction = "deny"\nto = ["never.example", "93.184.216.4"]\n'
    found = proxy_settings(f'{deny}[[rule]]\nname = "{which}"\nto = [{hosts}]\n')
    published = publication(name=f"published-{which}", clients=CLIENTS[which])
    # The few clients here are many.
    flood = FloodLimits(enabled=False)
    policy = PolicySnapshot(Policy((published,), found.policy.policy.rules, flood=flood))
    listeners = (*found.listeners, ListenerSettings("web", PUBLISHED))
    return ServiceSettings(
        listeners,
        policy,
        found.filters,
        found.limits,
        resolver=found.resolver,
        own_addresses=found.own_addresses,
    )


class Traffic:
    """Clients that come and go while reloads happen."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.is_over = False
        self.replies: Counter[tuple[str, EntryMode, int]] = Counter()
        self.visits: Counter[tuple[str, bool]] = Counter()

    def begin(self) -> list[PeerTask[Any]]:
        asking = [self._ask(mode, host) for mode in MODES for host in HOSTS]
        hosts = ("10.1.1.1", "10.1.2.1", "10.1.3.1", "10.1.4.1")
        return [
            self.gate.peers.spawn(f"client {number}", one)
            for number, one in enumerate([*asking, *map(self._visit, hosts)])
        ]

    async def _ask(self, mode: EntryMode, host: str) -> None:
        while not self.is_over:
            stream = await self.gate.peers.connect(
                SocketAddress.parse("10.0.0.1:80"), SocketAddress.parse("10.1.1.1:0")
            )
            reply = await asks(Ask(mode, host), says_hello)(stream)
            assert not reply.tunnelled or reply.tunnelled == b"hello"
            self.replies[host, mode, reply.code] += 1
            await self.gate.peers.sleep(0.003)

    async def _visit(self, host: str) -> None:
        while not self.is_over:
            passed = b""
            try:
                stream = await self.gate.peers.connect(PUBLISHED, SocketAddress(host, 0))
                passed = await says_hello(stream)
                stream.close()
            except OSError:
                pass
            self.visits[host, passed == b"hello"] += 1
            await self.gate.peers.sleep(0.003)


def test_thousand_reloads_let_nothing_pass_that_is_refused_and_refuse_nothing_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As with many connections: most are on their way when their turn to be judged comes.
    monkeypatch.setattr(revocation, "JUDGED_AGAIN_PER_TURN_MIN", 1)
    plans = {which: plan(which) for which in ("odd", "even")}
    by_hash = {one.policy.hash: which for which, one in plans.items()}
    dialled: list[tuple[str, str]] = []
    traffics: list[Traffic] = []

    async def scenario(gate: Gate) -> None:
        for address in HOSTS.values():
            gate.serve(echoes, address=SocketAddress(address, 443))
        gate.serve(echoes)
        staying = [await Tunnel(gate, Ask(mode, "always.example")).open() for mode in MODES]
        staying.append(await Tunnel(gate, None, address=PUBLISHED).open())
        traffic = Traffic(gate)
        traffics.append(traffic)
        clients = traffic.begin()
        for number, which in enumerate(alternating()):
            await gate.service.apply(plans[which])
            if number % 10 == 0:
                for tunnel in staying:
                    assert await tunnel.echo(b"still here") == b"still here"
            await asyncio.sleep(0.001 * (number % 7))
        traffic.is_over = True
        await gate.ended(*clients)
        for tunnel in staying:
            assert await tunnel.echo(b"still here") == b"still here"
            await tunnel.leave()
        await gate.idle()

    names = Names()
    for host, address in HOSTS.items():
        names.put(host, address)
    gate = play(
        scenario,
        plans["even"],
        exchange=names,
        prepare=lambda gate: watch_dials(gate, dialled),
    )
    check_dials(dialled, by_hash)
    check_decisions(gate.decisions, by_hash)
    check_ends(gate)
    assert "never.example" not in names.asked
    [traffic] = traffics
    for mode in MODES:
        assert {code for host, kind, code in traffic.replies if host == "always.example"} == {0}
        assert {
            code for host, kind, code in traffic.replies if host == "never.example" and kind is mode
        } == {REFUSED[mode]}
    assert traffic.visits["10.1.1.1", False] == traffic.visits["10.1.4.1", True] == 0
    assert traffic.visits["10.1.2.1", True]
    assert traffic.visits["10.1.2.1", False]


def alternating() -> Iterator[str]:
    return itertools.islice(itertools.cycle(["odd", "even"]), RELOADS)


def check_decisions(decisions: list[DecisionRecord], by_hash: dict[str, str]) -> None:
    """Every decision is what the policy says that made it."""
    wrong = []
    for record in decisions:
        which = by_hash[record.policy]
        if record.listener == "web":
            host = record.client.rpartition(":")[0]
            network = {"odd": "10.1.2.", "even": "10.1.3."}[which]
            is_allowed = host == "10.1.1.1" or host.startswith(network)
        else:
            is_allowed = record.target.partition(":")[0] in ALLOWED[which]
        if is_allowed != (record.verdict == "allowed"):
            wrong.append(record)
    assert wrong == []
    assert len(decisions) > RELOADS


def watch_dials(gate: Gate, dialled: list[tuple[str, str]]) -> None:
    """Note with every dial the policy in force at that moment, and with every decision."""
    connect, write = gate.backend.connect, gate.recorder.write

    def connecting(operation: Any, sock: Any, address: SocketAddress) -> None:
        dialled.append((address.host, gate.service.policy.hash))
        connect(operation, sock, address)

    def writing(record: Any) -> None:
        if isinstance(record, DecisionRecord):
            assert record.policy == gate.service.policy.hash, "another policy is in force"
        write(record)

    gate.backend.connect = connecting  # type: ignore[method-assign]
    gate.recorder.write = writing  # type: ignore[method-assign]


def check_dials(dialled: list[tuple[str, str]], by_hash: dict[str, str]) -> None:
    """Nothing was dialled that the policy in force at that moment refuses."""
    names = {address: host for host, address in HOSTS.items()}
    found = {(names[host], by_hash[policy]) for host, policy in dialled if host in names}
    assert found == {(host, which) for which, hosts in ALLOWED.items() for host in hosts}


def check_ends(gate: Gate) -> None:
    """What was ended by a change of policy was none of what both allow."""
    revoked = [end for end in gate.ends if end.reason.startswith("revoked: ")]
    assert revoked, "there was traffic that a reload ended"
    assert {end.host for end in revoked if end.entry} <= {"odd.example", "even.example"}
    assert {end.client.rpartition(":")[0] for end in revoked if not end.entry} <= {
        "10.1.2.1",
        "10.1.3.1",
    }
    assert str(SERVER) in {end.server for end in gate.ends}
