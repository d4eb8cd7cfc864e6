"""Flood counts against a naive model that keeps every event; forgetting, and many workers."""

from __future__ import annotations

import ipaddress
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.errors import LimitExceeded
from sluicegate.gate.census import Census
from sluicegate.gate.flood_count import FloodClient, FloodCounts
from sluicegate.policy.flood import CompiledFlood, FloodBounds, FloodException, FloodLimits

BEGIN = 5990.0
"""Ten seconds before a minute of the clock is over."""


def address(number: int) -> SocketAddress:
    return SocketAddress(f"192.0.2.{number}", 4000)


def counts_of(bounds: FloodBounds, clients_max: int = 100) -> FloodCounts:
    counts = FloodCounts(clients_max)
    counts.apply(CompiledFlood(FloodLimits(bounds=bounds)))
    return counts


class Ledger:
    """Every connect of every client, and what a sliding minute has of them."""

    def __init__(self) -> None:
        self.times: dict[int, list[float]] = {}

    def note(self, client: int, now: float) -> None:
        self.times.setdefault(client, []).append(now)

    def used(self, client: int, now: float) -> float:
        minute = now // 60
        seen = Counter(time // 60 for time in self.times.get(client, ()))
        return seen[minute] + seen[minute - 1] * (minute + 1 - now / 60)


steps = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.0, 0.0, 0.5, 7.0, 61.0]), st.booleans()),
    max_size=200,
)


@given(steps)
def test_client_is_refused_exactly_when_its_minute_or_its_connections_are_full(
    events: list[tuple[int, float, bool]],
) -> None:
    counts = counts_of(FloodBounds(connects_per_minute=7, connections_max=4, half_open_max=2))
    ledger, now = Ledger(), BEGIN
    open_now: dict[int, list[bool]] = {}
    for client, pause, is_end in events:
        now += pause
        own = open_now.setdefault(client, [])
        if is_end and own:
            is_half_open = own.pop()
            found = counts.find(address(client), now)
            assert isinstance(found, FloodClient)
            counts.end_connection(found, is_half_open=is_half_open)
            continue
        found = counts.admit(address(client), now)
        if ledger.used(client, now) > 6:
            assert isinstance(found, LimitExceeded)
            assert found.limit == "connects_per_minute"
            continue
        ledger.note(client, now)
        if len(own) >= 4:
            assert isinstance(found, LimitExceeded)
            assert found.limit == "connections_max"
        elif sum(own) >= 2:
            assert isinstance(found, LimitExceeded)
            assert found.limit == "half_open_max"
            # Some of its servers come now.
            client_counts = counts.find(address(client), now)
            assert isinstance(client_counts, FloodClient)
            for _ in range(sum(own)):
                counts.end_half_open(client_counts)
            open_now[client] = [False] * len(own)
        else:
            assert isinstance(found, FloodClient)
            own.append(True)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.0, 0.0, 0.01, 3.0])), max_size=400)
)
def test_many_addresses_neither_grow_the_table_nor_reset_a_busy_client(
    events: list[tuple[int, float]],
) -> None:
    bounds = FloodBounds(connects_per_minute=32)
    counts, ledger, now = counts_of(bounds, clients_max=5), Ledger(), BEGIN
    known: dict[int, FloodClient] = {}
    forgotten: Counter[int] = Counter()
    for number, pause in events:
        now += pause
        client = 0 if number % 3 == 0 else number
        before = dict(counts._clients)
        found = counts.admit(address(client), now)
        assert len(counts) <= 5
        for key, one in before.items():
            if key not in counts._clients:
                assert one.is_light(now), "who has used a sixteenth of a bound is not forgotten"
                forgotten[int(str(key).rpartition(".")[2])] += 1
        if isinstance(found, FloodClient):
            ledger.note(client, now)
            known[client] = found
            counts.end_connection(found, is_half_open=True)
            # Each time it is forgotten, a client gains less than a sixteenth of its bound.
            assert ledger.used(client, now) <= 32 + 2 * forgotten[client]
        elif found.limit == "connects_per_minute":
            assert ledger.used(client, now) > 31, "it was refused too early"
        else:
            assert found.limit == "flood_clients_max"
            assert not any(one.is_light(now) for one in counts._clients.values())


def test_what_is_open_is_never_forgotten_and_full_table_refuses_until_something_ends() -> None:
    counts = counts_of(FloodBounds(), clients_max=3)
    opened = [counts.admit(address(number), BEGIN) for number in range(3)]
    refused = counts.admit(address(9), BEGIN)
    assert isinstance(refused, LimitExceeded)
    assert refused.limit == "flood_clients_max"
    assert isinstance(opened[1], FloodClient)
    counts.end_connection(opened[1], is_half_open=True)
    assert isinstance(counts.admit(address(9), BEGIN + 1.0), FloodClient)
    assert [counts.admit(address(number), BEGIN + 1.0) is opened[number] for number in (0, 2)] == [
        True, True,
    ]  # fmt: skip


def test_reload_changes_the_bounds_of_whoever_is_there_and_keeps_what_was_counted() -> None:
    counts = counts_of(FloodBounds(connections_max=3))
    for _ in range(3):
        counts.admit(address(1), BEGIN)
    counts.apply(CompiledFlood(FloodLimits(bounds=FloodBounds(connections_max=4))))
    assert isinstance(counts.admit(address(1), BEGIN), FloodClient)
    assert isinstance(counts.admit(address(1), BEGIN), LimitExceeded)
    counts.apply(CompiledFlood(FloodLimits(enabled=False)))
    for _ in range(5000):
        assert isinstance(counts.admit(address(1), BEGIN), FloodClient)


