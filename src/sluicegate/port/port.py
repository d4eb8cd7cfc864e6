"""CompletionPort: the one queue on which sockets, files, timers and tasks complete.

Gates own one per worker; programs of their own get one from ``sluicegate.port.run``. It puts the
objects (handles, overlappeds, sockets, timers, the blocking pool) over one backend. The invariant:
everything is started and completed on the port's own thread, and nothing completes inside the call
that started it.

A turn goes: run what was posted; submit and wait (the backend); run completions in order; run due
timers. What a completion starts is submitted with the next turn, all at once.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.clock import Clock, SystemClock
from sluicegate.errors import Side, TransportError, WrongThread
from sluicegate.limits import Limits

from .answerable import in_hand
from .backend import Backend, Operation, OperationPool, RawSocket, Source
from .datagram import DatagramSocket
from .handle import Handle
from .listener import Listener
from .overlapped import Overlapped
from .scope import current_scope, entered
from .stream import StreamSocket
from .timers import Timer, Timers
from .workers import BlockingPool

__all__ = ["CompletionPort", "PortStatistics", "TaskCompletion"]

ResultT = TypeVar("ResultT")

_BACKLOG = 4096
"""Connections the kernel holds before accept; capped by ``net.core.somaxconn``."""


class TaskCompletion(Protocol):
    """Whoever is told of a posted task."""

    def complete_task(self, user_data: Any) -> None:
        """Run the task: once, soon, on the port's thread."""
        ...


@dataclass(frozen=True, slots=True)
class PortStatistics:
    """What a port did and holds, at one moment."""

    backend: str
    turns: int
    submitted: int
    completed: int
    starved: int
    slots_replaced: int
    handles: int
    timers: int
    blocking_threads: int
    blocking_queue: int
    unhandled_errors: int


