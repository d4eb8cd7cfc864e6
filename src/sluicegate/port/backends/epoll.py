"""The driver on epoll, non-blocking sockets and a few threads for files.

The port uses it where io_uring is refused; it behaves like ``uring`` in everything but speed. The
invariant: a system call is tried only when its result can be delivered in the running turn, or its
result is stored for the next one; so nothing ever completes inside the call that started it.

Registration is edge-triggered (but for listeners) and done once per socket, because an
``epoll_ctl`` costs as much as a receive. Edges are remembered: ``Watch.readable`` may be true
without need (costs one receive that finds nothing) but is cleared only by a receive that emptied
the socket. A short receive empties a stream socket (epoll(7), question 9) unless an error or
urgent data waits: that comes with the same event and makes the watch ``eager``, so that it reads
until refused. When the event said that the peer has ended its stream, a short receive was the last.
"""

from __future__ import annotations

import ctypes
import errno
import socket
from typing import Final

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.limits import (
    ACCEPTS_PER_EVENT_MAX,
    RECEIVES_PER_EVENT_MAX,
)
from sluicegate.port.backend import (
    BUFFER,
    MORE,
    POLL_IN,
    SEND_FLAGS,
    SLOT_SHIFT,
    Operation,
    Pipe,
    RawSocket,
    Source,
)
from sluicegate.port.pool import SMALL_SLOT_SIZE, Slot

from .epoll_turns import EpollTurns
from .epoll_watch import (
    BROKEN,
    EDGE,
    LISTEN,
    NO_SOCKET,
    WATCH_BOTH,
    Watch,
)
from .sockets import (
    adopt_socket,
    bind_source,
    create_tcp_socket,
    create_udp_socket,
    set_nonblocking,
)

__all__ = ["EpollBackend"]

_DONTWAIT: Final = socket.MSG_DONTWAIT
_ACCEPT_FLAGS: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)
_accept4 = _libc.accept4
_accept4.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]


