"""The tarpit: who falls in, how slowly it answers, and what it costs at most."""

from __future__ import annotations

import pytest

from examples.filters.tarpit import Tarpit, TarpitSettings
from sluicegate.filterapi import SocketAddress
from tests.flows.gate_kit import Gate, play, sends, what_comes
from tests.samples.sample_kit import plan_with

WELCOME = SocketAddress.parse("10.2.2.2:0")


def pit(**more) -> Tarpit:
    values = {"unwelcome": ["10.1.0.0/16"], "byte_interval_s": 5, "hold_s": 60, "held_max": 2}
    return Tarpit(TarpitSettings.model_validate(values | more))


def test_unwelcome_client_gets_a_byte_now_and_then_and_the_server_gets_none():
    what = pit()

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(what_comes)
        began = gate.clock.monotonic()
        client = gate.call(sends(b"GET / HTTP/1.1\r\n\r\n"))
        await gate.until(lambda: what.held)
        assert await gate.ended(client) == [b"220-one mome<104>"]
        assert gate.clock.monotonic() - began == pytest.approx(60, abs=1)
        assert servers == []
        await gate.idle()

    gate = play(scenario, plan_with(what))
    assert (gate.ends[0].outcome, gate.ends[0].reason) == ("refused", "tarpit: held for 60 s")
    assert what.held == 0


def test_welcome_client_is_served():
    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"welcome"))
        assert await gate.ended(gate.call(sends(b""), source=WELCOME)) == [b"welcome"]
        await gate.idle()

    play(scenario, plan_with(pit()))


def test_full_pit_refuses_at_once_and_has_room_again_when_one_leaves():
    what = pit()
    denied = "tarpit: full"

    async def scenario(gate: Gate) -> None:
        gate.serve(what_comes)
        first = [gate.call(sends(b""), name=f"client {number}") for number in range(2)]
        await gate.until(lambda: what.held == 2)
        assert await gate.ended(gate.call(sends(b"x"))) == [b"<104>"]
        await gate.ended(*first)
        await gate.idle()
        gate.call(sends(b""))
        await gate.until(lambda: what.held == 1)

    gate = play(scenario, plan_with(what))
    assert [record.reason for record in gate.decisions if record.verdict == "denied"] == [denied]
    assert what.held == 0


def test_client_that_gives_up_leaves_the_pit():
    what = pit(hold_s=3600)

    async def scenario(gate: Gate) -> None:
        async def gives_up(stream):
            await stream.receive()
            stream.reset()

        gate.serve(what_comes)
        began = gate.clock.monotonic()
        gate.call(gives_up)
        await gate.until(lambda: what.held)
        await gate.until(lambda: not what.held)
        assert gate.clock.monotonic() - began < 30
        await gate.idle()

    gate = play(scenario, plan_with(what))
    assert gate.failures == []


def test_client_that_sends_much_and_reads_nothing_costs_no_memory():
    what = pit(hold_s=600)
    most: list[int] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(what_comes)
        client = gate.call(sends(b"x" * 5_000_000))
        for _ in range(20):
            at = gate.clock.monotonic()
            await gate.until(lambda at=at: gate.clock.monotonic() > at + 5)
            blockage = gate.service.blockage
            most.append(blockage.private_bytes)
        assert not client.is_done

    play(scenario, plan_with(what))
    assert max(most) <= 1 << 20


def test_end_of_the_service_does_not_wait_for_the_pit():
    what = pit(hold_s=3600)

    async def scenario(gate: Gate) -> None:
        gate.serve(what_comes)
        gate.call(sends(b""))
        await gate.until(lambda: what.held)

    play(scenario, plan_with(what))
    assert what.held == 0
