"""The contract between the port's objects and the driver that talks to the kernel.

Three drivers implement it whole: ``backends/uring``, ``backends/epoll`` and the simulated one in
``sluicegate.testing``. Handles, overlappeds, sockets, timers and the gate's pump are written once,
above it. The one invariant: starting an operation never blocks, never completes inside the call,
and every started operation completes exactly once (a multishot one: exactly once without
``MORE``), also when it is cancelled or the backend closes.

Results are the kernel's: ``result`` is a count or descriptor (>= 0) or a negative errno. ``flags``
follow the layout of an io_uring completion: bit 0 (``BUFFER``) says that bits 16 and up are the
index of a pool slot in ``backend.slots``; bit 1 (``MORE``) that the same operation will complete
again.

Everything here is for the port's own thread. Memory named by an operation must stay alive until it
completed: callers hold a lease.
"""

from __future__ import annotations

import abc
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.limits import OPERATIONS_KEPT_MAX

from .pool import SlotPool

if TYPE_CHECKING:
    from .tray import DatagramTray

__all__ = [
    "BUFFER",
    "MORE",
    "MSG_MORE",
    "POLL_IN",
    "POLL_OUT",
    "RETIRED",
    "SEND_FLAGS",
    "SLOT_SHIFT",
    "Backend",
    "Completed",
    "Operation",
    "OperationPool",
    "Pipe",
    "RawSocket",
    "Source",
]

BUFFER: Final = 1
MORE: Final = 2
SLOT_SHIFT: Final = 16

POLL_IN: Final = 0x001
POLL_OUT: Final = 0x004

#: MSG_DONTWAIT | MSG_NOSIGNAL, for ``RawSocket.send`` on the port's thread.
SEND_FLAGS: Final = 0x40 | 0x4000
#: More follows at once, or the end: what is sent may wait for it, and leave in one packet.
MSG_MORE: Final = 0x8000

Completed = Callable[[int, int], None]


class Operation:
    """One reusable slot: at most one submission in flight; ``complete`` is told of its result.

    Owned by the object it serves (a direction, a socket, a handle). ``complete`` may be replaced
    while in flight through ``Backend.redirect`` only.
    """

    __slots__ = ("complete", "in_flight", "token")

    def __init__(self, complete: Completed) -> None:
        self.complete = complete
        self.in_flight = False
        #: Set by the backend when started, cleared by it before the last completion runs.
        self.token = -1
        #: The backend's private mark; -1 while it knows nothing of this operation.


def tell_nobody(_result: int, _flags: int) -> None:
    """Stand for whoever used an operation last: it would keep alive whom it told."""


RETIRED: Final = Operation(tell_nobody)
"""In the place of an operation that was given back: never in flight, so that a late cancellation
cannot hit the operation's next user."""


class OperationPool:
    """Operations between two uses: one that its backend knows costs less to start again."""

    __slots__ = ("_backend", "_free")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._free: list[Operation] = []

    def take(self, complete: Completed) -> Operation:
        """Return an operation that tells ``complete``."""
        if not self._free:
            return Operation(complete)
        operation = self._free.pop()
        self._backend.redirect(operation, complete)
        return operation

    def give(self, operation: Operation) -> None:
        """Take an operation back that is not in flight."""
        operation.complete = tell_nobody
        if len(self._free) < OPERATIONS_KEPT_MAX:
            self._free.append(operation)
        else:
            self._backend.forget(operation)