class CompletionPort:
    """One queue, one thread; made with a backend, ended by ``close``."""

    def __init__(
        self,
        backend: Backend,
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
        make_pool: Callable[[int, int, Callable[[Callable[[], None]], None]], BlockingPool] = (
            BlockingPool
        ),
    ) -> None:
        self.backend = backend
        self.pool = backend.pool
        self.clock: Clock = clock or SystemClock()
        self.limits = limits or Limits()
        self.timers = Timers(self.clock)
        self.operations = OperationPool(backend)
        self.now = self.clock.monotonic()
        #: The time of this turn: cheaper than a clock, and exact enough for deadlines.
        self.wall = self.clock.wall()
        #: The same moment for people, in seconds since the Unix epoch.
        self.on_error: Callable[[BaseException], None] = _print_error
        #: Told of every error of ours, whoever is ended by it.
        self.is_closing = False
        #: From ``close`` on a cancellation is the end: nothing starts its operation again.
        self._thread = threading.get_ident()
        self._handles: dict[int, Handle] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._posted_elsewhere: deque[Callable[[], None]] = deque()
        self._unhandled = 0
        self._pool = make_pool(
            self.limits.blocking_threads_max,
            self.limits.blocking_threads_grown_max,
            self.post_threadsafe,
        )
        backend.on_unhandled = self._on_unhandled
        backend.on_woken = self._on_woken

    # -- turning -------------------------------------------------------------------------------

    def turn(self, timeout_s: float | None = None) -> None:
        """Do one turn: run what was posted, wait at most ``timeout_s``, run what completed.

        Raises:
            WrongThread: Not on the port's thread.
        """
        self.check_thread()
        if self._posted or self._posted_elsewhere:
            self._run_posted()
            timeout_s = 0.0
        deadline = self.timers.next_deadline()
        if deadline is not None:
            remaining = max(0.0, deadline - self.clock.monotonic())
            timeout_s = remaining if timeout_s is None else min(timeout_s, remaining)
        self.backend.turn(timeout_s)
        if deadline is not None:
            self.timers.run_due(self.take_error)

    def take_over(self) -> None:
        """Make the calling thread the port's own, before anything was started."""
        self._thread = threading.get_ident()

    def check_thread(self) -> None:
        """Raise ``WrongThread`` off the port's thread: the ring has one issuer."""
        if threading.get_ident() != self._thread:
            raise WrongThread("port operations belong on its own thread; use post_task_threadsafe")

    def close(self) -> None:
        """Cancel everything and run the last completions; closes what is hooked."""
        self.is_closing = True
        for handle in list(self._handles.values()):
            handle.close()
        self._pool.close()
        self.backend.close()
        self._run_posted()

    # -- files ---------------------------------------------------------------------------------

    def hook(self, descriptor: int, *, owns: bool = True) -> Handle:
        """Put a descriptor on the port; from now on only overlapped operations may use it.

        Args:
            descriptor: Of a file or pipe.
            owns: Whether closing the handle closes the descriptor.

        Raises:
            OSError: ``EEXIST`` when it is hooked already.
        """
        self.check_thread()
        if descriptor in self._handles:
            raise OSError(errno.EEXIST, "the descriptor is hooked already")
        handle = Handle(self, descriptor, owns=owns)
        self._handles[descriptor] = handle
        return handle

    def unhook(self, descriptor: int) -> None:
        """Forget a closed handle's descriptor (called by handles)."""
        del self._handles[descriptor]

    def create_overlapped(self) -> Overlapped:
        """Make an operation slot for hooked handles."""
        return Overlapped(self)

    def create_buffer(self, size: int) -> Buffer:
        """Allocate an empty buffer of ``size`` bytes."""
        return Buffer(size)

    # -- sockets -------------------------------------------------------------------------------

    def listen(self, address: SocketAddress, *, backlog: int = _BACKLOG) -> Listener:
        """Listen on an address; port 0 lets the kernel choose. IPv6 sockets are IPv6 only.

        Raises:
            TransportError: The address cannot be bound.
        """
        self.check_thread()
        raw = self._create_socket(address, Side.INTERNAL, "listen on")
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            raw.bind(address.to_kernel())
            raw.listen(backlog)
        except OSError as error:
            raw.close()
            raise TransportError(
                error.errno or errno.EIO, Side.INTERNAL, f"listen on {address}"
            ) from error
        return Listener(self, raw, address.family)

    def take_listener(self, descriptor: int, family: int) -> Listener:
        """Listen with a socket that another process has opened; owns the descriptor from now on."""
        self.check_thread()
        return Listener(self, self.backend.adopt(descriptor, family), family)

    async def connect(
        self,
        address: SocketAddress,
        *,
        timeout_s: float | None = None,
        source: Source | None = None,
    ) -> StreamSocket:
        """Connect and return the socket.

        Args:
            address: The server.
            timeout_s: How long to wait; None: the limit ``connect_timeout_s``.
            source: Where from; None: wherever the system chooses.

        Raises:
            TransportError: Refused, unreachable, or ``ETIMEDOUT``; on the internal side: the
                source cannot be used.
        """
        self.check_thread()
        raw = self._create_socket(address, Side.SERVER, "connect to")
        if source is not None:
            self._bind_source(raw, source)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        attempt = _ConnectAttempt(self, raw, future)
        deadline = self.limits.connect_timeout_s if timeout_s is None else timeout_s
        timer = self.timers.call_after(deadline, attempt.on_timeout)
        self.backend.connect(attempt.operation, raw, address)
        try:
            result = await future
        except asyncio.CancelledError:
            attempt.abandon()
            raise
        finally:
            timer.cancel()
        if result < 0:
            raise TransportError(-result, Side.SERVER, f"connect to {address}")
        return StreamSocket(self, raw, Side.SERVER)

    def _bind_source(self, raw: RawSocket, source: Source) -> None:
        try:
            self.backend.bind_source(raw, source)
        except OSError as error:
            raw.close()
            code = error.errno or errno.EIO
            raise TransportError(code, Side.INTERNAL, f"bind to {source}") from error

    def bind_datagrams(self, address: SocketAddress) -> DatagramSocket:
        """Make a UDP socket on an address; port 0 lets the kernel choose.

        Raises:
            TransportError: The address cannot be bound.
        """
        return DatagramSocket(self, self.create_datagram_raw(bind=address))

    def connect_datagrams(self, address: SocketAddress) -> DatagramSocket:
        """Make a UDP socket whose only peer is ``address``; nothing is sent by that.

        Raises:
            TransportError: There is no way to that address.
        """
        return DatagramSocket(self, self.create_datagram_raw(connect=address), address)

    def bind_datagram_raw(self, address: SocketAddress) -> RawSocket:
        """Bind the UDP socket below a ``DatagramSocket``, for those who work on the tray.

        Raises:
            TransportError: The address cannot be bound.
        """
        return self.create_datagram_raw(bind=address)

    def create_datagram_raw(
        self,
        *,
        bind: SocketAddress | None = None,
        connect: SocketAddress | None = None,
        source: Source | None = None,
    ) -> RawSocket:
        """Make the UDP socket below a ``DatagramSocket``, for those who work on the tray.

        Args:
            bind: The address to receive at.
            connect: The only peer.
            source: Where from; may stand in the place of ``bind``.

        Raises:
            TransportError: An address cannot be bound or reached.
        """
        self.check_thread()
        address = connect or bind or (source.address if source is not None else None)
        assert address is not None, "name an address"
        doing, side = "bind to", Side.INTERNAL
        if connect is not None:
            doing, side = "connect to", Side.SERVER
        raw: RawSocket | None = None
        try:
            raw = self.backend.create_datagram_socket(address.family)
            if bind is not None:
                raw.bind(bind.to_kernel())
            if source is not None:
                doing, side = f"bind to {source} for", Side.INTERNAL
                self.backend.bind_source(raw, source)
            if connect is not None:
                raw.connect(connect.to_kernel())
        except OSError as error:
            if raw is not None:
                raw.close()
            raise TransportError(error.errno or errno.EIO, side, f"{doing} {address}") from error
        return raw

    # -- tasks and threads ---------------------------------------------------------------------

    def post_task(self, completion: TaskCompletion, user_data: Any = None) -> None:
        """Run ``completion.complete_task(user_data)`` once, soon, never inside this call."""
        self.check_thread()
        scope = current_scope()
        self._posted.append(lambda: _run_task(completion, user_data, scope))

    def post_task_threadsafe(self, completion: TaskCompletion, user_data: Any = None) -> None:
        """As ``post_task``, from any thread."""
        self.post_threadsafe(lambda: completion.complete_task(user_data))

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` once, soon, on the port's thread, in the order of the posts."""
        self._posted.append(action)

    def post_threadsafe(self, action: Callable[[], None]) -> None:
        """As ``post``, from any thread."""
        self._posted_elsewhere.append(action)
        self.backend.wake()

    def call_after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` once, after ``delay_s`` seconds."""
        return self.timers.call_after(delay_s, action)

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run a call that blocks on the bounded pool and await its result."""
        return await self._pool.run(function, *args)

    def submit_blocking(
        self,
        function: Callable[[], ResultT],
        done: Callable[[ResultT | None, BaseException | None], None],
    ) -> None:
        """As ``run_blocking`` without a task: ``done(result, error)`` runs later on the port.

        Raises:
            LimitExceeded: The port is closed.
        """
        self.check_thread()
        self._pool.submit(function, done)

    # -- errors of ours ------------------------------------------------------------------------

    def take_error(self, error: BaseException, told: object = None) -> None:
        """Take an exception that nobody has foreseen: count it, and end whatever it broke.

        Completions, posted tasks, timers and coroutines bring theirs here. What was in hand when
        it was raised is half done: it is ended at once, because nobody would go on with it.

        Args:
            error: The exception.
            told: Whose method a completion was.
        """
        self._unhandled += 1
        self.on_error(error)
        for answerable in in_hand(error, told):
            try:
                answerable.on_internal_error(error)
            except Exception as second:  # noqa: BLE001 - the others in hand have to be ended, too
                self._unhandled += 1
                self.on_error(second)

    # -- asking --------------------------------------------------------------------------------

    @property
    def has_posted(self) -> bool:
        """Whether the next turn has something to do without waiting."""
        return bool(self._posted or self._posted_elsewhere)

    def statistics(self) -> PortStatistics:
        """Return what the port did and holds now."""
        backend = self.backend
        return PortStatistics(
            backend=backend.name,
            turns=backend.turns,
            submitted=backend.submitted,
            completed=backend.completed,
            starved=backend.starved,
            slots_replaced=backend.pool.replaced,
            handles=len(self._handles),
            timers=len(self.timers),
            blocking_threads=self._pool.thread_count,
            blocking_queue=self._pool.queue_length,
            unhandled_errors=self._unhandled,
        )

    # -- private -------------------------------------------------------------------------------

    def _create_socket(self, address: SocketAddress, side: Side, doing: str) -> RawSocket:
        try:
            return self.backend.create_socket(address.family)
        except OSError as error:
            raise TransportError(error.errno or errno.EMFILE, side, f"{doing} {address}") from error

    def _run_posted(self) -> None:
        while self._posted_elsewhere:
            self._posted.append(self._posted_elsewhere.popleft())
        for _ in range(len(self._posted)):
            action = self._posted.popleft()
            try:
                action()
            except Exception as error:  # noqa: BLE001 - one task's failure is not another's
                self.take_error(error)

    def _on_woken(self) -> None:
        self.now = self.clock.monotonic()
        self.wall = self.clock.wall()

    def _on_unhandled(self, operation: Operation | None, error: BaseException) -> None:
        self.take_error(error, getattr(operation and operation.complete, "__self__", None))


