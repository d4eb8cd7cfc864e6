"""Proxy listeners on the simulated network: what a client names, is told, and reaches."""

from __future__ import annotations

from typing import Any

import pytest

from sluicegate.filterapi import EntryMode
from tests.flows.entry_kit import (
    MODES,
    WEB,
    WEB6,
    Ask,
    Names,
    Reply,
    asks,
    proxy_settings,
    says_hello,
)
from tests.flows.gate_kit import Gate, echoes, play

pytestmark = pytest.mark.parametrize("mode", MODES)


def visit(
    ask: Ask, plan: Any = None, names: Names | None = None, **options: Any
) -> tuple[Reply, Gate]:
    """Let one client ask once, with an echo behind every known address."""
    replies: list[Reply] = []

    async def scenario(gate: Gate) -> None:
        for address in (WEB, WEB6):
            gate.serve(echoes, address=address)
        client = gate.call(asks(ask, says_hello))
        replies.extend(await gate.ended(client))
        await gate.idle()

    gate = play(scenario, plan or proxy_settings(), exchange=names or Names(), **options)
    assert isinstance(replies[0], Reply), replies[0]
    return replies[0], gate


def test_address_is_dialled_and_the_tunnel_carries_bytes_both_ways(mode: EntryMode) -> None:
    reply, gate = visit(Ask(mode, WEB.host))
    assert (reply.code, reply.tunnelled) == (0, b"hello")
    (decision,), (end,) = gate.decisions, gate.ends
    assert (decision.verdict, decision.reason, decision.rule) == (
        "allowed",
        "allowed-by-rule",
        "web",
    )
    assert (decision.entry, decision.target) == (mode.value, str(WEB))
    assert (end.server, end.host, end.entry, end.outcome) == (str(WEB), "", mode.value, "released")
    assert (end.bytes_to_server, end.bytes_to_client) == (5, 5)


def test_name_is_looked_up_and_recorded_in_its_canonical_form(mode: EntryMode) -> None:
    names = Names().put("www.example", WEB.host)
    reply, gate = visit(Ask(mode, "WWW.example."), names=names)
    assert (reply.code, reply.tunnelled) == (0, b"hello")
    assert names.asked == {"www.example": 2}
    assert gate.decisions[0].target == "www.example:443"
    assert (gate.ends[0].host, gate.ends[0].server) == ("www.example", str(WEB))


def test_bytes_sent_before_the_answer_reach_the_server_first(mode: EntryMode) -> None:
    reply, _ = visit(Ask(mode, WEB.host, early=b"early and " * 3000))
    assert (reply.code, reply.tunnelled) == (0, b"early and " * 3000 + b"hello")


def test_port_that_no_rule_lists_is_refused_before_any_packet(mode: EntryMode) -> None:
    reply, gate = visit(Ask(mode, WEB.host, 80))
    assert reply.code == {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 2}.get(mode, 403)
    assert [record.reason for record in gate.decisions] == ["no-rule"]
    assert gate.ends == []