class EpollBackend(EpollTurns):
    """The operations on sockets; lives as long as its port."""

    # -- sockets -------------------------------------------------------------------------------

    @override
    def create_socket(self, family: int) -> RawSocket:
        return create_tcp_socket(family, socket.SOCK_NONBLOCK)

    @override
    def adopt(self, descriptor: int, family: int) -> RawSocket:
        return adopt_socket(descriptor, family)

    @override
    def accept(self, operation: Operation, listener: RawSocket) -> None:
        set_nonblocking(listener)
        self._start_read(operation, listener, self._accept, LISTEN)

    @override
    def bind_source(self, sock: RawSocket, source: Source) -> None:
        bind_source(sock, source)

    @override
    def connect(self, operation: Operation, sock: RawSocket, address: SocketAddress) -> None:
        watch = self._watch(sock)
        assert watch.writer is None, "one send or connect at a time"
        self._begin(operation, watch.fd)
        error = watch.sock.connect_ex(address.to_kernel())
        if error != errno.EINPROGRESS:
            self._finished.append((operation, -error))
            return
        watch.writer = operation
        watch.write = self._connected
        self._register(watch, WATCH_BOTH)

    @override
    def receive(self, operation: Operation, sock: RawSocket) -> None:
        self._start_read(operation, sock, self._receive_small)

    @override
    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        self._start_read(operation, sock, self._receive_bulk)

    @override
    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        self._start_read(operation, sock, self._receive_into).target = buffer.view[
            start : start + length
        ]

    @override
    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        watch = self._watch(sock)
        assert watch.writer is None, "one send or connect at a time"
        self._begin(operation, watch.fd)
        watch.writer = operation
        watch.write = self._send_rest
        watch.unsent = (buffer.view[start : start + length], length)
        # Tried at once: a refusal makes the kernel promise an edge. The result waits for the turn.
        result = self._send_some(watch)
        if result is not None:
            watch.writer = watch.unsent = None
            self._finished.append((operation, result))
        elif watch.mask != WATCH_BOTH:
            self._register(watch, WATCH_BOTH)

    @override
    def poll(self, operation: Operation, fd: int, events: int) -> None:
        watch = self._watches.get(fd)
        if watch is None:
            watch = self._watches[fd] = Watch(fd, self.turns)
        elif watch.sock is not NO_SOCKET and watch.sock.fileno() != fd:
            watch.renew(NO_SOCKET, self.turns)
        self._begin(operation, fd)
        # Modified even if nothing changes: that makes the kernel look again, which gives a
        # descriptor that is already ready its edge.
        try:
            self._register(watch, watch.mask | events | EDGE)
        except PermissionError:  # a regular file is always ready
            self._finished.append((operation, events))
            return
        watch.pollers = [*(watch.pollers or ()), (operation, events)]

    @override
    def create_datagram_socket(self, family: int) -> RawSocket:
        return create_udp_socket(family)

    @override
    def await_datagrams(self, operation: Operation, sock: RawSocket) -> None:
        self._start_read(operation, sock, self._tell_of_datagrams, LISTEN)

    def _tell_of_datagrams(self, watch: Watch) -> None:
        operation = watch.reader
        assert operation is not None
        self.completed += 1
        try:
            operation.complete(POLL_IN, MORE)
        except BaseException as error:  # noqa: BLE001 - the port decides; the batch goes on
            self.on_unhandled(operation, error)

    @override
    def open_pipe(self) -> Pipe | None:
        return self._pipes.take()

    @override
    def prepare_splice(self, sock: RawSocket) -> None:
        set_nonblocking(sock)

    @override
    def close_pipe(self, pipe: Pipe) -> None:
        self._pipes.give(pipe)

    # -- receiving -----------------------------------------------------------------------------

    def _receive_small(self, watch: Watch) -> None:
        operation = watch.reader
        assert operation is not None
        take = self._small.take
        recv_into = watch.sock.recv_into
        for _ in range(RECEIVES_PER_EVENT_MAX):
            slot = take(watch)
            if slot is None:
                self.starved = self._small.starved + self._bulk.starved
                return
            try:
                count = recv_into(slot.view, SMALL_SLOT_SIZE, _DONTWAIT)
            except OSError as error:
                self._no_data(watch, operation, slot, error)
                return
            if not count:
                self._no_data(watch, operation, slot, None)
                return
            self.completed += 1
            try:
                operation.complete(count, BUFFER | MORE | slot.index << SLOT_SHIFT)
            except BaseException as error:  # noqa: BLE001 - the port decides; the batch goes on
                self.on_unhandled(operation, error)
            if watch.reader is not operation:
                return
            if count < SMALL_SLOT_SIZE and not watch.eager:
                if watch.has_ended:
                    self._end_read_now(watch, operation, 0)
                else:
                    watch.readable = False
                return
        self._retries.append(watch)

    def _receive_bulk(self, watch: Watch) -> None:
        operation = watch.reader
        assert operation is not None
        slot = self._bulk.take(watch)
        if slot is None:
            self.starved = self._small.starved + self._bulk.starved
            return
        try:
            count = watch.sock.recv_into(slot.view, slot.allocated, _DONTWAIT)
        except OSError as error:
            self._no_data(watch, operation, slot, error)
            return
        if not count:
            self._no_data(watch, operation, slot, None)
            return
        self._disarm(watch)
        if count < slot.allocated and not watch.eager and not watch.has_ended:
            watch.readable = False
        self._finish_now(operation, count, BUFFER | slot.index << SLOT_SHIFT)

    def _receive_into(self, watch: Watch) -> None:
        operation, target = watch.reader, watch.target
        assert operation is not None
        assert target is not None
        try:
            count = watch.sock.recv_into(target, len(target), _DONTWAIT)
        except OSError as error:
            self._no_data(watch, operation, None, error)
        else:
            self._end_read_now(watch, operation, count)

    def _no_data(
        self, watch: Watch, operation: Operation, slot: Slot | None, error: OSError | None
    ) -> None:
        """Wait for the next edge, or end where the stream (no error) or the connection did."""
        if slot is not None:
            self._give_back(slot)
        if isinstance(error, BlockingIOError):
            watch.readable = False
        else:
            self._end_read_now(watch, operation, -(error.errno or errno.EIO) if error else 0)

    def _accept(self, watch: Watch) -> None:
        operation = watch.reader
        assert operation is not None
        # One at a time, and twice as many in each turn that finds the listener ready again: so the
        # call that finds nobody, which costs as much as one that does, is made after bursts only.
        is_burst = watch.accept_turn == self.turns - 1
        watch.accept_turn = self.turns
        watch.accepts = min(watch.accepts * 2, ACCEPTS_PER_EVENT_MAX) if is_burst else 1
        for _ in range(watch.accepts):
            descriptor = _accept4(watch.fd, None, None, _ACCEPT_FLAGS)
            if descriptor < 0:
                error = ctypes.get_errno()
                if error != errno.EAGAIN:
                    self._end_read_now(watch, operation, -error)
                return
            self.completed += 1
            try:
                operation.complete(descriptor, MORE)
            except BaseException as error:  # noqa: BLE001 - the port decides; the batch goes on
                self.on_unhandled(operation, error)
            if watch.reader is not operation:
                return

    # -- sending -------------------------------------------------------------------------------

    def _connected(self, watch: Watch, mask: int) -> None:
        operation = watch.writer
        assert operation is not None
        result = 0
        if mask & BROKEN:
            result = -watch.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        watch.writer = None
        self._finish_now(operation, result)

    def _send_rest(self, watch: Watch, _mask: int) -> None:
        result = self._send_some(watch)
        if result is not None:
            operation = watch.writer
            assert operation is not None
            watch.writer = watch.unsent = None
            self._finish_now(operation, result)

    def _send_some(self, watch: Watch) -> int | None:
        """Send until all is taken (its length) or the kernel refuses (None, or an errno)."""
        assert watch.unsent is not None
        view, length = watch.unsent
        send = watch.sock.send
        try:
            while view:
                view = view[send(view, SEND_FLAGS) :]
        except BlockingIOError:
            watch.unsent = (view, length)
            return None
        except OSError as error:
            return -(error.errno or errno.EIO)
        return length
