"""Crew: the workers of one gate, one for each slot, and those that drain.

``supervisor`` has one. The invariant: a slot whose worker has ended gets another one, with the same
listening sockets and with what is in force at that moment; nothing else changes for the others.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sluicegate.clock import Clock
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.gate.control_messages import AnyReply, AnyRequest
from sluicegate.process_limits import (
    PROCESS_ROWS_MAX,
    WORKER_ANSWER_TIMEOUT_S,
    WORKER_GRACE_S,
    WORKER_START_TIMEOUT_S,
)

from .backoff import Backoff
from .child import Child
from .handover import WorkerLeft
from .orders import (
    PROTOCOL,
    Answer,
    AnyMessage,
    Ask,
    BeginWorker,
    Committed,
    Drain,
    Failed,
    Leaving,
    Message,
    Prepared,
    Ready,
    Said,
)

__all__ = ["Crew", "Lead", "Place", "Worker"]


class Lead(Protocol):
    """What the crew asks of the supervisor."""

    def begin(self, slot: int, row: int, number: int) -> tuple[BeginWorker, list[int], list[int]]:
        """Return what a new worker is told and given, and which of it to close afterwards."""
        ...

    def on_worker_ready(self, worker: Worker) -> None:
        """Take that a worker has begun."""
        ...

    def on_worker_ended(self, worker: Worker, how: str, *, is_missed: bool) -> None:
        """Take that a worker is gone; ``is_missed`` when nobody had asked it to go."""
        ...

    @property
    def say(self) -> Callable[[str], None]:
        """What shows a line to whoever started the gate."""
        ...


@dataclass(eq=False, slots=True)
class Worker:
    """One worker's process."""

    slot: int
    row: int
    number: int
    """Of all workers that this gate ever had, from 1: part of its identifiers."""
    child: Child
    started: float
    """Seconds since the Unix epoch."""
    ready: asyncio.Future[None]
    is_draining: bool = False
    is_outdated: bool = False
    """Whether it was ended because it had begun with what is no longer in force."""
    version: str = ""
    policy: str = ""
    diagnosis: str = ""
    waiting: dict[int, asyncio.Future[AnyMessage | None]] = field(
        default_factory=dict[int, "asyncio.Future[AnyMessage | None]"]
    )
    """Who waits for an answer, by the number of the question."""

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.ready.done() and not self.ready.cancelled() and not self.ready.exception()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"worker {self.slot}"


@dataclass(eq=False, slots=True)
class Place:
    """One slot, and who fills it."""

    slot: int
    backoff: Backoff = field(default_factory=Backoff)
    worker: Worker | None = None
    restarts: int = 0
    retry: asyncio.TimerHandle | None = None