class RawSocket(Protocol):
    """What the port uses of a socket object (``socket.SocketType`` or a simulated one)."""

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        ...

    def send(self, data: memoryview | bytes, flags: int = ..., /) -> int:
        """Send what fits; raises ``BlockingIOError`` under ``SEND_FLAGS`` when nothing does."""
        ...

    def recv(self, size: int, flags: int = ..., /) -> bytes:
        """Take or look at what arrived; empty at the end of the stream.

        For the few bytes that are read before a connection has a pump, under ``MSG_DONTWAIT``.

        Raises:
            BlockingIOError: Nothing has arrived.
            OSError: The connection failed.
        """
        ...

    def sendto(self, data: memoryview | bytes, flags: int, address: tuple[object, ...], /) -> int:
        """Send a datagram; raises ``BlockingIOError`` under ``SEND_FLAGS`` without room."""
        ...

    def sendmsg(
        self,
        buffers: list[bytes],
        ancillary: list[tuple[int, int, bytes]],
        flags: int,
        address: tuple[object, ...],
        /,
    ) -> int:
        """Send a datagram with control messages."""
        ...

    def connect(self, address: tuple[object, ...], /) -> None:
        """Give a datagram socket its only peer; on a stream ``Backend.connect`` is used."""
        ...

    def recv_into(self, buffer: memoryview, size: int, flags: int, /) -> int:
        """Receive a datagram; under ``MSG_TRUNC`` the result is its length, also if it was cut."""
        ...

    def getpeername(self) -> tuple[object, ...]:
        """Return the other end's address."""
        ...

    def getsockname(self) -> tuple[object, ...]:
        """Return this end's address."""
        ...

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        """Set an option."""
        ...

    def getsockopt(self, level: int, name: int, /) -> int:
        """Return an option that is a number."""
        ...

    def bind(self, address: tuple[object, ...], /) -> None:
        """Bind to an address."""
        ...

    def listen(self, backlog: int, /) -> None:
        """Begin to listen."""
        ...

    def shutdown(self, how: int, /) -> None:
        """Half close."""
        ...

    def close(self) -> None:
        """Close the descriptor."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where a socket connects or sends from."""

    address: SocketAddress
    """Its port is 0: any."""
    is_transparent: bool = False
    """Whether it may be an address that this machine does not have (``IP_TRANSPARENT``)."""

    @override
    def __str__(self) -> str:
        return self.address.host


class Pipe(Protocol):
    """A kernel pipe for splicing; ``held`` bytes are in it."""

    held: int

    def fill(self, source: RawSocket, length: int, /) -> int:
        """Move up to ``length`` bytes from a socket into the pipe without blocking.

        Returns:
            Bytes moved, 0 at end of stream.

        Raises:
            BlockingIOError: Nothing to read now, or the pipe is full.
            OSError: The source failed.
        """
        ...

    def drain(self, target: RawSocket, /) -> int:
        """Move what is held to a socket without blocking; returns the bytes moved.

        Raises:
            BlockingIOError: The target takes nothing now.
            OSError: The target failed.
        """
        ...


