"""The system policy: what the gate itself may do, and what becomes of a client without it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sluicegate.documents import Findings
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy import PolicySnapshot, parse_policy
from tests.flows.entry_kit import RULES, WEB, Ask, Names, asks, proxy_settings, says_hello
from tests.flows.gate_kit import Gate, play, sends


def plan(system: str) -> ServiceSettings:
    findings = Findings()
    parsed = parse_policy(RULES + system, "policy.toml", findings)
    assert parsed is not None, findings.errors
    return dataclasses.replace(proxy_settings(), policy=PolicySnapshot(parsed.policy))


@pytest.mark.parametrize(
    ("system", "is_asked"),
    [
        ("", True),
        ("[system]\ndns = { enabled = true }\n", True),
        ('[system]\ndns = { to = ["192.0.2.0/24"] }\n', True),
        ("[system]\ndns = { enabled = false }\n", False),
        ('[system]\ndns = { to = ["198.51.100.0/24"] }\n', False),
    ],
)
def test_names_are_looked_up_where_the_system_policy_lets_the_gate_ask(
    system: str, is_asked: bool
) -> None:
    names = Names().put("www.example", WEB.host)
    replies: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"", end=True), address=WEB)
        ask = Ask(EntryMode.SOCKS5, "www.example")
        replies.extend(await gate.ended(gate.call(asks(ask, says_hello))))
        await gate.idle()

    gate = play(scenario, plan(system), exchange=names)
    assert bool(names.asked) is is_asked
    if not is_asked:
        assert "[system]" in gate.ends[0].reason
