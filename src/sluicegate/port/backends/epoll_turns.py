"""The epoll driver's turns: waiting, dispatching readiness, and what keeps it apart from sockets.

``epoll`` above it starts the operations on sockets; file operations, which need threads and no
readiness, are started here. The invariant: a final result that is known before its turn is stored,
and run in the next one, so nothing ever completes inside the call that started it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final, cast

from typing_extensions import override

from sluicegate.buffer import Buffer
from sluicegate.limits import (
    EVENTS_PER_TURN_MAX,
    FILE_THREADS_MAX,
    Limits,
)
from sluicegate.port.backend import (
    POLL_IN,
    POLL_OUT,
    Backend,
    Completed,
    Operation,
    RawSocket,
    tell_nobody,
)
from sluicegate.port.pool import Slot, SlotPool

from .datagram_calls import KernelTray
from .epoll_watch import (
    BROKEN,
    EDGE,
    LISTEN,
    READABLE,
    UNUSUAL,
    WATCH_READS,
    WRITABLE,
    Watch,
)
from .file_threads import FileThreads, Job, splice_some, start_write_back
from .slots import SlotGroup
from .sockets import PipePool
from .wake_event import WakeEvent

__all__ = ["EpollTurns"]

_FILE_TOKEN: Final = -2
_CLOSE_ROUNDS_MAX: Final = 10_000


class EpollTurns(Backend):
    """One epoll set, one pool of shared buffers, a few file threads."""

    name: ClassVar[str] = "epoll"

    def __init__(self, limits: Limits) -> None:
        self.pool = SlotPool(limits.interactive_buffers_max, limits.bulk_buffers_max)
        self.pool.give_back = self._give_back
        self.tray = KernelTray(limits.udp_datagram_bytes_max)
        self.turns = self.submitted = self.completed = self.starved = 0
        self.on_unhandled = _report_unhandled
        self.on_woken = _ignore_woken
        self._watches: dict[int, Watch] = {}
        self._finished: deque[tuple[Operation, int]] = deque()
        #: Final results to run in the next turn.
        self._retries: deque[Watch] = deque()
        #: Readers that may find something without a new edge.
        small_count = self.pool.small_count
        self._small = SlotGroup[Watch](self.pool.slots[:small_count])
        self._bulk = SlotGroup[Watch](self.pool.slots[small_count:])
        self._jobs: dict[Operation, Job] = {}
        self._closed = False
        self._epoll = select.epoll()
        self._wake = WakeEvent(os.EFD_NONBLOCK)
        self._wake_pending = False
        # Edge-triggered, so it is never read: each write is a new edge.
        self._epoll.register(self._wake.descriptor, EDGE | select.EPOLLIN)
        self._files = FileThreads(FILE_THREADS_MAX, self.wake)
        self._pipes = PipePool(limits.splice_pipes_max)

    # -- turns ---------------------------------------------------------------------------------

    @override
    def turn(self, timeout_s: float | None) -> None:
        self.turns = turn = self.turns + 1
        if self.tray.outlets:
            self.tray.flush()
        if self._finished or self._retries:
            timeout_s = 0
        events = self._epoll.poll(timeout_s, EVENTS_PER_TURN_MAX)
        self._wake_pending = False
        self.on_woken()
        if self._finished:
            self._run_finished()
        if self._retries:
            self._run_retries()
        self._dispatch(events, turn)
        while (done := self._files.take()) is not None:
            del self._jobs[done[0]]
            self._finish_now(*done)

    @override
    def wake(self) -> None:
        if not self._wake_pending:
            self._wake_pending = True
            self._wake.set()

    @override
    def close(self) -> None:
        if self._closed:
            return
        for _ in range(_CLOSE_ROUNDS_MAX):
            self._cancel_all()
            self._files.stop()
            while (done := self._files.take()) is not None:
                del self._jobs[done[0]]
                self._finished.append(done)
            if not self._finished:
                break
            self._run_finished()
        else:
            raise RuntimeError("an operation is started anew whenever it is cancelled")
        self._closed = True
        self._epoll.close()
        self._wake.close()
        self._watches.clear()
        self._pipes.close()

    def _cancel_all(self) -> None:
        for watch in list(self._watches.values()):
            for operation in (watch.reader, watch.writer, *[op for op, _ in watch.pollers or ()]):
                if operation is not None:
                    self.cancel(operation)
        for operation in list(self._jobs):
            self.cancel(operation)

    @override
    def cancel(self, operation: Operation) -> None:
        if operation.token == _FILE_TOKEN:
            job = self._jobs.get(operation)
            if job is not None and self._files.cancel(job):
                del self._jobs[operation]
                self._finished.append((operation, -errno.ECANCELED))
            return
        watch = self._watches.get(operation.token)
        if watch is None:
            return
        if watch.reader is operation:
            self._disarm(watch)
        elif watch.writer is operation:
            watch.writer = watch.unsent = None
        elif operation in [polled for polled, _ in watch.pollers or ()]:
            watch.pollers = [entry for entry in watch.pollers or () if entry[0] is not operation]
        else:
            return  # it has ended, and will be told in the next turn
        self._finished.append((operation, -errno.ECANCELED))

    @override
    def redirect(self, operation: Operation, complete: Completed) -> None:
        operation.complete = complete

    @override
    def forget(self, operation: Operation) -> None:
        assert not operation.in_flight, "an operation in flight cannot be forgotten"
        operation.complete = tell_nobody

    def _begin(self, operation: Operation, token: int) -> None:
        assert not operation.in_flight, "one submission at a time"
        assert not self._closed, "the backend is closed"
        operation.in_flight = True
        operation.token = token
        self.submitted += 1

    def _finish_now(self, operation: Operation, result: int, flags: int = 0) -> None:
        """Run a last completion."""
        operation.in_flight = False
        operation.token = -1
        self.completed += 1
        try:
            operation.complete(result, flags)
        except BaseException as error:  # noqa: BLE001 - the port decides; the batch goes on
            self.on_unhandled(operation, error)

    def _dispatch(self, events: list[tuple[int, int]], turn: int) -> None:
        watches = self._watches
        for fd, mask in events:
            watch = watches.get(fd)
            if watch is None or watch.born == turn:
                continue
            if mask & UNUSUAL:
                watch.note(mask)
            # Writers first: what they complete gives buffers back.
            if watch.writer is not None and mask & WRITABLE:
                watch.write(watch, mask)
            if mask & READABLE:
                if watch.reader is not None:
                    watch.read(watch)
                else:
                    watch.readable = True
            if watch.pollers:
                self._poll_ready(watch, mask)

    def _run_finished(self) -> None:
        finished = self._finished
        for _ in range(len(finished)):
            self._finish_now(*finished.popleft())

    def _run_retries(self) -> None:
        retries = self._retries
        for _ in range(len(retries)):
            watch = retries.popleft()
            if watch.reader is not None:
                watch.read(watch)

    # -- readiness -----------------------------------------------------------------------------

    def _watch(self, sock: RawSocket) -> Watch:
        fd = sock.fileno()
        watch = self._watches.get(fd)
        if watch is None:
            watch = self._watches[fd] = Watch(fd, self.turns)
            watch.sock = cast("socket.SocketType", sock)
        elif watch.sock is not sock:
            # A closed socket left the set by itself; its number is another's now.
            watch.renew(cast("socket.SocketType", sock), self.turns)
        return watch

    def _register(self, watch: Watch, mask: int) -> None:
        if watch.mask:
            try:
                self._epoll.modify(watch.fd, mask)
            except FileNotFoundError:  # the number was closed and opened since
                self._epoll.register(watch.fd, mask)
        else:
            try:
                self._epoll.register(watch.fd, mask)
            except FileExistsError:  # polled as a bare descriptor before
                self._epoll.modify(watch.fd, mask)
        watch.mask = mask

    def _start_read(
        self,
        operation: Operation,
        sock: RawSocket,
        read: Callable[[Watch], None],
        events: int = WATCH_READS,
    ) -> Watch:
        watch = self._watch(sock)
        assert watch.reader is None, "one receive or accept at a time"
        self._begin(operation, watch.fd)
        watch.reader = operation
        watch.read = read
        if watch.mask & events != events:
            self._register(watch, watch.mask | events)
        elif watch.readable:
            self._retries.append(watch)
        return watch

    def _end_read_now(self, watch: Watch, operation: Operation, result: int) -> None:
        self._disarm(watch)
        self._finish_now(operation, result)

    def _disarm(self, watch: Watch) -> None:
        watch.reader = None
        if watch.mask == LISTEN:
            self._epoll.unregister(watch.fd)
            watch.mask = 0
        watch.readable = True  # not known to be empty
        watch.target = None
        watch.is_parked = False
        slot, watch.granted = watch.granted, None
        if slot is not None:
            self._give_back(slot)

    def _give_back(self, slot: Slot) -> None:
        watch = (self._bulk if slot.is_bulk else self._small).give(slot)
        if watch is not None:
            self._retries.append(watch)

    def _poll_ready(self, watch: Watch, mask: int) -> None:
        ready: list[Operation] = []
        waiting: list[tuple[Operation, int]] = []
        for operation, events in watch.pollers or ():
            if mask & (events | BROKEN):
                ready.append(operation)
            else:
                waiting.append((operation, events))
        watch.pollers = waiting or None
        for operation in ready:
            self._finish_now(operation, mask & (POLL_IN | POLL_OUT | BROKEN))

    # -- files ---------------------------------------------------------------------------------

    @override
    def read(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        view = buffer.view[start : start + length]
        self._start_job(operation, lambda: os.preadv(fd, [view], offset))

    @override
    def write(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        view = buffer.view[start : start + length]
        self._start_job(operation, lambda: os.pwritev(fd, [view], offset))

    @override
    def sync(self, operation: Operation, fd: int, *, data_only: bool) -> None:
        call = os.fdatasync if data_only else os.fsync
        self._start_job(operation, lambda: call(fd))

    @override
    def write_back(self, operation: Operation, fd: int, offset: int, length: int) -> None:
        self._start_job(operation, lambda: start_write_back(fd, offset, length))

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
        self._start_job(
            operation, lambda: splice_some(fd_in, offset_in, fd_out, offset_out, length)
        )

    def _start_job(self, operation: Operation, call: Callable[[], int | None]) -> None:
        self._begin(operation, _FILE_TOKEN)
        self._jobs[operation] = job = Job(operation, call)
        self._files.start(job)


def _ignore_woken() -> None:
    """Nobody asked for the time of the turn."""


def _report_unhandled(_operation: Operation | None, error: BaseException) -> None:
    """Show it, until the port takes over."""
    sys.excepthook(type(error), error, error.__traceback__)
