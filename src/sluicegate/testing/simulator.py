"""The whole firewall service from one integer seed: topology, traffic, faults, and the checks.

``simulate(seed)`` runs a gate on the simulated port, with clients and servers that misbehave and
filters that raise or never answer, and checks what must hold afterwards. The invariant: the seed
decides everything, so a failing one is printed and replayed.

``python -m sluicegate.testing.simulator --seeds 2000`` runs many and names the first that fails.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord
from sluicegate.gate.service import FirewallService
from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.limits import Limits
from sluicegate.policy import Policy, PolicySnapshot, Publication
from sluicegate.port import PortEventLoop
from sluicegate.port.backend import RawSocket
from sluicegate.spool import SpoolStore

from .faults import FaultPlan
from .peers import PeerStream, SimulatedPeers
from .recorder import MemoryRecorder
from .simulated_filters import FILTERS, LAST_WORDS, Ledger, install_filters
from .simulated_port import SimulatedBackend
from .virtual_pool import simulated_completion_port

__all__ = ["InvariantBroken", "Report", "simulate"]

_LIMITS = Limits(
    interactive_buffers_max=32,
    bulk_buffers_max=8,
    connect_timeout_s=5.0,
    idle_timeout_s=20.0,
    half_closed_timeout_s=10.0,
    send_stall_s=10.0,
    connection_total_s=120.0,
    session_idle_s=5.0,
    inspect_timeout_s=10.0,
    filter_event_timeout_s=5.0,
    spool_memory_bytes_max=20_000,
    spool_free_bytes_min=0,
    spool_free_inodes_min=0,
)
"""Small, so that every limit is reached within a simulation."""

_CLIENTS = (4, 14)
_BYTES_MAX = 300_000
_WORLD_S = 400.0
"""Virtual time after which every connection must have ended by itself: more than all deadlines."""

_SETTLE_S = 2.0


class InvariantBroken(AssertionError):
    """What must always hold did not; the message says which seed and what."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one seed led to."""

    seed: int
    connections: int
    outcomes: dict[str, int]
    bytes_delivered: int
    resets_seen: int
    """Streams of peers that ended in a reset."""


def simulate(seed: int, faults: FaultPlan | None = None) -> Report:
    """Run one world and check it.

    Raises:
        InvariantBroken: Something that must hold did not.
    """
    with tempfile.TemporaryDirectory(prefix="sluicegate-sim-") as folder:
        spool = Path(folder) / "spool"
        spool.mkdir(mode=0o700)
        world = _World(seed, faults or FaultPlan.hostile(), spool)
        try:
            with asyncio.Runner(loop_factory=world.make_loop) as runner:
                return runner.run(world.run())
        except InvariantBroken:
            raise
        except BaseException as error:
            raise InvariantBroken(f"seed {seed}: {type(error).__name__}: {error}") from error


