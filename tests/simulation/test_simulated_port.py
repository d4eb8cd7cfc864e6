"""The simulated port is one run per seed, and its network behaves like TCP."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, ConstBuffer
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, PortEventLoop, heavy_blocking
from sluicegate.port.backend import MORE, SLOT_SHIFT, Operation
from sluicegate.testing import (
    FaultPlan,
    PeerStream,
    SimulatedBackend,
    SimulatedPeers,
    SimulationStalled,
    simulated_completion_port,
)

GATE = SocketAddress("10.0.0.1", 21)
LIMITS = Limits(interactive_buffers_max=8, bulk_buffers_max=2)


class World:
    """A backend with an echo service on it, and peers that use it."""

    def __init__(self, seed: int, faults: FaultPlan) -> None:
        self.backend = SimulatedBackend(seed, faults, limits=LIMITS)
        self.peers = SimulatedPeers(self.backend.network)
        self.listener = self.backend.create_socket(socket.AF_INET)
        self.listener.bind(GATE.to_kernel())
        self.listener.listen(16)
        self.accepts = Operation(self.on_accepted)
        self.backend.accept(self.accepts, self.listener)

    def on_accepted(self, result: int, flags: int) -> None:
        if result >= 0:
            Echo(self.backend, result)
        if not flags & MORE and result == -errno.EMFILE:
            self.backend.accept(self.accepts, self.listener)

    def run(self, seconds: float) -> None:
        until = self.backend.clock.monotonic() + seconds
        while (left := until - self.backend.clock.monotonic()) > 0:
            self.backend.turn(left)

    def close(self) -> None:
        self.peers.stop()
        self.backend.close()


class Echo:
    """One connection of the service under test: sends back what it receives."""

    def __init__(self, backend: SimulatedBackend, descriptor: int) -> None:
        self.backend = backend
        self.sock = backend.adopt(descriptor, socket.AF_INET)
        self.reads = Operation(self.on_received)
        self.sends = Operation(self.on_sent)
        self.queue: list[bytes] = []
        self.sending = ConstBuffer(b"")
        self.ended = False
        backend.receive(self.reads, self.sock)

    def on_received(self, result: int, flags: int) -> None:
        if result > 0:
            slot = self.backend.pool.slots[flags >> SLOT_SHIFT]
            self.queue.append(bytes(slot.view[:result]))
            slot.pool.recycle(slot)
        if not flags & MORE:
            if result > 0 and not self.ended:
                self.backend.receive(self.reads, self.sock)
            else:
                self.ended = True
        self.go_on()

    def on_sent(self, result: int, _flags: int) -> None:
        self.sending.release()
        if result < 0:
            self.queue.clear()
            self.ended = True
            self.backend.cancel(self.reads)
        self.go_on()

    def go_on(self) -> None:
        if self.sends.in_flight:
            return
        if self.queue:
            data = b"".join(self.queue)
            self.queue.clear()
            self.sending = ConstBuffer(data)
            self.sending.lease()
            self.backend.send(self.sends, self.sock, self.sending, 0, len(data))
        elif self.ended and not self.reads.in_flight:
            self.sock.close()


async def talk(peers: SimulatedPeers, data: bytes) -> bytes:
    stream = await peers.connect(GATE)
    try:
        back = peers.spawn("reader", stream.receive_all())
        await stream.send_all(data)
        stream.end_stream()
        return await back.join()
    finally:
        stream.close()


def run_echo(seed: int, faults: FaultPlan) -> tuple[str, list[object]]:
    world = World(seed, faults)
    tasks = [
        world.peers.spawn(f"client {n}", talk(world.peers, bytes([n]) * 30_000)) for n in range(6)
    ]
    world.run(600.0)
    outcomes: list[object] = []
    for task in tasks:
        assert task.is_done
        outcomes.append(repr(task.error) if task.error else task.result())
    digest = world.backend.trace_digest()
    world.close()
    return digest, outcomes


@pytest.mark.parametrize("seed", range(5))
def test_one_seed_is_one_run(seed: int) -> None:
    first, second = run_echo(seed, FaultPlan.hostile()), run_echo(seed, FaultPlan.hostile())

    assert first == second


def test_seeds_differ() -> None:
    digests = {run_echo(seed, FaultPlan.disorder())[0] for seed in range(5)}

    assert len(digests) == 5


@pytest.mark.parametrize("seed", range(20))
def test_disorder_changes_no_byte(seed: int) -> None:
    _, outcomes = run_echo(seed, FaultPlan.disorder())

    assert outcomes == [bytes([n]) * 30_000 for n in range(6)]


@pytest.mark.parametrize("seed", range(20))
def test_hostile_faults_end_every_client_with_its_bytes_or_an_error(seed: int) -> None:
    _, outcomes = run_echo(seed, FaultPlan.hostile())

    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, bytes):
            assert set(outcome) <= {number}
        else:
            assert "Error" in str(outcome)


def test_hostile_faults_do_happen() -> None:
    outcomes = [outcome for seed in range(20) for outcome in run_echo(seed, FaultPlan.hostile())[1]]

    failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert any("ConnectionRefused" in failure for failure in failures)
    assert any("ConnectionReset" in failure for failure in failures)


@pytest.mark.parametrize("seed", range(10))
def test_every_slot_and_descriptor_comes_back_after_hostile_faults(seed: int) -> None:
    world = World(seed, FaultPlan.hostile())
    for number in range(6):
        world.peers.spawn("client", talk(world.peers, bytes([number]) * 10_000))
    world.run(600.0)
    left = [
        sock
        for sock in world.backend.network.open_sockets.values()
        if sock.on_change.__qualname__.startswith("SimulatedBackend") and sock.backlog is None
    ]

    assert not left
    assert world.backend.in_flight == 1  # the accept
    world.close()


def test_a_turn_that_nothing_can_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.testing.flight_backend._STALL_S", 0.0)
    backend = SimulatedBackend()

    with pytest.raises(SimulationStalled, match="seed 0"):
        backend.turn(None)
    backend.close()


def test_closing_a_socket_under_an_operation_is_caught() -> None:
    backend = SimulatedBackend()
    listener = backend.create_socket(socket.AF_INET)
    listener.listen(1)
    backend.accept(Operation(lambda _result, _flags: None), listener)

    with pytest.raises(AssertionError, match="in flight"):
        listener.close()
    backend.close()


def test_memory_without_a_lease_is_caught() -> None:
    backend = SimulatedBackend()

    with tempfile.TemporaryFile() as file, pytest.raises(AssertionError, match="leased"):
        backend.read(Operation(lambda _r, _f: None), file.fileno(), Buffer(8), 0, 8, 0)
    backend.close()


def test_closing_a_file_under_an_operation_is_caught() -> None:
    backend = SimulatedBackend()
    folder = tempfile.mkdtemp()
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR)
    backend.sync(Operation(lambda _result, _flags: None), fd, data_only=True)
    os.close(fd)

    with pytest.raises(AssertionError, match="closed under an operation"):
        backend.turn(1.0)
    backend.close()
    os.rmdir(folder)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("no_space", -errno.ENOSPC),
        ("io_error", -errno.EIO),
        ("cancelled", -errno.ECANCELED),
    ],
)
def test_file_faults_are_told_as_their_errno(fault: str, expected: int) -> None:
    backend = SimulatedBackend(0, FaultPlan(**{fault: 1.0}))
    results: list[int] = []
    buffer = ConstBuffer(b"x")
    buffer.lease()

    with tempfile.TemporaryFile() as file:
        write = Operation(lambda result, _flags: results.append(result))
        backend.write(write, file.fileno(), buffer, 0, 1, 0)
        backend.turn(1.0)
        backend.close()

    assert results == [expected]


def test_short_writes_take_a_part() -> None:
    backend = SimulatedBackend(0, FaultPlan(short_write=1.0))
    results: list[int] = []
    buffer = ConstBuffer(bytes(1000))
    buffer.lease()

    with tempfile.TemporaryFile() as file:
        write = Operation(lambda result, _flags: results.append(result))
        backend.write(write, file.fileno(), buffer, 0, 1000, 0)
        backend.turn(1.0)
        backend.close()

    assert 0 < results[0] < 1000


# -- the network -----------------------------------------------------------------------------------


class Pair:
    """Two peers that talk to each other without a service between."""

    def __init__(self, faults: FaultPlan | None = None) -> None:
        self.backend = SimulatedBackend(1, faults)
        self.peers = SimulatedPeers(self.backend.network)
        self.listener = self.peers.listen(SocketAddress("10.0.0.2", 80))

    def run(self, *coroutines: object) -> list[object]:
        tasks = [self.peers.spawn("peer", coroutine) for coroutine in coroutines]  # type: ignore[arg-type]
        self.backend.turn(300.0)
        self.backend.close()
        return [task.result() for task in tasks]

    async def connect(self) -> PeerStream:
        return await self.peers.connect(self.listener.address)


def test_bytes_before_a_reset_are_readable_then_the_reset_is_told_once() -> None:
    pair = Pair()

    async def server() -> list[object]:
        stream = await pair.listener.accept()
        await pair.peers.sleep(1.0)
        seen: list[object] = [await stream.receive()]
        try:
            await stream.receive()
        except ConnectionResetError:
            seen.append("reset")
        seen.append(await stream.receive())
        return seen

    async def client() -> None:
        stream = await pair.connect()
        await stream.send_all(b"last words")
        stream.reset()

    assert pair.run(server(), client())[0] == [b"last words", "reset", b""]


def test_closing_with_unread_bytes_resets_the_peer() -> None:
    pair = Pair()

    async def server() -> None:
        stream = await pair.listener.accept()
        await pair.peers.sleep(1.0)
        stream.close()

    async def client() -> str:
        stream = await pair.connect()
        await stream.send_all(b"never read")
        try:
            await stream.receive()
        except ConnectionResetError:
            return "reset"
        return "clean end"

    assert pair.run(server(), client())[1] == "reset"


def test_sending_to_a_closed_peer_fails_after_the_reset_came_back() -> None:
    pair = Pair()

    async def server() -> None:
        (await pair.listener.accept()).close()

    async def client() -> list[str]:
        stream = await pair.connect()
        await pair.peers.sleep(1.0)
        seen = []
        for _ in range(3):
            try:
                await stream.send_all(b"to nobody")
                seen.append("taken")
            except OSError as error:
                seen.append(errno.errorcode[error.errno or 0])
            await pair.peers.sleep(1.0)
        return seen

    assert pair.run(server(), client())[1] == ["taken", "ECONNRESET", "EPIPE"]


def test_the_name_of_a_reset_connection_is_gone() -> None:
    pair = Pair()

    async def server() -> str:
        stream = await pair.listener.accept()
        await pair.peers.sleep(1.0)
        try:
            stream.socket.getpeername()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "known"

    async def client() -> None:
        (await pair.connect()).reset()

    assert pair.run(server(), client())[0] == "ENOTCONN"


def test_a_sender_waits_for_its_reader() -> None:
    pair = Pair(FaultPlan(socket_buffer_bytes=(1000, 1000)))
    progress: list[str] = []

    async def server() -> int:
        stream = await pair.listener.accept()
        await pair.peers.sleep(10.0)
        progress.append("reading")
        return len(await stream.receive_all())

    async def client() -> None:
        stream = await pair.connect()
        await stream.send_all(bytes(5000))
        progress.append("sent")
        stream.end_stream()

    assert pair.run(server(), client())[0] == 5000
    assert progress == ["reading", "sent"]


def test_nobody_listening_is_a_refusal() -> None:
    pair = Pair()

    async def client() -> str:
        try:
            await pair.peers.connect(SocketAddress("10.0.0.2", 81))
        except ConnectionRefusedError:
            return "refused"
        return "connected"

    assert pair.run(client()) == ["refused"]


def test_a_connect_that_is_never_answered_times_out() -> None:
    pair = Pair(FaultPlan(connect_timeout=1.0))

    async def client() -> float:
        try:
            await pair.connect()
        except TimeoutError:
            return round(pair.backend.clock.monotonic() - 1000.0)
        return 0.0

    assert pair.run(client()) == [127]


# -- asyncio and blocking calls on virtual time ----------------------------------------------------


def run_on_simulation(
    main: Callable[[CompletionPort], Coroutine[Any, Any, Any]], seed: int = 0
) -> tuple[Any, float]:
    backend = SimulatedBackend(seed, FaultPlan.disorder())
    start = backend.clock.monotonic()
    port = simulated_completion_port(backend)
    with asyncio.Runner(loop_factory=lambda: PortEventLoop(port)) as runner:
        result = runner.run(main(port))
        return result, backend.clock.monotonic() - start


def test_an_hour_of_sleep_takes_no_time() -> None:
    _, elapsed = run_on_simulation(lambda _port: asyncio.sleep(3600.0))

    assert elapsed == pytest.approx(3600.0, abs=0.1)


def test_a_blocking_call_runs_on_a_thread_while_the_world_stands_still() -> None:
    async def main(port: CompletionPort) -> list[object]:
        def call() -> list[object]:
            with heavy_blocking():
                before = port.clock.monotonic()
            return [threading.current_thread() is not own, port.clock.monotonic() - before]

        own = threading.current_thread()
        timer: list[bool] = []
        port.call_after(1000.0, lambda: timer.append(True))
        found = await port.run_blocking(call)
        return [*found, timer]

    assert run_on_simulation(main)[0] == [True, 0.0, []]


def test_blocking_calls_end_in_the_order_of_the_seed() -> None:
    def order_of(seed: int) -> list[int]:
        async def main(port: CompletionPort) -> list[int]:
            ended: list[int] = []

            async def one(number: int) -> None:
                ended.append(await port.run_blocking(lambda: number))

            async with asyncio.TaskGroup() as group:
                for number in range(8):
                    group.create_task(one(number))
            return ended

        return run_on_simulation(main, seed)[0]

    assert order_of(3) == order_of(3)
    assert sorted(order_of(3)) == list(range(8))
    assert any(order_of(seed) != order_of(3) for seed in range(4, 8))


def test_a_blocking_call_that_fails_raises_in_its_caller() -> None:
    async def main(port: CompletionPort) -> str:
        try:
            await port.run_blocking(int, "no number")
        except ValueError as error:
            return str(error)
        return "no error"

    assert "no number" in run_on_simulation(main)[0]
