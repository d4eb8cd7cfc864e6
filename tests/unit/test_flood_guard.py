"""FloodGuard over a reload: what was counted under a rule counts on while the rule is there."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Any, cast

import pytest

from sluicegate.address import SocketAddress
from sluicegate.gate.flood import FloodGuard
from sluicegate.policy import (
    FloodLimits,
    LearnEntry,
    Policy,
    PolicySnapshot,
    Publication,
    Rule,
    RuleAction,
    Targets,
)

CLIENT = SocketAddress("10.0.0.1", 4000)
EVERYBODY = (ipaddress.ip_network("10.0.0.0/8"),)
RULE = Rule("one", RuleAction.ALLOW, None, EVERYBODY, Targets(is_everything=True))
PUBLICATION = Publication("site", "dns", SocketAddress("192.0.2.1", 53), EVERYBODY)
LEARN = LearnEntry("lab", EVERYBODY, 2e9)
LIMITS = FloodLimits(rule_udp_sessions_per_minute=3)


class Standing:
    """A port whose time stands still, and that never calls anybody back."""

    now = 6000.0

    def call_after(self, delay_s: float, action: Any) -> None:
        del delay_s, action

    def wall(self) -> float:
        return self.now

    def write(self, record: Any) -> None:
        del record


def snapshot(**more: Any) -> PolicySnapshot:
    policy = Policy(publications=(PUBLICATION,), rules=(RULE,), learn=(LEARN,), flood=LIMITS)
    return PolicySnapshot(dataclasses.replace(policy, **more))


def guard() -> FloodGuard:
    standing = cast("Any", Standing())
    made = FloodGuard(standing, standing, standing, 100, None)
    made.apply(snapshot(), ["dns"])
    return made


def admitted(made: FloodGuard, name: str, count: int) -> int:
    return sum(made.admit_under(name, CLIENT) for _ in range(count))


@pytest.mark.parametrize("name", ["one", "site", "learn:lab"])
def test_reload_gives_nobody_a_new_minute(name: str) -> None:
    made = guard()
    assert admitted(made, name, 2) == 2
    made.apply(snapshot(), ["dns"])
    assert admitted(made, name, 5) == 1, "two of three were used before"


@pytest.mark.parametrize(
    ("name", "without"),
    [("one", {"rules": ()}), ("site", {"publications": ()}), ("learn:lab", {"learn": ()})],
)
def test_what_was_counted_under_a_rule_that_is_gone_is_forgotten(
    name: str, without: dict[str, Sequence[Any]]
) -> None:
    made = guard()
    assert admitted(made, name, 5) == 3
    made.apply(snapshot(**without), ["dns"])
    made.apply(snapshot(), ["dns"])
    assert admitted(made, name, 5) == 3


def test_listeners_count_on_too() -> None:
    made = guard()
    assert sum(made.note_datagram_denied("dns", CLIENT) for _ in range(5)) == 3
    made.apply(snapshot(), ["dns"])
    assert not made.note_datagram_denied("dns", CLIENT)