class _World:
    """One simulation: a gate, its clients and servers, and what was promised to whom."""

    def __init__(self, seed: int, faults: FaultPlan, spool: Path) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self._faults = faults
        self._spool = spool
        self._errors: list[BaseException] = []
        self._sockets: list[RawSocket] = []
        self._complaints: list[str] = []
        self._recorder = MemoryRecorder()
        self._resets = 0

    def make_loop(self) -> PortEventLoop:
        """Make the loop, the gate and the peers on one virtual clock."""
        backend = SimulatedBackend(self.seed, self._faults, limits=_LIMITS)
        self._backend = backend
        self._watch_descriptors()
        self._port = simulated_completion_port(backend, _LIMITS)
        self._port.on_error = self._errors.append
        self._store = SpoolStore(self._port, self._spool, _LIMITS)
        self._service = FirewallService(
            self._port,
            limits=_LIMITS,
            recorder=self._recorder,
            clock=self._port.clock,
            spool=self._store,
            boot_mark=f"{self.seed:x}",
        )
        self._peers = SimulatedPeers(backend.network)
        return PortEventLoop(self._port)

    def _watch_descriptors(self) -> None:
        create, adopt = self._backend.create_socket, self._backend.adopt

        def create_socket(family: int) -> RawSocket:
            self._sockets.append(create(family))
            return self._sockets[-1]

        def adopt_socket(descriptor: int, family: int) -> RawSocket:
            self._sockets.append(adopt(descriptor, family))
            return self._sockets[-1]

        self._backend.create_socket = create_socket  # type: ignore[method-assign]  # watched
        self._backend.adopt = adopt_socket  # type: ignore[method-assign]  # watched

    async def run(self) -> Report:
        """Let everybody do what the seed says, then stop the gate and check."""
        await self._service.start(self._settings())
        for index, name in enumerate(FILTERS):
            self._serve(_server(index), name)
        for number in range(self.random.randint(*_CLIENTS)):
            index = self.random.randrange(len(FILTERS))
            start_s = self.random.random() * 3.0
            size = self.random.choice((0, 1, 100, 5000, 70_000, _BYTES_MAX))
            self._peers.spawn(f"client {number}", self._client(number, index, start_s, size))
        deadline = self._port.clock.monotonic() + _WORLD_S
        await asyncio.sleep(4.0)
        clock = self._port.clock
        while self._service.connection_count and clock.monotonic() < deadline:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.5)
        if self._service.connection_count:
            self._complain(f"{self._service.connection_count} connections never ended")
        await self._service.stop()
        self._store.close()
        await asyncio.sleep(_SETTLE_S)
        self._peers.stop()
        return self._check()

    def _settings(self) -> ServiceSettings:
        anybody = (ipaddress.ip_network("0.0.0.0/0"),)
        publications = [
            Publication(name, name, _server(index), anybody, names)
            for index, (name, names) in enumerate(FILTERS.items())
        ]
        return ServiceSettings(
            tuple(ListenerSettings(name, _entry(index)) for index, name in enumerate(FILTERS)),
            PolicySnapshot(Policy(tuple(publications))),
            install_filters(self.ledger, self.random.randrange(1 << 30)),
            _LIMITS,
        )

    # -- peers ---------------------------------------------------------------------------------

    def _serve(self, address: SocketAddress, name: str) -> None:
        listener = self._peers.listen(address)

        async def accept() -> None:
            number = 0
            while True:
                stream = await listener.accept()
                number += 1
                identity = (hash_name(name) << 16) + number
                self._peers.spawn(f"server {name} {number}", self._server_side(stream, identity))

        self._peers.spawn(f"listener {name}", accept())

    async def _client(self, number: int, index: int, start_s: float, size: int) -> None:
        await self._peers.sleep(start_s)
        source = SocketAddress(f"192.0.2.{1 + number % 5}", 40000 + number)
        try:
            stream = await self._peers.connect(_entry(index), source)
        except OSError:
            return  # refused, or the network was down: the gate has its record or saw nothing
        # On an inspected one-way protocol the client has nothing to say.
        is_one_way = "hold" in list(FILTERS.values())[index]
        await self._talk(stream, number, 0 if is_one_way else size, "client")

    async def _server_side(self, stream: PeerStream, identity: int) -> None:
        size = random.Random(identity ^ self.seed).choice((0, 1, 900, 30_000, _BYTES_MAX))
        await self._talk(stream, identity, size, "server")

    async def _talk(self, stream: PeerStream, identity: int, size: int, who: str) -> None:
        """Send what the identity says, read what comes, and check it against who must have sent."""
        reader = self._peers.spawn(f"reader {who} {identity}", self._read(stream, who))
        temper = random.Random(identity * 31 + self.seed).random()
        try:
            if size:
                await stream.send_all(payload(identity, size))
            if temper < 0.1:  # noqa: PLR2004 - one in ten hangs up rudely
                stream.reset()
            elif temper < 0.9:  # noqa: PLR2004 - one in ten never ends its stream
                stream.end_stream()
        except OSError:
            stream.close()
        await reader.join()
        stream.close()

    async def _read(self, stream: PeerStream, who: str) -> None:
        received = bytearray()
        try:
            while data := await stream.receive():
                received += data
        except OSError:
            self._resets += 1  # what came before must still be right
        if who == "client":
            received = received.removesuffix(LAST_WORDS)
        if len(received) >= _HEADER_SIZE:
            identity = int.from_bytes(received[:4], "big")
            size = int.from_bytes(received[4:8], "big")
            if payload(identity, size)[: len(received)] != bytes(received):
                self._complain(f"a {who} got bytes that nobody sent")

    # -- checks --------------------------------------------------------------------------------

    def _complain(self, what: str) -> None:
        self._complaints.append(what)

    def _check(self) -> Report:
        ends = self._recorder.of(ConnectionRecord)
        self._check_records(ends)
        self._check_releases(ends)
        self._check_resources()
        for error in self._errors:
            self._complain(f"nobody's error: {type(error).__name__}: {error}")
        if self._complaints:
            raise InvariantBroken(f"seed {self.seed}: " + "; ".join(self._complaints))
        return Report(
            self.seed,
            len(ends),
            dict(Counter(record.outcome for record in ends)),
            sum(record.bytes_to_client + record.bytes_to_server for record in ends),
            self._resets,
        )

    def _check_records(self, ends: Sequence[ConnectionRecord]) -> None:
        """Every connection ends in exactly one record."""
        ended = Counter(record.connection for record in ends)
        decided = [r for r in self._recorder.of(DecisionRecord) if r.verdict == "allowed"]
        if any(count != 1 for count in ended.values()):
            self._complain("a connection has two records")
        if not {record.connection for record in decided} <= set(ended):
            self._complain("an allowed connection has no record")

    def _check_releases(self, ends: Sequence[ConnectionRecord]) -> None:
        """No byte passes that no filter released."""
        for record in ends:
            released = self.ledger.released.get(record.connection)
            if released is None:
                continue
            if record.bytes_to_server > released.to_server:
                self._complain(f"{record.connection}: the server got more than was released")
            if record.bytes_to_client > released.to_client:
                self._complain(f"{record.connection}: the client got more than was released")
            if record.outcome == "released" and released.is_refused:
                self._complain(f"{record.connection}: refused, and recorded as released")

    def _check_resources(self) -> None:
        """Leases and descriptors come back; both sides are closed; nothing is held."""
        blockage = self._service.blockage
        if (blockage.pinned_small, blockage.pinned_bulk, blockage.private_bytes) != (0, 0, 0):
            self._complain("blocked sends are still on the account")
        leased = sum(1 for slot in self._backend.pool.slots if slot.leases)
        if leased:
            self._complain(f"{leased} slots are leased")
        still_open = sum(1 for sock in self._sockets if sock.fileno() >= 0)
        if still_open:
            self._complain(f"{still_open} descriptors are open")
        held = self._store.statistics()
        if held.bodies or held.bytes_held or held.files_open:
            self._complain(f"the spool holds {held.bodies} bodies, {held.bytes_held} bytes")
        left = self.ledger.attached - self.ledger.detached
        if left:
            self._complain(f"filters were not detached: {dict(left)}")
        if any(count > 1 for count in self.ledger.detached.values()):
            self._complain("a filter was detached twice")


