"""FlightBackend: what is in flight on the simulated port, in virtual time, by one seed's dice.

``simulated_port`` adds what each operation does. The invariant: results are decided when they
happen in virtual time and told later, as the kernel's are, those of one flight in their order; what
may lie between (a cancellation, a close, completions of others) is up to the dice.
"""

from __future__ import annotations

import abc
import errno
import hashlib
import itertools
import os
import select
from collections import deque
from typing import Final

from typing_extensions import override

from sluicegate.port.backend import MORE, Backend, Completed, Operation, tell_nobody
from sluicegate.port.backends.wake_event import WakeEvent
from sluicegate.port.pool import Slot

from .clock import ScheduledEvent, VirtualClock
from .faults import Dice, FaultPlan, report_unhandled
from .flight import Flight, ignore_woken
from .network import SimulatedSocket

__all__ = ["FlightBackend", "SimulationStalled"]

_TURN_S: Final = 0.000_001
"""What a turn takes: computing is not free, and a loop that polls without waiting moves on."""

_STALL_S: Final = 10.0
"""Real seconds that a turn without anything scheduled waits for another thread."""

_TRACE_LENGTH: Final = 200

_CLOSE_ROUNDS_MAX: Final = 10_000


class SimulationStalled(Exception):
    """Nothing will ever happen: the service waits without a deadline and no peer acts."""


class FlightBackend(Backend):
    """The driver, but for what its operations do."""

    def __init__(self, seed: int, faults: FaultPlan, clock: VirtualClock) -> None:
        self.seed = seed
        self.clock = clock
        self.dice = Dice(seed, faults)
        self.turns = self.submitted = self.completed = 0
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
        self._readers: dict[SimulatedSocket, Flight] = {}
        self._writers: dict[SimulatedSocket, Flight] = {}
        self._socket_polls: dict[SimulatedSocket, list[Flight]] = {}
        self._polled: dict[int, tuple[Flight, int, int]] = {}
        #: Polls of real descriptors (asyncio's own set), by flight number.
        self._is_closed = False
        self._is_woken = False
        self._wake = WakeEvent(os.EFD_NONBLOCK)

    @abc.abstractmethod
    def _give_back(self, slot: Slot) -> None:
        """Take a slot back that a flight was granted."""

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
        self.turns += 1
        self.clock.advance(_TURN_S)
        self._wait(timeout_s)
        self._is_woken = False
        self.on_woken()
        for _ in range(len(self._told)):
            self._complete(*self._told.popleft())

    @override
    def wake(self) -> None:
        self._is_woken = True
        self._wake.set()

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
        self._is_closed = True
        self._wake.close()

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
        wake = self._wake.descriptor
        poller.register(wake, select.POLLIN)
        for _, fd, events in self._polled.values():
            poller.register(fd, events)
        ready = dict(poller.poll(timeout_s * 1000))
        if wake in ready:
            os.eventfd_read(wake)
        for flight, fd, _ in list(self._polled.values()):
            if fd in ready:
                self._decide(flight, ready[fd])
        return bool(ready) or self._is_woken

    def _on_change(self, sock: SimulatedSocket) -> None:
        reader, writer = self._readers.get(sock), self._writers.get(sock)
        if reader is not None and sock.is_readable:
            self._schedule(reader)
        if writer is not None and sock.is_writable:
            self._schedule(writer)
        for flight in self._socket_polls.get(sock, ()):
            self._schedule(flight)
