"""The io_uring driver's turns: tokens, entries, the enter, and the run of completions.

The lower half of ``uring``, which adds the operations. A turn gives returned slots back, submits
what was started, waits, stores the batch of completions, then runs it. The invariant: an
operation's token (its index in ``_operations``, and the ``user_data`` of its entries) stays its own
while anything of it is in the kernel, so a completion can never reach a stranger.

How a completion finds its way: with ``MORE`` straight to ``operation.complete``; without, through
``_finishers[token]``, which is None for plain operations. A finisher is there where the kernel's
last word is not yet ours: starved and non-blocking receives go on, short sends send the rest.
"""

from __future__ import annotations

import abc
import errno
import os
from collections.abc import Callable
from ctypes import c_size_t, c_void_p, get_errno
from typing import ClassVar, Final

from typing_extensions import override

from sluicegate.buffer import Buffer
from sluicegate.limits import (
    CLOSE_ROUND_S,
    CLOSE_ROUNDS_MAX,
    RING_COMPLETIONS,
    RING_ENTRIES,
    Limits,
)
from sluicegate.port.backend import MORE, Backend, Completed, Operation, tell_nobody
from sluicegate.port.pool import SlotPool
from sluicegate.port.ring import ENTER, Ring, syscall

from . import uring_entries as kernel
from .datagram_calls import KernelTray
from .sockets import PipePool
from .uring_entries import BULK, LENGTH_MAX, SMALL, AddressCache, Request, address_of
from .uring_slots import SlotGroups
from .wake_event import WakeEvent

__all__ = ["Finisher", "UringTurns"]

_U32: Final = 0xFFFFFFFF

# Globals are found faster than attributes of a module.
_COMPLETION: Final = kernel.COMPLETION
_pack_entry: Final = kernel.ENTRY.pack_into

Finisher = Callable[[Operation, int, int], None]
_Batch = list[tuple[int, int, int]]


