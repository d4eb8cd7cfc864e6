"""The bench on which one driver is checked: it records, waits and cleans up.

Every ``check_*`` of this package makes one for the factory it is given. The invariant: what a
bench opened is closed at its end, and an exception that no check provoked fails the check.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, ConstBuffer
from sluicegate.limits import Limits
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT, Backend, Operation, RawSocket
from sluicegate.port.pool import Slot

__all__ = [
    "BENCH_LIMITS",
    "BackendBench",
    "BackendFactory",
    "NonConforming",
    "Receiver",
    "Recorder",
    "count_free_slots",
    "demand",
    "pattern",
]

BackendFactory: TypeAlias = Callable[[Limits], Backend]
"""Makes a fresh driver with these limits."""

BENCH_LIMITS: Final = Limits(interactive_buffers_max=8, bulk_buffers_max=4, splice_pipes_max=4)
"""Few buffers, so that their end is soon reached."""

_IDLE_TURNS_MAX: Final = 400
_TURN_S: Final = 0.02
_SETTLE_TURNS: Final = 10
_SETTLE_S: Final = 0.002


class NonConforming(AssertionError):
    """The driver broke its contract; the text says which sentence."""


class Recorder:
    """An operation that writes down its completions; ``then`` runs behind each."""

    def __init__(self) -> None:
        self.results: list[tuple[int, int]] = []
        self.then: Callable[[int, int], None] | None = None
        self.operation = Operation(self._on_result)

    def _on_result(self, result: int, flags: int) -> None:
        self.results.append((result, flags))
        if self.then is not None:
            self.then(result, flags)

    @property
    def final(self) -> int | None:
        """The result of the last completion, once it is the last."""
        if self.results and not self.results[-1][1] & MORE:
            return self.results[-1][0]
        return None

    @property
    def final_count(self) -> int:
        """How many completions said that they were the last."""
        return sum(1 for _, flags in self.results if not flags & MORE)


class Receiver(Recorder):
    """A multishot receive that collects bytes, recycles slots and starts itself again."""

    def __init__(self, bench: BackendBench, sock: RawSocket, *, is_bulk: bool = False) -> None:
        super().__init__()
        self.count = 0
        #: Bytes received.
        self.ends = 0
        self.starts = 0
        self.error = 0
        self.holds = False
        #: Whether it keeps its slots until ``let_go``.
        self.held: list[Slot] = []
        self.is_stopping = False
        self.then = self._take
        self._bench = bench
        self._sock = sock
        self._is_bulk = is_bulk
        self._parts: list[bytes] = []

    @property
    def data(self) -> bytes:
        """All bytes received."""
        return b"".join(self._parts)

    def start(self) -> Receiver:
        """Start the operation."""
        self.is_stopping = False
        self.starts += 1
        backend = self._bench.backend
        start = backend.receive_bulk if self._is_bulk else backend.receive
        start(self.operation, self._sock)
        return self

    def stop(self) -> None:
        """Cancel the operation."""
        self.is_stopping = True
        self._bench.backend.cancel(self.operation)

    def let_go(self) -> None:
        """Give back what is held, and hold no more."""
        self.holds = False
        held, self.held = self.held, []
        for slot in held:
            slot.pool.recycle(slot)

    def _take(self, result: int, flags: int) -> None:
        if result > 0:
            demand(bool(flags & BUFFER), "a receive with data names its slot")
            slot = self._bench.backend.pool.slots[flags >> SLOT_SHIFT]
            self._parts.append(bytes(slot.view[:result]))
            self.count += result
            if self.holds:
                self.held.append(slot)
            else:
                slot.pool.recycle(slot)
        elif result == 0:
            demand(
                not flags & (MORE | BUFFER), "the end of a stream carries neither MORE nor a slot"
            )
            self.ends += 1
        elif result != -errno.ECANCELED:
            self.error = -result
        if result > 0 and not flags & MORE and not self.is_stopping:
            self.start()


class BackendBench:
    """One driver on trial."""

    def __init__(self, make_backend: BackendFactory, limits: Limits = BENCH_LIMITS) -> None:
        self.backend = make_backend(limits)
        self.limits = limits
        self.unhandled: list[tuple[Operation | None, BaseException]] = []
        #: What came to ``on_unhandled``; a check that provokes it clears the list.
        self.backend.on_unhandled = lambda operation, error: self.unhandled.append(
            (operation, error)
        )
        self._sockets: list[RawSocket] = []
        self._leased: list[Buffer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.backend.close()
        self.close_sockets()
        for buffer in self._leased:
            buffer.release()
        if error is None and self.unhandled:
            raise self.unhandled[0][1]

    def close_sockets(self) -> None:
        """Close what the bench opened; nothing may be in flight on it."""
        for sock in self._sockets:
            sock.close()

    # -- waiting -------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Turn until ``condition`` holds; ``what`` was promised."""
        idle_turns = 0
        while idle_turns < _IDLE_TURNS_MAX:
            if condition():
                return
            completed = self.backend.completed
            self.backend.turn(_TURN_S)
            for _, error in self.unhandled:
                if isinstance(error, NonConforming):
                    raise error
            idle_turns = idle_turns + 1 if self.backend.completed == completed else 0
        raise NonConforming(f"did not happen: {what}")

    def settle(self) -> None:
        """Turn until nothing more is to be expected."""
        for _ in range(_SETTLE_TURNS):
            self.backend.turn(_SETTLE_S)

    def until_data(self, receiver: Receiver, data: bytes, what: str) -> None:
        """Turn until a receiver has ``data``; it must not be anything else."""
        self.until(lambda: receiver.count >= len(data), what)
        demand(receiver.data == data, f"exactly what was sent arrives: {what}")

    def until_completions(self, recorder: Recorder, count: int, what: str) -> None:
        """Turn until an operation has completed ``count`` times."""
        self.until(lambda: len(recorder.results) >= count, what)

    def finish(self, recorder: Recorder, what: str = "the operation completes") -> int:
        """Turn until an operation has ended and return its last result."""
        self.until(lambda: recorder.final is not None, what)
        final = recorder.final
        assert final is not None
        return final

    # -- things --------------------------------------------------------------------------------

    def buffer(self, size: int) -> Buffer:
        """Make a buffer that is leased until the end of the bench."""
        return self._lease(Buffer(size))

    def const(self, data: bytes) -> Buffer:
        """Make a leased buffer with contents."""
        return self._lease(ConstBuffer(data))

    def socket(self, family: int = socket.AF_INET) -> RawSocket:
        """Make a socket that is closed with the bench."""
        return self.keep(self.backend.create_socket(family))

    def keep(self, sock: RawSocket) -> RawSocket:
        """Close a socket with the bench."""
        self._sockets.append(sock)
        return sock

    def listen(self, host: str = "127.0.0.1", backlog: int = 64) -> tuple[RawSocket, SocketAddress]:
        """Listen on a port of the kernel's choice."""
        listener = self.socket(SocketAddress(host, 0).family)
        listener.bind(SocketAddress(host, 0).to_kernel())
        listener.listen(backlog)
        return listener, SocketAddress.from_kernel(listener.getsockname())

    def connect(self, address: SocketAddress) -> tuple[RawSocket, Recorder]:
        """Start a connect."""
        sock = self.socket(address.family)
        recorder = Recorder()
        self.backend.connect(recorder.operation, sock, address)
        return sock, recorder

    def pair(self, host: str = "127.0.0.1") -> tuple[RawSocket, RawSocket]:
        """Return both ends of a connection, the connecting one first."""
        listener, address = self.listen(host)
        accepted = Recorder()
        self.backend.accept(accepted.operation, listener)
        client, connected = self.connect(address)
        self.until(lambda: connected.results and accepted.results, "a connect is accepted")
        demand(connected.final == 0, "a successful connect has the result 0")
        descriptor, flags = accepted.results[0]
        demand(descriptor >= 0, f"accept gives a descriptor, not {descriptor}")
        demand(bool(flags & MORE), "accept goes on after a connection")
        server = self.keep(self.backend.adopt(descriptor, address.family))
        self.backend.cancel(accepted.operation)
        self.finish(accepted, "a cancelled accept ends")
        return client, server

    def receiver(self, sock: RawSocket, *, is_bulk: bool = False) -> Receiver:
        """Start a collecting receive."""
        return Receiver(self, sock, is_bulk=is_bulk).start()

    def start_send(self, sock: RawSocket, data: bytes) -> Recorder:
        """Start a send of all of ``data``."""
        recorder = Recorder()
        self.backend.send(recorder.operation, sock, self.const(data), 0, len(data))
        return recorder

    def send(self, sock: RawSocket, data: bytes) -> None:
        """Send a little, which must be taken."""
        result = self.finish(self.start_send(sock, data), "a small send completes")
        demand(result == len(data), f"a send of {len(data)} bytes has the result {result}")

    def _lease(self, buffer: Buffer) -> Buffer:
        buffer.lease()
        self._leased.append(buffer)
        return buffer