class _ConnectAttempt:
    """One awaited connect: whichever of completion and deadline comes first decides."""

    __slots__ = ("_future", "_port", "_raw", "_timed_out", "operation")

    def __init__(self, port: CompletionPort, raw: RawSocket, future: asyncio.Future[int]) -> None:
        self.operation = Operation(self._on_connected)
        self._port = port
        self._raw = raw
        self._future = future
        self._timed_out = False

    def on_timeout(self) -> None:
        """End the attempt; its completion tells the waiter."""
        self._timed_out = True
        self._port.backend.cancel(self.operation)

    def abandon(self) -> None:
        """Nobody waits any more: cancel, and close when the completion came."""
        if self.operation.in_flight:
            self._port.backend.cancel(self.operation)
        elif self._raw.fileno() >= 0:
            self._raw.close()

    def _on_connected(self, result: int, _flags: int) -> None:
        if self._timed_out and result < 0:
            result = -errno.ETIMEDOUT
        self._port.backend.forget(self.operation)
        if result < 0 or self._future.done():
            self._raw.close()
        if not self._future.done():
            self._future.set_result(result)


def _run_task(completion: TaskCompletion, user_data: Any, scope: Any) -> None:
    try:
        with entered(scope):
            completion.complete_task(user_data)
    except Exception as error:
        if scope is None:
            raise
        scope.on_filter_failure(error)


def _print_error(error: BaseException) -> None:
    """Show an error that nobody owns, with its trace, as ``threading`` does."""
    sys.excepthook(type(error), error, error.__traceback__)
