"""The census: what other workers know of a client, without a lock, and without those that died."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sluicegate.errors import LimitExceeded
from sluicegate.gate import census as census_module
from sluicegate.gate.census import Census
from sluicegate.gate.flood_count import FloodClient, Rate
from sluicegate.limits import Limits
from sluicegate.policy import FloodBounds
from sluicegate.spool.quota import Quota

NOW = 6000.0
"""A minute of the clock begins."""


@pytest.fixture
def memory() -> Iterator[int]:
    made = Census.make()
    yield made
    os.close(made)


def workers(memory: int, count: int) -> list[Census]:
    supervisor = Census(memory, 0)
    for row in range(1, count + 1):
        supervisor.clear(row)
    return [Census(memory, row) for row in range(1, count + 1)]


def client_with(connections: int = 0, key: str = "10.0.0.1") -> FloodClient:
    client = FloodClient(key, FloodBounds(), None)
    client.connections = connections
    return client


def connections_elsewhere(census: Census, key: str = "10.0.0.1") -> int:
    found = census.exchange(client_with(key=key), NOW)
    assert found is not None
    return found.connections


def test_every_count_of_every_other_worker_is_seen(memory: int) -> None:
    first, second, third = workers(memory, 3)
    one, other = client_with(50), client_with(70)
    one.half_open, one.udp_sessions, other.udp_sessions = 30, 20, 10
    one.connects.roll(NOW)
    one.connects.current, one.connects.previous = 40, 20
    one.requests, other.denied = Rate(), Rate()
    one.requests.roll(NOW)
    one.requests.current = 9
    other.denied.roll(NOW - 30)
    other.denied.current = 8
    first.exchange(one, NOW)
    second.exchange(other, NOW)
    found = third.exchange(client_with(), NOW + 15)
    assert found is not None
    assert (found.connections, found.half_open, found.udp_sessions) == (120, 30, 30)
    # A quarter of the minute is over: of what was counted in the one before, three quarters count.
    assert (found.connects, found.requests, found.denied) == (40 + 15, 9, 6)
    later = third.exchange(client_with(), NOW + 130)
    assert later is not None
    assert (later.connections, later.connects, later.requests, later.denied) == (120, 0, 0, 0)


def test_other_clients_are_not_seen(memory: int) -> None:
    first, second = workers(memory, 2)
    first.exchange(client_with(50), NOW)
    assert connections_elsewhere(second, "10.0.0.2") == 0
    assert connections_elsewhere(second) == 50


def test_what_has_ended_is_seen_at_once_and_what_was_released_is_gone(memory: int) -> None:
    first, second = workers(memory, 2)
    one = client_with(50)
    first.exchange(one, NOW)
    one.connections = 40
    first.write_open(one)
    assert connections_elsewhere(second) == 40
    first.release(one)
    assert connections_elsewhere(second) == 0


def test_what_is_less_than_a_lease_is_not_written(memory: int) -> None:
    first, second = workers(memory, 2)
    one = client_with(9)
    first.exchange(one, NOW)
    assert (connections_elsewhere(second), one.is_shown) == (0, False)
    one.connections = 10
    first.exchange(one, NOW)
    assert (connections_elsewhere(second), one.is_shown) == (10, True)


def test_worker_that_was_killed_counts_no_more(memory: int) -> None:
    first, second = workers(memory, 2)
    first.exchange(client_with(50), NOW)
    assert connections_elsewhere(second) == 50
    Census(memory, 0).clear(1)
    assert connections_elsewhere(second) == 0
    assert connections_elsewhere(Census(memory, 1)) == 0


def test_client_whose_group_is_full_has_no_place_until_another_one_is_idle(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "_GROUPS", 1)
    (only,) = workers(memory, 1)
    known = [client_with(1, f"10.0.0.{number}") for number in range(16)]
    for one in known:
        assert only.exchange(one, NOW) is not None
    late = client_with(1, "10.0.1.1")
    assert only.exchange(late, NOW) is None
    assert late.cell == -1
    known[3].connections = 0
    assert only.exchange(late, NOW) is not None
    assert (late.cell, known[3].cell) == (3, -1)


def test_spools_of_all_workers_share_one_limit(memory: int) -> None:
    first, second = workers(memory, 2)
    limits = Limits(spool_bytes_max=100)
    one, other = Quota(limits, first), Quota(limits, second)
    one.charge("10.0.0.1", 0, 60)
    with pytest.raises(LimitExceeded, match="spool_bytes_max"):
        other.charge("10.0.0.2", 0, 41)
    other.charge("10.0.0.2", 0, 40)
    one.discharge("10.0.0.1", 60)
    other.charge("10.0.0.2", 40, 60)
    Census(memory, 0).clear(2)
    one.charge("10.0.0.1", 0, 100)
