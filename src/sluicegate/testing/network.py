"""A TCP network in memory, on virtual time: what the simulated port and its peers talk over.

``SimulatedBackend`` gives ``SimulatedSocket`` objects to the service under test, ``peers`` to its
clients and servers. The invariant: a direction is a FIFO of bytes that ends with one FIN or a
reset; nothing arrives before it was sent, twice, or out of order.

The behaviour follows Linux where programs notice it: bytes that arrived are readable before a
reset is told; closing with unread bytes, or receiving after the close, resets the peer; the name of
a reset connection is gone (``ENOTCONN``).
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from sluicegate.address import SocketAddress
from sluicegate.port.backend import RawSocket

from .clock import VirtualClock
from .faults import Dice

__all__ = ["CONNECT_GIVE_UP_S", "SimulatedNetwork", "SimulatedPipe", "SimulatedSocket"]

CONNECT_GIVE_UP_S: Final = 127.0
"""When Linux gives a connect up (``tcp_syn_retries`` = 6)."""

FIRST_DESCRIPTOR: Final = 1_000_000
"""Simulated descriptors are far above real ones, so that a mix-up fails."""

_FIRST_EPHEMERAL_PORT: Final = 32768
_LINGER: Final = struct.Struct("ii")
_PIPE_CAPACITY: Final = 1 << 20


class Direction:
    """The bytes on their way from one socket to another."""

    __slots__ = ("arrived", "capacity", "is_ended", "is_ending", "last_arrival", "travelling")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.arrived = bytearray()
        #: Readable bytes.
        self.travelling = 0
        #: Sent, not yet readable.
        self.last_arrival = 0.0
        self.is_ending = False
        #: A FIN was sent.
        self.is_ended = False
        #: The FIN arrived.

    @property
    def room(self) -> int:
        """How much more it takes now."""
        return max(0, self.capacity - len(self.arrived) - self.travelling)


class SimulatedSocket:
    """A socket of the simulated network; has what the port uses of real ones."""

    def __init__(self, network: SimulatedNetwork, family: int) -> None:
        self.network = network
        self.family = family
        self.descriptor = -1
        self.pins = 0
        #: Operations in flight on it; it must not be closed before they completed.
        self.on_change: Callable[[], None] = _ignore
        #: Told when it may have become readable or writable.
        self.local: SocketAddress | None = None
        self.remote: SocketAddress | None = None
        self.peer: SimulatedSocket | None = None
        self.incoming: Direction | None = None
        self.outgoing: Direction | None = None
        self.backlog: deque[SimulatedSocket] | None = None
        self.backlog_max = 0
        self.error = 0
        #: To be told once, by the next call.
        self.is_reset = False
        self.is_closed = False
        self._resets_on_close = False
        self._options: dict[tuple[int, int], int | bytes] = {}

    # -- what the port uses --------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the simulated descriptor; -1 after the close."""
        return self.descriptor

    def send(self, data: memoryview | bytes, _flags: int = 0, /) -> int:
        """Send what there is room for.

        Raises:
            BlockingIOError: There is no room now.
            OSError: Not connected, reset, or already shut down.
        """
        self._check_open()
        self._raise_pending_error()
        outgoing = self.outgoing
        if outgoing is None:
            raise OSError(errno.ENOTCONN, "not connected")
        if outgoing.is_ending or self.is_reset:
            raise BrokenPipeError(errno.EPIPE, "the stream was ended")
        if not len(data):
            return 0
        if not outgoing.room:
            raise BlockingIOError(errno.EAGAIN, "no room")
        dice = self.network.dice
        count = dice.part(dice.plan.partial_send, min(len(data), outgoing.room))
        self.network.transmit(self, bytes(data[:count]))
        return count

    def receive(self, size: int) -> bytes:
        """Take up to ``size`` bytes that arrived; empty at the end of the stream.

        Raises:
            BlockingIOError: Nothing has arrived.
            OSError: Not connected, or reset.
        """
        self._check_open()
        incoming = self.incoming
        if incoming is None:
            raise OSError(errno.ENOTCONN, "not connected")
        if incoming.arrived:
            data = bytes(incoming.arrived[:size])
            del incoming.arrived[:size]
            self.network.acknowledge(self)
            return data
        self._raise_pending_error()
        if incoming.is_ended or self.is_reset:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing has arrived")

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Take what arrived, or with ``MSG_PEEK`` look at it.

        Raises:
            BlockingIOError: Nothing has arrived.
            OSError: Not connected, or reset.
        """
        if flags & socket.MSG_PEEK and self.incoming is not None and self.incoming.arrived:
            self._check_open()
            return bytes(self.incoming.arrived[:size])
        return self.receive(size)

    def sendto(self, _data: memoryview | bytes, _flags: int, _to: tuple[object, ...], /) -> int:
        """Refuse: a stream has one peer."""
        raise OSError(errno.EISCONN, "not a datagram socket")

    def sendmsg(
        self,
        _buffers: list[bytes],
        _ancillary: list[tuple[int, int, bytes]],
        _flags: int,
        _to: tuple[object, ...],
        /,
    ) -> int:
        """Refuse: a stream has one peer."""
        raise OSError(errno.EISCONN, "not a datagram socket")

    def recv_into(self, _buffer: memoryview, _size: int, _flags: int, /) -> int:
        """Refuse: streams are received through the backend."""
        raise OSError(errno.EOPNOTSUPP, "not a datagram socket")

    def connect(self, _address: tuple[object, ...], /) -> None:
        """Refuse: streams are connected through the backend."""
        raise OSError(errno.EOPNOTSUPP, "not a datagram socket")

    def getpeername(self) -> tuple[object, ...]:
        """Return the other end's name."""
        self._check_open()
        if self.remote is None or self.peer is None or self.is_reset:
            raise OSError(errno.ENOTCONN, "not connected")
        return self.remote.to_kernel()

    def getsockname(self) -> tuple[object, ...]:
        """Return this end's name."""
        self._check_open()
        if self.local is None:
            return ("::", 0, 0, 0) if self.family == socket.AF_INET6 else ("0.0.0.0", 0)  # noqa: S104 - of a network in memory
        return self.local.to_kernel()

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        """Remember an option; only ``SO_LINGER`` has a meaning here."""
        self._check_open()
        if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER) and isinstance(value, bytes):
            self._resets_on_close = _LINGER.unpack(value) == (1, 0)
        self._options[level, name] = value

    def getsockopt(self, level: int, name: int, /) -> int:
        """Return an option; ``SO_ERROR`` tells the pending error once."""
        self._check_open()
        if (level, name) == (socket.SOL_SOCKET, socket.SO_ERROR):
            error, self.error = self.error, 0
            return error
        value = self._options.get((level, name), 0)
        return value if isinstance(value, int) else 0

    def bind(self, address: tuple[object, ...], /) -> None:
        """Take a name; port 0 lets the network choose one."""
        self._check_open()
        self.local = self.network.name_for(SocketAddress.from_kernel(address))

    def listen(self, backlog: int, /) -> None:
        """Wait for connections."""
        self._check_open()
        self.backlog = deque()
        self.backlog_max = max(1, backlog)
        self.network.add_listener(self)

    def shutdown(self, how: int, /) -> None:
        """Half close."""
        self._check_open()
        if self.outgoing is None or self.incoming is None or self.is_reset:
            raise OSError(errno.ENOTCONN, "not connected")
        if how in {socket.SHUT_RD, socket.SHUT_RDWR}:
            self.incoming.is_ended = True
            self.on_change()
        if how in {socket.SHUT_WR, socket.SHUT_RDWR}:
            self.network.end_stream(self)

    def close(self) -> None:
        """Give the descriptor back and end the connection, by a reset if it must be."""
        if self.is_closed:
            return
        assert not self.pins, "a socket was closed under an operation in flight"
        incoming = self.incoming
        unread = incoming is not None and bool(incoming.arrived)
        self.is_closed = True
        self.network.release(self)
        if self.backlog is not None:
            while self.backlog:
                self.network.reset(self.backlog.popleft())
        elif self.outgoing is not None and not self.is_reset:
            if self._resets_on_close or unread:
                self.network.reset(self)
            else:
                self.network.end_stream(self)

    # -- asking --------------------------------------------------------------------------------

    @property
    def is_readable(self) -> bool:
        """Whether a receive or accept would give something."""
        if self.backlog is not None:
            return bool(self.backlog)
        incoming = self.incoming
        if incoming is None:
            return bool(self.error)
        return bool(incoming.arrived or self.error) or incoming.is_ended or self.is_reset

    @property
    def is_writable(self) -> bool:
        """Whether a send would take or say something."""
        outgoing = self.outgoing
        if outgoing is None:
            return bool(self.error)
        return outgoing.room > 0 or outgoing.is_ending or self.is_reset or bool(self.error)

    def on_change_if_open(self) -> None:
        """Tell the watcher, unless the socket was closed meanwhile."""
        if not self.is_closed:
            self.on_change()

    def _check_open(self) -> None:
        if self.is_closed:
            raise OSError(errno.EBADF, "the socket is closed")

    def _raise_pending_error(self) -> None:
        error, self.error = self.error, 0
        if error:
            raise OSError(error, os.strerror(error))


