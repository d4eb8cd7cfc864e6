"""Relayed connections without data filters: bytes, ends, deadlines, caps, and who may pin what."""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord
from sluicegate.errors import Side
from sluicegate.filterapi import (
    FORWARD,
    ConnectRequested,
    Events,
    Filter,
    Pass,
    SessionFilter,
    StreamFilter,
    StreamVerdict,
)
from sluicegate.gate.settings import ListenerSettings
from sluicegate.policy import FloodBounds
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import (
    CLIENT,
    CLIENT6,
    ENTRY,
    ENTRY6,
    SERVER,
    SERVER6,
    Gate,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
    what_comes,
)

DATA = random.Random(5).randbytes(3_000_000)


class Looks(StreamFilter):
    """Sees every chunk and releases it."""

    def on_data(self, side: Side, window: Any) -> StreamVerdict:
        return FORWARD


PLANS = {
    "plain": settings(publication()),
    "stream": settings(publication("looks"), filters=[installation(Looks, "looks")]),
}


@pytest.fixture(params=sorted(PLANS))
def plan(request: pytest.FixtureRequest) -> Any:
    return PLANS[request.param]


# -- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, 4097, 70_000, 3_000_000])
def test_bytes_arrive_unchanged_in_both_directions(plan: Any, size: int) -> None:
    async def scenario(gate: Gate) -> None:
        (server,) = [gate.serve(echoes)]
        client = gate.call(sends(DATA[:size]))
        assert await gate.ended(client) == [DATA[:size]]
        assert await gate.ended(*server) == [size]

    gate = play(scenario, plan)
    (decision,) = gate.decisions
    assert (decision.verdict, decision.reason, decision.rule) == ("allowed", "published", "web")
    (end,) = gate.ends
    assert (end.outcome, end.reason, end.error) == ("released", "", "")
    assert (end.bytes_to_server, end.bytes_to_client) == (size, size)
    assert end.connection == decision.connection


@pytest.mark.parametrize("seed", range(20))
def test_bytes_arrive_unchanged_whatever_the_order_of_things(plan: Any, seed: int) -> None:
    size = random.Random(seed).choice([10, 5000, 100_000, 1_000_000])

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        clients = [gate.call(sends(DATA[i : size + i])) for i in range(3)]
        ends = await gate.ended(*clients)
        assert ends == [DATA[index : size + index] for index in range(3)]

    gate = play(scenario, plan, seed=seed, faults=FaultPlan.disorder())
    assert [end.outcome for end in gate.ends] == ["released"] * 3


def test_client_may_end_its_stream_and_still_receive(plan: Any) -> None:
    async def server(stream: PeerStream) -> bytes:
        question = await stream.receive_all()
        await stream.send_all(b"answer to " + question)
        stream.close()
        return question

    async def scenario(gate: Gate) -> None:
        gate.serve(server)
        assert await gate.ended(gate.call(sends(b"question"))) == [b"answer to question"]

    assert play(scenario, plan).ends[0].outcome == "released"


def test_server_may_end_its_stream_and_still_receive(plan: Any) -> None:
    async def server(stream: PeerStream) -> bytes:
        await stream.send_all(b"hello")
        stream.end_stream()
        return await stream.receive_all()

    async def client(stream: PeerStream) -> bytes:
        greeting = await stream.receive_all()
        await stream.send_all(b"late words")
        stream.close()
        return greeting

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(server)
        assert await gate.ended(gate.call(client)) == [b"hello"]
        assert await gate.ended(*servers) == [b"late words"]

    assert play(scenario, plan).ends[0].outcome == "released"