class Crew:
    """All workers."""

    def __init__(self, slots: int, clock: Clock, lead: Lead) -> None:
        self.places = [Place(slot) for slot in range(slots)]
        self.leaving: set[Worker] = set()
        #: Those that drain and fill no place any more.
        self.free_rows = set(range(1, PROCESS_ROWS_MAX))
        self._clock = clock
        self._lead = lead
        self.next_number = 1
        #: Of the next worker that is started.
        self._question_numbers = itertools.count(1)
        self._is_ending = False
        self._empty = asyncio.Event()

    # -- asking --------------------------------------------------------------------------------

    @property
    def working(self) -> list[Worker]:
        """The workers that serve."""
        there = (place.worker for place in self.places)
        return [one for one in there if one is not None and one.is_ready]

    @property
    def all(self) -> list[Worker]:
        """Every worker that is there."""
        there = [place.worker for place in self.places if place.worker is not None]
        return [*there, *self.leaving]

    @property
    def answering(self) -> list[Worker]:
        """The workers that answer: who is asked at its start answers when it serves."""
        return [one for one in self.all if one.is_ready]

    @property
    def starting(self) -> list[Worker]:
        """The workers that have a place and do not serve yet."""
        there = (place.worker for place in self.places)
        return [one for one in there if one is not None and not one.ready.done()]

    async def wait_started(self, timeout_s: float) -> None:
        """Return when no worker is being started, or after ``timeout_s``."""
        if waiting := [worker.ready for worker in self.starting]:
            await asyncio.wait(waiting, timeout=timeout_s)

    async def ask(self, workers: Sequence[Worker], request: AnyRequest) -> list[AnyReply | None]:
        """Ask workers the same; None for one that does not answer in time."""
        answers = await self.order(
            workers, lambda _worker, number: (Ask(number=number, request=request), [])
        )
        return [one.reply if isinstance(one, Answer) else None for one in answers]

    async def order(
        self,
        workers: Sequence[Worker],
        make: Callable[[Worker, int], tuple[Message, list[int]]],
    ) -> list[AnyMessage | None]:
        """Say something to workers that they answer; None for one that does not, in time."""
        return await asyncio.gather(*(self._order(worker, make) for worker in workers))

    async def _order(
        self, worker: Worker, make: Callable[[Worker, int], tuple[Message, list[int]]]
    ) -> AnyMessage | None:
        number = next(self._question_numbers)
        future: asyncio.Future[AnyMessage | None] = asyncio.get_running_loop().create_future()
        worker.waiting[number] = future
        worker.child.send(*make(worker, number))
        try:
            async with asyncio.timeout(WORKER_ANSWER_TIMEOUT_S):
                return await future
        except TimeoutError:
            return None
        finally:
            del worker.waiting[number]

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start a worker for each slot, and wait until all serve.

        Raises:
            ConfigRefused: One cannot, because of the operator's files.
            ConfigError: One cannot.
        """
        started = [self._start(place) for place in self.places]
        try:
            async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                await asyncio.gather(*(worker.ready for worker in started))
        except TimeoutError:
            raise ConfigError("workers", "they did not start in time", "see the output") from None

    async def renew(self, drain_timeout_s: float) -> bool:
        """Put new workers in the places of those that are there, which then drain.

        Both serve meanwhile, on the same listening sockets: no client is turned away. False when
        the new ones do not begin; then the old ones stay.
        """
        fresh = [self._start(place, is_beside=True) for place in self.places]
        try:
            async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                await asyncio.gather(*(worker.ready for worker in fresh))
        except (TimeoutError, ConfigRefused, ConfigError):
            for worker in fresh:
                worker.is_draining = True
                worker.child.kill()
            return False
        for place, worker in zip(self.places, fresh, strict=True):
            before, place.worker = place.worker, worker
            self.leaving.discard(worker)
            if place.retry is not None:
                place.retry.cancel()
                place.retry = None
            if before is not None:
                before.is_draining = True
                self.leaving.add(before)
                before.child.send(Drain(timeout_s=drain_timeout_s))
        return True

    def leave(self) -> list[WorkerLeft] | None:
        """Describe all workers for the next version; None when that is not possible now."""
        if any(not worker.is_ready or not worker.child.is_told for worker in self.all):
            return None
        return [
            WorkerLeft(
                worker.slot,
                worker.row,
                worker.number,
                worker.child.leave(worker.started, worker.version),
                worker.policy,
                worker.is_draining,
            )
            for worker in self.all
        ]

    def take(self, left: Sequence[WorkerLeft], next_number: int) -> None:
        """Go on with the workers that the version before has started."""
        self.next_number = next_number
        for one in left:
            self.free_rows.discard(one.row)
            connected = socket.socket(fileno=one.child.channel)  # noqa: TID251 - it carries orders
            child = Child(
                one.child.pid, connected, self._on_message, self._on_ended, one.child.unread
            )
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ready.set_result(None)
            worker = Worker(
                one.slot,
                one.row,
                one.number,
                child,
                one.child.started,
                ready,
                is_draining=one.is_draining,
                version=one.child.version,
                policy=one.policy,
            )
            if one.is_draining:
                self.leaving.add(worker)
            else:
                self.places[one.slot].worker = worker

    def begin_end(self) -> None:
        """Start no worker any more: who ends now is not missed."""
        self._is_ending = True
        for place in self.places:
            if place.retry is not None:
                place.retry.cancel()

    async def end(self, timeout_s: float) -> None:
        """Let all drain for at most ``timeout_s`` and end; returns when they are gone."""
        self.begin_end()
        self.hurry(timeout_s)
        await self._wait_empty(timeout_s + WORKER_GRACE_S)
        for worker in self.all:
            self._lead.say(f"{worker.name} does not end: killed")
            worker.child.kill()
        await self._wait_empty(None)

    def hurry(self, timeout_s: float) -> None:
        """Let all that drain do so for at most ``timeout_s`` from now."""
        for worker in self.all:
            worker.is_draining = True
            worker.child.send(Drain(timeout_s=timeout_s))

    async def _wait_empty(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while self.all:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return

    # -- starting and starting again -----------------------------------------------------------

    def _start(self, place: Place, *, is_beside: bool = False) -> Worker:
        """Start a worker for a place; ``is_beside`` the one that it has already."""
        if not is_beside:
            place.retry = None
        row = min(self.free_rows)
        number, self.next_number = self.next_number, self.next_number + 1
        begin, descriptors, to_close = self._lead.begin(place.slot, row, number)
        loop = asyncio.get_running_loop()
        place.backoff.on_started(self._clock.monotonic())
        try:
            child = Child.start("worker", begin.path, self._on_message, self._on_ended)
        except OSError:
            for descriptor in to_close:
                os.close(descriptor)
            raise
        self.free_rows.discard(row)
        worker = Worker(place.slot, row, number, child, self._clock.wall(), loop.create_future())
        if is_beside:
            self.leaving.add(worker)
        else:
            place.worker = worker
        child.send(begin, descriptors)
        for descriptor in to_close:
            os.close(descriptor)
        return worker

    def replace(self, worker: Worker) -> None:
        """End a worker that has begun with what is no longer in force, and start another."""
        place = self.places[worker.slot]
        worker.is_draining = worker.is_outdated = True
        self.leaving.add(worker)
        place.worker = None
        worker.child.kill()
        self._start_again(place)

    def _start_again(self, place: Place) -> None:
        try:
            self._start(place)
        except OSError as error:
            self._lead.say(f"worker {place.slot} cannot be started: {error.strerror}")
            self._plan_restart(place)

    def _plan_restart(self, place: Place) -> None:
        place.restarts += 1
        delay_s = place.backoff.on_ended(self._clock.monotonic())
        loop = asyncio.get_running_loop()
        place.retry = loop.call_later(delay_s, self._start_again, place)

    def _on_message(self, child: Child, message: AnyMessage, _descriptors: list[int]) -> None:
        worker = next((one for one in self.all if one.child is child), None)
        if worker is None:
            return
        match message:
            case Answer(number=number) | Prepared(number=number) | Committed(number=number):
                future = worker.waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(message)
            case Ready():
                self._on_ready(worker, message)
            case Failed(causes=causes):
                self._on_failed(worker, causes)
            case Leaving():
                self._on_leaving(worker)
            case Said(line=line):
                self._lead.say(f"{worker.name}: {line}")
            case _:
                raise AssertionError(f"{message} is no worker's")

    def _on_ready(self, worker: Worker, message: Ready) -> None:
        if message.protocol != PROTOCOL:
            self._lead.say(
                f"the program on disk is version {message.version} and cannot work with this "
                "gate: sluicegate upgrade, or start the gate again"
            )
            worker.child.kill()
            return
        worker.version, worker.policy = message.version, message.policy
        worker.diagnosis = message.diagnosis
        worker.ready.set_result(None)
        self._lead.on_worker_ready(worker)

    def _on_leaving(self, worker: Worker) -> None:
        """Let another one have the place while this one drains."""
        place = self.places[worker.slot]
        if self._is_ending or worker.is_draining or place.worker is not worker:
            return
        self._lead.say(f"{worker.name} (pid {worker.child.pid}) was asked to end: it is replaced")
        worker.is_draining = True
        self.leaving.add(worker)
        place.worker = None
        self._start_again(place)

    def _on_failed(self, worker: Worker, causes: list[str]) -> None:
        errors = tuple(ConfigError(worker.name, cause) for cause in causes)
        if worker.ready.done():
            return
        worker.ready.set_exception(ConfigRefused(errors))
        worker.ready.exception()  # seen: who started it may have gone
        for cause in causes:
            self._lead.say(f"{worker.name} cannot begin: {cause}")

    def _on_ended(self, child: Child, how: str) -> None:
        worker = next((one for one in self.all if one.child is child), None)
        if worker is None:
            return
        if not worker.ready.done():
            error = ConfigError(worker.name, f"it ended at its start: {how}", "see the output")
            worker.ready.set_exception(error)
            worker.ready.exception()
        for future in worker.waiting.values():
            if not future.done():
                future.set_result(None)
        self.leaving.discard(worker)
        place = self.places[worker.slot]
        is_in_place = place.worker is worker
        if is_in_place:
            place.worker = None
        is_missed = is_in_place and not self._is_ending
        self._lead.on_worker_ended(worker, how, is_missed=is_missed)
        if is_missed:
            self._plan_restart(place)
        self._empty.set()
