"""What the io_uring driver's tests share: a driver, pairs of sockets, and turning until."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

from sluicegate.address import SocketAddress
from sluicegate.limits import Limits
from sluicegate.port.backend import MORE, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.backends.uring import UringBackend

TURNS_MAX = 2000


class Log:
    """An operation that writes down its results."""

    def __init__(self) -> None:
        self.results: list[tuple[int, int]] = []
        self.operation = Operation(lambda result, flags: self.results.append((result, flags)))

    @property
    def is_over(self) -> bool:
        return bool(self.results) and not self.results[-1][1] & MORE


class Reader:
    """A multishot receive that keeps its bytes, and its slots while it ``holds``."""

    def __init__(self, backend: UringBackend, sock: RawSocket, *, holds: bool = False) -> None:
        self.backend = backend
        self.sock = sock
        self.holds = holds
        self.held: list[int] = []
        self.data = b""
        self.chunks = 0
        self.last: int | None = None
        self.operation = Operation(self.on_data)
        backend.receive(self.operation, sock)

    def on_data(self, result: int, flags: int) -> None:
        if result <= 0:
            self.last = result
            return
        self.chunks += 1
        slot = self.backend.pool.slots[flags >> SLOT_SHIFT]
        self.data += bytes(slot.view[:result])
        if self.holds:
            self.held.append(slot.index)
        else:
            self.backend.pool.recycle(slot)
        if not flags & MORE:
            self.backend.receive(self.operation, self.sock)

    def let_go(self) -> None:
        self.holds = False
        while self.held:
            self.backend.pool.recycle(self.backend.pool.slots[self.held.pop()])


@contextlib.contextmanager
def driver(
    limits: Limits | None = None, features_masked: frozenset[str] = frozenset()
) -> Iterator[UringBackend]:
    backend = UringBackend(limits or Limits(), features_masked=features_masked)
    try:
        yield backend
    finally:
        backend.close()


@contextlib.contextmanager
def pair(backend: UringBackend) -> Iterator[tuple[RawSocket, socket.socket]]:
    """A socket of the driver, and its peer as a plain Python one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        raw = backend.create_socket(socket.AF_INET)
        log = Log()
        backend.connect(log.operation, raw, SocketAddress(*server.getsockname()))
        until(backend, lambda: log.is_over)
        assert log.results == [(0, log.results[0][1])]
        peer, _ = server.accept()
    try:
        yield raw, peer
    finally:
        peer.close()
        raw.close()


def until(backend: UringBackend, condition: Callable[[], object]) -> None:
    for _ in range(TURNS_MAX):
        if condition():
            return
        backend.turn(0.01)
    raise AssertionError("it did not come to pass")


def settle(backend: UringBackend, turns: int = 20) -> None:
    for _ in range(turns):
        backend.turn(0)