def test_interactive_stream_turns_bulky_is_spliced_and_turns_interactive_again() -> None:
    async def server(stream: PeerStream) -> None:
        for size in (100, 2_000_000, 100):
            await stream.receive()
            await stream.send_all(DATA[:size])
        for _ in range(40):
            await stream.receive()
            await stream.send_all(b"small")
        stream.close()

    seen: list[bool] = []

    async def client(stream: PeerStream) -> int:
        count = 0
        for size in (100, 2_000_000, 100):
            await stream.send_all(b"?")
            received = b""
            while len(received) < size:
                received += await stream.receive()
            assert received == DATA[:size]
            count += size
        for _ in range(40):
            await stream.send_all(b"?")
            count += len(await stream.receive())
        return count

    async def scenario(gate: Gate) -> None:
        gate.serve(server)
        task = gate.call(client)
        while not task.is_done:
            seen.extend(view.is_spliced for view in gate.service.connections())
            await asyncio.sleep(0.0005)
        assert task.result() == 2_000_200 + 200

    (end,) = play(scenario).ends
    assert 1_900_000 < end.bytes_spliced <= end.bytes_to_client
    changes = [now for before, now in itertools.pairwise(seen) if now != before]
    assert changes[:2] == [True, False]


def test_bulky_stream_without_a_pipe_to_have_is_copied() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(DATA))) == [DATA]

    (end,) = play(scenario, splice_pipes_max=0).ends
    assert (end.bytes_spliced, end.bytes_to_client) == (0, len(DATA))


def test_ipv6_client_reaches_ipv6_server() -> None:
    plan = settings(publication(server=SERVER6), listeners=[ListenerSettings("web", ENTRY6)])

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=SERVER6)
        client = gate.call(sends(DATA), address=ENTRY6, source=CLIENT6)
        assert await gate.ended(client) == [DATA]

    gate = play(scenario, plan)
    assert gate.decisions[0].client.startswith("[fd00::c]:")
    assert gate.ends[0].server == "[fd00::9]:8080"


def test_ipv6_client_reaches_ipv4_server() -> None:
    plan = settings(publication(), listeners=[ListenerSettings("web", ENTRY6)])

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        client = gate.call(sends(b"across"), address=ENTRY6, source=CLIENT6)
        assert await gate.ended(client) == [b"across"]

    play(scenario, plan)


# -- who may --------------------------------------------------------------------------------------


def test_nothing_is_dialled_for_a_client_that_no_rule_names() -> None:
    plan = settings(publication(clients=["10.2.0.0/16"]))

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(echoes)
        (received,) = await gate.ended(gate.call(sends(b"let me in")))
        assert isinstance(received, OSError) or received == b"<104>"
        assert not servers

    gate = play(scenario, plan)
    (decision,) = gate.decisions
    assert (decision.verdict, decision.reason) == ("denied", "client-not-listed")
    assert gate.ends == []
    assert (gate.service.allowed, gate.service.denied) == (0, 1)


def test_listener_without_a_publication_refuses_everybody() -> None:
    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(sends(b"hello")))

    gate = play(scenario, settings())
    assert [(d.verdict, d.reason) for d in gate.decisions] == [("denied", "not-published")]


def test_nobody_is_let_in_while_records_cannot_be_written() -> None:
    async def scenario(gate: Gate) -> None:
        servers = gate.serve(echoes)
        gate.recorder.is_accepting = False
        await gate.ended(gate.call(sends(b"hello")))
        assert not servers
        gate.recorder.is_accepting = True
        assert await gate.ended(gate.call(sends(b"again"))) == [b"again"]

    gate = play(scenario)
    assert len(gate.decisions) == len(gate.ends) == 1
    assert gate.service.denied == 1


# -- failures -------------------------------------------------------------------------------------


async def never_ends(stream: PeerStream) -> bytes:
    received = b""
    try:
        while True:
            piece = await stream.receive()
            received += piece
            if not piece:
                await _for_ever()
    except OSError as error:
        return received + f"<{error.errno}>".encode()


async def _for_ever() -> None:
    class Nothing:
        def __await__(self) -> Any:
            class Signal:
                def add(self, resume: object) -> None:
                    pass

            yield Signal()

    await Nothing()


async def resets(stream: PeerStream) -> None:
    await stream.receive()
    stream.reset()


def test_reset_of_the_server_reaches_the_client(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(resets)
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"<104>"]

    (end,) = play(scenario, plan).ends
    assert (end.outcome, end.reason) == ("failed", "server ECONNRESET")
    assert (end.side, end.error) == ("server", "ECONNRESET")