class SimulatedNetwork:
    """All sockets, listeners and segments of one simulation."""

    def __init__(self, clock: VirtualClock, dice: Dice, descriptors_max: int = 1 << 20) -> None:
        self.clock = clock
        self.dice = dice
        self.descriptors_max = descriptors_max
        self.own_hosts: set[str] = {"10.255.255.254", "fd00::fe", "::1"}
        #: What this machine may dial from, beside loopback.
        self.may_be_transparent = False
        #: Whether also from any other host's address.
        self.open_sockets: dict[int, SimulatedSocket] = {}
        #: By descriptor; what is left at the end of a test has leaked.
        self.bound_datagrams: dict[SocketAddress, SimulatedSocket] = {}
        #: The datagram sockets by name.
        self._listeners: dict[SocketAddress, SimulatedSocket] = {}
        self._next_descriptor = itertools.count(FIRST_DESCRIPTOR).__next__
        self._next_port = itertools.count(_FIRST_EPHEMERAL_PORT).__next__

    # -- sockets -------------------------------------------------------------------------------

    def create_socket(self, family: int) -> SimulatedSocket:
        """Make a socket with a descriptor.

        Raises:
            OSError: ``EMFILE`` when there are too many.
        """
        return self.with_descriptor(SimulatedSocket(self, family))

    def accept(self, listener: SimulatedSocket) -> SimulatedSocket:
        """Take the oldest waiting connection.

        Raises:
            BlockingIOError: Nobody waits.
            OSError: ``EMFILE``.
        """
        if not listener.backlog:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        sock = self.with_descriptor(listener.backlog[0])
        listener.backlog.popleft()
        return sock

    def release(self, sock: SimulatedSocket) -> None:
        """Take a descriptor and a listener's name back (called by ``close``)."""
        self.open_sockets.pop(sock.descriptor, None)
        sock.descriptor = -1
        # One that could not have the name must not take it from who has it.
        if sock.local is not None and self._listeners.get(sock.local) is sock:
            del self._listeners[sock.local]

    def name_for(self, wanted: SocketAddress) -> SocketAddress:
        """Return a name with a port of its own where the wanted one has none."""
        return wanted if wanted.port else wanted.with_port(self._next_port())

    def check_source(self, host: str, *, is_transparent: bool) -> None:
        """Refuse what the kernel of this machine would not let be a source."""
        if is_transparent:
            if not self.may_be_transparent:
                raise PermissionError(errno.EPERM, "the process has not CAP_NET_ADMIN")
        elif host not in self.own_hosts and not host.startswith("127."):
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of this machine")

    def add_listener(self, sock: SimulatedSocket) -> None:
        """Let a bound socket be found by connects.

        Raises:
            OSError: ``EADDRINUSE``.
        """
        if sock.local is None:
            wildcard = "::" if sock.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - of a network in memory
            sock.local = self.name_for(SocketAddress(wildcard, 0))
        if sock.local in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{sock.local} has a listener")
        self._listeners[sock.local] = sock

    def connect(
        self, sock: SimulatedSocket, address: SocketAddress, done: Callable[[int], None]
    ) -> None:
        """Connect; ``done`` is told 0 or a negative errno, later."""
        plan = self.dice.plan
        if self.dice.happens(plan.connect_timeout):
            self.clock.call_after(CONNECT_GIVE_UP_S, lambda: done(-errno.ETIMEDOUT))
            return
        refused = self.dice.happens(plan.connect_refused)
        self.clock.call_after(
            self.dice.latency_s(), lambda: self._answer(sock, address, done, refused=refused)
        )

    def _answer(
        self,
        sock: SimulatedSocket,
        address: SocketAddress,
        done: Callable[[int], None],
        *,
        refused: bool,
    ) -> None:
        if sock.is_closed:
            return
        listener = self._find_listener(address)
        if listener is None or refused:
            done(-errno.ECONNREFUSED)
            return
        backlog = listener.backlog
        assert backlog is not None
        if len(backlog) >= listener.backlog_max:
            # The SYN is dropped and sent again a second later.
            self.clock.call_after(1.0, lambda: self._answer(sock, address, done, refused=False))
            return
        self._join(sock, address, listener)
        done(0)

    def _join(
        self, client: SimulatedSocket, address: SocketAddress, listener: SimulatedSocket
    ) -> None:
        server = SimulatedSocket(self, listener.family)
        client.local = client.local or self.name_for(SocketAddress(own_host(address), 0))
        client.remote = server.local = address
        server.remote = client.local
        client.peer, server.peer = server, client
        client.outgoing = server.incoming = Direction(self.dice.buffer_bytes())
        server.outgoing = client.incoming = Direction(self.dice.buffer_bytes())
        assert listener.backlog is not None
        listener.backlog.append(server)
        listener.on_change()
        client.on_change()

    def _find_listener(self, address: SocketAddress) -> SimulatedSocket | None:
        wildcard = "::" if ":" in address.host else "0.0.0.0"  # noqa: S104 - of a network in memory
        return self._listeners.get(address) or self._listeners.get(
            SocketAddress(wildcard, address.port)
        )

    def with_descriptor(self, sock: SimulatedSocket) -> SimulatedSocket:
        """Give a socket its descriptor.

        Raises:
            OSError: ``EMFILE`` when there are too many.
        """
        if len(self.open_sockets) >= self.descriptors_max:
            raise OSError(errno.EMFILE, "too many simulated descriptors")
        sock.descriptor = self._next_descriptor()
        self.open_sockets[sock.descriptor] = sock
        return sock

    # -- bytes ---------------------------------------------------------------------------------

    def transmit(self, sock: SimulatedSocket, data: bytes) -> None:
        """Send bytes on their way, whole or in segments."""
        direction, target = sock.outgoing, sock.peer
        assert direction is not None
        assert target is not None
        if self.dice.happens(self.dice.plan.reset):
            self.reset(sock)
            sock.error = errno.ECONNRESET
            sock.on_change()
            return
        direction.travelling += len(data)
        start = 0
        while start < len(data):
            length = self.dice.part(self.dice.plan.cut, len(data) - start)
            segment = data[start : start + length]
            start += length
            self._after_the_last(direction, partial(self._arrive, target, segment))

    def acknowledge(self, sock: SimulatedSocket) -> None:
        """Tell the sender, later, that there is room again."""
        peer = sock.peer
        if peer is not None:
            self.clock.call_after(self.dice.latency_s(), peer.on_change_if_open)

    def end_stream(self, sock: SimulatedSocket) -> None:
        """Send a FIN behind the last byte, once."""
        direction, target = sock.outgoing, sock.peer
        assert direction is not None
        assert target is not None
        if not direction.is_ending:
            direction.is_ending = True
            self._after_the_last(direction, lambda: self._end_arrives(direction, target))

    def reset(self, sock: SimulatedSocket) -> None:
        """Destroy a connection; the other end learns it behind what was sent before."""
        direction, target = sock.outgoing, sock.peer
        sock.is_reset = True
        if direction is not None and target is not None:
            self._after_the_last(direction, lambda: self._reset_arrives(target))

    def _after_the_last(self, direction: Direction, action: Callable[[], None]) -> None:
        when = max(direction.last_arrival, self.clock.monotonic() + self.dice.latency_s())
        direction.last_arrival = when
        self.clock.call_at(when, action)

    def _arrive(self, target: SimulatedSocket, segment: bytes) -> None:
        direction = target.incoming
        assert direction is not None
        direction.travelling -= len(segment)
        if target.is_reset:
            return
        if target.is_closed:
            self.reset(target)
            return
        direction.arrived += segment
        target.on_change()

    def _end_arrives(self, direction: Direction, target: SimulatedSocket) -> None:
        direction.is_ended = True
        target.on_change_if_open()

    def _reset_arrives(self, target: SimulatedSocket) -> None:
        if not target.is_reset:
            target.is_reset = True
            target.error = errno.ECONNRESET
        target.on_change_if_open()


class SimulatedPipe:
    """A pipe for splicing between two simulated sockets."""

    def __init__(self) -> None:
        self.held = 0
        #: Bytes in the pipe.
        self._bytes = bytearray()

    def fill(self, source: RawSocket, length: int, /) -> int:
        """Move bytes out of a socket; 0 at end of stream."""
        room = _PIPE_CAPACITY - self.held
        if not room:
            raise BlockingIOError(errno.EAGAIN, "the pipe is full")
        data = cast("SimulatedSocket", source).receive(min(length, room))
        self._bytes += data
        self.held = len(self._bytes)
        return len(data)

    def drain(self, target: RawSocket, /) -> int:
        """Move bytes into a socket."""
        count = target.send(bytes(self._bytes))
        del self._bytes[:count]
        self.held = len(self._bytes)
        return count


def own_host(address: SocketAddress) -> str:
    """Return the host a socket gets that connects without a name."""
    if ":" in address.host:
        return "::1" if address.host == "::1" else "fd00::fe"
    return "127.0.0.1" if address.host.startswith("127.") else "10.255.255.254"


def _ignore() -> None:
    """Nobody watches the socket yet."""