def count_free_slots(backend: Backend) -> int:
    """Hold as many small slots as the driver gives at once, give them back, and return how many.

    Nothing else may be receiving meanwhile.
    """
    on_unhandled = backend.on_unhandled
    bench = BackendBench(lambda _limits: backend)
    client, server = bench.pair()
    hog = Receiver(bench, server)
    hog.holds = True
    hog.start()
    starved = backend.starved
    for count in range(backend.pool.small_count):
        bench.send(client, b"x")
        bench.until(
            partial(_holds_or_starves, hog, count, backend, starved), "a byte that was sent arrives"
        )
    free = len(hog.held)
    hog.let_go()
    hog.stop()
    bench.until(lambda: not hog.operation.in_flight, "a cancelled receive ends")
    bench.close_sockets()
    backend.on_unhandled = on_unhandled
    return free


def _holds_or_starves(hog: Receiver, count: int, backend: Backend, starved: int) -> bool:
    return len(hog.held) > count or backend.starved > starved


def demand(condition: bool, sentence: str) -> None:
    """Fail the check with the sentence of the contract that was broken."""
    if not condition:
        raise NonConforming(sentence)


def pattern(size: int, salt: int = 0) -> bytes:
    """Return bytes in which every shift, loss and repetition shows."""
    block = b"".join(
        (number * 2654435761 + salt & 0xFFFFFFFF).to_bytes(4, "big") for number in range(4099)
    )
    return (block * (size // len(block) + 1))[:size]
