"""The census: clients counted over all workers, without a lock, and without those that died."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import LimitExceeded
from sluicegate.gate import census as census_module
from sluicegate.gate.census import Census
from sluicegate.limits import Limits
from sluicegate.spool.quota import Quota


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


def test_limit_is_over_all_workers(memory: int) -> None:
    first, second, third = workers(memory, 3)
    first.note("10.0.0.1", 1, 1)
    first.note("10.0.0.1", 1, 2)
    second.note("10.0.0.1", 1, 1)
    assert third.has_room("10.0.0.1", 0, 4)
    assert not third.has_room("10.0.0.1", 0, 3)
    assert not second.has_room("10.0.0.1", 1, 3)
    assert third.has_room("10.0.0.2", 0, 3)
    first.note("10.0.0.1", -1, 1)
    assert third.has_room("10.0.0.1", 0, 3)


def test_worker_that_was_killed_counts_no_more(memory: int) -> None:
    first, second = workers(memory, 2)
    for number in range(1, 6):
        first.note("10.0.0.1", 1, number)
    assert not second.has_room("10.0.0.1", 0, 5)
    Census(memory, 0).clear(1)
    assert second.has_room("10.0.0.1", 0, 1)
    assert Census(memory, 1).has_room("10.0.0.1", 0, 1)


def test_client_that_cannot_be_counted_is_refused_where_it_could_matter(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "_GROUPS", 1)
    (only,) = workers(memory, 1)
    for number in range(16):
        only.note(f"10.0.0.{number}", 1, 1)
    only.note("10.0.1.1", 1, 1)
    assert not only.has_room("10.0.2.2", 0, 10)
    assert only.has_room("10.0.2.2", 0, 100)
    only.note("10.0.1.1", -1, 0)
    only.note("10.0.0.3", -1, 0)
    assert only.has_room("10.0.2.2", 0, 10)


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


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.booleans()), max_size=60),
    st.integers(1, 8),
)
def test_census_knows_what_a_counter_knows(steps: list[tuple[int, int, bool]], bound: int) -> None:
    memory = Census.make()
    try:
        rows = workers(memory, 3)
        known: list[Counter[str]] = [Counter(), Counter(), Counter()]
        for row, number, is_new in steps:
            client, counts = f"2001:db8::{number}", known[row]
            if not is_new and not counts[client]:
                continue
            counts[client] += 1 if is_new else -1
            rows[row].note(client, 1 if is_new else -1, counts[client])
        for row, here in zip(rows, known, strict=True):
            for number in range(6):
                client = f"2001:db8::{number}"
                total = sum(one[client] for one in known)
                assert row.has_room(client, here[client], bound) == (total < bound)
    finally:
        os.close(memory)
