"""The bench on which a completion port over some driver is checked.

The ``check_*`` functions for ports make one for the factory they are given. The invariant: both
ends of every connection are sockets of the one port, and at the end every shared slot is home.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, Final, Self, TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.buffer import Window
from sluicegate.limits import Limits
from sluicegate.port import Accepted, CompletionPort, Handle, Listener, Overlapped, StreamSocket
from sluicegate.port.backend import Operation

from .bench import NonConforming, count_free_slots, demand

__all__ = [
    "AcceptLog",
    "IoLog",
    "PortBench",
    "PortFactory",
    "SocketLog",
    "TaskLog",
]

PortFactory: TypeAlias = Callable[[Limits], CompletionPort]
"""Makes a fresh port with these limits, on a driver on trial."""

PORT_LIMITS: Final = Limits(interactive_buffers_max=64, bulk_buffers_max=4, splice_pipes_max=4)

_IDLE_TURNS_MAX: Final = 400
_TURN_S: Final = 0.02


class IoLog:
    """Writes down the completions of overlappeds; ``then`` runs behind each."""

    def __init__(self) -> None:
        self.results: list[tuple[bool, int, int, Overlapped, Any]] = []
        #: success, bytes_transferred, error, overlapped, user_data
        self.then: Callable[[Overlapped], None] | None = None

    def complete_async_io(
        self,
        success: bool,
        bytes_transferred: int,
        error: int,
        overlapped: Overlapped,
        user_data: Any,
    ) -> None:
        """Take the result of one operation."""
        self.results.append((success, bytes_transferred, error, overlapped, user_data))
        if self.then is not None:
            self.then(overlapped)


class SocketLog:
    """Writes down the completions of one socket's operations, with the bytes."""

    def __init__(self) -> None:
        self.results: list[tuple[bool, int, bytes, Any]] = []
        #: success, error, bytes of the window, user_data
        self.windows: list[Window] = []
        self.then: Callable[[Window], None] | None = None

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Take the result of one receive or send."""
        demand(address is None, "the address belongs to datagrams only")
        self.results.append((success, error, bytes(buffer), user_data))
        self.windows.append(buffer)
        if self.then is not None:
            self.then(buffer)


class AcceptLog:
    """Writes down accepted connections."""

    def __init__(self) -> None:
        self.results: list[tuple[bool, int, Accepted, Any]] = []

    def complete_async_accept(
        self, success: bool, error: int, accepted: Accepted, user_data: Any
    ) -> None:
        """Take one accepted connection."""
        self.results.append((success, error, accepted, user_data))


class TaskLog:
    """Writes down that tasks ran."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.then: Callable[[], None] | None = None

    def complete_task(self, user_data: Any) -> None:
        """Run one task."""
        self.results.append(user_data)
        if self.then is not None:
            self.then()


class PortBench:
    """One port on trial."""

    def __init__(self, make_port: PortFactory, limits: Limits = PORT_LIMITS) -> None:
        self.port = make_port(limits)
        self.limits = limits
        self.errors: list[BaseException] = []
        #: What came to ``on_error``; a check that provokes it clears the list.
        self.port.on_error = self.errors.append
        self._sockets: list[StreamSocket] = []
        self._listeners: list[Listener] = []
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for sock in self._sockets:
                sock.close(abortive=True)
            for listener in self._listeners:
                listener.close()
            if error is None and not self.port.is_closing:
                self.demand_slots_home()
        finally:
            self.port.close()
            for file in self._files:
                file.close()
        if error is None and self.errors:
            raise self.errors[0]

    # -- waiting -------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Turn until ``condition`` holds; ``what`` was promised."""
        idle_turns = 0
        while idle_turns < _IDLE_TURNS_MAX:
            if condition():
                return
            completed = self.port.backend.completed
            self.port.turn(_TURN_S)
            for error in self.errors:
                if isinstance(error, NonConforming):
                    raise error
            idle_turns = idle_turns + 1 if self.port.backend.completed == completed else 0
        raise NonConforming(f"did not happen: {what}")

    def until_results(self, log: IoLog | SocketLog | AcceptLog | TaskLog, count: int) -> None:
        """Turn until a log has ``count`` results."""
        self.until(lambda: len(log.results) >= count, f"{count} completions are told")

    def settle(self) -> None:
        """Turn until nothing more is to be expected."""
        for _ in range(10):
            self.port.turn(0.002)

    # -- things --------------------------------------------------------------------------------

    def file(self, contents: bytes = b"") -> int:
        """Make a temporary file and return a descriptor of it that the bench owns."""
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the bench
        file.write(contents)
        self._files.append(file)
        return file.fileno()

    def handle(self, contents: bytes = b"") -> Handle:
        """Hook a temporary file."""
        return self.port.hook(self.file(contents), owns=False)

    def overlapped(self, log: IoLog, user_data: Any = None) -> Overlapped:
        """Make an overlapped that tells ``log``."""
        overlapped = self.port.create_overlapped()
        overlapped.set_notification(log, user_data)
        return overlapped

    def listen(self) -> tuple[Listener, SocketAddress]:
        """Listen on the loopback interface."""
        listener = self.port.listen(SocketAddress("127.0.0.1", 0))
        self._listeners.append(listener)
        return listener, listener.local_address()

    def connect(self, address: SocketAddress) -> StreamSocket:
        """Connect and return the socket; somebody must listen."""
        backend = self.port.backend
        raw = backend.create_socket(socket.AF_INET)
        results: list[int] = []
        backend.connect(Operation(lambda result, _flags: results.append(result)), raw, address)
        self.until(lambda: results, "a connect completes")
        demand(results == [0], f"a connect succeeds, not {results}")
        return self.keep(StreamSocket(self.port, raw))

    def pair(self) -> tuple[StreamSocket, StreamSocket]:
        """Return both ends of a connection, the connecting one first."""
        listener, address = self.listen()
        log = AcceptLog()
        listener.start_accept(log)
        client = self.connect(address)
        self.until_results(log, 1)
        success, error, accepted, _ = log.results[0]
        demand(success and error == 0, "an accept succeeds")
        assert accepted.socket is not None
        demand(accepted.remote == client.local_address(), "an accept names the remote address")
        demand(accepted.local == client.peer_address(), "an accept names the local address")
        demand(accepted.listener is listener, "an accept names its listener")
        listener.close()
        self.settle()
        return client, self.keep(accepted.socket)

    def keep(self, sock: StreamSocket) -> StreamSocket:
        """Close a socket with the bench."""
        self._sockets.append(sock)
        return sock

    def receive_exactly(self, sock: StreamSocket, size: int) -> bytes:
        """Receive until there are ``size`` bytes, or the stream ends."""
        received = b""
        while len(received) < size:
            log = SocketLog()
            sock.start_receive(None, log)
            self.until_results(log, 1)
            success, error, data, _ = log.results[0]
            demand(success, f"a receive succeeds, not errno {error}")
            if not data:
                break
            received += data
        return received

    def demand_slots_home(self) -> None:
        """Demand that every small slot can be received into at once."""
        self.settle()
        free, count = count_free_slots(self.port.backend), self.port.backend.pool.small_count
        demand(free == count, f"every slot comes home, not {free} of {count}")