class Backend(abc.ABC):
    """One driver; lives as long as its port; used from the port's thread only (but ``wake``)."""

    name: ClassVar[str]

    pool: SlotPool
    #: Shared receive buffers; ``pool.slots[flags >> SLOT_SHIFT]``.
    tray: DatagramTray
    #: Where datagrams lie; what is passed on in it leaves before the next wait.
    turns: int
    submitted: int
    completed: int
    starved: int

    # -- turns ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def turn(self, timeout_s: float | None) -> None:
        """Submit what was started, wait for completions, then run them in order.

        Args:
            timeout_s: Seconds to wait at most; 0 polls, None waits until something completes or
                ``wake`` is called.

        All results of a batch are stored before the first is run. An exception out of a completion
        goes to ``on_unhandled`` and never stops the batch.
        """

    on_unhandled: Callable[[Operation | None, BaseException], None]
    #: Set by the port.

    on_woken: Callable[[], None]
    #: Set by the port; every ``turn`` calls it after the wait and before the first completion
    #: runs, so that ``port.now`` is the time of this turn.

    @abc.abstractmethod
    def wake(self) -> None:
        """End a waiting ``turn``; the only method for other threads and signal handlers."""

    @abc.abstractmethod
    def close(self) -> None:
        """Cancel everything, run the outstanding completions (``-ECANCELED``), free all."""

    @abc.abstractmethod
    def cancel(self, operation: Operation) -> None:
        """Ask for an end; the completion still comes (``-ECANCELED`` or a real result).

        Harmless on an operation that is not in flight.
        """

    @abc.abstractmethod
    def redirect(self, operation: Operation, complete: Completed) -> None:
        """Let another completion be told of an operation, in flight or not."""

    @abc.abstractmethod
    def forget(self, operation: Operation) -> None:
        """Free what the backend keeps for an operation that is not in flight, and whom it tells.

        Who uses it again redirects it before.
        """

    # -- files ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def read(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        """Read a file at ``offset`` into ``buffer[start:start + length]``; may be short."""

    @abc.abstractmethod
    def write(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        """Write ``buffer[start:start + length]`` to a file at ``offset``; may be short."""

    @abc.abstractmethod
    def sync(self, operation: Operation, fd: int, *, data_only: bool) -> None:
        """``fsync`` or ``fdatasync``."""

    @abc.abstractmethod
    def write_back(self, operation: Operation, fd: int, offset: int, length: int) -> None:
        """Start writing a range back to the disk without waiting (``sync_file_range``)."""

    @abc.abstractmethod
    def splice(
        self,
        operation: Operation,
        fd_in: int,
        offset_in: int,
        fd_out: int,
        offset_out: int,
        length: int,
    ) -> None:
        """Move bytes between a file and a pipe; an offset is -1 for the pipe. May be short."""

    # -- sockets -------------------------------------------------------------------------------

    @abc.abstractmethod
    def create_socket(self, family: int) -> RawSocket:
        """Make a TCP socket (close-on-exec, ``TCP_NODELAY``).

        Raises:
            OSError: Out of descriptors, or the family is not supported.
        """

    @abc.abstractmethod
    def adopt(self, descriptor: int, family: int) -> RawSocket:
        """Make a socket object for an accepted descriptor, which it owns from now on."""

    @abc.abstractmethod
    def accept(self, operation: Operation, listener: RawSocket) -> None:
        """Accept connections until cancelled: multishot, each result a descriptor for ``adopt``.

        Ends without ``MORE`` on any error; ``-EMFILE``/``-ENFILE`` among them.
        """

    @abc.abstractmethod
    def bind_source(self, sock: RawSocket, source: Source) -> None:
        """Say from which address a socket connects or sends; its port is chosen then.

        Raises:
            OSError: ``EADDRNOTAVAIL``: this machine does not have it; ``EPERM``: it is to be
                transparent, and this process may not (``CAP_NET_ADMIN``).
        """

    @abc.abstractmethod
    def connect(self, operation: Operation, sock: RawSocket, address: SocketAddress) -> None:
        """Connect; the result is 0 or a negative errno. Deadlines are the caller's timers."""

    @abc.abstractmethod
    def receive(self, operation: Operation, sock: RawSocket) -> None:
        """Receive into small shared slots until cancelled or ended: multishot.

        Each completion with ``result > 0`` carries ``BUFFER`` and a slot whose ``used`` is NOT set:
        the first ``result`` bytes are the data. The receiver owns the slot until it calls
        ``pool.recycle`` (or leases on it end). Result 0 is end of stream, once, without ``MORE``.
        When the pool is starved the operation is parked, fairly, and goes on when slots come back:
        the receiver notices nothing. May end without ``MORE`` after data: start it again.
        """

    @abc.abstractmethod
    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        """Receive once into one large shared slot; otherwise as ``receive``, never ``MORE``."""

    @abc.abstractmethod
    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """Receive once into the caller's buffer; the result is the count, 0 at end of stream."""

    @abc.abstractmethod
    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        """Send all of ``buffer[start:start + length]``: one completion, ``length`` or an errno.

        On the port's thread callers first try ``sock.send(view, SEND_FLAGS)``, which needs no
        operation at all when the kernel takes everything.
        """

    @abc.abstractmethod
    def poll(self, operation: Operation, fd: int, events: int) -> None:
        """Complete once when ``POLL_IN`` / ``POLL_OUT`` (or an error) is there; one-shot."""

    # -- datagrams -----------------------------------------------------------------------------

    @abc.abstractmethod
    def create_datagram_socket(self, family: int) -> RawSocket:
        """Make a non-blocking UDP socket (close-on-exec; IPv6 sockets are IPv6 only).

        Raises:
            OSError: Out of descriptors, or the family is not supported.
        """

    @abc.abstractmethod
    def await_datagrams(self, operation: Operation, sock: RawSocket) -> None:
        """Tell, until cancelled, while ``tray.receive`` may find something: multishot.

        A completion with ``MORE`` comes once in each turn in which a datagram waits, or an error
        that ``tray.receive`` tells; so nobody need empty the socket. The result is a mask of
        ``POLL_*`` and says no more.
        """

    # -- splicing ------------------------------------------------------------------------------

    @abc.abstractmethod
    def open_pipe(self) -> Pipe | None:
        """Take a pipe for splicing between two sockets, or None when there is none to have.

        Both sockets of a spliced connection must be given to ``prepare_splice`` first.
        """

    @abc.abstractmethod
    def prepare_splice(self, sock: RawSocket) -> None:
        """Make a socket fit for ``Pipe.fill`` and ``Pipe.drain`` (non-blocking)."""

    @abc.abstractmethod
    def close_pipe(self, pipe: Pipe) -> None:
        """Give a pipe back: kept for reuse only when empty, else closed."""

    # -- plain, immediate ----------------------------------------------------------------------

    def abort(self, sock: RawSocket) -> None:
        """Close with a reset (``SO_LINGER`` zero); no operation may be in flight on it."""
        try:
            sock.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SOL_SOCKET, SO_LINGER
        except OSError as error:
            if error.errno not in {errno.ENOTCONN, errno.EINVAL}:
                raise
        finally:
            sock.close()