_HEADER_SIZE = 8


def payload(identity: int, size: int) -> bytes:
    """Return what a peer of this identity sends: it names itself, so a reader can check it."""
    body = random.Random(identity).randbytes(size)
    return (identity.to_bytes(4, "big") + size.to_bytes(4, "big") + body)[: max(size, 0)]


def hash_name(name: str) -> int:
    """Return a small number for a name, the same in every process."""
    return sum(name.encode()) & 0xFFF


def _entry(index: int) -> SocketAddress:
    return SocketAddress("198.51.100.1", 2000 + index)


def _server(index: int) -> SocketAddress:
    return SocketAddress(f"203.0.113.{1 + index}", 80)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run many seeds; 0 when all hold, 1 and the failing seed otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m sluicegate.testing.simulator",
        description="Run the whole gate in simulated worlds and check its invariants.",
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    chosen = parser.parse_args(arguments)
    connections = 0
    outcomes: Counter[str] = Counter()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        try:
            report = simulate(seed)
        except InvariantBroken as error:
            print(f"\n{error}\nreplay: --first {seed} --seeds 1", file=sys.stderr)
            return 1
        connections += report.connections
        outcomes.update(report.outcomes)
        print(f"\rseed {seed}: {connections} connections", end="", flush=True)
    print(f"\n{chosen.seeds} seeds held: {connections} connections, {dict(outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
