"""The io_uring driver: what the port can start, in pure Python.

The port calls it; ``uring_turns`` below it submits, waits and runs. The invariant: what is started
here completes once, whatever the kernel says in between: a receive that found no slot, a socket
that would block, a send that was cut, a queue that overflowed are carried on here.
"""

from __future__ import annotations

import errno
from typing import Final

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
    Operation,
    Pipe,
    RawSocket,
    Source,
)

from . import uring_entries as kernel
from .datagram_watch import DatagramWatch
from .sockets import (
    adopt_socket,
    bind_source,
    create_tcp_socket,
    create_udp_socket,
    set_nonblocking,
)
from .uring_entries import (
    LENGTH_MAX,
    SHAPE_ACCEPT,
    SHAPE_DATAGRAMS,
    SHAPE_RECEIVE,
    SHAPE_RECEIVE_BULK,
    SHAPE_RECEIVE_INTO,
    SHAPE_SEND,
    SMALL,
    Request,
)
from .uring_slots import SlotGroup
from .uring_turns import Finisher, UringTurns

__all__ = ["UringBackend"]

_U64: Final = 0xFFFFFFFFFFFFFFFF


# A global is found faster than attributes of a module.
_pack_receive: Final = kernel.ENTRY_OF_RECEIVE.pack_into
_RECEIVE_WORD: Final = SHAPE_RECEIVE.word
_AGAIN: Final = -errno.EAGAIN
_NO_SLOT: Final = -errno.ENOBUFS


