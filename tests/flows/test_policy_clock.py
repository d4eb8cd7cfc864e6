"""Schedules, expiries and learning: what time changes, without a reload."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from sluicegate.filterapi import EntryMode
from tests.flows.entry_kit import MODES, REFUSED, WEB, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.test_revocation import Tunnel

every_mode = pytest.mark.parametrize("mode", MODES)
DENY = '[[rule]]\nname = "no"\naction = "deny"\nto = ["93.184.216.99"]\nclients = ["10.0.0.0/8"]\n'


def stamp(instant: float) -> str:
    return dt.datetime.fromtimestamp(instant, dt.UTC).isoformat().replace("+00:00", "Z")


@every_mode
@pytest.mark.parametrize("kind", ["expires", "learn"])
def test_what_time_ends_is_closed_then_and_nothing_new_comes_in(mode: EntryMode, kind: str) -> None:
    async def scenario(gate: Gate) -> None:
        end = gate.clock.wall() + 100
        if kind == "expires":
            policy = f'[[rule]]\nname = "web"\nto = ["{WEB.host}"]\nexpires = {stamp(end)}\n'
        else:
            policy = DENY + (
                f'[[learn]]\nname = "runner"\nclients = ["10.0.0.0/8"]\nuntil = {stamp(end)}\n'
            )
        await gate.service.apply(proxy_settings(policy))
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(mode, WEB.host)).open()
        [before] = await gate.ended(gate.call(asks(Ask(mode, WEB.host))))
        [denied] = await gate.ended(gate.call(asks(Ask(mode, "93.184.216.99"))))
        [own] = await gate.ended(gate.call(asks(Ask(mode, "10.0.0.1"))))
        await asyncio.sleep(90)
        assert await tunnel.echo(b"again") == b"again"
        await asyncio.sleep(12)
        assert await tunnel.echo(b"again") == b""
        [after] = await gate.ended(gate.call(asks(Ask(mode, WEB.host))))
        assert (before.code, after.code) == (0, REFUSED[mode])
        assert denied.code == own.code == REFUSED[mode], "learning turns no refusal into a yes"
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, proxy_settings(), exchange=Names())
    first = gate.decisions[0]
    name, reason = ("web", "allowed-by-rule") if kind == "expires" else ("learn:runner", "learning")
    assert (first.rule, first.reason) == (name, reason)
    assert gate.service.learned == (2 if kind == "learn" else 0)
    assert "revoked: no-rule" in {end.reason for end in gate.ends}
