"""A worker's process: one gate of several, on the supervisor's listening sockets.

The supervisor starts it, and another when it has ended. The invariant: it changes what is in force
only when the supervisor says so, and without a supervisor it ends.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import socket
import sys
from collections import deque
from collections.abc import Coroutine
from typing import TypeAlias

from sluicegate import collector
from sluicegate.address import SocketAddress
from sluicegate.app.account import capabilities_to_dial
from sluicegate.app.authority_files import lacks_distance
from sluicegate.app.build import Gate, Share
from sluicegate.app.confinement import Confinement, refuse_new_rings
from sluicegate.app.draining import Draining
from sluicegate.app.guard import bound_memory, watch_loop
from sluicegate.app.load import Loaded, load
from sluicegate.app.machine import raise_descriptor_limit
from sluicegate.app.passed_sockets import cannot_listen
from sluicegate.audit import RecordSender
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError, TransportError
from sluicegate.gate.census import Census
from sluicegate.gate.control import answer
from sluicegate.gate.control_messages import RefusedReply
from sluicegate.gate.settings import Place
from sluicegate.port import CompletionPort, Listener
from sluicegate.port.backend import RawSocket
from sluicegate.port.diagnosis import diagnose
from sluicegate.port.loop import current_port, run
from sluicegate.process_limits import WORKER_GRACE_S
from sluicegate.version import VERSION

from .channel import Channel, FrameReader, send_last
from .confine import confine
from .orders import (
    PROTOCOL,
    Abandon,
    Answer,
    AnyMessage,
    Ask,
    AttachAudit,
    AttachSigner,
    BeginWorker,
    Commit,
    Committed,
    Drain,
    Failed,
    Leaving,
    Prepare,
    Prepared,
    Ready,
    Said,
)
from .start import arrive, name_process
from .tallies import Tallies

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders and records, not traffic


def main(channel: int) -> None:
    """Be a worker.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    arrived = arrive(channel, BeginWorker, ends_by_signal=True)
    if arrived is None:
        return
    _, connected, begin, descriptors, reader = arrived
    name_process(f"sluice-worker-{begin.slot}")
    findings = Findings()
    loaded = load(pathlib.Path(begin.path), findings, texts=begin.texts)
    if loaded is None:
        send_last(connected, Failed(causes=[str(error) for error in findings.errors]))
        return
    limits = loaded.configuration.limits
    descriptors_max, warning = raise_descriptor_limit(limits)
    diagnosis = str(diagnose(loaded.configuration.backend))
    bound_memory(limits)
    routes = loaded.settings.policy.network_relations.has_routes
    confinement = confine(loaded.configuration, capabilities=capabilities_to_dial(routes))
    if causes := lacks_distance(loaded.configuration.authority):
        send_last(connected, Failed(causes=causes))
        return
    warnings = [warning] if warning else []
    worker = _Worker(begin, descriptors, loaded, diagnosis, warnings, descriptors_max)
    worker.confinement = confinement
    run(worker.live(connected, reader), backend=loaded.configuration.backend, limits=limits)


def _say_aloud(line: str) -> None:
    """Show a line without the loop, which may be what the line is about."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class _Doors:
    """The supervisor's listening sockets that no listener has taken yet."""

    def __init__(self) -> None:
        self._descriptors: dict[Place, deque[int]] = {}

    def add(self, addresses: list[str], descriptors: list[int]) -> None:
        for text, descriptor in zip(addresses, descriptors, strict=True):
            self._descriptors.setdefault(Place.parse(text), deque()).append(descriptor)

    def take(self, port: CompletionPort, address: SocketAddress) -> Listener:
        return port.take_listener(self._take(Place(address)), address.family)

    def take_datagrams(self, port: CompletionPort, address: SocketAddress) -> RawSocket:
        return port.backend.adopt(self._take(Place(address, is_udp=True)), address.family)

    def _take(self, place: Place) -> int:
        found = self._descriptors.get(place)
        assert found, f"the supervisor gave no socket for {place}"
        return found.popleft()

    def close(self) -> None:
        for found in self._descriptors.values():
            while found:
                os.close(found.popleft())


