"""What the tests of the spool share: ports, an owner that notes, a socket that collects."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import SluicegateError
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, SocketCompletion
from sluicegate.port.backend import Backend
from sluicegate.spool import Delivery, SpooledBody, SpoolStore
from sluicegate.testing import FaultPlan, SimulatedBackend, VirtualClock


def real_port(backend_name: str, limits: Limits) -> CompletionPort:
    backend: Backend
    if backend_name == "io_uring":
        from sluicegate.port.backends.uring import UringBackend

        backend = UringBackend(limits)
    else:
        from sluicegate.port.backends.epoll import EpollBackend

        backend = EpollBackend(limits)
    return CompletionPort(backend, limits=limits)


def simulated_port(seed: int, faults: FaultPlan, limits: Limits) -> CompletionPort:
    """A port in virtual time whose blocking calls are made at once, so that a seed is a run."""
    clock = VirtualClock()
    backend = SimulatedBackend(seed, faults, clock, limits)
    port = CompletionPort(backend, clock=clock, limits=limits)
    port._pool = InlineThreads(port)  # type: ignore[assignment]
    return port


class InlineThreads:
    thread_count = queue_length = 0

    def __init__(self, port: CompletionPort) -> None:
        self.port = port

    def submit(self, call: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        try:
            result, error = call(), None
        except Exception as raised:
            result, error = None, raised
        self.port.post(lambda: done(result, error))

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def close(self) -> None:
        pass


class Owner:
    """A body's owner that notes what it is told."""

    def __init__(self) -> None:
        self.ready = True
        self.finished = False
        self.error: SluicegateError | None = None
        self.told: list[str] = []

    def on_body_ready(self) -> None:
        self.told.append("ready")
        self.ready = True

    def on_body_finished(self) -> None:
        self.told.append("finished")
        self.finished = True

    def on_body_failed(self, error: SluicegateError) -> None:
        self.told.append("failed")
        self.error = error

    @property
    def is_over(self) -> bool:
        return self.finished or self.error is not None


class Collector:
    """A data socket that takes what it is sent, one completion later."""

    def __init__(self, port: CompletionPort) -> None:
        self.port = port
        self.received = bytearray()
        self.sends = 0
        self.fail_after: int | None = None

    def start_send(self, data: Window, completion: SocketCompletion, user_data: Any = None) -> None:
        self.sends += 1
        error = 104 if self.fail_after is not None and self.sends > self.fail_after else 0
        data.buffer.lease()

        def complete() -> None:
            if not error:
                self.received += bytes(data)
            # As the port's sockets: told first, released afterwards.
            completion.complete_socket_io(not error, error, data, user_data, None)
            data.buffer.release()

        self.port.post(complete)


def run(port: CompletionPort, until: Callable[[], bool], directory: Path | None = None) -> None:
    """Turn the port until something is so; the spool's directory is empty all the time."""
    while not until():
        port.turn(None)
        if directory is not None:
            assert os.listdir(directory) == []


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut data; the last piece takes what is left."""
    pieces, offset = [], 0
    for size in sizes:
        pieces.append(data[offset : offset + size])
        offset += size
    return [piece for piece in [*pieces, data[offset:]] if piece]


def fill(
    port: CompletionPort, body: SpooledBody, owner: Owner, pieces: list[bytes], directory: Path
) -> list[ConstBuffer]:
    """Append pieces as a polite source does, and finish; return their buffers."""
    buffers = []
    for piece in pieces:
        run(port, lambda: owner.ready or owner.error is not None, directory)
        if owner.error is not None:
            return buffers
        buffer = ConstBuffer(piece)
        buffers.append(buffer)
        owner.ready = body.append(buffer.window())
    body.finish()
    run(port, lambda: owner.is_over, directory)
    return buffers


def deliver(port: CompletionPort, store: SpoolStore, source: SpooledBody | bytes) -> bytes:
    """Send a held object to a collector and return what came."""
    collector = Collector(port)
    ends: list[SluicegateError | None] = []
    Delivery(store, source, collector, ends.append).start()  # type: ignore[arg-type]
    run(port, lambda: bool(ends))
    assert ends == [None]
    return bytes(collector.received)


def check_empty(port: CompletionPort, store: SpoolStore) -> None:
    """Nothing is held any more: no file, no memory, no quota, no operation."""
    run(port, lambda: store.statistics().files_open == 0 and store.statistics().bodies == 0)
    statistics = store.statistics()
    assert statistics.bytes_held == statistics.memory_bytes == statistics.clients == 0
    assert store.shelf.lent_count == 0
    assert port.statistics().handles == 0
