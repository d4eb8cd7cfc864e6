"""The io_uring driver: one ring, entered once per turn, in pure Python.

The port calls it; it calls ``ring`` for set-up and the kernel for everything else. A turn gives
returned slots back, submits what was started, waits, stores the batch of completions, then runs it.
The invariant: an operation's token (its index in ``_operations``, and the ``user_data`` of its
entries) stays its own while anything of it is in the kernel, so a completion can never reach a
stranger.

How a completion finds its way: with ``MORE`` straight to ``operation.complete``; without, through
``_finishers[token]``, which is None for plain operations. A finisher is there where the kernel's
last word is not yet ours: starved and non-blocking receives go on, short sends send the rest.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections import deque
from collections.abc import Callable
from ctypes import addressof, c_char, c_void_p, get_errno
from typing import ClassVar, Final

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.limits import Limits
from sluicegate.port.backend import (
    BUFFER,
    MORE,
    POLL_IN,
    POLL_OUT,
    SLOT_SHIFT,
    Backend,
    Completed,
    Operation,
    Pipe,
    RawSocket,
)
from sluicegate.port.pool import SlotPool
from sluicegate.port.ring import ENTER, BufferRing, Ring, syscall

from .sockets import PipePool, adopt_socket, create_tcp_socket, set_nonblocking

__all__ = ["UringBackend"]

_SUBMISSIONS: Final = 256
"""Entries of 64 bytes: 16 KiB stay in the first-level cache. More starts in one turn cost an extra
enter."""

_COMPLETIONS: Final = 4096
"""Sixteen times the submissions, because multishot operations complete many times. Overflow is
kept by the kernel and costs a re-arm."""

_ADDRESSES_MAX: Final = 1024
"""Packed addresses kept for connects; more than ``_SUBMISSIONS``, so that a generation is dropped
only when the kernel has copied what it names."""

_FSYNC: Final = 3
_POLL_ADD: Final = 6
_SYNC_FILE_RANGE: Final = 8
_ACCEPT: Final = 13
_ASYNC_CANCEL: Final = 14
_CONNECT: Final = 16
_READ: Final = 22
_WRITE: Final = 23
_SEND: Final = 26
_RECV: Final = 27
_SPLICE: Final = 30
_ALLOWED: Final = (
    _FSYNC,
    _POLL_ADD,
    _SYNC_FILE_RANGE,
    _ACCEPT,
    _ASYNC_CANCEL,
    _CONNECT,
    _READ,
    _WRITE,
    _SEND,
    _RECV,
    _SPLICE,
)

_BUFFER_SELECT: Final = 1 << 5
_SKIP_SUCCESS: Final = 1 << 6

_RECV_MULTISHOT: Final = 1 << 1
_ACCEPT_MULTISHOT: Final = 1 << 0
_CANCEL_ALL_ANY: Final = 1 << 0 | 1 << 2
_FSYNC_DATASYNC: Final = 1 << 0
_SYNC_RANGE_WRITE: Final = 2
_SPLICE_MOVE: Final = 1
_SOCK_CLOEXEC: Final = 0o2000000
_SEND_FLAGS: Final = 0x100 | 0x4000  # MSG_WAITALL | MSG_NOSIGNAL

_ENTER_GETEVENTS: Final = 1 << 0
_ENTER_EXT_ARG: Final = 1 << 3
_ENTER_ARGUMENT_SIZE: Final = 24

_NOTHING_HAPPENED: Final = frozenset({errno.EINTR, errno.ETIME, errno.EAGAIN, errno.EBUSY})
"""A signal, the time-out, no memory for a request now, and overflow that must be read first."""

_U32: Final = 0xFFFFFFFF
_U64: Final = 0xFFFFFFFFFFFFFFFF
_U16: Final = 0xFFFF

# opcode, flags, ioprio, fd, offset, address, length, operation flags, user_data, buffer group (the
# low 16 bits) and splice_fd_in (the high 32). The last 16 of the 64 bytes are never used: zero.
_ENTRY: Final = struct.Struct("<BBHiQQIIQQ")
_COMPLETION: Final = struct.Struct("<QiI")
_SLOT: Final = struct.Struct("<QIH")
_TIMESPEC: Final = struct.Struct("<qq")

_SMALL: Final = 0
_BULK: Final = 1

_CLOSE_ROUNDS_MAX: Final = 10_000


_Finisher = Callable[[Operation, int, int], None]

_Request = tuple[int, int, int, int, int, int, int, int, int]
"""What it takes to submit an operation again, for those that may have to: opcode, entry flags,
ioprio, fd, address, length, operation flags, buffer group, and what a send that was cut in parts
reports in the end. A plain tuple, because one is made for each receive."""


class UringBackend(Backend):
    """One ring and its buffers; lives as long as its port, on the thread that made it."""

    name: ClassVar[str] = "io_uring"

    def __init__(self, limits: Limits, *, features_masked: frozenset[str] = frozenset()) -> None:
        """Set up a restricted, enabled ring with its buffers.

        Raises:
            BackendUnavailable: The kernel, a sysctl or a sandbox refuses it.
        """
        self.turns = self.submitted = self.completed = self.starved = 0
        self.on_unhandled = _raise_unhandled
        self.on_woken = _do_nothing
        self._ring = ring = Ring(_SUBMISSIONS, _COMPLETIONS, features_masked=features_masked)
        try:
            ring.bound_workers(limits.blocking_threads_max)
            self._small = _Group(ring.add_buffers(_SMALL, limits.interactive_buffers_max))
            self._bulk = _Group(ring.add_buffers(_BULK, limits.bulk_buffers_max))
            ring.restrict(_ALLOWED, _BUFFER_SELECT | _SKIP_SUCCESS)
        except BaseException:
            ring.close()
            raise
        self.features = ring.features
        self._bind_ring(ring)
        self._bind_tables()
        self._bind_finishers()
        self._pipes = PipePool(limits.splice_pipes_max)
        self.pool = SlotPool(limits.interactive_buffers_max, limits.bulk_buffers_max)
        # A method of C, called by ``pool.recycle``: the kernel takes buffers only in an enter, so
        # they are handed over together before the next one.
        self._returned = list(self.pool.slots)
        self.pool.give_back = self._returned.append
        self._closing = False
        self._wake_lock = threading.RLock()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._wake_count = Buffer(8)
        self._wake_operation = Operation(self._on_wake)
        self._wait_for_wake()

    def _bind_ring(self, ring: Ring) -> None:
        self._entries = ring.entries
        self._entries_mask = ring.entries_size - 1
        self._completions = ring.completions
        self._completions_size = ring.completions_size
        self._sq_tail_word = ring.sq_tail
        self._cq_head_word = ring.cq_head
        self._cq_tail_word = ring.cq_tail
        self._tail = 0
        #: Where the next entry goes; grows without bound, masked where the kernel sees it.
        self._head = 0
        #: Entries before it were consumed by the kernel.
        self._cq_head = 0
        self._was_full = False
        #: Whether the last batch filled the queue, so that later ones may be out of date.
        self._enter_fd = ring.enter_fd
        self._enter_flags = ring.enter_flags
        self._timespec = bytearray(_TIMESPEC.size)
        self._enter_argument = bytearray(struct.pack("<QIIQ", 0, 0, 0, _address_of(self._timespec)))
        self._enter_pointer = c_void_p(_address_of(self._enter_argument))

    def _bind_tables(self) -> None:
        #: Token 0 takes the completions of cancellations.
        self._operations = [Operation(_ignore)]
        self._finishers: list[_Finisher | None] = [None]
        self._requests: list[_Request | None] = [None]
        self._tokens_free: list[int] = []
        self._local: list[tuple[int, int, int]] = []
        #: Completions that the kernel does not know of; the next turn runs them.
        self._is_hurried = False
        #: Whether the next turn must not wait.
        self._parked_count = 0
        #: Receives of both groups that wait for a slot.
        self._addresses: dict[SocketAddress, tuple[bytearray, int, int]] = {}
        self._addresses_before = self._addresses
        self._address_last: SocketAddress | None = None
        self._address_last_packed = (bytearray(), 0, 0)

    def _bind_finishers(self) -> None:
        # Bound once: one is stored with each start, and they are compared by identity.
        self._receive_ended: _Finisher = self._finish_receive
        self._resumed_ended: _Finisher = self._finish_resumed
        self._accept_ended: _Finisher = self._finish_accept
        self._send_ended: _Finisher = self._finish_send
        self._poll_ended: _Finisher = self._finish_poll
        self._cancelled: _Finisher = self._finish_cancelled
        self._cancelled_poll: _Finisher = self._finish_cancelled_poll
        self._parked: _Finisher = self._finish_parked

    # -- turns ---------------------------------------------------------------------------------

    @override
    def turn(self, timeout_s: float | None) -> None:
        if self._returned:
            self._provide_returned()
        tail = self._tail
        queued = tail - self._head
        if queued:
            self._sq_tail_word[0] = tail & _U32
        if self._is_hurried:
            self._is_hurried = False
            timeout_s = 0
        if timeout_s is None:
            taken = syscall(ENTER, self._enter_fd, queued, 1, self._enter_flags, None)
        elif timeout_s > 0:
            taken = self._enter_timed(queued, timeout_s)
        else:
            taken = syscall(ENTER, self._enter_fd, queued, 0, self._enter_flags, None)
        if taken > 0:
            self._head += taken
            self.submitted += taken
        elif taken < 0:
            self._check_enter()
        self.turns += 1
        self.on_woken()
        batch = self._take_completions()
        if batch:
            self._run(batch)

    def _enter_timed(self, queued: int, timeout_s: float) -> int:
        seconds = int(timeout_s)
        _TIMESPEC.pack_into(self._timespec, 0, seconds, int((timeout_s - seconds) * 1e9))
        flags = self._enter_flags | _ENTER_EXT_ARG
        return syscall(
            ENTER, self._enter_fd, queued, 1, flags, self._enter_pointer, _ENTER_ARGUMENT_SIZE
        )

    def _check_enter(self) -> None:
        """Look at an enter that returned -1, and raise what is not just "nothing happened"."""
        code = get_errno()
        if code == errno.EBADFD:
            # The first one: the ring is enabled here, because that fixes its only thread. What is
            # queued goes with the next enter.
            self._ring.enable()
            self._enter_fd = self._ring.enter_fd
            self._enter_flags = self._ring.enter_flags
        elif code not in _NOTHING_HAPPENED:
            raise OSError(code, os.strerror(code), "io_uring_enter")

    def _take_completions(self) -> list[tuple[int, int, int]]:
        """Copy what the kernel posted, and make its room free again."""
        head = self._cq_head
        count = (self._cq_tail_word[0] - head) & _U32
        batch: list[tuple[int, int, int]]
        if not count:
            batch = []
        else:
            size = self._completions_size
            first = head & (size - 1)
            end = first + count
            completions = self._completions
            if count == 1:
                batch = [_COMPLETION.unpack_from(completions, first << 4)]
            elif end <= size:
                batch = list(_COMPLETION.iter_unpack(completions[first << 4 : end << 4]))
            else:
                batch = [
                    *_COMPLETION.iter_unpack(completions[first << 4 :]),
                    *_COMPLETION.iter_unpack(completions[: (end - size) << 4]),
                ]
            self._cq_head = head = (head + count) & _U32
            self._cq_head_word[0] = head
            self.completed += count
            if self._parked_count:
                self._count_taken(batch)
            self._was_full = count == size
        if self._local:
            batch = self._local + batch
            self._local = []
        return batch

    def _run(self, batch: list[tuple[int, int, int]]) -> None:
        operations = self._operations
        finishers = self._finishers
        operation: Operation | None = None
        rest = iter(batch)
        while True:
            try:
                for token, result, flags in rest:
                    operation = operations[token]
                    if flags & MORE:
                        operation.complete(result, flags)
                        continue
                    finish = finishers[token]
                    if finish is None:
                        operation.in_flight = False
                        operation.complete(result, flags)
                    else:
                        finish(operation, result, flags)
                return
            except BaseException as error:  # noqa: BLE001 - the batch must go on, whatever it was
                try:
                    self.on_unhandled(operation, error)
                except BaseException:
                    self._local[:0] = rest
                    self._is_hurried = True
                    raise

    @override
    def wake(self) -> None:
        with self._wake_lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def _on_wake(self, result: int, _flags: int) -> None:
        if result >= 0 and not self._closing:
            self._wait_for_wake()

    def _wait_for_wake(self) -> None:
        self.read(self._wake_operation, self._wake_fd, self._wake_count, 0, 8, 0)

    @override
    def close(self) -> None:
        """As the contract says; not out of a completion."""
        if self._closing:
            return
        self._closing = True
        for _ in range(_CLOSE_ROUNDS_MAX):
            if not any(operation.in_flight for operation in self._operations):
                break
            self._drop_queued()
            self._queue(0, _ASYNC_CANCEL, 0, 0, -1, 0, 0, 0, _CANCEL_ALL_ANY, 0)
            for group in (self._small, self._bulk):
                while group.parked:
                    self._finish_locally(group.parked.popleft())
            self._parked_count = 0
            self.turn(None)
        else:
            raise RuntimeError("an operation is started anew whenever it is cancelled")
        self._pipes.close()
        with self._wake_lock:
            os.close(self._wake_fd)
            self._wake_fd = -1
        self._ring.close()

    def _drop_queued(self) -> None:
        """Let what was started while closing end without having begun."""
        for position in range(self._head, self._tail):
            token = _ENTRY.unpack_from(self._entries, (position & self._entries_mask) << 6)[8]
            if token:
                self._finishers[token] = None
                self._local.append((token, -errno.ECANCELED, 0))
                self._is_hurried = True
        self._tail = self._head

    # -- operations ----------------------------------------------------------------------------

    def _begin(self, operation: Operation, finisher: _Finisher | None) -> int:
        """Mark an operation as in flight and return its token."""
        assert not operation.in_flight, "the operation is in flight"
        operation.in_flight = True
        token = operation.token
        if token < 0:
            token = self._register(operation)
        self._finishers[token] = finisher
        return token

    def _register(self, operation: Operation) -> int:
        if self._tokens_free:
            token = self._tokens_free.pop()
            self._operations[token] = operation
        else:
            token = len(self._operations)
            self._operations.append(operation)
            self._finishers.append(None)
            self._requests.append(None)
        operation.token = token
        return token

    def _queue(  # noqa: PLR0917 - the fields of an entry
        self,
        token: int,
        opcode: int,
        flags: int,
        ioprio: int,
        fd: int,
        offset: int,
        address: int,
        length: int,
        operation_flags: int,
        group: int,
    ) -> None:
        """Write one entry; the next enter submits it."""
        tail = self._tail
        if tail - self._head > self._entries_mask:
            self._make_room()
        _ENTRY.pack_into(
            self._entries,
            (tail & self._entries_mask) << 6,
            opcode,
            flags,
            ioprio,
            fd,
            offset,
            address,
            length,
            operation_flags,
            token,
            group,
        )
        self._tail = tail + 1

    def _make_room(self) -> None:
        """Submit what is queued without running anything."""
        self._sq_tail_word[0] = self._tail & _U32
        while self._tail - self._head > self._entries_mask:
            # Without GETEVENTS the kernel runs no deferred work, so nothing completes in here.
            flags = self._enter_flags & ~_ENTER_GETEVENTS
            taken = syscall(ENTER, self._enter_fd, self._tail - self._head, 0, flags, None)
            if taken < 0:
                self._check_enter()
            else:
                self._head += taken
                self.submitted += taken

    def _queue_request(self, token: int, request: _Request) -> None:
        opcode, flags, ioprio, fd, address, length, operation_flags, group, _ = request
        self._queue(token, opcode, flags, ioprio, fd, 0, address, length, operation_flags, group)

    def _finish_locally(self, operation: Operation) -> None:
        """Let the next turn complete an operation that is not in the kernel as cancelled."""
        self._finishers[operation.token] = None
        self._local.append((operation.token, -errno.ECANCELED, 0))
        self._is_hurried = True

    @override
    def cancel(self, operation: Operation) -> None:
        if not operation.in_flight:
            return
        token = operation.token
        finisher = self._finishers[token]
        if finisher is self._parked:
            self._group_of(token).parked.remove(operation)
            self._parked_count -= 1
            self._finish_locally(operation)
            return
        if finisher is self._poll_ended:
            self._finishers[token] = self._cancelled_poll
        elif finisher is not None and finisher is not self._cancelled_poll:
            self._finishers[token] = self._cancelled
        self._queue(0, _ASYNC_CANCEL, _SKIP_SUCCESS, 0, -1, 0, token, 0, 0, 0)

    @override
    def redirect(self, operation: Operation, complete: Completed) -> None:
        operation.complete = complete

    @override
    def forget(self, operation: Operation) -> None:
        assert not operation.in_flight, "the operation is in flight"
        token = operation.token
        if token >= 0:
            operation.token = -1
            self._operations[token] = self._operations[0]
            self._finishers[token] = self._requests[token] = None
            self._tokens_free.append(token)

    # -- files ---------------------------------------------------------------------------------

    @override
    def read(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        token = self._begin(operation, None)
        self._queue(token, _READ, 0, 0, fd, offset & _U64, buffer.address + start, length, 0, 0)

    @override
    def write(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        token = self._begin(operation, None)
        self._queue(token, _WRITE, 0, 0, fd, offset & _U64, buffer.address + start, length, 0, 0)

    @override
    def sync(self, operation: Operation, fd: int, *, data_only: bool) -> None:
        token = self._begin(operation, None)
        self._queue(token, _FSYNC, 0, 0, fd, 0, 0, 0, _FSYNC_DATASYNC if data_only else 0, 0)

    @override
    def write_back(self, operation: Operation, fd: int, offset: int, length: int) -> None:
        token = self._begin(operation, None)
        self._queue(token, _SYNC_FILE_RANGE, 0, 0, fd, offset, 0, length, _SYNC_RANGE_WRITE, 0)

    @override
    def splice(
        self,
        operation: Operation,
        fd_in: int,
        offset_in: int,
        fd_out: int,
        offset_out: int,
        length: int,
    ) -> None:
        token = self._begin(operation, None)
        self._queue(
            token,
            _SPLICE,
            0,
            0,
            fd_out,
            offset_out & _U64,
            offset_in & _U64,
            length,
            _SPLICE_MOVE,
            fd_in << 32,
        )

    # -- sockets -------------------------------------------------------------------------------

    @override
    def create_socket(self, family: int) -> RawSocket:
        return create_tcp_socket(family)

    @override
    def adopt(self, descriptor: int, family: int) -> RawSocket:
        return adopt_socket(descriptor, family)

    @override
    def accept(self, operation: Operation, listener: RawSocket) -> None:
        token = self._begin(operation, self._accept_ended)
        request = (_ACCEPT, 0, _ACCEPT_MULTISHOT, listener.fileno(), 0, 0, _SOCK_CLOEXEC, 0, 0)
        self._requests[token] = request
        self._queue_request(token, request)

    @override
    def connect(self, operation: Operation, sock: RawSocket, address: SocketAddress) -> None:
        if address is not self._address_last:
            self._pack_address(address)
        _, where, size = self._address_last_packed
        token = self._begin(operation, None)
        self._queue(token, _CONNECT, 0, 0, sock.fileno(), size, where, 0, 0, 0)

    def _pack_address(self, address: SocketAddress) -> None:
        """Find or make the kernel's form of an address, at a place that stays."""
        packed = self._addresses.get(address)
        if packed is None:
            if len(self._addresses) >= _ADDRESSES_MAX:
                self._addresses_before = self._addresses
                self._addresses = {}
            memory = bytearray(address.packed())
            packed = self._addresses[address] = (memory, _address_of(memory), len(memory))
        self._address_last = address
        self._address_last_packed = packed

    @override
    def receive(self, operation: Operation, sock: RawSocket) -> None:
        token = self._begin(operation, self._receive_ended)
        fd = sock.fileno()
        self._requests[token] = (_RECV, _BUFFER_SELECT, _RECV_MULTISHOT, fd, 0, 0, 0, _SMALL, 0)
        if self._small.parked:
            self._park(operation, self._small)
        else:
            self._queue(token, _RECV, _BUFFER_SELECT, _RECV_MULTISHOT, fd, 0, 0, 0, 0, _SMALL)

    @override
    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        token = self._begin(operation, self._receive_ended)
        fd = sock.fileno()
        self._requests[token] = (_RECV, _BUFFER_SELECT, 0, fd, 0, 0, 0, _BULK, 0)
        if self._bulk.parked:
            self._park(operation, self._bulk)
        else:
            self._queue(token, _RECV, _BUFFER_SELECT, 0, fd, 0, 0, 0, 0, _BULK)

    @override
    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        token = self._begin(operation, self._receive_ended)
        request = (_RECV, 0, 0, sock.fileno(), buffer.address + start, length, 0, 0, 0)
        self._requests[token] = request
        self._queue_request(token, request)

    @override
    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        token = self._begin(operation, self._send_ended)
        where = buffer.address + start
        request = (_SEND, 0, 0, sock.fileno(), where, length, _SEND_FLAGS, 0, length)
        self._requests[token] = request
        self._queue_request(token, request)

    @override
    def poll(self, operation: Operation, fd: int, events: int) -> None:
        token = self._begin(operation, None)
        self._queue(token, _POLL_ADD, 0, 0, fd, 0, 0, 0, events, 0)

    @override
    def open_pipe(self) -> Pipe | None:
        return self._pipes.take()

    @override
    def prepare_splice(self, sock: RawSocket) -> None:
        set_nonblocking(sock)

    @override
    def close_pipe(self, pipe: Pipe) -> None:
        self._pipes.give(pipe)

    # -- last completions that need a thought --------------------------------------------------

    def _finish_receive(self, operation: Operation, result: int, flags: int) -> None:
        if result <= 0:
            if flags & BUFFER:
                # A slot that was chosen but not filled; the contract has none at end of stream.
                self.pool.recycle(self.pool.slots[flags >> SLOT_SHIFT])
                flags = 0
            if result == -errno.ENOBUFS and self._uses_slots(operation.token):
                self._starve(operation)
                return
            if result == -errno.EAGAIN:
                self._poll_then_again(operation.token)
                return
        operation.in_flight = False
        operation.complete(result, flags)

    def _finish_accept(self, operation: Operation, result: int, flags: int) -> None:
        if result >= 0:
            # The kernel ends a multishot when the completion queue is full; nobody need know.
            self._queue_request(operation.token, self._request_of(operation.token))
            operation.complete(result, flags | MORE)
        elif result == -errno.EAGAIN:
            self._poll_then_again(operation.token)
        else:
            operation.in_flight = False
            operation.complete(result, flags)

    def _finish_send(self, operation: Operation, result: int, flags: int) -> None:
        token = operation.token
        request = self._request_of(token)
        length, total = request[5], request[8]
        if result == length:
            operation.in_flight = False
            operation.complete(total, flags)
        elif result > 0:
            # MSG_WAITALL still gives less when a signal or an error came in between: the rest
            # says which.
            where = request[4] + result
            rest = (*request[:4], where, length - result, *request[6:])
            self._requests[token] = rest
            self._queue_request(token, rest)
        elif result == -errno.EAGAIN:
            self._poll_then_again(token)
        else:
            operation.in_flight = False
            operation.complete(result, flags)

    def _poll_then_again(self, token: int) -> None:
        """Wait for readiness ourselves: on ``O_NONBLOCK`` sockets the ring does not."""
        request = self._request_of(token)
        events = POLL_OUT if request[0] == _SEND else POLL_IN
        self._finishers[token] = self._poll_ended
        self._queue(token, _POLL_ADD, 0, 0, request[3], 0, 0, 0, events, 0)

    def _finish_poll(self, operation: Operation, result: int, flags: int) -> None:
        if result < 0:
            operation.in_flight = False
            operation.complete(result, flags)
            return
        token = operation.token
        request = self._request_of(token)
        finishers = {_RECV: self._receive_ended, _SEND: self._send_ended}
        self._finishers[token] = finishers.get(request[0], self._accept_ended)
        self._queue_request(token, request)

    def _finish_cancelled(self, operation: Operation, result: int, flags: int) -> None:
        request = self._request_of(operation.token)
        if request[0] == _SEND and result >= 0:
            result = request[8] if result == request[5] else -errno.ECANCELED
        elif result in {-errno.EAGAIN, -errno.ENOBUFS}:
            result = -errno.ECANCELED
        operation.in_flight = False
        operation.complete(result, flags)

    def _finish_cancelled_poll(self, operation: Operation, result: int, flags: int) -> None:
        operation.in_flight = False
        operation.complete(min(result, -errno.ECANCELED), flags)

    # -- slots ---------------------------------------------------------------------------------

    def _provide_returned(self) -> None:
        """Give the kernel the slots that came back."""
        small, bulk = self._small, self._bulk
        small_tail, bulk_tail = small.tail, bulk.tail
        for slot in self._returned:
            group = bulk if slot.is_bulk else small
            place = group.tail & group.mask
            # Slots mostly come back in the order in which they went, and then the entry is there
            # already. The view is another one when the slot's memory was replaced.
            if group.views[place] is not slot.view:
                _SLOT.pack_into(group.memory, place << 4, slot.address, slot.allocated, slot.index)
                group.views[place] = slot.view
            group.tail += 1
        self._returned.clear()
        small.tail_word[0] = small.tail & _U16
        bulk.tail_word[0] = bulk.tail & _U16
        if self._parked_count:
            small.available += small.tail - small_tail
            bulk.available += bulk.tail - bulk_tail
            self._resume_parked()

    def _starve(self, operation: Operation) -> None:
        """Park a receive that found its group empty."""
        group = self._group_of(operation.token)
        # The kernel saw an empty group in the enter that posted this, and slots are given only
        # between enters. After an overflow this may be old news: then let one try.
        group.available = 1 if self._was_full else 0
        if group.available:
            self._is_hurried = True
        self.starved += 1
        self._park(operation, group)

    def _park(self, operation: Operation, group: _Group) -> None:
        self._finishers[operation.token] = self._parked
        group.parked.append(operation)
        self._parked_count += 1

    def _finish_parked(self, _operation: Operation, _result: int, _flags: int) -> None:
        raise AssertionError("a parked operation is not in the kernel and cannot complete")

    def _count_taken(self, batch: list[tuple[int, int, int]]) -> None:
        """Keep the count of available slots right while somebody waits for one."""
        first_bulk = self.pool.small_count
        for _, _, flags in batch:
            if flags & BUFFER:
                group = self._bulk if flags >> SLOT_SHIFT >= first_bulk else self._small
                group.available -= 1

    def _resume_parked(self) -> None:
        """Let as many parked receives try as there are slots, oldest first.

        Each takes one slot and then stands at the end of the queue again, so that a stream that is
        always full does not take them all.
        """
        for group in (self._small, self._bulk):
            for _ in range(min(group.available, len(group.parked))):
                token = group.parked.popleft().token
                self._parked_count -= 1
                opcode, flags, _, fd, _, _, _, number, _ = self._request_of(token)
                self._finishers[token] = self._resumed_ended
                self._queue(token, opcode, flags, 0, fd, 0, 0, 0, 0, number)
            if group.parked and group.available > 0:
                # Those that were resumed may be idle and leave their slot to the next.
                self._is_hurried = True

    def _finish_resumed(self, operation: Operation, result: int, flags: int) -> None:
        token = operation.token
        request = self._request_of(token)
        if result <= 0 or not request[2] & _RECV_MULTISHOT:
            self._finish_receive(operation, result, flags)
            return
        if self._small.parked:
            self._park(operation, self._small)
        else:
            self._finishers[token] = self._receive_ended
            self._queue_request(token, request)
        operation.complete(result, flags | MORE)

    def _group_of(self, token: int) -> _Group:
        return self._bulk if self._request_of(token)[7] == _BULK else self._small

    def _uses_slots(self, token: int) -> bool:
        return bool(self._request_of(token)[1] & _BUFFER_SELECT)

    def _request_of(self, token: int) -> _Request:
        request = self._requests[token]
        assert request is not None, "only operations with a request have finishers"
        return request


class _Group:
    """One group of provided buffers: its ring, and the receives that wait for a slot."""

    __slots__ = ("available", "mask", "memory", "parked", "tail", "tail_word", "views")

    def __init__(self, ring: BufferRing) -> None:
        self.memory = ring.memory
        self.mask = ring.mask
        self.tail_word = ring.tail_word
        self.tail = 0
        self.views: list[memoryview | None] = [None] * ring.size
        #: The memory that each entry names.
        self.parked: deque[Operation] = deque()
        self.available = 0
        #: Slots that the kernel has; counted only while something is parked.


def _address_of(memory: bytearray) -> int:
    return addressof(c_char.from_buffer(memory))


def _ignore(_result: int, _flags: int) -> None:
    """Drop the completion of a cancellation that found nothing."""


def _do_nothing() -> None:
    """Stand in for what the port sets."""


def _raise_unhandled(_operation: Operation | None, error: BaseException) -> None:
    raise error