def v6(text: str) -> SocketAddress:
    return SocketAddress(text, 4000)


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    counts = counts_of(FloodBounds(connects_per_minute=2))
    assert isinstance(counts.admit(v6("2001:db8::1"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8::ffff:1"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8::2"), BEGIN), LimitExceeded)
    assert isinstance(counts.admit(v6("2001:db8:0:1::2"), BEGIN), FloodClient)


def test_prefix_that_makes_a_client_can_be_chosen() -> None:
    counts = FloodCounts(10)
    one = FloodBounds(connects_per_minute=1)
    counts.apply(CompiledFlood(FloodLimits(bounds=one, ipv6_prefix=128)))
    assert isinstance(counts.admit(v6("2001:db8::1"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8::2"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8::2"), BEGIN), LimitExceeded)


def test_exception_within_an_ipv6_network_is_a_client_of_its_own() -> None:
    few, many = FloodBounds(connects_per_minute=1), FloodBounds(connects_per_minute=3)
    networks = (ipaddress.ip_network("2001:db8::1:0/112"), ipaddress.ip_network("2001:db8:f::/48"))
    counts = FloodCounts(10)
    counts.apply(
        CompiledFlood(FloodLimits(bounds=few, exceptions=(FloodException(networks, many),)))
    )
    assert isinstance(counts.admit(v6("2001:db8::2:1"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8::3:1"), BEGIN), LimitExceeded)
    for last in range(3):
        assert isinstance(counts.admit(v6(f"2001:db8::1:{last}"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8::1:9"), BEGIN), LimitExceeded)
    for last in range(3):
        assert isinstance(counts.admit(v6(f"2001:db8:f::{last}"), BEGIN), FloodClient)
    assert isinstance(counts.admit(v6("2001:db8:f::9"), BEGIN), LimitExceeded)


def test_denials_are_recorded_up_to_the_bound_and_again_when_the_client_has_calmed_down() -> None:
    counts = counts_of(FloodBounds(denied_per_minute=5))
    client = counts.find(address(1), BEGIN)
    assert isinstance(client, FloodClient)
    assert [counts.take_denial(client, BEGIN) for _ in range(7)] == [True] * 5 + [False] * 2
    # A minute later it still goes on: it has not calmed down, and stays unrecorded.
    assert [counts.take_denial(client, BEGIN + 12.0) for _ in range(3)] == [False] * 3
    assert counts.take_denial(client, BEGIN + 190.0)


def test_requests_and_rules_have_rates_of_their_own() -> None:
    counts = counts_of(FloodBounds(requests_per_minute=3, connects_per_minute=1))
    client = counts.admit(address(1), BEGIN)
    assert isinstance(client, FloodClient)
    assert [counts.take_request(client, BEGIN) for _ in range(4)] == [True] * 3 + [False]
    assert [counts.take_of_all("rule a", 2, BEGIN) for _ in range(3)] == [True, True, False]
    assert counts.take_of_all("rule b", 2, BEGIN)
    counts.keep_rules(frozenset({"rule b"}))
    assert counts.take_of_all("rule a", 2, BEGIN)


# -- many workers ----------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[int]:
    made = Census.make()
    yield made
    os.close(made)


def workers(memory: int, count: int, bounds: FloodBounds) -> list[FloodCounts]:
    supervisor = Census(memory, 0)
    made: list[FloodCounts] = []
    for row in range(1, count + 1):
        supervisor.clear(row)
        made.append(FloodCounts(100, Census(memory, row)))
        made[-1].apply(CompiledFlood(FloodLimits(bounds=bounds)))
    return made


@settings(max_examples=60)
@given(
    st.integers(1, 4),
    st.integers(1, 60),
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.3, 9.0]), st.integers(0, 2)),
        max_size=400,
    ),
)
def test_workers_together_refuse_nobody_early_and_pass_a_bound_by_an_eighth(
    count: int, bound: int, events: list[tuple[int, float, int]]
) -> None:
    memory = Census.make()
    try:
        bounds = FloodBounds(bound, bound, bound)
        crew = workers(memory, count, bounds)
        slack = max(2, count, bound // 8)
        ledger, now = Ledger(), BEGIN
        opened: list[tuple[int, FloodClient]] = []
        for number, pause, kind in events:
            now += pause
            at = number % count
            if kind == 0 and opened:
                worker, client = opened.pop(len(opened) // 2)
                crew[worker].end_connection(client, is_half_open=True)
                continue
            found = crew[at].admit(address(1), now)
            if isinstance(found, FloodClient):
                opened.append((at, found))
                ledger.note(1, now)
            elif found.limit == "connects_per_minute":
                assert ledger.used(1, now) > bound - 1, "it was refused too early"
            else:
                assert len(opened) >= bound, "it was refused too early"
                ledger.note(1, now)
            assert len(opened) <= bound + slack
            assert ledger.used(1, now) <= bound + slack
    finally:
        os.close(memory)


def test_client_that_comes_to_every_worker_in_turn_meets_its_bound(memory: int) -> None:
    crew = workers(memory, 4, FloodBounds())
    admitted = sum(
        isinstance(crew[number % 4].admit(address(1), BEGIN), FloodClient) for number in range(1000)
    )
    assert 80 <= admitted <= 84, "half_open_max, and one more for each worker"


def test_light_client_is_never_written_anywhere(memory: int) -> None:
    crew = workers(memory, 2, FloodBounds())
    found = crew[0].admit(address(1), BEGIN)
    assert isinstance(found, FloodClient)
    assert found.cell == -1