class UringTurns(Backend):
    """One ring, its tables and its turns; ``UringBackend`` adds the operations."""

    # More attributes than an instance holds inline; as slots, a start costs a fifth less.
    __slots__ = (
        "_addresses",
        "_completions",
        "_completions_size",
        "_cq_head",
        "_cq_head_word",
        "_cq_tail_word",
        "_enter_argument",
        "_enter_fd",
        "_enter_flags",
        "_enter_pointer",
        "_entries",
        "_entries_mask",
        "_finishers",
        "_head",
        "_is_closing",
        "_is_hurried",
        "_is_running",
        "_local",
        "_old_news_turns",
        "_operations",
        "_pipes",
        "_requests",
        "_returned",
        "_ring",
        "_slots",
        "_sq_head_word",
        "_sq_tail_word",
        "_tail",
        "_timespec",
        "_tokens_free",
        "_wake",
        "_wake_count",
        "_wake_operation",
        "completed",
        "features",
        "on_unhandled",
        "on_woken",
        "pool",
        "starved",
        "submitted",
        "tray",
        "turns",
    )

    name: ClassVar[str] = "io_uring"

    def __init__(self, limits: Limits, *, features_masked: frozenset[str] = frozenset()) -> None:
        """Set up a restricted ring with its buffers; the first turn enables it.

        Raises:
            BackendUnavailable: The kernel, a sysctl or a sandbox refuses it.
        """
        self.turns = self.submitted = self.completed = self.starved = 0
        self.on_unhandled = _raise_unhandled
        self.on_woken = _do_nothing
        self._ring = ring = Ring(RING_ENTRIES, RING_COMPLETIONS, features_masked=features_masked)
        try:
            ring.bound_workers(limits.blocking_threads_max)
            small = ring.add_buffers(SMALL, limits.interactive_buffers_max)
            bulk = ring.add_buffers(BULK, limits.bulk_buffers_max)
            ring.restrict(kernel.ALLOWED, kernel.BUFFER_SELECT | kernel.SKIP_SUCCESS)
        except BaseException:
            ring.close()
            raise
        self.features = ring.features
        #: What is used beyond Linux 6.1.
        self.pool = SlotPool(limits.interactive_buffers_max, limits.bulk_buffers_max)
        self.tray = KernelTray(limits.udp_datagram_bytes_max)
        self._slots = SlotGroups(self.pool, small, bulk)
        self._returned = self._slots.returned
        self._pipes = PipePool(limits.splice_pipes_max)
        self._addresses = AddressCache()
        self._bind_ring(ring)
        self._bind_tables()
        self._bind_wake()

    def _bind_ring(self, ring: Ring) -> None:
        self._entries = ring.entries
        self._entries_mask = ring.entries_size - 1
        self._completions = ring.completions
        self._completions_size = ring.completions_size
        self._sq_head_word = ring.sq_head
        self._sq_tail_word = ring.sq_tail
        self._cq_head_word = ring.cq_head
        self._cq_tail_word = ring.cq_tail
        self._tail = 0
        #: Where the next entry goes; grows without bound, masked where the kernel sees it.
        self._head = 0
        #: Entries before it were consumed by the kernel.
        self._cq_head = 0
        self._old_news_turns = 0
        #: Set when the queue was full: what the kernel held back meanwhile comes a turn later.
        self._enter_fd = ring.enter_fd
        self._enter_flags = ring.enter_flags
        self._timespec = bytearray(kernel.TIMESPEC.size)
        self._enter_argument = bytearray(
            kernel.ENTER_ARGUMENT.pack(0, 0, 0, address_of(self._timespec))
        )
        self._enter_pointer = c_void_p(address_of(self._enter_argument))

    def _bind_tables(self) -> None:
        #: Token 0 takes the completions of cancellations.
        self._operations = [Operation(_ignore)]
        self._finishers: list[Finisher | None] = [None]
        self._requests: list[Request | None] = [None]
        self._tokens_free: list[int] = []
        self._local: _Batch = []
        #: Completions that the kernel does not know of; the next turn runs them.
        self._is_hurried = False
        #: Whether the next turn must not wait.
        self._is_running = False
        #: Whether a completion is on the stack.

    def _bind_wake(self) -> None:
        self._is_closing = False
        self._wake = WakeEvent()
        self._wake_count = Buffer(8)
        self._wake_operation = Operation(self._on_wake)
        self._wait_for_wake()

    # -- turns ---------------------------------------------------------------------------------

    @override
    def turn(self, timeout_s: float | None) -> None:
        if self.tray.outlets:
            self.tray.flush()
        if self._returned:
            self._provide_returned()
        if self._is_hurried:
            timeout_s = self._hurry()
        tail = self._tail
        queued = tail - self._head
        if queued:
            self._sq_tail_word[0] = tail & _U32
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
        kernel.TIMESPEC.pack_into(self._timespec, 0, seconds, int((timeout_s - seconds) * 1e9))
        return syscall(
            ENTER,
            self._enter_fd,
            queued,
            1,
            self._enter_flags | kernel.ENTER_EXT_ARG,
            self._enter_pointer,
            # On the stack, where ctypes leaves the upper half of a plain int as it was.
            c_size_t(kernel.ENTER_ARGUMENT.size),
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
            self._is_hurried = True
        elif code not in kernel.NOTHING_HAPPENED:
            raise OSError(code, os.strerror(code), "io_uring_enter")

    def _take_completions(self) -> _Batch:
        """Copy what the kernel posted, and make its room free again."""
        head = self._cq_head
        count = (self._cq_tail_word[0] - head) & _U32
        batch: _Batch
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
            if self._slots.parked_count:
                self._slots.count_taken(batch)
            if count == size:
                self._old_news_turns = 2
            elif self._old_news_turns:
                self._old_news_turns -= 1
        if self._local:
            batch = self._local + batch
            self._local = []
        return batch

    def _run(self, batch: _Batch) -> None:
        operations = self._operations
        finishers = self._finishers
        operation: Operation | None = None
        rest = iter(batch)
        self._is_running = True
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
                self._is_running = False
                return
            except BaseException as error:  # noqa: BLE001 - the batch must go on, whatever it was
                try:
                    self.on_unhandled(operation, error)
                except BaseException:
                    self._local[:0] = rest
                    self._is_hurried = True
                    self._is_running = False
                    raise

    @override
    def wake(self) -> None:
        self._wake.set()

    def _on_wake(self, result: int, _flags: int) -> None:
        if result >= 0 and not self._is_closing:
            self._wait_for_wake()

    def _wait_for_wake(self) -> None:
        token = self._begin(self._wake_operation, None)
        self._queue(token, kernel.READ, self._wake.descriptor, 0, self._wake_count.address, 8)

    @override
    def close(self) -> None:
        """As the contract says.

        Raises:
            RuntimeError: Called out of a completion, whose batch could not be ended.
        """
        if self._is_closing:
            return
        if self._is_running:
            raise RuntimeError("close the driver between turns: post the call to the port")
        self._is_closing = True
        self._withdraw_all()
        self._pipes.close()
        self._wake.close()
        self._ring.close()

    def _withdraw_all(self) -> None:
        """Cancel until nothing is in flight."""
        found: list[int] = []
        withdrawal = Operation(lambda result, _: found.append(result))
        for _ in range(CLOSE_ROUNDS_MAX):
            self._finish_unsubmitted()
            token = self._begin(withdrawal, None)
            self._queue(token, kernel.ASYNC_CANCEL, -1, 0, 0, 0, kernel.CANCEL_ALL)
            while withdrawal.in_flight:
                self.turn(None)
            running = [operation for operation in self._operations if operation.in_flight]
            if not running:
                return
            if found[-2:] == [0, 0]:
                # The kernel knows of none of them: an interrupt (Ctrl-C) hit the turn that had
                # taken their completions.
                for operation in running:
                    self._finish_locally(operation)
            # File operations that a kernel thread is at cannot be withdrawn, only waited for.
            self.turn(CLOSE_ROUND_S)
        raise RuntimeError("operations do not end, or are started anew whenever they do")

    def _finish_unsubmitted(self) -> None:
        """Let what is not in the kernel end without having begun."""
        self._sync_head()
        for position in range(self._head, self._tail):
            token: int = kernel.ENTRY.unpack_from(
                self._entries, (position & self._entries_mask) << 6
            )[6]
            if token:
                self._finish_locally(self._operations[token])
        self._tail = self._head
        for operation in self._slots.unpark_all():
            self._finish_locally(operation)

    # -- operations ----------------------------------------------------------------------------

    def _begin(self, operation: Operation, finisher: Finisher | None) -> int:
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
        word: int,
        fd: int,
        offset: int,
        address: int,
        length: int,
        operation_flags: int = 0,
        group: int = 0,
    ) -> None:
        """Write one entry; the next enter submits it."""
        tail = self._tail
        mask = self._entries_mask
        if tail - self._head > mask:
            self._make_room()
        _pack_entry(
            self._entries,
            (tail & mask) << 6,
            word,
            fd,
            offset,
            address,
            length,
            operation_flags,
            token,
            group,
        )
        self._tail = tail + 1

    def _queue_request(self, token: int, request: Request) -> None:
        shape, fd, address, length, _ = request
        size = min(length, LENGTH_MAX)
        self._queue(token, shape.word, fd, 0, address, size, shape.operation_flags, shape.group)

    def _make_room(self) -> None:
        """Submit what is queued without running anything."""
        self._sq_tail_word[0] = self._tail & _U32
        while self._tail - self._head > self._entries_mask:
            # Without GETEVENTS the kernel runs no deferred work, so nothing completes in here.
            flags = self._enter_flags & ~kernel.ENTER_GETEVENTS
            taken = syscall(ENTER, self._enter_fd, self._tail - self._head, 0, flags, None)
            if taken < 0:
                self._check_enter()
            else:
                self.submitted += taken
            self._sync_head()

    def _sync_head(self) -> None:
        """Ask the kernel how far it is: an interrupt may have hit the turn behind its enter."""
        self._head = self._tail - ((self._tail - self._sq_head_word[0]) & _U32)

    def _finish_locally(self, operation: Operation) -> None:
        """Let the next turn complete an operation that is not in the kernel as cancelled."""
        self._finishers[operation.token] = None
        self._local.append((operation.token, -errno.ECANCELED, 0))
        self._is_hurried = True

    @override
    def redirect(self, operation: Operation, complete: Completed) -> None:
        operation.complete = complete

    @override
    def forget(self, operation: Operation) -> None:
        assert not operation.in_flight, "the operation is in flight"
        operation.complete = tell_nobody
        token = operation.token
        if token >= 0:
            operation.token = -1
            self._operations[token] = self._operations[0]
            self._tokens_free.append(token)

    # -- slots ---------------------------------------------------------------------------------

    def _provide_returned(self) -> None:
        self._slots.provide_returned()
        if self._slots.parked_count:
            self._resume_parked()

    def _hurry(self) -> float:
        """Let this turn not wait, because there is something to do without the kernel."""
        self._is_hurried = False
        if self._slots.parked_count:
            self._resume_parked()
        return 0.0

    @abc.abstractmethod
    def _resume_parked(self) -> None:
        """Let receives that wait for a slot try for one."""


def _ignore(_result: int, _flags: int) -> None:
    """Drop the completion of a cancellation that found nothing."""


def _do_nothing() -> None:
    """Stand in for what the port sets."""


def _raise_unhandled(_operation: Operation | None, error: BaseException) -> None:
    raise error