class _Worker:
    """The process's life."""

    def __init__(
        self,
        begin: BeginWorker,
        descriptors: list[int],
        loaded: Loaded,
        diagnosis: str,
        warnings: list[str],
        descriptors_max: int,
    ) -> None:
        self._begin = begin
        self._loaded = loaded
        self._diagnosis = diagnosis
        self._warnings = warnings
        self.confinement = Confinement()
        self._descriptors_max = descriptors_max
        tallies, census, self._audit, *doors = descriptors
        self._signer = doors.pop(0) if begin.has_signer else -1
        self._tallies = Tallies(tallies)
        self._census = Census(census, begin.row)
        os.close(tallies)
        os.close(census)
        self._doors = _Doors()
        self._doors.add(begin.addresses, doors)
        self._prepared: Loaded | None = None
        self._stop_asked = asyncio.Event()
        self._drain_timeout_s = loaded.configuration.limits.drain_timeout_s
        self._draining = Draining()
        self._answers: set[asyncio.Task[None]] = set()

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Begin, serve until told to end, drain, end."""
        loop = asyncio.get_running_loop()
        limits = self._loaded.configuration.limits
        self._channel = channel = Channel(connected, self._on_message, self._on_alone, reader)
        sender = self._sender = RecordSender(
            limits.record_queue_bytes_max,
            SystemClock(),
            self._say,
            self._tallies.row(self._begin.row),
            goes_on=self._loaded.configuration.when_log_full == "count",
        )
        sender.attach(_Socket(fileno=self._audit))
        port = current_port()
        self._gate = gate = Gate(
            self._loaded,
            port,
            diagnosis=self._diagnosis,
            say=self._say,
            on_stop_requested=lambda _: None,
            share=Share(
                sender,
                self._begin.boot_mark,
                lambda address: self._doors.take(port, address),
                self._census,
                lambda address: self._doors.take_datagrams(port, address),
            ),
        )
        if self._signer >= 0:
            gate.leaves.attach(_Socket(fileno=self._signer))
        gate.descriptors_max = self._descriptors_max
        gate.warnings += self._warnings
        gate.confinement = self.confinement
        if self._loaded.configuration.has_sandbox:
            refuse_new_rings(self.confinement)
        loop.add_signal_handler(signal.SIGTERM, self._on_term_signal)
        try:
            if await self._start(gate):
                channel.deliver()
                await self._stop_asked.wait()
                await self._drain_gate(gate)
        finally:
            await gate.stop()
            await sender.close(WORKER_GRACE_S)
            channel.close()
            self._doors.close()
            # It ends by itself now; what a signal would wake is being closed.
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def _start(self, gate: Gate) -> bool:
        try:
            await gate.start()
        except ConfigError as error:
            self._channel.send(Failed(causes=[str(error)]))
            return False
        watch_loop(gate, _say_aloud, lambda: None)
        collector.quieten()
        self._channel.send(
            Ready(
                protocol=PROTOCOL,
                version=VERSION,
                policy=gate.service.policy.hash,
                diagnosis=self._diagnosis,
            )
        )
        return True

    async def _drain_gate(self, gate: Gate) -> None:
        if self._drain_timeout_s:
            await self._draining.wait(gate.drain(self._drain_timeout_s), self._drain_timeout_s)

    def _stop(self, timeout_s: float) -> None:
        self._drain_timeout_s = timeout_s
        self._stop_asked.set()
        self._draining.end_in(timeout_s)

    def _on_term_signal(self) -> None:
        if self._stop_asked.is_set():
            return  # a second one gives it no more time
        # The supervisor got one, too, if it was meant for the gate.
        self._channel.send(Leaving())
        self._stop(self._drain_timeout_s)

    def _say(self, line: str) -> None:
        self._channel.send(Said(line=line))

    # -- what the supervisor says --------------------------------------------------------------

    def _on_alone(self, _cause: str) -> None:
        self._stop(0.0)

    def _on_message(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case Ask():
                self._run(self._answer(message))
            case AttachAudit():
                self._sender.attach(_Socket(fileno=descriptors[0]))
            case AttachSigner():
                self._gate.leaves.attach(*(_Socket(fileno=one) for one in descriptors))
            case Prepare():
                self._prepare(message, descriptors)
            case Commit():
                self._run(self._commit(message))
            case Abandon():
                self._prepared = None
                self._doors.close()
            case Drain(timeout_s=timeout_s):
                self._stop(timeout_s)
            case _:
                raise AssertionError(f"{message} is for another process")

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._answers.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._answers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._gate.service.port.on_error(error)
            self._stop(0.0)  # half of a change may be in force: the next worker has it whole

    async def _answer(self, message: Ask) -> None:
        try:
            reply = await answer(self._gate, message.request, "")
        except ConfigRefused as error:
            reply = RefusedReply(causes=[str(one) for one in error.errors])
        self._channel.send(Answer(number=message.number, reply=reply))

    def _prepare(self, message: Prepare, descriptors: list[int]) -> None:
        self._doors.add(message.addresses, descriptors)
        findings = Findings()
        path = pathlib.Path(self._begin.path)
        loaded = load(path, findings, self._gate.loaded, message.texts)
        if loaded is None:
            causes = [str(error) for error in findings.errors]
            self._channel.send(Prepared(number=message.number, causes=causes))
            return
        self._prepared = loaded
        policy = loaded.settings.policy.hash
        self._channel.send(Prepared(number=message.number, policy=policy))

    async def _commit(self, message: Commit) -> None:
        assert self._prepared is not None, "the supervisor has seen that it is prepared"
        loaded, self._prepared = self._prepared, None
        try:
            await self._gate.put_in_force(loaded)
        except TransportError as error:
            raise cannot_listen(loaded, error) from error
        policy = self._gate.service.policy.hash
        self._channel.send(Committed(number=message.number, policy=policy))
