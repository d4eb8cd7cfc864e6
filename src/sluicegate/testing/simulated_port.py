"""The third driver of the completion port: seeded chance, virtual time, injected faults.

It implements the whole ``Backend`` contract over ``SimulatedNetwork`` for sockets and real
(temporary) files for the rest, so that the complete service runs on it unchanged. The invariant:
one seed, one run: every choice comes from the dice, every wait from the virtual clock, and
``trace_digest`` of two runs of one seed is equal.

What is in flight, and when it is told, is ``flight_backend``'s; here is what each operation does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import ClassVar

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
    Operation,
    Pipe,
    RawSocket,
    Source,
)
from sluicegate.port.backends.file_threads import splice_some
from sluicegate.port.backends.slots import SlotGroup
from sluicegate.port.pool import Slot, SlotPool

from .clock import VirtualClock
from .datagrams import SimulatedDatagramSocket, SimulatedTray
from .faults import FaultPlan
from .flight import Flight, identity_of, nothing_to_do, wait_for_answer
from .flight_backend import FlightBackend
from .network import FIRST_DESCRIPTOR, SimulatedNetwork, SimulatedPipe, SimulatedSocket

__all__ = ["SimulatedBackend"]


class SimulatedBackend(FlightBackend):
    """A driver without a kernel; one seed decides everything."""

    name: ClassVar[str] = "simulated"

    def __init__(
        self,
        seed: int = 0,
        faults: FaultPlan | None = None,
        clock: VirtualClock | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(seed, faults or FaultPlan(), clock or VirtualClock())
        limits = limits or Limits()
        self.network = SimulatedNetwork(self.clock, self.dice)
        self.pool = SlotPool(limits.interactive_buffers_max, limits.bulk_buffers_max)
        self.pool.give_back = self._give_back
        self.tray = SimulatedTray(limits.udp_datagram_bytes_max)
        self.starved = 0
        small_count = self.pool.small_count
        self._small = SlotGroup[Flight](self.pool.slots[:small_count])
        self._bulk = SlotGroup[Flight](self.pool.slots[small_count:])
        self._pipes_max = limits.splice_pipes_max
        self._pipes_open = 0

    @override
    def turn(self, timeout_s: float | None) -> None:
        if self.tray.outlets:
            self.tray.flush()
        super().turn(timeout_s)

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

    @override
    def _give_back(self, slot: Slot) -> None:
        flight = (self._bulk if slot.is_bulk else self._small).give(slot)
        if flight is not None:
            self._schedule(flight)


def _simulated(sock: RawSocket) -> SimulatedSocket:
    assert isinstance(sock, SimulatedSocket), "a socket of another backend"
    return sock
