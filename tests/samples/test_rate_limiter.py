"""The rate limiter: how fast, for whom, and that nothing is lost or spun for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.rate_limiter import Allowance, RateLimiter, RateLimiterSettings
from sluicegate.filterapi import SocketAddress
from tests.flows.gate_kit import Gate, echoes, play, sends
from tests.samples.sample_kit import SEEDS, exchange, plan_with

DATA = random.Random(3).randbytes(50_000)
OTHER = SocketAddress.parse("10.1.1.2:0")


def limiter(to_server: int = 10_000, to_client: int = 1 << 30, burst_s: float = 1.0) -> RateLimiter:
    values = {"to_server_bytes_per_s": to_server, "to_client_bytes_per_s": to_client}
    return RateLimiter(RateLimiterSettings.model_validate(values | {"burst_s": burst_s}))


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 3)), max_size=30))
def test_allowance_is_never_exceeded_over_any_time(asked):
    allowance = Allowance(1000, 1.0)
    now, total, first = 100.0, 0, 100.0
    for count, pause_s in asked:
        now += pause_s
        now += allowance.book(count, now)
        total += count
        assert total <= 1000 * (now - first + 1.0) + 1e-6


def test_pause_earns_one_burst_and_not_more():
    allowance = Allowance(1000, 2.0)
    assert allowance.book(2000, 100.0) == 0
    assert allowance.book(1000, 100.0) == pytest.approx(1.0)
    assert allowance.book(3000, 5000.0) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_arrive_whole_whatever_the_order_of_things(seed):
    done = exchange(limiter(), DATA, DATA[::-1], seed=seed)
    assert (done.at_server, done.at_client) == (DATA, DATA[::-1])
    assert done.outcome == ("released", "")


def time_of(client_says: bytes, what: RateLimiter, clients: int = 1, source=None) -> float:
    """Virtual seconds that so many connections at once take."""
    took: list[float] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        began = gate.clock.monotonic()
        tasks = []
        for number in range(clients):
            more = {"source": source(number)} if source else {}
            tasks.append(gate.call(sends(client_says), name=f"client {number}", **more))
        assert await gate.ended(*tasks) == [client_says] * clients
        took.append(gate.clock.monotonic() - began)
        await gate.idle()

    play(scenario, plan_with(what))
    return took[0]


def test_direction_is_as_fast_as_its_setting_behind_one_burst():
    assert time_of(DATA, limiter(10_000)) == pytest.approx(4.0, abs=0.2)
    assert time_of(DATA, limiter(1 << 30, 10_000)) == pytest.approx(4.0, abs=0.2)
    assert time_of(DATA, limiter(1 << 30)) < 0.2


def test_connections_of_a_client_share_and_clients_do_not():
    assert time_of(DATA, limiter(10_000), 3) == pytest.approx(14.0, abs=0.5)
    sources = [SocketAddress.parse(f"10.1.1.{number}:0") for number in (1, 2, 3)]
    apart = time_of(DATA, limiter(10_000), 3, sources.__getitem__)
    assert apart == pytest.approx(4.0, abs=0.2)


def test_short_message_does_not_wait_for_a_long_one():
    ends: dict[str, float] = {}

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        long = gate.call(sends(DATA), name="long")
        await gate.until(lambda: gate.service.connection_count)
        short = gate.call(sends(b"x" * 500), name="short")
        began = gate.clock.monotonic()
        await gate.ended(short)
        ends["short"] = gate.clock.monotonic() - began
        await gate.ended(long)
        await gate.idle()

    play(scenario, plan_with(limiter(10_000, burst_s=0.1)))
    assert ends["short"] < 1.0


def test_sender_is_slowed_down_with_one_timer_per_slice_and_no_buffer_grows(monkeypatch):
    private: list[int] = []
    booked: list[int] = []
    book = Allowance.book

    def counted(self: Allowance, count: int, now: float) -> float:
        booked.append(count)
        return book(self, count, now)

    monkeypatch.setattr(Allowance, "book", counted)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        client = gate.call(sends(DATA * 40))
        for second in range(1, 11):
            await gate.until(lambda at=second: gate.clock.monotonic() > at)
            private.append(gate.service.blockage.private_bytes)
        assert not client.is_done

    play(scenario, plan_with(limiter(10_000)))
    assert max(private) <= 1 << 20
    # A tenth of a second's worth each, there and (at once) back again.
    assert len(booked) < 2 * (10 + 1) * 10 * 1.5


def test_rule_may_set_its_own_speed():
    slow = {"to_server_bytes_per_s": 25_000}
    took: list[float] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        began = gate.clock.monotonic()
        assert await gate.ended(gate.call(sends(DATA))) == [DATA]
        took.append(gate.clock.monotonic() - began)
        await gate.idle()

    play(scenario, plan_with(limiter(100), slow))
    assert took[0] == pytest.approx(1.0, abs=0.2)


def test_reset_of_a_peer_ends_the_connection_as_failed_and_not_as_the_filters_fault():
    async def scenario(gate: Gate) -> None:
        async def resets(stream):
            await stream.receive()
            stream.reset()

        gate.serve(resets)
        await gate.ended(gate.call(sends(DATA)))
        await gate.idle()

    gate = play(scenario, plan_with(limiter()))
    assert gate.failures == []
    assert gate.ends[0].outcome == "failed"
    assert gate.ends[0].side == "server"