class UringBackend(UringTurns):
    """One ring and its buffers; lives as long as its port, on the thread of its first turn."""

    __slots__ = (
        "_accept_ended",
        "_cancelled",
        "_cancelled_poll",
        "_datagrams",
        "_datagrams_ended",
        "_datagrams_operation",
        "_parked",
        "_poll_ended",
        "_receive_ended",
        "_resumed_ended",
        "_send_ended",
    )

    def __init__(self, limits: Limits, *, features_masked: frozenset[str] = frozenset()) -> None:
        """Set up a restricted ring with its buffers; the first turn enables it.

        Raises:
            BackendUnavailable: The kernel, a sysctl or a sandbox refuses it.
        """
        super().__init__(limits, features_masked=features_masked)
        # Bound once: one is stored with each start, and they are compared by identity.
        self._receive_ended: Finisher = self._finish_receive
        self._resumed_ended: Finisher = self._finish_resumed
        self._accept_ended: Finisher = self._finish_accept
        self._send_ended: Finisher = self._finish_send
        self._poll_ended: Finisher = self._finish_poll
        self._cancelled: Finisher = self._finish_cancelled
        self._cancelled_poll: Finisher = self._finish_cancelled_poll
        self._parked: Finisher = self._finish_parked
        self._datagrams_ended: Finisher = self._finish_datagrams
        self._datagrams: DatagramWatch | None = None
        #: Made with the first socket: most gates have none.
        self._datagrams_operation = Operation(self._on_datagrams)

    # -- operations ----------------------------------------------------------------------------

    @override
    def cancel(self, operation: Operation) -> None:
        if not operation.in_flight:
            return
        token = operation.token
        finisher = self._finishers[token]
        if finisher is self._parked:
            self._slots.unpark(operation, self._slots.of(self._request_of(token)[0].group))
            self._finish_locally(operation)
            return
        if finisher is self._datagrams_ended:
            assert self._datagrams is not None, "a socket is watched"
            self._datagrams.remove(self._request_of(token)[1])
            self._finish_locally(operation)
            return
        if finisher is self._poll_ended:
            self._finishers[token] = self._cancelled_poll
        elif finisher is not None and finisher is not self._cancelled_poll:
            self._finishers[token] = self._cancelled
        self._queue(0, kernel.ASYNC_CANCEL | kernel.SKIP_SUCCESS << 8, -1, 0, token, 0)

    # -- files ---------------------------------------------------------------------------------

    @override
    def read(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        where = buffer.address + start
        token = self._begin(operation, None)
        self._queue(token, kernel.READ, fd, offset & _U64, where, min(length, LENGTH_MAX))

    @override
    def write(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        where = buffer.address + start
        token = self._begin(operation, None)
        self._queue(token, kernel.WRITE, fd, offset & _U64, where, min(length, LENGTH_MAX))

    @override
    def sync(self, operation: Operation, fd: int, *, data_only: bool) -> None:
        token = self._begin(operation, None)
        flags = kernel.FSYNC_DATA_ONLY if data_only else 0
        self._queue(token, kernel.FSYNC, fd, 0, 0, 0, flags)

    @override
    def write_back(self, operation: Operation, fd: int, offset: int, length: int) -> None:
        token = self._begin(operation, None)
        flags = kernel.SYNC_RANGE_WRITE
        # The kernel's field has 32 bits; zero means up to the end of the file.
        span = length if length <= LENGTH_MAX else 0
        self._queue(token, kernel.SYNC_FILE_RANGE, fd, offset, 0, span, flags)

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
            kernel.SPLICE,
            fd_out,
            offset_out & _U64,
            offset_in & _U64,
            min(length, LENGTH_MAX),
            kernel.SPLICE_MOVE,
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
        self._start_request(
            operation, self._accept_ended, (SHAPE_ACCEPT, listener.fileno(), 0, 0, 0)
        )

    @override
    def bind_source(self, sock: RawSocket, source: Source) -> None:
        bind_source(sock, source)

    @override
    def connect(self, operation: Operation, sock: RawSocket, address: SocketAddress) -> None:
        _, where, size = self._addresses.locate(address)
        token = self._begin(operation, None)
        self._queue(token, kernel.CONNECT, sock.fileno(), size, where, 0)

    @override
    def receive(self, operation: Operation, sock: RawSocket) -> None:
        # ``_begin`` and ``_queue`` in full: there are two of these for each connection.
        assert not operation.in_flight, "the operation is in flight"
        operation.in_flight = True
        token = operation.token
        if token < 0:
            token = self._register(operation)
        fd = sock.fileno()
        self._finishers[token] = self._receive_ended
        self._requests[token] = (SHAPE_RECEIVE, fd, 0, 0, 0)
        if self._slots.small.parked:
            self._park(operation, token)
            return
        tail = self._tail
        mask = self._entries_mask
        if tail - self._head > mask:
            self._make_room()
        _pack_receive(self._entries, (tail & mask) << 6, _RECEIVE_WORD, fd, token, SMALL)
        self._tail = tail + 1

    @override
    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        request = (SHAPE_RECEIVE_BULK, sock.fileno(), 0, 0, 0)
        token = self._begin(operation, self._receive_ended)
        self._requests[token] = request
        if self._slots.bulk.parked:
            self._park(operation, token)
        else:
            self._queue_request(token, request)

    @override
    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        self._start_request(
            operation,
            self._receive_ended,
            (SHAPE_RECEIVE_INTO, sock.fileno(), buffer.address + start, length, 0),
        )

    @override
    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        self._start_request(
            operation,
            self._send_ended,
            (SHAPE_SEND, sock.fileno(), buffer.address + start, length, length),
        )

    def _start_request(self, operation: Operation, finisher: Finisher, request: Request) -> None:
        token = self._begin(operation, finisher)
        self._requests[token] = request
        self._queue_request(token, request)

    @override
    def poll(self, operation: Operation, fd: int, events: int) -> None:
        token = self._begin(operation, None)
        self._queue(token, kernel.POLL_ADD, fd, 0, 0, 0, events)

    @override
    def create_datagram_socket(self, family: int) -> RawSocket:
        return create_udp_socket(family)

    @override
    def await_datagrams(self, operation: Operation, sock: RawSocket) -> None:
        if self._datagrams is None:
            self._datagrams = DatagramWatch()
        fd = sock.fileno()
        token = self._begin(operation, self._datagrams_ended)
        self._requests[token] = (SHAPE_DATAGRAMS, fd, 0, 0, 0)
        self._datagrams.add(fd, operation)
        if not self._datagrams_operation.in_flight:
            self._wait_for_datagrams(self._datagrams)

    def _wait_for_datagrams(self, watch: DatagramWatch) -> None:
        token = self._begin(self._datagrams_operation, None)
        self._queue(token, kernel.POLL_ADD, watch.fileno(), 0, 0, 0, POLL_IN)

    def _on_datagrams(self, result: int, _flags: int) -> None:
        watch = self._datagrams
        if result < 0 or watch is None or self._is_closing:
            return
        ready = watch.ready()
        if watch:
            # Submitted behind what the owners take now.
            self._wait_for_datagrams(watch)
        for fd, mask in ready:
            operation = watch.operation_of(fd)
            if operation is not None:
                try:
                    operation.complete(mask, MORE)
                except BaseException as error:  # noqa: BLE001 - the others must be told, whatever it was
                    self.on_unhandled(operation, error)

    def _finish_datagrams(self, _operation: Operation, _result: int, _flags: int) -> None:
        raise AssertionError("a watch for datagrams is not in the kernel and cannot complete")

    @override
    def close(self) -> None:
        watch = self._datagrams
        if watch is not None and not (self._is_closing or self._is_running):
            for operation in watch.take_all():
                self._finish_locally(operation)
        super().close()
        if self._datagrams is not None:
            self._datagrams.close()

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
            if result == _AGAIN:
                self._poll_then_again(operation.token)
                return
            if result == _NO_SLOT and self._request_of(operation.token)[0].uses_slots:
                self._starve(operation, operation.token)
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
        shape, fd, where, length, total = self._request_of(token)
        if 0 < result < length:
            # MSG_WAITALL still gives less when a signal or an error came in between; sending the
            # rest tells which.
            rest = (shape, fd, where + result, length - result, total)
            self._requests[token] = rest
            self._queue_request(token, rest)
        elif result == -errno.EAGAIN:
            self._poll_then_again(token)
        else:
            operation.in_flight = False
            operation.complete(total if result == length else result, flags)

    def _poll_then_again(self, token: int) -> None:
        """Wait for readiness ourselves: on ``O_NONBLOCK`` sockets the ring does not."""
        shape, fd, _, _, _ = self._request_of(token)
        self._finishers[token] = self._poll_ended
        events = POLL_OUT if shape is SHAPE_SEND else POLL_IN
        self._queue(token, kernel.POLL_ADD, fd, 0, 0, 0, events)

    def _finish_poll(self, operation: Operation, result: int, flags: int) -> None:
        if result < 0:
            operation.in_flight = False
            operation.complete(result, flags)
            return
        token = operation.token
        request = self._request_of(token)
        if request[0] is SHAPE_SEND:
            self._finishers[token] = self._send_ended
        elif request[0] is SHAPE_ACCEPT:
            self._finishers[token] = self._accept_ended
        else:
            self._finishers[token] = self._receive_ended
        self._queue_request(token, request)

    def _finish_cancelled(self, operation: Operation, result: int, flags: int) -> None:
        shape, _, _, length, total = self._request_of(operation.token)
        if shape is SHAPE_SEND and result >= 0:
            result = total if result == length else -errno.ECANCELED
        elif result in {-errno.EAGAIN, -errno.ENOBUFS}:
            result = -errno.ECANCELED
        operation.in_flight = False
        operation.complete(result, flags)

    def _finish_cancelled_poll(self, operation: Operation, _result: int, _flags: int) -> None:
        operation.in_flight = False
        operation.complete(-errno.ECANCELED, 0)

    # -- slots ---------------------------------------------------------------------------------

    def _park(self, operation: Operation, token: int) -> None:
        self._finishers[token] = self._parked
        self._slots.park(operation, self._slots.of(self._request_of(token)[0].group))

    def _finish_parked(self, _operation: Operation, _result: int, _flags: int) -> None:
        raise AssertionError("a parked operation is not in the kernel and cannot complete")

    def _starve(self, operation: Operation, token: int) -> None:
        """Go on with more slots, or park a receive that found its group empty."""
        slots = self._slots
        request = self._request_of(token)
        group = slots.of(request[0].group)
        if slots.grow(group):
            self._finishers[token] = self._receive_ended
            self._queue_request(token, request)
            return
        self.starved += 1
        self._finishers[token] = self._parked
        is_first = not group.parked
        slots.park_starved(operation, group, is_news=not self._old_news_turns)
        if is_first:
            self._park_queued(group)
        self._is_hurried = self._is_hurried or slots.is_slot_idle()

    def _park_queued(self, group: SlotGroup) -> None:
        """Take back the receives that were started in this batch before we knew of the want.

        Else a stream that takes each slot and starts again at once would always be first.
        """
        kept: list[bytes] = []
        for position in range(self._head, self._tail):
            start = (position & self._entries_mask) << 6
            entry = bytes(self._entries[start : start + 64])
            fields = kernel.ENTRY.unpack_from(entry)
            token: int = fields[6]
            if fields[0] not in kernel.SLOT_WORDS or self._slots.of(fields[7]) is not group:
                kept.append(entry)
            elif self._finishers[token] is self._cancelled:
                self._finish_locally(self._operations[token])
            else:
                self._park(self._operations[token], token)
        for index, entry in enumerate(kept):
            start = ((self._head + index) & self._entries_mask) << 6
            self._entries[start : start + 64] = entry
        self._tail = self._head + len(kept)

    @override
    def _resume_parked(self) -> None:
        """Let parked receives try, once each, so that a stream that is always full waits its turn.

        Each takes one slot at most and then stands at the end of the queue again.
        """
        for operation in self._slots.unpark_able():
            token = operation.token
            shape, fd, _, _, _ = self._request_of(token)
            self._finishers[token] = self._resumed_ended
            word = SHAPE_RECEIVE_BULK.word
            self._queue(token, word, fd, 0, 0, 0, 0, shape.group)
        if self._slots.is_slot_idle():
            self._is_hurried = True

    def _finish_resumed(self, operation: Operation, result: int, flags: int) -> None:
        token = operation.token
        request = self._request_of(token)
        if result <= 0 or not request[0].is_multishot:
            self._finish_receive(operation, result, flags)
            return
        if self._slots.small.parked:
            self._park(operation, token)
        else:
            self._finishers[token] = self._receive_ended
            self._queue_request(token, request)
        operation.complete(result, flags | MORE)

    def _request_of(self, token: int) -> Request:
        request = self._requests[token]
        assert request is not None, "only operations with a request have finishers"
        return request
