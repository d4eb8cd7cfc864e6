"""A data connection in virtual time: two peers, the transfer filter between them, a connection.

The connection here closes as the gate's does: both sockets first, and ``detach`` when their
descriptors are closed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.audit import Record
from sluicegate.errors import Side
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Release,
    Transfer,
    TransferOffer,
    TransferOutcome,
)
from sluicegate.gate.registry import ContentStep, Installed
from sluicegate.gate.settings import Installation, OnFailure
from sluicegate.gate.transfer import GateTransfer, TransferService
from sluicegate.limits import Limits
from sluicegate.port import StreamSocket
from sluicegate.port.scope import entered
from sluicegate.spool import SpoolStore
from sluicegate.testing import FaultPlan, SimulatedBackend, SimulatedPeers
from sluicegate.testing.peers import PeerStream
from tests.unit.spool_kit import check_empty, simulated_port

LIMITS = Limits(
    interactive_buffers_max=16,
    bulk_buffers_max=4,
    spool_memory_bytes_max=50_000,
    spool_free_bytes_min=0,
    spool_free_inodes_min=0,
)

_TURNS_AFTERWARDS = 20
"""The peers see the end, too."""

Peer = Callable[[PeerStream], Coroutine[Any, Any, Any]]


class Scripted(ContentFilter):
    """A content filter that does what it is told and notes what it saw."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = Release() if answer is None else answer
        self.seen: list[tuple[int, str, bytes]] = []

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            body = await file.read()
        self.seen.append((transfer.size, transfer.sha256, body))
        assert transfer.head == body[:4096]
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def step(
    content_filter: ContentFilter, name: str = "scripted", on_failure: OnFailure = OnFailure.DENY
) -> ContentStep:
    installation = Installation(name, content_filter, on_failure, "test")
    return ContentStep(Installed(installation), content_filter)


class Recorder:
    is_accepting = True

    def __init__(self) -> None:
        self.records: list[Any] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def of_kind(self, kind: str) -> list[Any]:
        return [record for record in self.records if type(record).__name__ == kind]


class Session:
    id = "s-1"