def test_reset_of_the_client_reaches_the_server(plan: Any) -> None:
    async def server(stream: PeerStream) -> bytes:
        await stream.send_all(b"x")
        return await never_ends(stream)

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(server)
        await gate.ended(gate.call(resets))
        assert await gate.ended(*servers) == [b"<104>"]

    (end,) = play(scenario, plan).ends
    assert (end.outcome, end.reason, end.side) == ("failed", "client ECONNRESET", "client")


def test_client_that_closes_while_the_server_sends_is_a_failed_connection(plan: Any) -> None:
    async def client(stream: PeerStream) -> None:
        await stream.receive()
        stream.close()

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(DATA))
        await gate.ended(gate.call(client))
        await gate.ended(*servers)

    (end,) = play(scenario, plan).ends
    assert (end.outcome, end.side) == ("failed", "client")
    assert end.error in {"ECONNRESET", "EPIPE"}


def test_refused_server_resets_the_client_and_is_recorded(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"<104>"]

    (end,) = play(scenario, plan).ends
    assert (end.outcome, end.reason) == ("failed", "server connect ECONNREFUSED")
    assert (end.side, end.error) == ("server", "ECONNREFUSED")


def test_silent_server_is_given_up_at_the_connect_deadline(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        began = gate.clock.monotonic()
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"<104>"]
        assert 20 <= gate.clock.monotonic() - began < 22

    gate = play(scenario, plan, faults=FaultPlan(connect_timeout=1.0), prepare=_dial_never_answers)
    (end,) = gate.ends
    assert (end.outcome, end.reason) == ("failed", "server connect ETIMEDOUT")


def _dial_never_answers(gate: Gate) -> None:
    """Let the client's own connect through; the fault is for the gate's dial."""
    connect, plan = gate.network.connect, gate.backend.dice.plan

    def chosen(sock: Any, address: SocketAddress, done: Any) -> None:
        gate.backend.dice.plan = plan if address == SERVER else FaultPlan()
        connect(sock, address, done)

    gate.network.connect = chosen  # type: ignore[method-assign]


# -- deadlines ------------------------------------------------------------------------------------


def test_idle_connection_ends_at_its_deadline(plan: Any) -> None:
    async def client(stream: PeerStream) -> bytes:
        await stream.send_all(b"last words")
        return await never_ends(stream)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        began = gate.clock.monotonic()
        assert await gate.ended(gate.call(client), within_s=100) == [b"last words<104>"]
        assert 50 <= gate.clock.monotonic() - began < 52

    (end,) = play(scenario, plan, idle_timeout_s=50.0).ends
    assert (end.outcome, end.reason, end.error) == ("failed", "idle time-out", "ETIMEDOUT")


class Announces(Filter):
    """Expects a second connection to the server for each that comes."""

    def __init__(self) -> None:
        self.addresses: list[SocketAddress] = []

    def start(self, firewall: Any) -> Events:
        return Events.of(ConnectRequested)

    def attach(self, session: Any) -> SessionFilter:
        return AnnouncesSession(self, session)


class AnnouncesSession(SessionFilter):
    def __init__(self, parent: Announces, session: Any) -> None:
        super().__init__(session)
        self.parent = parent

    def on_event(self, event: Any) -> Pass:
        action = self.session.allow_future_connect(event.connection, SERVER)
        self.parent.addresses.append(action.address)
        return Pass()


def test_connection_is_not_idle_while_one_that_it_announced_is_busy() -> None:
    filter_object = Announces()
    plan = settings(publication("one"), filters=[installation(filter_object, "one")])
    busy_s = 240.0

    async def scenario(gate: Gate) -> None:
        async def transfer(stream: PeerStream) -> None:
            for _ in range(6):
                await stream.send_all(b"x")
                await stream.receive()
                await gate.peers.sleep(busy_s / 6)
            stream.close()

        gate.serve(echoes)
        control = gate.call(never_ends)
        await gate.until(lambda: filter_object.addresses)
        await gate.ended(gate.call(transfer, address=filter_object.addresses[0]), within_s=500)
        await gate.ended(control, within_s=100)
        await gate.idle()

    transferred, controlled = play(scenario, plan, idle_timeout_s=50.0).ends
    assert (transferred.outcome, controlled.reason) == ("released", "idle time-out")
    assert busy_s + 50 <= controlled.duration_s < busy_s + 53


