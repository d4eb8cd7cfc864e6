"""A whole gate on virtual time: the service, its clients and servers, and what must hold then.

``play`` runs a scenario against a ``FirewallService`` on the simulated port and then stops it;
whatever happened, ``Gate.check_clean`` must hold: leases and accounts are back, descriptors are
closed, nothing was left unhandled, and every allowed connection has exactly one record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.audit import (
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    RequestRecord,
)
from sluicegate.filterapi import AnyDataFilter, ContentFilter, Filter, WebFilter
from sluicegate.gate.service import FirewallService
from sluicegate.gate.settings import (
    Installation,
    ListenerSettings,
    OnFailure,
    PerConnection,
    ServiceSettings,
)
from sluicegate.limits import Limits
from sluicegate.policy import FloodBounds, FloodLimits, Policy, PolicySnapshot, Publication
from sluicegate.policy.learn import LEARNING
from sluicegate.port import CompletionPort, PortEventLoop
from sluicegate.port.backend import RawSocket
from sluicegate.port.pool import Slot
from sluicegate.spool import SpoolStore
from sluicegate.testing import (
    FaultPlan,
    SimulatedBackend,
    SimulatedPeers,
    simulated_completion_port,
)
from sluicegate.testing.peers import PeerStream, PeerTask
from sluicegate.testing.recorder import MemoryRecorder

ENTRY = SocketAddress.parse("10.0.0.1:80")
ENTRY6 = SocketAddress.parse("[fd00::1]:80")
SERVER = SocketAddress.parse("10.9.9.9:8080")
SERVER6 = SocketAddress.parse("[fd00::9]:8080")
CLIENT = SocketAddress.parse("10.1.1.1:0")
CLIENT6 = SocketAddress.parse("[fd00::c]:0")

LIMITS = Limits(interactive_buffers_max=32, bulk_buffers_max=4, splice_pipes_max=4)

_LOOK_S = 0.002
_LOOKS_MAX = 25
"""In virtual time, between looks at what a test waits for, and how many are left out at a time."""

Peer = Callable[[PeerStream], Coroutine[Any, Any, Any]]


def publication(
    *filters: str,
    name: str = "web",
    listener: str = "web",
    server: SocketAddress = SERVER,
    clients: Sequence[str] = ("10.0.0.0/8", "fd00::/8"),
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> Publication:
    return Publication(
        name,
        listener,
        server,
        tuple(ipaddress.ip_network(one) for one in clients),
        filters,
        settings or {},
    )


def installation(
    what: Filter | ContentFilter | WebFilter | Callable[[], AnyDataFilter],
    name: str,
    on_failure: OnFailure = OnFailure.DENY,
) -> Installation:
    is_one = isinstance(what, Filter | ContentFilter | WebFilter)
    target = what if is_one else PerConnection(what)
    return Installation(name, target, on_failure, "test")


def settings(
    *publications: Publication,
    filters: Sequence[Installation] = (),
    listeners: Sequence[ListenerSettings] = (ListenerSettings("web", ENTRY),),
    limits: Limits = LIMITS,
) -> ServiceSettings:
    policy = PolicySnapshot(Policy(tuple(publications)))
    return ServiceSettings(tuple(listeners), policy, tuple(filters), limits)


def with_flood(plan: ServiceSettings, flood: FloodBounds | FloodLimits | None) -> ServiceSettings:
    """Return settings whose policy has other flood limits."""
    if flood is None:
        return plan
    limits = FloodLimits(bounds=flood) if isinstance(flood, FloodBounds) else flood
    policy = dataclasses.replace(plan.policy.policy, flood=limits)
    return dataclasses.replace(plan, policy=PolicySnapshot(policy))


class Gate:
    """One gate in one simulation."""

    def __init__(
        self,
        port: CompletionPort,
        backend: SimulatedBackend,
        limits: Limits,
        spool: SpoolStore | None = None,
        exchange: Any = None,
    ) -> None:
        self.port = port
        self.backend = backend
        self.clock = backend.clock
        self.network = backend.network
        self.peers = SimulatedPeers(backend.network)
        self.recorder = MemoryRecorder()
        self.spool = spool
        self.sockets: list[RawSocket] = []
        self.errors: list[BaseException] = []
        self._watch_descriptors()
        port.on_error = self.errors.append
        self.service = FirewallService(
            port,
            limits=limits,
            recorder=self.recorder,
            clock=port.clock,
            spool=spool,  # type: ignore[arg-type]  # what holds no objects needs none
            boot_mark="b",
            exchange=exchange,
        )

    def _watch_descriptors(self) -> None:
        create, adopt = self.backend.create_socket, self.backend.adopt
        create_datagrams = self.backend.create_datagram_socket

        def create_datagram_socket(family: int) -> RawSocket:
            self.sockets.append(create_datagrams(family))
            return self.sockets[-1]

        self.backend.create_datagram_socket = create_datagram_socket  # type: ignore[method-assign]

        def create_socket(family: int) -> RawSocket:
            self.sockets.append(create(family))
            return self.sockets[-1]

        def adopt_socket(descriptor: int, family: int) -> RawSocket:
            self.sockets.append(adopt(descriptor, family))
            return self.sockets[-1]

        self.backend.create_socket = create_socket  # type: ignore[method-assign]
        self.backend.adopt = adopt_socket  # type: ignore[method-assign]

    # -- peers ---------------------------------------------------------------------------------

    def serve(self, *peers: Peer, address: SocketAddress = SERVER) -> list[PeerTask[Any]]:
        """Listen as the server; connection n is ``peers[n]``'s, the last one's from there on."""
        listener = self.peers.listen(address)
        tasks: list[PeerTask[Any]] = []

        async def accept() -> None:
            index = 0
            while True:
                stream = await listener.accept()
                peer = peers[min(index, len(peers) - 1)]
                tasks.append(self.peers.spawn(f"server {index}", peer(stream)))
                index += 1

        self.peers.spawn("listener", accept())
        return tasks

    def call(
        self,
        peer: Peer,
        *,
        address: SocketAddress = ENTRY,
        source: SocketAddress | None = CLIENT,
        name: str = "client",
    ) -> PeerTask[Any]:
        """Connect as a client."""

        async def client() -> Any:
            return await peer(await self.peers.connect(address, source))

        return self.peers.spawn(name, client())

    # -- waiting -------------------------------------------------------------------------------

    async def ended(self, *tasks: PeerTask[Any], within_s: float = 120.0) -> list[Any]:
        """Wait for peers; return what each returned, or the error it raised."""
        await self.until(lambda: all(task.is_done for task in tasks), within_s)
        return [task.error or task.result() for task in tasks]

    async def until(self, condition: Callable[[], object], within_s: float = 120.0) -> None:
        """Wait, in virtual time, until something holds."""
        deadline = self.clock.monotonic() + within_s
        while not condition():
            assert self.clock.monotonic() < deadline, "it does not come true"
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        """Return how long to wait before a condition is looked at again: until something happens.

        When that will be is known in virtual time, but not of other threads and processes. Time
        itself may be what is waited for, too, so it is never long.
        """
        loop: Any = asyncio.get_running_loop()
        is_alone = loop._default_executor is None and len(loop._selector.get_map()) == 1
        if not is_alone or self.backend._told or self.port._posted or self.port._posted_elsewhere:
            return _LOOK_S
        planned = [timer.when() for timer in loop._scheduled[:1]]
        known = [self.port.timers.next_deadline(), self.clock.next_event(), *planned]
        upcoming = min((one for one in known if one is not None), default=math.inf)
        looks = (upcoming - self.clock.monotonic()) // _LOOK_S + 1
        return _LOOK_S * max(1, min(looks, _LOOKS_MAX))

    async def idle(self) -> None:
        """Wait until every connection has ended."""
        await self.until(lambda: not self.service.connection_count)

    # -- asking --------------------------------------------------------------------------------

    @property
    def decisions(self) -> list[DecisionRecord]:
        return self.recorder.of(DecisionRecord)

    @property
    def requests(self) -> list[RequestRecord]:
        return self.recorder.of(RequestRecord)

    @property
    def ends(self) -> list[ConnectionRecord]:
        return self.recorder.of(ConnectionRecord)

    @property
    def failures(self) -> list[FilterFailureRecord]:
        return self.recorder.of(FilterFailureRecord)

    def check_clean(self, *, errors: int = 0) -> None:
        """Check what must hold after every end."""
        assert len(self.errors) == errors, self.errors
        blockage = self.service.blockage
        assert (blockage.pinned_small, blockage.pinned_bulk, blockage.private_bytes) == (0, 0, 0)
        counted = self.service.flood.counts._clients.values()
        open_still = [(one.connections, one.half_open, one.udp_sessions) for one in counted]
        assert not any(map(any, open_still)), "something ended on nobody's account"
        tls = self.service.entries.tls
        slots = [*self.backend.pool.slots, *tls.pool.slots]
        leased = [slot for slot in slots if slot.leases]
        assert not leased
        assert (tls.count, tls.pool.out_count) == (0, 0)
        self._check_slots()
        assert [sock for sock in self.sockets if sock.fileno() >= 0] == []
        # A UDP connection that was allowed may have peers that were not, and every destination of
        # one that is learned from is on record.
        told = [it for it in self.decisions if not (it.transport and it.verdict == "denied")]
        learned = {(it.connection, it.target) for it in told if it.reason == LEARNING}
        assert len(learned) == sum(it.reason == LEARNING for it in told)
        asked = Counter(it.connection for it in told if it.reason != LEARNING)
        asked.update({connection for connection, _ in learned})
        refused = {record.connection for record in self.decisions} - set(asked)
        ended = Counter(record.connection for record in self.ends)
        assert max(asked.values(), default=1) == 1
        assert max(ended.values(), default=1) == 1
        allowed = {r.connection for r in self.decisions if r.verdict == "allowed"}
        assert allowed <= set(ended)
        # Of a connection that carries requests, each request was decided on by itself.
        asked_by_request = {record.connection for record in self.requests}
        ends = {it.connection: it for it in self.ends}
        told_nothing = {one for one, it in ends.items() if it.entry == "http"}
        assert set(ended) <= set(asked) | refused | asked_by_request | told_nothing
        assert asked_by_request <= set(ended)
        assert len({record.request for record in self.requests}) == len(self.requests)
        assert not len(self.service.web.pool), "a server's connection is still open"

    def _check_slots(self) -> None:
        """Every slot is back with the backend, once."""
        groups = (self.backend._small, self.backend._bulk)
        free: list[Slot] = [slot for group in groups for slot in group._free]
        assert len(free) == len(set(map(id, free))), "a slot was given back twice"
        missing = len(self.backend.pool.slots) - len(free)
        assert not missing, f"{missing} slots did not come back"


Scenario = Callable[[Gate], Coroutine[Any, Any, None]]


def play(
    scenario: Scenario,
    plan: ServiceSettings | None = None,
    *,
    seed: int = 0,
    faults: FaultPlan | None = None,
    errors: int = 0,
    prepare: Callable[[Gate], None] | None = None,
    exchange: Any = None,
    flood: FloodBounds | FloodLimits | None = None,
    spool: Path | None = None,
    **limits: Any,
) -> Gate:
    """Run a scenario on a gate with these settings, stop the gate, and check what is left."""
    plan = with_flood(plan or settings(publication()), flood)
    bounds = dataclasses.replace(LIMITS, **limits)
    gates: list[Gate] = []

    def make_loop() -> PortEventLoop:
        backend = SimulatedBackend(seed, faults or FaultPlan(), limits=bounds)
        port = simulated_completion_port(backend, bounds)
        store = None if spool is None else SpoolStore(port, spool, bounds)
        gates.append(Gate(port, backend, bounds, exchange=exchange, spool=store))
        return PortEventLoop(port)

    async def run() -> None:
        (gate,) = gates
        if prepare is not None:
            prepare(gate)
        await gate.service.start(plan)
        await scenario(gate)
        await gate.service.stop()
        for _ in range(5):
            await asyncio.sleep(0.1)
        if gate.spool is not None:
            store = gate.spool
            await gate.until(lambda: not store.statistics().bodies)
            store.close()
        gate.check_clean(errors=errors)
        gate.peers.stop()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())
    return gates[0]


# -- peers that tests share ------------------------------------------------------------------------


def sends(data: bytes, *, end: bool = True) -> Peer:
    """Send everything, end the stream, and return what came; ``<errno>`` behind it on a failure.

    It reads while it cannot send, so that an echo of more than the buffers hold never stops.
    """

    async def peer(stream: PeerStream) -> bytes:
        received = bytearray()
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[stream.socket.send(rest) :]
                    continue
                except BlockingIOError:
                    received += _take(stream)
                await stream._changed()
        except OSError as error:
            return bytes(received) + f"<{error.errno}>".encode()
        if end:
            stream.end_stream()
        return bytes(received) + await what_comes(stream)

    return peer


def _take(stream: PeerStream) -> bytes:
    try:
        return stream.socket.receive(1 << 20)
    except BlockingIOError:
        return b""


async def what_comes(stream: PeerStream) -> bytes:
    received = bytearray()
    try:
        while piece := await stream.receive():
            received += piece
    except OSError as error:
        received += f"<{error.errno}>".encode()
    stream.close()
    return bytes(received)


async def echoes(stream: PeerStream) -> int:
    """Send back what comes; end when the other side does."""
    count = 0
    try:
        while piece := await stream.receive():
            count += len(piece)
            await stream.send_all(piece)
    except OSError:
        return -1
    stream.close()
    return count