class DataConnection:
    """What the filter is given as its connection, and what scopes its failures."""

    id = "c-1"
    session = Session()
    rule = "ftp"
    client_address = SocketAddress.parse("192.0.2.7:4000")

    def __init__(self) -> None:
        self.ended = ""
        self.filter: Any = None
        self.sockets: list[StreamSocket] = []
        self.is_detached = False
        self.errors: list[BaseException] = []

    def refuse(self, reason: str) -> None:
        self._close(f"refused: {reason}")

    def fail(self, reason: str, error: int = 0, side: Side = Side.INTERNAL) -> None:
        self._close(f"failed: {reason}")

    def leave(self, data_filter: object) -> None:
        assert data_filter is self.filter
        if all(socket.is_closed for socket in self.sockets):
            self.ended = self.ended or "closed"
        else:
            self.ended = "left"

    def on_filter_failure(self, error: BaseException) -> None:
        self.errors.append(error)
        self._close(f"failed: {error!r}")

    def on_socket_closed(self) -> None:
        closed = all(socket._raw.fileno() < 0 for socket in self.sockets)
        if closed and not self.is_detached:
            self.is_detached = True
            self.filter.detach()

    def _close(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            for socket in self.sockets:
                socket.close(abortive=True)


@dataclasses.dataclass
class Result:
    connection: DataConnection
    outcome: TransferOutcome
    judged: TransferOutcome
    source: Any
    """What the sending peer's coroutine returned, or the error it raised."""
    sink: Any
    """The same of the receiving peer."""
    records: list[Any]
    failures: list[Any]


class World:
    """One transfer in one simulation."""

    def __init__(
        self,
        directory: Path,
        steps: Sequence[ContentStep],
        *,
        seed: int = 0,
        faults: FaultPlan | None = None,
        direction: Direction = Direction.DOWNLOAD,
        **limits: Any,
    ) -> None:
        self.directory = directory
        self.limits = dataclasses.replace(LIMITS, **limits)
        self.port = simulated_port(seed, faults or FaultPlan(), self.limits)
        backend = self.port.backend
        assert isinstance(backend, SimulatedBackend)
        self.peers = SimulatedPeers(backend.network)
        self.recorder = Recorder()
        self.store = SpoolStore(self.port, directory, self.limits)
        self.connection = DataConnection()
        self.service: TransferService[Any] = TransferService(
            self.port,
            self.store,
            self.limits,
            self.port.clock,
            lambda _connection: steps,
            self.recorder,
        )
        offer = TransferOffer("a/file", direction, "ftp", user="ada", facts={"command": "RETR"})
        self.transfer: GateTransfer = self.service.hold(self.connection, offer)
        self.is_download = direction is Direction.DOWNLOAD
        self.on_turn: Callable[[int], None] = lambda turn: None

    def run(self, source: Peer, sink: Peer) -> Result:
        return asyncio.run(self._run(source, sink))

    async def _run(self, source: Peer, sink: Peer) -> Result:
        tasks = {}
        for side, peer in ((self.is_download, source), (not self.is_download, sink)):
            listener = self.port.listen(SocketAddress.parse(f"10.0.0.1:{2000 + side}"))
            listener.accept_into(lambda raw, side=side: self._on_accepted(raw, is_server=side))
            tasks[side] = self.peers.spawn(
                "server" if side else "client", self._connect(2000 + side, peer)
            )
        judged = asyncio.ensure_future(self.transfer.judged())
        finished = asyncio.ensure_future(self.transfer.finished())
        turn = 0
        while not (finished.done() and self._is_over()):
            self.on_turn(turn)
            self.port.turn(1.0)
            for _ in range(4):
                await asyncio.sleep(0)
            assert os.listdir(self.directory) == []
            turn += 1
            assert turn < 50_000, "the transfer does not end"
        check_empty(self.port, self.store)
        for _ in range(_TURNS_AFTERWARDS):
            self.port.turn(1.0)
        assert self.port.statistics().unhandled_errors == 0
        assert self.port.backend.pool.slots[0].leases == 0
        assert all(slot.leases == 0 for slot in self.port.backend.pool.slots)
        self.peers.stop()
        self.port.close()
        return Result(
            self.connection,
            finished.result(),
            judged.result(),
            _end_of(tasks[self.is_download]),
            _end_of(tasks[not self.is_download]),
            self.recorder.of_kind("TransferRecord"),
            self.recorder.of_kind("FilterFailureRecord"),
        )

    def _is_over(self) -> bool:
        is_open = len(self.connection.sockets) == 2 and not self.connection.is_detached
        return self.connection.ended == "left" or not is_open

    async def _connect(self, port: int, peer: Peer) -> Any:
        stream = await self.peers.connect(SocketAddress.parse(f"10.0.0.1:{port}"))
        return await peer(stream)

    def _on_accepted(self, raw: Any, *, is_server: bool) -> None:
        connection = self.connection
        socket = StreamSocket(self.port, raw, Side.SERVER if is_server else Side.CLIENT)
        socket.scope = connection
        socket.on_closed = connection.on_socket_closed
        connection.sockets.append(socket)
        if len(connection.sockets) == 2:
            client, server = sorted(connection.sockets, key=lambda item: item.side)
            connection.filter = self.transfer.factory(connection)  # type: ignore[arg-type]
            with entered(connection):
                connection.filter.set_sockets(client, server, connection, None)


def _end_of(task: Any) -> Any:
    if not task.is_done:
        return None
    return task.result() if task.error is None else task.error


def sends(data: bytes) -> Peer:
    """A peer that sends everything, ends its stream, and returns what it received."""

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(data)
        stream.end_stream()
        return await receive_what_comes(stream)

    return peer


async def receives(stream: PeerStream) -> bytes:
    """A peer that receives to the end and closes."""
    return await receive_what_comes(stream)


async def receive_what_comes(stream: PeerStream) -> bytes:
    received = b""
    try:
        while piece := await stream.receive():
            received += piece
    except OSError as error:
        received += f"<{error.errno}>".encode()
    stream.close()
    return received