def test_bytes_put_the_idle_deadline_off(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        async def client(stream: PeerStream) -> int:
            for _ in range(10):
                await stream.send_all(b"x")
                await stream.receive()
                await gate.peers.sleep(40)
            stream.close()
            return 10

        gate.serve(echoes)
        assert await gate.ended(gate.call(client), within_s=500) == [10]
        await gate.idle()

    assert play(scenario, plan, idle_timeout_s=50.0).ends[0].outcome == "released"


def test_busy_connection_ends_at_the_total_deadline(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        async def client(stream: PeerStream) -> int:
            count = 0
            try:
                while True:
                    await stream.send_all(b"x")
                    await stream.receive()
                    await gate.peers.sleep(1)
                    count += 1
            except OSError:
                return count

        gate.serve(echoes)
        assert 98 <= (await gate.ended(gate.call(client)))[0] <= 102

    (end,) = play(scenario, plan, connection_total_s=100.0).ends
    assert (end.outcome, end.reason) == ("refused", "connection_total_s reached")


def test_half_closed_connection_without_bytes_ends_at_its_deadline(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(never_ends)
        began = gate.clock.monotonic()
        assert await gate.ended(gate.call(sends(b"x"))) == [b"<104>"]
        assert 30 <= gate.clock.monotonic() - began < 32

    (end,) = play(scenario, plan, half_closed_timeout_s=30.0).ends
    assert (end.outcome, end.reason) == ("failed", "half-closed time-out")


async def reads_nothing(stream: PeerStream) -> None:
    await _for_ever()


def test_client_that_reads_nothing_is_ended_at_the_stall_deadline(plan: Any) -> None:
    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(DATA))
        gate.call(reads_nothing)
        await gate.until(lambda: gate.ends)
        assert await gate.ended(*servers) == [b"<104>"]

    gate = play(scenario, plan, send_stall_s=15.0)
    (end,) = gate.ends
    assert (end.outcome, end.reason, end.side) == ("failed", "client stalled", "client")
    assert 15 <= end.duration_s < 18


# -- caps -----------------------------------------------------------------------------------------


async def stays(stream: PeerStream) -> bytes:
    return await never_ends(stream)


def test_connections_beyond_the_cap_are_refused_with_a_record() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(stays)
        for _ in range(2):
            gate.call(stays)
        await gate.until(lambda: gate.service.connection_count == 2)
        assert await gate.ended(*[gate.call(stays) for _ in range(3)])

    gate = play(scenario, connections_max=2)
    denied = [d for d in gate.decisions if d.verdict == "denied"]
    assert [d.reason for d in denied] == ["limit connections_max"] * 3
    assert sum(record.count for record in gate.recorder.of(LimitRecord)) == 3
    assert (gate.service.allowed, gate.service.denied) == (2, 3)


def test_one_client_at_its_cap_does_not_keep_others_out() -> None:
    other = SocketAddress.parse("10.1.1.2:0")

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(stays)
        await gate.until(lambda: gate.service.connection_count == 1)
        await gate.ended(gate.call(sends(b"too many")))
        assert await gate.ended(gate.call(sends(b"mine"), source=other)) == [b"mine"]

    gate = play(scenario, flood=FloodBounds(connections_max=1))
    reached = [(one.limit, one.client) for one in gate.recorder.of(LimitRecord)]
    assert reached == [("connections_max", "10.1.1.1:32770")]


def test_accepting_pauses_without_spinning_while_descriptors_are_out() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        holding = gate.call(stays)
        await gate.until(lambda: gate.service.connection_count == 1)
        task = gate.call(sends(b"patience"))
        gate.network.descriptors_max = len(gate.network.open_sockets)
        gate.network.descriptors_max += 1  # the client's own
        turns = gate.backend.turns
        await asyncio.sleep(10)
        assert gate.service.listeners()[0].is_paused
        # Two attempts a second, not one per turn (this loop's own sleep is one turn).
        assert gate.backend.turns - turns < 100
        gate.network.descriptors_max = 1 << 20
        assert await gate.ended(task) == [b"patience"]
        assert not holding.is_done

    gate = play(scenario)
    assert any("accept paused: EMFILE" in r.limit for r in gate.recorder.of(LimitRecord))


def test_dial_without_a_descriptor_ends_its_connection_only() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        task = gate.call(sends(b"x", end=False))
        gate.network.descriptors_max = len(gate.network.open_sockets) + 2
        assert await gate.ended(task) == [b"<104>"]
        gate.network.descriptors_max = 1 << 20
        assert await gate.ended(gate.call(sends(b"next"))) == [b"next"]

    gate = play(scenario)
    assert gate.ends[0].reason == "no descriptor for the dial"
    assert gate.ends[0].error == errno.errorcode[errno.EMFILE]


# -- back-pressure --------------------------------------------------------------------------------


def test_fast_origin_and_a_client_that_reads_nothing_take_bounded_memory(plan: Any) -> None:
    sent = 0

    async def server(stream: PeerStream) -> None:
        nonlocal sent
        try:
            while True:
                await stream.send_all(DATA[:65536])
                sent += 65536
        except OSError:
            return

    async def scenario(gate: Gate) -> None:
        gate.serve(server)
        gate.call(reads_nothing)
        await gate.until(lambda: gate.ends)

    gate = play(scenario, plan, send_stall_s=60.0)
    # Two socket buffers of 64 KiB, a pipe of 1 MiB or a large slot, and the one on the way.
    assert sent < 1_500_000
    assert gate.service.blockage.copied <= 12


@pytest.mark.parametrize("chunk", [500, 4096, 60_000])
def test_more_stalled_clients_than_buffers_leave_another_client_live(plan: Any, chunk: int) -> None:
    async def server(stream: PeerStream) -> None:
        try:
            while True:
                await stream.send_all(DATA[:chunk])
        except OSError:
            return

    other = SocketAddress.parse("10.1.1.2:0")

    async def scenario(gate: Gate) -> None:
        gate.serve(*([server] * 100), echoes)
        for number in range(100):
            gate.call(reads_nothing, source=SocketAddress.parse(f"10.3.0.{number}:0"))
        await gate.until(lambda: gate.service.connection_count == 100)
        await asyncio.sleep(5)
        began = gate.clock.monotonic()
        assert await gate.ended(gate.call(sends(DATA[:200_000]), source=other)) == [DATA[:200_000]]
        assert gate.clock.monotonic() - began < 5
        blockage = gate.service.blockage
        assert blockage.pinned_small <= 16
        assert blockage.pinned_bulk <= 2

    gate = play(scenario, plan, send_stall_s=60.0)
    assert sum(end.reason == "service stopping" for end in gate.ends) == 100


def test_client_that_pins_too_much_private_memory_is_ended_alone() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(*([sends(DATA)] * 8), echoes)
        for _ in range(8):
            gate.call(reads_nothing)
        await gate.until(lambda: gate.ends)
        other = SocketAddress.parse("10.1.1.2:0")
        assert await gate.ended(gate.call(sends(b"x"), source=other)) == [b"x"]

    gate = play(
        scenario,
        PLANS["stream"],
        client_buffers_max=1,
        client_private_bytes_max=200_000,
        send_stall_s=1e6,
    )
    assert {end.reason for end in gate.ends if end.outcome == "failed"} == {
        "limit client_private_bytes_max"
    }


# -- chance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_hostile_network_leaves_nothing_behind(plan: Any, seed: int) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        chance = random.Random(seed)
        clients = [gate.call(sends(DATA[: chance.choice([10, 5000, 300_000])])) for _ in range(8)]
        for received in await gate.ended(*clients, within_s=20_000):
            if isinstance(received, bytes):
                assert DATA.startswith(received.split(b"<104>")[0].split(b"<110>")[0])

    play(
        scenario,
        plan,
        seed=seed,
        faults=FaultPlan.hostile(),
        idle_timeout_s=300.0,
    )


def test_entry_is_the_address_that_was_asked_for() -> None:
    async def scenario(gate: Gate) -> None:
        (view,) = gate.service.listeners()
        assert view.address == str(ENTRY)
        gate.serve(what_comes)
        await gate.ended(gate.call(sends(b"x"), source=CLIENT))
        await gate.idle()
        assert gate.service.listeners()[0].accepted == 1

    play(scenario)
