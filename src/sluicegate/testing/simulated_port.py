"""The third driver of the completion port: seeded chance, virtual time, injected faults.

It implements the whole ``Backend`` contract over ``SimulatedNetwork`` for sockets and real
(temporary) files for the rest, so that the complete service runs on it unchanged. The invariant:
one seed, one run: every choice comes from the dice, every wait from the virtual clock, and
``trace_digest`` of two runs of one seed is equal.

Results are decided when they happen in virtual time and told later, as the kernel's are; what may
lie between (a cancellation, a close, completions of others) is up to the dice.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.limits import RECEIVES_PER_EVENT_MAX, Limits
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
    Source,
    tell_nobody,
)
from sluicegate.port.backends.file_threads import splice_some
from sluicegate.port.backends.slots import SlotGroup
from sluicegate.port.pool import Slot, SlotPool

from .clock import ScheduledEvent, VirtualClock
from .datagrams import SimulatedDatagramSocket, SimulatedTray
from .faults import Dice, FaultPlan, report_unhandled
from .flight import Flight, identity_of, ignore_woken, nothing_to_do, wait_for_answer
from .network import FIRST_DESCRIPTOR, SimulatedNetwork, SimulatedPipe, SimulatedSocket

__all__ = ["SimulatedBackend", "SimulationStalled"]

_TURN_S: Final = 0.000_001
"""What a turn takes: computing is not free, and a loop that polls without waiting moves on."""

_STALL_S: Final = 10.0
"""Real seconds that a turn without anything scheduled waits for another thread."""

_TRACE_LENGTH: Final = 200

_CLOSE_ROUNDS_MAX: Final = 10_000


class SimulationStalled(Exception):
    """Nothing will ever happen: the service waits without a deadline and no peer acts."""


class SimulatedBackend(Backend):
    """A driver without a kernel; one seed decides everything."""

    name: ClassVar[str] = "simulated"

    def __init__(
        self,
        seed: int = 0,
        faults: FaultPlan | None = None,
        clock: VirtualClock | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self.seed = seed
        self.clock = clock or VirtualClock()
        self.dice = Dice(seed, faults or FaultPlan())
        self.network = SimulatedNetwork(self.clock, self.dice)
        self.pool = SlotPool(limits.interactive_buffers_max, limits.bulk_buffers_max)
        self.pool.give_back = self._give_back
        self.tray = SimulatedTray(limits.udp_datagram_bytes_max)
        self.turns = self.submitted = self.completed = self.starved = 0
        self.on_unhandled = report_unhandled
        self.on_woken = ignore_woken
        self.trace: deque[str] = deque(maxlen=_TRACE_LENGTH)
        #: The last completions, for the report of a failing seed.
        self._digest = hashlib.blake2b(digest_size=16)
        self._flights: dict[int, Flight] = {}
        self._told: deque[tuple[Flight, int, int]] = deque()
        self._untold: dict[int, tuple[ScheduledEvent, Flight, int, int]] = {}
        #: Decided results whose time to be told has not come, in the order of the decisions.
        self._number = itertools.count().__next__
        small_count = self.pool.small_count
        self._small = SlotGroup[Flight](self.pool.slots[:small_count])
        self._bulk = SlotGroup[Flight](self.pool.slots[small_count:])
        self._readers: dict[SimulatedSocket, Flight] = {}
        self._writers: dict[SimulatedSocket, Flight] = {}
        self._socket_polls: dict[SimulatedSocket, list[Flight]] = {}
        self._polled: dict[int, tuple[Flight, int, int]] = {}
        #: Polls of real descriptors (asyncio's own set), by flight number.
        self._pipes_max = limits.splice_pipes_max
        self._pipes_open = 0
        self._is_closed = False
        self._is_woken = False
        self._wake_lock = threading.RLock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def trace_digest(self) -> str:
        """Return a digest of everything that was completed so far, with its virtual times."""
        return self._digest.hexdigest()

    @property
    def in_flight(self) -> int:
        """Operations whose last completion was not told yet."""
        return len(self._flights)

    # -- turns ---------------------------------------------------------------------------------

    @override
    def turn(self, timeout_s: float | None) -> None:
        if self.tray.outlets:
            self.tray.flush()
        self.turns += 1
        self.clock.advance(_TURN_S)
        self._wait(timeout_s)
        self._is_woken = False
        self.on_woken()
        for _ in range(len(self._told)):
            self._complete(*self._told.popleft())

    @override
    def wake(self) -> None:
        with self._wake_lock:
            if not self._is_closed:
                self._is_woken = True
                os.eventfd_write(self._wake_fd, 1)

    @override
    def close(self) -> None:
        if self._is_closed:
            return
        for _ in range(_CLOSE_ROUNDS_MAX):
            if not self._flights:
                break
            for flight in list(self._flights.values()):
                if not flight.is_decided:
                    self._decide(flight, -errno.ECANCELED)
            self._tell_untold()
            while self._told:
                self._complete(*self._told.popleft())
        else:
            raise RuntimeError("an operation is started anew whenever it is cancelled")
        with self._wake_lock:
            self._is_closed = True
            os.close(self._wake_fd)

    def _tell_untold(self) -> None:
        """Let what is decided be told now, without the rest of the world going on."""
        untold = sorted(self._untold.items(), key=lambda item: (item[1][0].when, item[0]))
        self._untold.clear()
        for _, (event, flight, result, flags) in untold:
            event.cancel()
            self._told.append((flight, result, flags))

    @override
    def cancel(self, operation: Operation) -> None:
        flight = self._flights.get(operation.token)
        if flight is not None and not flight.is_decided:
            self._decide(flight, -errno.ECANCELED)

    @override
    def redirect(self, operation: Operation, complete: Completed) -> None:
        operation.complete = complete

    @override
    def forget(self, operation: Operation) -> None:
        assert not operation.in_flight, "an operation in flight cannot be forgotten"
        operation.complete = tell_nobody

    def _begin(
        self, operation: Operation, kind: str, sock: SimulatedSocket | None = None
    ) -> Flight:
        assert not operation.in_flight, "one submission at a time"
        assert not self._is_closed, "the backend is closed"
        flight = Flight(self._number(), kind, operation)
        operation.in_flight = True
        operation.token = flight.number
        self._flights[flight.number] = flight
        self.submitted += 1
        if sock is not None:
            flight.sock = sock
            sock.pins += 1
            sock.on_change = lambda: self._on_change(sock)
        return flight

    def _schedule(self, flight: Flight) -> None:
        """Let a flight try its luck after the time such things take."""
        if not flight.is_scheduled and not flight.is_decided:
            flight.is_scheduled = True
            self.clock.call_after(self.dice.latency_s(), lambda: self._try(flight))

    def _try(self, flight: Flight) -> None:
        flight.is_scheduled = False
        if not flight.is_decided:
            flight.attempt(flight)

    def _decide(self, flight: Flight, result: int, flags: int = 0) -> None:
        """Fix the last result of a flight and let it be told."""
        flight.is_decided = True
        flight.is_parked = False
        slot, flight.granted = flight.granted, None
        if slot is not None:
            self._give_back(slot)
        self._polled.pop(flight.number, None)
        sock = flight.sock
        if sock is not None:
            for table in (self._readers, self._writers):
                if table.get(sock) is flight:
                    del table[sock]
            if flight in self._socket_polls.get(sock, ()):
                self._socket_polls[sock].remove(flight)
        self._tell(flight, result, flags)

    def _tell(self, flight: Flight, result: int, flags: int) -> None:
        """Let a result be told now, or much later, but never before an earlier one."""
        when = self.clock.monotonic()
        # Polls are not delayed: what asks (asyncio's selector) only looks again.
        if flight.kind != "poll" and self.dice.happens(self.dice.plan.late_result):
            when += self.dice.random.uniform(*self.dice.plan.late_s)
        flight.last_told = when = max(when, flight.last_told)
        number = self._number()
        event = self.clock.call_at(when, lambda: self._on_told(number))
        self._untold[number] = (event, flight, result, flags)

    def _on_told(self, number: int) -> None:
        _, flight, result, flags = self._untold.pop(number)
        self._told.append((flight, result, flags))

    def _complete(self, flight: Flight, result: int, flags: int) -> None:
        operation = flight.operation
        if not flags & MORE:
            del self._flights[flight.number]
            operation.in_flight = False
            operation.token = -1
            if flight.sock is not None:
                flight.sock.pins -= 1
        self.completed += 1
        line = f"{self.clock.monotonic():.6f} {flight.kind} {flight.number} {result} {flags}"
        self.trace.append(line)
        self._digest.update(line.encode())
        try:
            operation.complete(result, flags)
        except BaseException as error:  # noqa: BLE001 - the port decides; the batch goes on
            self.on_unhandled(operation, error)

    def _wait(self, timeout_s: float | None) -> None:
        """Let the world go on until there is something to tell, or the time is over."""
        clock = self.clock
        until = None if timeout_s is None else clock.monotonic() + timeout_s
        self._check_polled(0)
        while True:
            clock.run_due()
            if self._told or self._is_woken:
                return
            upcoming = clock.next_event()
            if upcoming is not None and (until is None or upcoming <= until):
                clock.advance_to(upcoming)
            elif until is not None:
                clock.advance_to(until)
                return
            elif not self._check_polled(_STALL_S):
                raise SimulationStalled(
                    f"seed {self.seed}: nothing is scheduled and nobody waits for a deadline; "
                    f"{len(self._flights)} operations in flight"
                )

    def _check_polled(self, timeout_s: float) -> bool:
        """Look at the real world: polled descriptors and, when waiting, other threads."""
        if not self._polled and not timeout_s:
            return False
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        for _, fd, events in self._polled.values():
            poller.register(fd, events)
        ready = dict(poller.poll(timeout_s * 1000))
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        for flight, fd, _ in list(self._polled.values()):
            if fd in ready:
                self._decide(flight, ready[fd])
        return bool(ready) or self._is_woken

    # -- files ---------------------------------------------------------------------------------

    @override
    def read(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        length = self.dice.part(self.dice.plan.short_read, length)
        view = self._leased(buffer, start, length)
        self._start_file(operation, "read", fd, lambda: os.preadv(fd, [view], offset))

    @override
    def write(
        self, operation: Operation, fd: int, buffer: Buffer, start: int, length: int, offset: int
    ) -> None:
        length = self.dice.part(self.dice.plan.short_write, length)
        view = self._leased(buffer, start, length)
        self._start_file(operation, "write", fd, lambda: os.pwritev(fd, [view], offset))

    @override
    def sync(self, operation: Operation, fd: int, *, data_only: bool) -> None:
        self._start_file(operation, "sync", fd, nothing_to_do)

    @override
    def write_back(self, operation: Operation, fd: int, offset: int, length: int) -> None:
        self._start_file(operation, "write_back", fd, nothing_to_do)

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
        self._start_file(
            operation,
            "splice",
            fd_in,
            lambda: splice_some(fd_in, offset_in, fd_out, offset_out, length),
        )

    def _leased(self, buffer: Buffer, start: int, length: int) -> memoryview:
        assert buffer.leases, "memory of an operation must be leased by its starter"
        return buffer.view[start : start + length]

    def _start_file(
        self, operation: Operation, kind: str, fd: int, call: Callable[[], int]
    ) -> None:
        flight = self._begin(operation, kind)
        identity = identity_of(fd)
        flight.attempt = lambda flight: self._attempt_file(flight, fd, identity, call)
        self._schedule(flight)

    def _attempt_file(
        self, flight: Flight, fd: int, identity: tuple[int, int] | None, call: Callable[[], int]
    ) -> None:
        plan, happens = self.dice.plan, self.dice.happens
        if identity is None:
            result = -errno.EBADF
        elif happens(plan.cancelled):
            result = -errno.ECANCELED
        elif happens(plan.io_error):
            result = -errno.EIO
        elif flight.kind == "write" and happens(plan.no_space):
            result = -errno.ENOSPC
        else:
            assert identity_of(fd) == identity, (
                "a descriptor was closed under an operation in flight"
            )
            try:
                result = call()
            except OSError as error:
                result = -(error.errno or errno.EIO)
        self._decide(flight, result)

    # -- sockets -------------------------------------------------------------------------------

    @override
    def create_socket(self, family: int) -> RawSocket:
        return self.network.create_socket(family)

    @override
    def adopt(self, descriptor: int, family: int) -> RawSocket:
        return self.network.open_sockets[descriptor]

    @override
    def accept(self, operation: Operation, listener: RawSocket) -> None:
        self._start_read(operation, "accept", listener, self._attempt_accept)

    @override
    def bind_source(self, sock: RawSocket, source: Source) -> None:
        self.network.check_source(source.address.host, is_transparent=source.is_transparent)
        sock.bind(source.address.to_kernel())

    @override
    def connect(self, operation: Operation, sock: RawSocket, address: SocketAddress) -> None:
        simulated = _simulated(sock)
        flight = self._begin(operation, "connect", simulated)
        self._writers[simulated] = flight
        flight.attempt = wait_for_answer

        def done(result: int) -> None:
            if not flight.is_decided:
                self._decide(flight, result)

        self.network.connect(simulated, address, done)

    @override
    def receive(self, operation: Operation, sock: RawSocket) -> None:
        self._start_read(operation, "receive", sock, self._attempt_receive)

    @override
    def receive_bulk(self, operation: Operation, sock: RawSocket) -> None:
        self._start_read(operation, "receive_bulk", sock, self._attempt_receive)

    @override
    def receive_into(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        view = self._leased(buffer, start, length)
        self._start_read(
            operation, "receive_into", sock, lambda flight: self._attempt_receive_into(flight, view)
        )

    @override
    def send(
        self, operation: Operation, sock: RawSocket, buffer: Buffer, start: int, length: int
    ) -> None:
        simulated = _simulated(sock)
        assert simulated not in self._writers, "one send or connect at a time"
        flight = self._begin(operation, "send", simulated)
        self._writers[simulated] = flight
        flight.unsent = self._leased(buffer, start, length)
        flight.attempt = lambda flight: self._attempt_send(flight, length)
        self._schedule(flight)

    @override
    def poll(self, operation: Operation, fd: int, events: int) -> None:
        if fd < FIRST_DESCRIPTOR:
            flight = self._begin(operation, "poll")
            self._polled[flight.number] = (flight, fd, events)
            return
        sock = self.network.open_sockets[fd]
        flight = self._begin(operation, "poll", sock)
        self._socket_polls.setdefault(sock, []).append(flight)
        flight.attempt = lambda flight: self._attempt_poll(flight, sock, events)
        self._schedule(flight)

    @override
    def create_datagram_socket(self, family: int) -> RawSocket:
        sock = SimulatedDatagramSocket(self.network, family)
        self.network.with_descriptor(sock)
        return sock

    @override
    def await_datagrams(self, operation: Operation, sock: RawSocket) -> None:
        self._start_read(operation, "datagrams", sock, self._attempt_datagrams)

    def _attempt_datagrams(self, flight: Flight) -> None:
        """Say that something waits, turn by turn, until it was taken."""
        assert flight.sock is not None
        if flight.sock.is_readable:
            self._tell(flight, POLL_IN, MORE)
            self._schedule(flight)

    @override
    def open_pipe(self) -> Pipe | None:
        if self._pipes_open >= self._pipes_max or self.dice.happens(self.dice.plan.pipe_refused):
            return None
        self._pipes_open += 1
        return SimulatedPipe()

    @override
    def prepare_splice(self, sock: RawSocket) -> None:
        assert not _simulated(sock).is_closed

    @override
    def close_pipe(self, pipe: Pipe) -> None:
        assert isinstance(pipe, SimulatedPipe)
        self._pipes_open -= 1

    # -- attempts ------------------------------------------------------------------------------

    def _start_read(
        self,
        operation: Operation,
        kind: str,
        sock: RawSocket,
        attempt: Callable[[Flight], None],
    ) -> None:
        simulated = _simulated(sock)
        assert simulated not in self._readers, "one receive or accept at a time"
        flight = self._begin(operation, kind, simulated)
        self._readers[simulated] = flight
        flight.attempt = attempt
        self._schedule(flight)

    def _on_change(self, sock: SimulatedSocket) -> None:
        reader, writer = self._readers.get(sock), self._writers.get(sock)
        if reader is not None and sock.is_readable:
            self._schedule(reader)
        if writer is not None and sock.is_writable:
            self._schedule(writer)
        for flight in self._socket_polls.get(sock, ()):
            self._schedule(flight)

    def _attempt_accept(self, flight: Flight) -> None:
        listener = flight.sock
        assert listener is not None
        if not listener.backlog:
            return
        if self.dice.happens(self.dice.plan.accept_exhausted):
            self._decide(flight, -errno.EMFILE)
            return
        try:
            sock = self.network.accept(listener)
        except OSError as error:
            self._decide(flight, -(error.errno or errno.EIO))
            return
        self._tell(flight, sock.descriptor, MORE)
        if listener.backlog:
            self._schedule(flight)

    def _attempt_receive(self, flight: Flight) -> None:
        """Receive what is there, a few slots in one go, as a multishot receive does."""
        assert flight.sock is not None
        for _ in range(RECEIVES_PER_EVENT_MAX):
            self._receive_once(flight, flight.sock)
            if flight.is_decided or flight.is_parked or not flight.sock.is_readable:
                return
        self._schedule(flight)

    def _receive_once(self, flight: Flight, sock: SimulatedSocket) -> None:
        is_bulk = flight.kind == "receive_bulk"
        slot = (self._bulk if is_bulk else self._small).take(flight)
        if slot is None:
            self.starved = self._small.starved + self._bulk.starved
            return
        try:
            data = sock.receive(self.dice.part(self.dice.plan.short_receive, slot.allocated))
        except BlockingIOError:
            self._give_back(slot)
            return
        except OSError as error:
            self._give_back(slot)
            self._decide(flight, -(error.errno or errno.EIO))
            return
        if not data:
            self._give_back(slot)
            self._decide(flight, 0)
            return
        slot.view[: len(data)] = data
        flags = BUFFER | slot.index << SLOT_SHIFT
        if is_bulk or self.dice.happens(self.dice.plan.multishot_end):
            self._decide(flight, len(data), flags)
        else:
            self._tell(flight, len(data), flags | MORE)

    def _attempt_receive_into(self, flight: Flight, view: memoryview) -> None:
        assert flight.sock is not None
        try:
            data = flight.sock.receive(self.dice.part(self.dice.plan.short_receive, len(view)))
        except BlockingIOError:
            return
        except OSError as error:
            self._decide(flight, -(error.errno or errno.EIO))
            return
        view[: len(data)] = data
        self._decide(flight, len(data))

    def _attempt_send(self, flight: Flight, length: int) -> None:
        assert flight.sock is not None
        try:
            while flight.unsent:
                flight.unsent = flight.unsent[flight.sock.send(flight.unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._decide(flight, -(error.errno or errno.EIO))
            return
        self._decide(flight, length)

    def _attempt_poll(self, flight: Flight, sock: SimulatedSocket, events: int) -> None:
        ready = (events & POLL_IN if sock.is_readable else 0) | (
            events & POLL_OUT if sock.is_writable else 0
        )
        if ready:
            self._decide(flight, ready)

    def _give_back(self, slot: Slot) -> None:
        flight = (self._bulk if slot.is_bulk else self._small).give(slot)
        if flight is not None:
            self._schedule(flight)


def _simulated(sock: RawSocket) -> SimulatedSocket:
    assert isinstance(sock, SimulatedSocket), "a socket of another backend"
    return sock
