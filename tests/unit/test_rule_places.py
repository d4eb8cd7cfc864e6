"""Places of a rule's connections: exactly as many as its bound, over all workers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.gate import census as census_module
from sluicegate.gate.census import Census
from sluicegate.gate.rule_places import RulePlaces
from sluicegate.policy import Publication, RuleLimits

NOW = 6000.0


def rule(connections_max: int | None, name: str = "few") -> Publication:
    server = SocketAddress("192.0.2.1", 80)
    limits = RuleLimits(connections_max=connections_max)
    return Publication(name, "web", server, (), limits=limits)


def workers(memory: int, count: int) -> list[RulePlaces]:
    supervisor = Census(memory, 0)
    for row in range(1, count + 1):
        supervisor.clear(row)
    return [RulePlaces(Census(memory, row), lambda: NOW) for row in range(1, count + 1)]


@pytest.fixture
def memory() -> Iterator[int]:
    made = Census.make()
    yield made
    os.close(made)


@settings(max_examples=100)
@given(
    st.integers(1, 4),
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["take", "take", "leave", "move"]))),
)
def test_a_place_is_given_exactly_while_there_is_one(
    count: int, bound: int, events: list[tuple[int, str]]
) -> None:
    memory = Census.make()
    try:
        crew, number = workers(memory, count), 0
        held: list[tuple[int, str]] = []
        other = rule(1000, "other")
        for number, (at, what) in enumerate(events):
            worker = at % count
            if what == "take":
                limit = crew[worker].take(rule(bound), f"c-{number}")
                assert (limit is None) == (len(held) < bound)
                if limit is None:
                    held.append((worker, f"c-{number}"))
            elif held:
                owner, identifier = held.pop(at % len(held))
                if what == "leave":
                    crew[owner].leave(identifier)
                    crew[owner].leave(identifier)
                else:
                    crew[owner].move(identifier, other)
                    assert crew[owner].rule_of[identifier] == "other"
    finally:
        os.close(memory)


def test_limit_names_the_rule_and_rules_without_one_are_not_counted(memory: int) -> None:
    first, second = workers(memory, 2)
    assert first.take(rule(1), "a") is None
    assert second.take(rule(None, "free"), "b") is None
    assert second.take(rule(1, "other"), "c") is None
    limit = second.take(rule(1), "d")
    assert limit is not None
    assert (limit.limit, limit.bound) == ("rule few connections_max", 1)
    assert second.rule_of == {"c": "other"}


def test_connection_that_goes_on_by_a_full_rule_is_counted_there(memory: int) -> None:
    first, second = workers(memory, 2)
    assert first.take(rule(1), "a") is None
    assert second.take(rule(5, "other"), "b") is None
    second.move("b", rule(1))
    first.leave("a")
    assert first.take(rule(1), "c") is not None, "the other worker has one by it"
    second.leave("b")
    assert first.take(rule(1), "c") is None


def test_worker_that_was_killed_leaves_its_places(memory: int) -> None:
    first, second = workers(memory, 2)
    assert first.take(rule(1), "a") is None
    assert second.take(rule(1), "b") is not None
    Census(memory, 0).clear(1)
    assert second.take(rule(1), "b") is None


def test_rule_that_the_census_has_no_room_for_has_its_share_in_each_worker(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "_GROUPS", 1)
    crew = workers(memory, 2)
    for number in range(16):
        assert crew[0].take(rule(9, f"r{number}"), f"a{number}") is None
        assert crew[1].take(rule(9, f"r{number}"), f"b{number}") is None
    taken = [crew[at].take(rule(5, "late"), f"l{at}{n}") is None for at in (0, 1) for n in range(4)]
    assert taken == [True, True, False, False] * 2
    assert crew[0].take(rule(1, "one"), "o") is not None, "half a place is none"
    crew[0].leave("a3")
    assert crew[0].take(rule(1, "one"), "o") is None


def test_without_other_workers_nothing_is_shared() -> None:
    places = RulePlaces(None, lambda: NOW)
    assert [places.take(rule(2), name) is None for name in "abc"] == [True, True, False]
    places.leave("a")
    assert places.take(rule(2), "c") is None
