"""The server split: whose turn it is, what a dead server costs, and that nobody else is dialled."""

from __future__ import annotations

import errno
import random

import pytest

from examples.filters.server_split import ServerSplit, ServerSplitSettings
from sluicegate.audit import NoteRecord
from sluicegate.filterapi import SocketAddress
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import Gate, echoes, play, sends, what_comes
from tests.samples.sample_kit import plan_with

SERVERS = [SocketAddress.parse(f"10.9.0.{number}:80") for number in (1, 2, 3)]


def split(count: int = 3, **more) -> ServerSplit:
    servers = [str(server) for server in SERVERS[:count]]
    return ServerSplit(ServerSplitSettings.model_validate({"servers": servers} | more))


def named(number: int):
    async def peer(stream: PeerStream) -> None:
        await stream.send_all(b"server %d" % number)
        stream.end_stream()
        await stream.receive_all()

    return peer


def chosen(gate: Gate) -> list[str]:
    return [str(note.facts["server"]) for note in gate.recorder.of(NoteRecord)]


def test_each_client_gets_the_next_server_and_the_first_one_follows_the_last():
    async def scenario(gate: Gate) -> None:
        for number, server in enumerate(SERVERS, 1):
            gate.serve(named(number), address=server)
        received = [(await gate.ended(gate.call(sends(b"x"))))[0] for _ in range(5)]
        assert received == [b"server %d" % number for number in (1, 2, 3, 1, 2)]
        await gate.idle()

    gate = play(scenario, plan_with(split()))
    assert {record.outcome for record in gate.ends} == {"released"}
    assert chosen(gate) == [str(SERVERS[number]) for number in (0, 1, 2, 0, 1)]
    assert {record.emulated_by for record in gate.decisions} == {"server_split"}


@pytest.mark.parametrize("seed", range(6))
def test_bytes_pass_both_ways_whole(seed: int):
    data = random.Random(seed).randbytes(200_000)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=SERVERS[0])
        assert await gate.ended(gate.call(sends(data))) == [data]
        await gate.idle()

    gate = play(scenario, plan_with(split(1)), seed=seed, faults=FaultPlan.disorder())
    assert (gate.ends[0].bytes_to_server, gate.ends[0].bytes_to_client) == (200_000, 200_000)


def test_server_that_refuses_is_passed_over():
    async def scenario(gate: Gate) -> None:
        gate.serve(named(2), address=SERVERS[1])
        for _ in range(2):
            assert await gate.ended(gate.call(sends(b"x"))) == [b"server 2"]
        await gate.idle()

    gate = play(scenario, plan_with(split()))
    assert chosen(gate) == [str(SERVERS[1])] * 2


def test_client_is_reset_when_no_server_answers():
    async def scenario(gate: Gate) -> None:
        received = await gate.ended(gate.call(sends(b"x", end=False)))
        assert received == [f"<{errno.ECONNRESET}>".encode()]
        await gate.idle()

    gate = play(scenario, plan_with(split()))
    (end,) = gate.ends
    assert (end.outcome, end.side, end.error) == ("failed", "server", "ECONNREFUSED")
    assert gate.failures == []


def test_server_of_a_client_that_resets_is_reset_too():
    async def reset(stream: PeerStream) -> None:
        await stream.send_all(b"half of it")
        stream.reset()

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(what_comes, address=SERVERS[0])
        gate.call(reset)
        await gate.until(lambda: gate.ends)
        await gate.until(lambda: not servers or servers[0].is_done)
        assert all(server.result().endswith(b"<104>") for server in servers)

    gate = play(scenario, plan_with(split(1)))
    assert (gate.ends[0].outcome, gate.ends[0].side) == ("failed", "client")


@pytest.mark.parametrize("servers", [[], ["localhost:80"], ["192.0.2.1"]])
def test_settings_are_addresses(servers: list[str]):
    with pytest.raises(ValueError, match=r"at least 1|not|Expected"):
        ServerSplitSettings.model_validate({"servers": servers})
