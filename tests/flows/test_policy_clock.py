"""Schedules, expiries and learning, and the end of a grace: what time changes, without a reload."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_connection import EntryConnection
from sluicegate.gate.readmission import Readmission
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
    assert gate.service.learned.total() == (2 if kind == "learn" else 0)
    assert "revoked: no-rule" in {end.reason for end in gate.ends}


@every_mode
def test_what_time_ends_is_closed_also_when_it_ends_in_the_middle_of_a_turn(
    mode: EntryMode,
) -> None:
    """A busy gate takes milliseconds for a turn, and all of it decides by one reading of the clock.

    Whatever notices the end later in such a turn must not have everything judged by that reading.
    """

    async def scenario(gate: Gate) -> None:
        end = gate.clock.wall() + 100
        rule = f'[[rule]]\nname = "web"\nto = ["{WEB.host}"]\nexpires = {stamp(end)}\n'
        await gate.service.apply(proxy_settings(rule))
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(mode, WEB.host)).open()
        woken, slow_turns = gate.backend.on_woken, 0

        def slow() -> None:
            nonlocal slow_turns
            woken()
            if 0 < end - gate.port.wall < 0.06 and not slow_turns:
                slow_turns += 1
                gate.clock.advance(0.06)

        gate.backend.on_woken = slow
        await asyncio.sleep(end - gate.clock.wall() - 0.03)
        await asyncio.sleep(1)
        assert slow_turns == 1
        assert await tunnel.echo(b"again") == b""
        await tunnel.leave()
        await gate.idle()

    play(scenario, proxy_settings(), exchange=Names())


def test_what_cannot_be_judged_at_the_end_of_its_grace_is_refused_and_so_are_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken: list[EntryConnection] = []
    judge_anew = EntryConnection.judge_anew

    def fails(self: EntryConnection) -> Readmission:
        if self in broken:
            raise RuntimeError("nobody foresaw it")
        return judge_anew(self)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnels = [await Tunnel(gate, Ask(EntryMode.SOCKS5, WEB.host)).open() for _ in range(3)]
        await gate.service.apply(proxy_settings(DENY))
        await asyncio.sleep(5)
        first = gate.service.find_connection(gate.decisions[0].connection)
        assert isinstance(first, EntryConnection)
        broken.append(first)
        await asyncio.sleep(6)
        assert [await one.echo(b"again") for one in tunnels] == [b""] * 3
        for one in tunnels:
            await one.leave()
        await gate.idle()
        assert [str(error) for error in gate.errors] == ["nobody foresaw it"]
        gate.errors.clear()

    monkeypatch.setattr(EntryConnection, "judge_anew", fails)
    web = f'[[rule]]\nname = "web"\nto = ["{WEB.host}"]\n'
    gate = play(scenario, proxy_settings(web), exchange=Names(), revoke_grace_s=10.0)
    assert sorted(end.reason for end in gate.ends) == [
        "revoked: it could not be judged again",
        "revoked: no-rule",
        "revoked: no-rule",
    ]
