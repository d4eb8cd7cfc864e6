"""Groups P1, P6 and P9 of the hostile cases, in every way in which a client comes.

``test_policy_hostile`` has what policies say of destinations; here it is what they say by being
empty, by the time, and by learning. Instants are of the manual clock.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import pytest

from sluicegate.app.learning import learn_views
from sluicegate.app.time_zones import find_time_zone
from sluicegate.documents import Findings
from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy import PolicySnapshot, parse_policy
from tests.flows.entry_kit import WEB, Names
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.test_flood import INSIDE_TLS, begins, every_way, plan_of

RULE = """
[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["10.0.0.0/8"]
to = ["*"]
protocols = ["tcp:443", "bind", "udp:443"]
"""
PUBLISH = """
[[publish]]
name = "site"
listener = "web"
server = "10.9.9.9:8080"
clients = ["10.0.0.0/8"]
"""


def plan(way: str, text: str) -> ServiceSettings:
    """Return settings with a listener for a way, and this policy."""
    findings = Findings()
    parsed = parse_policy(text, "policy.toml", findings, time_zone=find_time_zone)
    assert parsed is not None, findings.errors
    return dataclasses.replace(plan_of(way), policy=PolicySnapshot(parsed.policy))


def admits(way: str, more: str) -> str:
    """Write what admits a client that comes in a way, with something more in it."""
    return (PUBLISH if way == "published" else RULE) + more


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


class Visitor:
    """A client that comes in some way, as often as it is asked to."""

    def __init__(self, gate: Gate, way: str) -> None:
        self.gate, self.way = gate, way

    async def is_let_in(self) -> bool:
        """Come, stay, and say whether that was allowed."""
        before = {one.connection for one in self.gate.service.connections()}
        self.gate.call(begins(self.way))
        await asyncio.sleep(0.5)
        return bool({one.connection for one in self.gate.service.connections()} - before)


def run(way: str, scenario: Any, text: str, *, start: str = "") -> Gate:
    def prepare(gate: Gate) -> None:
        if start:
            gate.clock.advance(at(start) - gate.clock.wall())

    async def whole(gate: Gate) -> None:
        gate.serve(echoes)
        gate.serve(echoes, address=WEB)
        await scenario(gate)
        for view in gate.service.connections():
            gate.service.kill(view.connection, "test")
        await gate.idle()

    names = Names().put("www.example", WEB.host)
    return play(whole, plan(way, text), exchange=names, prepare=prepare)


# -- P1 --------------------------------------------------------------------------------------------

EMPTY = {
    "nothing": "",
    "objects": '[objects.names]\nx = ["www.example"]\n[objects.networks]\ny = ["10.0.0.0/8"]\n',
    "what is off": f"{RULE}enabled = false\n{PUBLISH}enabled = false\n",
    "what is over": f"{RULE}expires = 2001-01-01T00:00:00Z\n{PUBLISH}expires = 2001-01-01T00:00:00Z\n",
    "refusals": RULE.replace('"allow"', '"deny"'),
    "other clients": (RULE + PUBLISH).replace("10.0.0.0/8", "10.77.0.0/16"),
    "no client": f'{RULE}clients_except = ["10.0.0.0/8"]\n{PUBLISH}clients_except = ["10.0.0.0/8"]\n',
    "other listeners": (RULE + PUBLISH).replace('"proxy"', '"other"').replace('listener = "web"', 'listener = "third"'),
    "other protocols": RULE.replace('"tcp:443", "bind", "udp:443"', '"tcp:25"'),
    "learning of others": '[[learn]]\nname = "l"\nclients = ["10.77.0.0/16"]\nuntil = 2025-06-20T00:00:00Z\n',
    "learning that is over": '[[learn]]\nname = "l"\nclients = ["10.0.0.0/8"]\nuntil = 2025-06-14T00:00:00Z\n',
}  # fmt: skip


@every_way
@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
def test_p1_policy_that_allows_nothing_lets_nobody_in(way: str, text: str) -> None:
    dialled: list[object] = []

    async def scenario(gate: Gate) -> None:
        gate.backend.connect = lambda *args: dialled.append(args)  # type: ignore[method-assign]
        assert not await Visitor(gate, way).is_let_in()

    gate = run(way, scenario, text, start="2025-06-16T00:00:00Z")
    assert (gate.ends, dialled) == ([], [])


# -- P6 --------------------------------------------------------------------------------------------

BERLIN = 'time_zone = "Europe/Berlin"\nweekly = ["sun 01:30-02:30"]'
WEEK = 'time_zone = "Europe/Berlin"\nweekly = ["mon-fri 09:00-17:00"]'
OFF = 'time_zone = "Europe/Berlin"\nweekly = ["mon-sun 00:00-24:00"]\ndates_off = [2026-12-25]'
NEW_YORK = 'time_zone = "America/New_York"\nweekly = ["sun 01:30-03:30"]'
LORD_HOWE = 'time_zone = "Australia/Lord_Howe"\nweekly = ["sun 01:45-02:15"]'
# the schedule, the instants at which somebody asks, whether he is let in
TIMES = {
    "spring: half an hour never comes": (BERLIN, ("2026-03-29T00:29:50Z", False), ("2026-03-29T00:30:10Z", True), ("2026-03-29T00:59:50Z", True), ("2026-03-29T01:00:10Z", False)),
    "autumn: half an hour comes twice": (BERLIN, ("2026-10-24T23:29:50Z", False), ("2026-10-25T00:29:50Z", True), ("2026-10-25T00:30:10Z", False), ("2026-10-25T01:00:10Z", True), ("2026-10-25T01:30:10Z", False)),
    "the same hours in winter": (WEEK, ("2026-03-27T07:59:50Z", False), ("2026-03-27T08:00:10Z", True), ("2026-03-27T16:00:10Z", False)),
    "and an hour earlier in summer": (WEEK, ("2026-03-30T06:59:50Z", False), ("2026-03-30T07:00:10Z", True), ("2026-03-30T15:00:10Z", False)),
    "west of Greenwich, spring": (NEW_YORK, ("2026-03-08T06:29:50Z", False), ("2026-03-08T06:30:10Z", True), ("2026-03-08T07:29:50Z", True), ("2026-03-08T07:30:10Z", False)),
    "west of Greenwich, autumn": (NEW_YORK, ("2026-11-01T05:30:10Z", True), ("2026-11-01T06:00:10Z", False), ("2026-11-01T06:30:10Z", True), ("2026-11-01T08:30:10Z", False)),
    "a change of half an hour": (LORD_HOWE, ("2026-04-04T14:44:50Z", False), ("2026-04-04T14:45:10Z", True), ("2026-04-04T15:00:10Z", False), ("2026-04-04T15:15:10Z", True), ("2026-04-04T15:45:10Z", False)),
    "a day off, from midnight of the zone": (OFF, ("2026-12-24T22:59:50Z", True), ("2026-12-24T23:00:10Z", False), ("2026-12-25T22:59:50Z", False), ("2026-12-25T23:00:10Z", True)),
}  # fmt: skip


@every_way
@pytest.mark.parametrize("case", TIMES.values(), ids=TIMES)
def test_p6_hours_are_kept_when_clocks_are_changed_also_for_what_is_open(
    way: str, case: tuple[Any, ...]
) -> None:
    written, *steps = case

    async def scenario(gate: Gate) -> None:
        visitor = Visitor(gate, way)
        for instant, is_active in steps:
            await asyncio.sleep(at(instant) - gate.clock.wall())
            if not is_active:
                assert gate.service.connections() == [], f"open at {instant}"
            assert await visitor.is_let_in() == is_active, instant

    text = f"[objects.schedules.hours]\n{written}\n" + admits(way, 'schedule = "hours"\n')
    first = dt.datetime.fromisoformat(steps[0][0]) - dt.timedelta(seconds=5)
    run(way, scenario, text, start=first.isoformat())


# what is written, the instants at which somebody asks, whether he is let in
EXPIRIES = {
    "in UTC": ("expires = 2026-03-29T01:00:00Z\n", ("2026-03-29T00:59:50Z", True), ("2026-03-29T01:00:10Z", False)),
    "with an offset": ("expires = 2026-03-29T03:00:00+02:00\n", ("2026-03-29T00:59:50Z", True), ("2026-03-29T01:00:10Z", False)),
    "before the hours end": ('expires = 2026-10-25T00:15:00Z\nschedule = "hours"\n', ("2026-10-25T00:14:50Z", True), ("2026-10-25T00:15:10Z", False), ("2026-10-25T01:15:00Z", False)),
    "for good": ("expires = 2026-10-25T00:15:00Z\n", ("2026-10-25T00:15:10Z", False), ("2026-10-26T00:15:10Z", False)),
}  # fmt: skip


@every_way
@pytest.mark.parametrize("case", EXPIRIES.values(), ids=EXPIRIES)
def test_p6_what_has_expired_is_over_also_for_what_is_open(way: str, case: tuple[Any, ...]) -> None:
    written, *steps = case

    async def scenario(gate: Gate) -> None:
        visitor = Visitor(gate, way)
        for instant, is_active in steps:
            await asyncio.sleep(at(instant) - gate.clock.wall())
            if not is_active:
                assert gate.service.connections() == [], f"open at {instant}"
            assert await visitor.is_let_in() == is_active, instant

    text = f"[objects.schedules.hours]\n{BERLIN}\n" + admits(way, written)
    first = dt.datetime.fromisoformat(steps[0][0]) - dt.timedelta(seconds=5)
    run(way, scenario, text, start=first.isoformat())


# -- P9 --------------------------------------------------------------------------------------------

LEARN = '[[learn]]\nname = "l"\nclients = ["10.0.0.0/8"]\nuntil = 2025-06-20T00:00:00Z\n'
NO = '[[rule]]\nname = "no"\naction = "{}"\nlistener = "proxy"\nclients = ["10.0.0.0/8"]\nto = ["*"]\nprotocols = []\n'
# what is written, whether it passes, and why
LEARNING = {
    "nothing": (LEARN, True, "learning"),
    "a rule that speaks of it": (RULE + LEARN, True, "allowed-by-rule"),
    "at this listener": (LEARN + 'listener = "proxy"\n', True, "learning"),
    "at another listener": (LEARN + 'listener = "other"\n', False, "no-rule"),
    "a refusal": (NO.format("deny") + LEARN, False, "denied-by-rule"),
    "of somebody else": (LEARN.replace("10.0.0.0/8", "10.77.0.0/16"), False, "client-not-listed"),
    "beside a rule that is off": (RULE + "enabled = false\n" + LEARN, True, "learning"),
}  # fmt: skip


@every_way
@pytest.mark.parametrize("case", LEARNING.values(), ids=LEARNING)
def test_p9_learning_is_on_record_and_in_status_wherever_it_lets_something_pass(
    way: str, case: tuple[str, bool, str]
) -> None:
    text, is_expected, reason = case
    inner = way.removesuffix(INSIDE_TLS)
    if inner == "udp-associate" and reason == "denied-by-rule":
        # The rule is asked about each datagram; ``test_learning`` has that.
        is_expected, reason = True, "learning"

    async def scenario(gate: Gate) -> None:
        service = gate.service
        let_in = await Visitor(gate, way).is_let_in()
        assert let_in == (is_expected and way != "published"), "nothing is published by learning"
        views = learn_views(service.policy, gate.clock.wall(), service.learned)
        assert len(views) == 1
        # (A bind is decided when its peer comes.)
        assert views[0].connections == (let_in and inner != "bind" and reason == "learning")

    decision = run(way, scenario, text, start="2025-06-16T00:00:00Z").decisions[0]
    if way != "published" and not (inner == "bind" and is_expected):
        assert decision.reason == reason
