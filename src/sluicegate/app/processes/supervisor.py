"""Supervisor: opens what a gate listens on, starts its processes, and speaks for all of them.

``app.supervise`` keeps one alive, commands reach it through the control socket. The invariant: what
is in force is in force on every worker or on none, and a process that ends is replaced without the
others noticing. It sees no client's bytes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sluicegate.app.authority_files import OpenAuthority
from sluicegate.app.config import Configuration
from sluicegate.app.learning import LearnLog, learn_views
from sluicegate.app.load import Loaded, load
from sluicegate.app.machine import Usage
from sluicegate.app.passed_sockets import cannot_listen
from sluicegate.app.policies.desk import PolicyDesk
from sluicegate.app.reload import ReloadHistory, settings_for_restart
from sluicegate.audit import ProcessRecord, RecordSender, ServiceRecord
from sluicegate.audit.records import ServiceEvent
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError, TransportError
from sluicegate.gate.census import Census
from sluicegate.gate.control import ControlServer
from sluicegate.gate.control_messages import KilledReply, KillRequest
from sluicegate.gate.operator_log import OperatorLog
from sluicegate.gate.policy_orders import AnyPolicyAnswer, AnyPolicyOrder
from sluicegate.gate.settings import Place
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    Phase,
    SessionView,
    StatusView,
    TransferView,
)
from sluicegate.process_limits import WORKER_GRACE_S, WORKER_START_TIMEOUT_S
from sluicegate.version import VERSION

from .attendants import Attendants
from .audit_post import AuditPost
from .change import change_authority, commit_all, prepare_all
from .child_post import Upkeep
from .crew import Crew, Worker
from .doors import Door, Doors
from .gathering import gather_learned, gather_status, gather_warnings
from .handover import AuthorityLeft, Handover, PreflightFailed, preflight, start_program
from .measuring import Measuring
from .orders import AttachAudit, AttachSigner, BeginWorker
from .process_views import process_warnings, worker_views
from .questions import (
    ask_connections,
    ask_filters,
    ask_sessions,
    ask_status,
    ask_transfers,
)
from .signer_post import SignerPost
from .store_post import StorePost
from .tallies import CONNECTIONS, RECORDS, Tallies

__all__ = ["Seat", "Supervisor"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries records, not traffic

_OWN_ROW = 0


_DESCRIBE_ATTEMPTS = 50
_DESCRIBE_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Seat:
    """What a supervisor has of its process, and the next version of the program needs."""

    lock: int
    """Descriptor of the lock of ``state_dir``."""
    arguments: tuple[str, ...]
    """Of the command that started it, behind the program."""
    authority: OpenAuthority | None
    """Who signs leaves; the supervisor's to close."""


def _refused(*causes: str) -> ConfigRefused:
    return ConfigRefused(tuple(ConfigError("sluicegate upgrade", cause) for cause in causes))


class Supervisor:
    """One running gate of several processes; satisfies ``ControlTarget``."""

    def __init__(
        self,
        loaded: Loaded,
        slots: int,
        *,
        diagnosis: str,
        say: Callable[[str], None],
        on_stop_requested: Callable[[float | None], None],
        seat: Seat,
        left: Handover | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            loaded: What to begin with.
            slots: How many workers.
            diagnosis: Why their ports have the backend that they have.
            say: Shows a line to whoever started the gate.
            on_stop_requested: Called when a command asks for the end, with the time to wait.
            seat: What the next version of this program needs of this process.
            left: By the version before, if there was one.

        Raises:
            ConfigError: The log cannot be opened.
        """
        self._seat, self._left, configuration = seat, left, loaded.configuration
        self.loaded = self._begun_with = loaded
        self.say = say
        self._diagnosis = diagnosis
        self._on_stop_requested = on_stop_requested
        self._clock = SystemClock()
        self._started, self._usage = self._clock.wall(), Usage()
        self._boot_mark = f"{int(self._started):x}"
        self._phase, self._drain_ends = Phase.STARTING, 0.0
        self._tallies_fd = Tallies.make() if left is None else left.tallies
        self._tallies = Tallies(self._tallies_fd)
        self._census_fd = Census.make() if left is None else left.census
        self._census = Census(self._census_fd, _OWN_ROW)
        self._doors = Doors(slots, secrets.randbits(32) if left is None else left.seed)
        self._audit = AuditPost(
            configuration.log_path,
            self._clock,
            say,
            on_replaced=self._on_audit_replaced,
            on_stream_ended=self._on_stream_ended,
            left=left,
        )
        self._signer = SignerPost(self._clock, say, self._on_signer_replaced)
        self._sender = self._make_sender(configuration)
        write = self._sender.write
        upkeep = Upkeep(write, self._clock, say)
        self._store = StorePost(configuration, upkeep, self._audit)
        self._attendants = Attendants(configuration, self, upkeep)
        self.alerts = self._attendants.alerts.alerts
        self.acknowledge = self._attendants.alerts.acknowledge
        self._history = ReloadHistory(self._clock, write, self._boot_mark)
        self._learning = LearnLog(self._clock, write, self._count_learned)
        self._policies = PolicyDesk(lambda: self.loaded, self.reload, self._clock, say)
        self._crew = Crew(slots, self._clock, self)
        self._measuring = Measuring(
            self._crew, self._sender, self._signer, self._store, self._attendants, self.status
        )
        self.measures = self._measuring.measures
        self._control = self._make_control(left.control if left else None)
        self._upgrading: asyncio.Task[None] | None = None
        self._ended: dict[int, tuple[bool, ProcessRecord]] = {}
        #: By row: workers that are gone, whether they are missed, and what may be recorded.
        self._written: dict[int, int] = {}
        #: By row: how many records of a process that has closed its stream are in the file.
        self._reloading = asyncio.Lock()

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, start all processes, and take commands.

        Raises:
            ConfigError: Something that the configuration names cannot be used.
            ConfigRefused: A worker cannot begin with it.
        """
        if self._left is not None:
            self._doors.take(self._left.doors, self._left.unsteered)
            self._audit.take(self._left.audit)
            if self._seat.authority is not None and self._left.signer is not None:
                self._signer.take(self._seat.authority, self._left.signer)
            self._crew.take(self._left.workers, self._left.next_number)
            self._tallies.clear(_OWN_ROW)
            self._audit.journal.clear(_OWN_ROW)
        wanted = [item.place for item in self.loaded.configuration.listeners]
        try:
            self._doors.keep(self._doors.open(self._doors.missing(wanted)), wanted)
        except TransportError as error:
            raise cannot_listen(self.loaded, error) from error
        self._attendants.listen()
        if self._left is None:
            await self._audit.start()
        self._sender.attach(_Socket(fileno=self._audit.connect(_OWN_ROW)))
        self._record("taken-over" if self._left else "started", diagnosis=self._diagnosis)
        if self._left is None or self._left.signer is None:
            await self._signer.change(self._seat.authority)
        if self._left is None:
            await self._crew.start()
        await self._control.start()
        self._store.start()
        self._attendants.start()
        self._phase = Phase.READY
        if self._left is not None:
            await self._renew(self._left.drain_timeout_s)
        self._record("ready", policy=self.policy)
        await self._policies.note(None, "start")
        await self._learning.follow(self.loaded.settings.policy)

    async def _renew(self, drain_timeout_s: float) -> None:
        """Put processes of this version in the places of those that were taken over."""
        async with self._reloading:
            self._audit.renew()
            await self._signer.renew()
            if await self._crew.renew(drain_timeout_s):
                self.say("all workers are of this version; the old ones drain")
            else:
                self.say("the new workers do not begin: the old ones stay, and what they work by")

    async def drain(self, timeout_s: float) -> None:
        """Let in nothing new; returns when all workers have ended, after ``timeout_s`` at most."""
        self._phase = Phase.DRAINING
        self._drain_ends = self._clock.wall() + timeout_s
        self._record("draining")
        self._doors.close()
        await self._crew.end(timeout_s)

    def begin_end(self) -> None:
        """Start no process any more: a signal may have gone to all of them."""
        self._crew.begin_end()

    def hurry(self) -> None:
        """End a drain now."""
        self._crew.hurry(0.0)

    async def stop(self) -> None:
        """End everything, in the order in which no record is lost; also after a failed start."""
        await self._control.stop()
        await self._attendants.close()
        await self._learning.close()
        self._doors.close()
        await self._crew.end(0.0)
        await self._signer.close()
        self._record("stopped")
        if not await self._sender.close(WORKER_GRACE_S):
            self.say(f"{self._sender.queued_bytes} bytes of records are lost")
        await self._audit.close()
        await self._store.close()
        os.close(self._tallies_fd)
        os.close(self._census_fd)
        self._usage.close()

    def reopen_log(self) -> None:
        """Open the log's path again, after a rotation."""
        self._audit.reopen()

    @property
    def policy(self) -> str:
        """SHA-256 of the policy in force."""
        return self.loaded.settings.policy.hash

    # -- reloading -----------------------------------------------------------------------------

    async def reload(self, by: str) -> list[str]:
        """Read all files again and put them in force on every worker, whole; return warnings.

        Args:
            by: Who asked for it, for the records.

        Raises:
            ConfigRefused: Something is wrong; what was in force stays in force everywhere.
        """
        async with self._reloading:
            # Who is starting takes part like the others.
            await self._crew.wait_started(WORKER_START_TIMEOUT_S / 2)
            findings = Findings()
            loaded = load(self.loaded.configuration.path, findings, self.loaded)
            opened: list[Door] = []
            wanted: list[Place] = []
            if loaded is not None:
                wanted = [item.place for item in loaded.configuration.listeners]
                try:
                    opened = self._doors.open(self._doors.missing(wanted))
                except TransportError as error:
                    findings.errors.append(cannot_listen(loaded, error))
            if loaded is not None and not findings.errors:
                findings.errors += await prepare_all(self._crew, self._doors, loaded, opened)
            if loaded is not None and not findings.errors:
                await change_authority(self._signer, self._crew, self._begun_with, loaded, findings)
            if loaded is None or findings.errors:
                for door in opened:
                    door.close()
                self._history.note_refused([str(error) for error in findings.errors], by)
                raise ConfigRefused(tuple(findings.errors))
            old, before = self.loaded, self.loaded.settings.policy
            self.loaded = loaded
            self._doors.keep(opened, wanted)
            await commit_all(self._crew, loaded, self.say)
            self._attendants.change(loaded.configuration)
            self._store.renew_password()
            self._history.note_done(before, loaded.settings.policy, by)
            await self._policies.note(old, by)
            await self._learning.follow(loaded.settings.policy)
            return [*loaded.warnings, *settings_for_restart(self._begun_with, loaded)]

    # -- what the crew asks (Lead) -------------------------------------------------------------

    def begin(self, slot: int, row: int, number: int) -> tuple[BeginWorker, list[int], list[int]]:
        """Return what a new worker is told and given, and which of it to close afterwards."""
        self._tallies.clear(row)
        self._census.clear(row)
        self._audit.journal.clear(row)
        stream = self._audit.connect(row)
        begin = BeginWorker(
            slot=slot,
            row=row,
            boot_mark=f"{self._boot_mark}-w{number:x}",
            path=str(self.loaded.configuration.path.absolute()),
            texts=self.loaded.texts,
            addresses=[str(door.place) for door in self._doors.doors],
            has_signer=self._signer.opened is not None,
        )
        made = [stream, self._signer.connect()] if begin.has_signer else [stream]
        return begin, [self._tallies_fd, self._census_fd, *made, *self._doors.of_slot(slot)], made

    def on_worker_ready(self, worker: Worker) -> None:
        """Say that a replacement works."""
        place = self._crew.places[worker.slot]
        if place.restarts:
            self.say(f"{worker.name} works again, pid {worker.child.pid}")

    def on_worker_ended(self, worker: Worker, how: str, *, is_missed: bool) -> None:
        """Record the end of a worker once its last records are in the file."""
        if is_missed:
            self.say(f"{worker.name} (pid {worker.child.pid}) ended: {how}; it is started again")
        self._census.clear(worker.row)
        self._measuring.retire(worker)
        self._ended[worker.row] = (
            is_missed,
            ProcessRecord(
                time=self._clock.wall(),
                process=worker.name,
                pid=worker.child.pid,
                cause="replaced: it began before a reload" if worker.is_outdated else how,
                restarts=self._crew.places[worker.slot].restarts + is_missed,
            ),
        )
        self._finish_row(worker.row)

    # -- the audit writer ----------------------------------------------------------------------

    def _on_stream_ended(self, row: int, records: int) -> None:
        """Take that all that a process has sent is in the file."""
        self._written[row] = records
        self._finish_row(row)
        if row in self._written and row != _OWN_ROW:
            # It is about to end. If not, its socket broke and it does not know: without records it
            # can serve nobody.
            asyncio.get_running_loop().call_later(WORKER_GRACE_S, self._end_unrecorded, row)

    def _finish_row(self, row: int) -> None:
        """Give a row back when its process has ended and all that it sent is in the file."""
        if row not in self._ended or row not in self._written:
            return  # of this process it never ends while anybody looks
        (is_missed, record), records = self._ended.pop(row), self._written.pop(row)
        tally = self._tallies.row(row)
        record.records_lost = tally[RECORDS] - records
        record.connections = tally[CONNECTIONS]
        if is_missed or record.records_lost or record.connections:
            self._sender.write(record)
        self._crew.free_rows.add(row)

    def _end_unrecorded(self, row: int) -> None:
        if row in self._written:
            for worker in self._crew.all:
                if worker.row == row:
                    worker.child.kill()

    def _on_audit_replaced(self, pid: int, cause: str) -> None:
        """Connect everybody to the new audit writer; it knows how far the last one came."""
        for worker in self._crew.all:
            stream = self._audit.connect(worker.row)
            worker.child.send(AttachAudit(), [stream])
            os.close(stream)
        self._sender.attach(_Socket(fileno=self._audit.connect(_OWN_ROW)))
        for row in list(self._ended):
            self._written[row] = self._audit.journal.records(row)
            self._finish_row(row)
        if not cause:
            return  # it was of an older version
        self._sender.write(
            ProcessRecord(
                time=self._clock.wall(),
                process="audit writer",
                pid=pid,
                cause=cause,
                restarts=self._audit.restarts,
            )
        )
        self.say(f"the audit writer works again, pid {self._audit.pid}")

    # -- the signer ----------------------------------------------------------------------------

    def _on_signer_replaced(self, pid: int, cause: str) -> None:
        """Connect everybody to the new signer; a cause says what became of the last one."""
        for worker in self._crew.all:
            ours = [self._signer.connect()] if self._signer.opened is not None else []
            worker.child.send(AttachSigner(), ours)
            for one in ours:
                os.close(one)
        if cause:
            time, restarts = self._clock.wall(), self._signer.restarts
            self._sender.write(
                ProcessRecord(time=time, process="signer", pid=pid, cause=cause, restarts=restarts)
            )
            self.say(f"the signer works again, pid {self._signer.pid}")

    # -- what commands ask (ControlTarget) -----------------------------------------------------

    def request_stop(self, timeout_s: float | None) -> None:
        """Begin to drain."""
        self._on_stop_requested(timeout_s)

    async def kill(self, identifiers: Sequence[str], by: str) -> list[str]:
        """End connections, and all connections of sessions; return what was there."""
        request = KillRequest(identifiers=list(identifiers), by=by)
        replies = await self._crew.ask(self._crew.answering, request)
        killed = {
            one for reply in replies if isinstance(reply, KilledReply) for one in reply.killed
        }
        return [one for one in identifiers if one in killed]

    async def upgrade(
        self, program: Sequence[str], drain_timeout_s: float | None, by: str
    ) -> list[str]:
        """Let another version of the program take over, in this same process.

        Raises:
            ConfigRefused: It cannot; nothing was changed.
        """
        if self._phase is not Phase.READY or self._reloading.locked() or self._upgrading:
            raise _refused("the gate is about something else (a reload, an upgrade, its end)")
        path = str(self.loaded.configuration.path.absolute())
        try:
            version = await preflight(program, path)
        except PreflightFailed as error:
            raise _refused(*error.causes) from error
        limit_s = self.loaded.configuration.limits.connection_total_s
        timeout_s = limit_s if drain_timeout_s is None else drain_timeout_s
        # After this command has its answer.
        self._upgrading = asyncio.get_running_loop().create_task(
            self._hand_over(list(program), timeout_s, by)
        )
        return [f"version {version} takes over"]

    async def _hand_over(self, program: list[str], drain_timeout_s: float, by: str) -> None:
        """Become the other program; go on if that fails."""
        cause = "a worker or a command is not ready for it"
        async with self._reloading:
            self._record("upgrading", causes=(f"asked by {by}",))
            control = await self._control.pause()
            await self._attendants.close()
            await self._store.close()
            if await self._sender.close(WORKER_GRACE_S):
                left = await self._describe(control, drain_timeout_s)
                if left is not None:
                    try:
                        start_program(program, self._seat.arguments, left)
                    except OSError as error:
                        cause = error.strerror or str(error)
            self._sender.attach(_Socket(fileno=self._audit.connect(_OWN_ROW)))
            self._control.resume()
            self._store.start()
            self._attendants.listen()
            self._attendants.start()
            self._upgrading = None
            self.say(f"the upgrade failed, nothing has changed: {cause}")

    async def _describe(self, control: int, drain_timeout_s: float) -> Handover | None:
        """Describe everything, at a moment when no process is on its way; None without one."""
        for _ in range(_DESCRIBE_ATTEMPTS):
            audit, workers = self._audit.leave(), self._crew.leave()
            is_whole, opened = not self._ended and self._signer.can_leave, self._signer.opened
            if audit is not None and workers is not None and is_whole:
                return Handover(
                    lock=self._seat.lock,
                    control=control,
                    tallies=self._tallies_fd,
                    census=self._census_fd,
                    journal=audit[0],
                    log=audit[1],
                    slots=self._doors.slots,
                    seed=self._doors.seed,
                    unsteered=self._doors.unsteered,
                    doors=self._doors.leave(),
                    audit=audit[2],
                    signer=self._signer.leave(),
                    authority=AuthorityLeft.of(opened) if opened is not None else None,
                    workers=workers,
                    next_number=self._crew.next_number,
                    drain_timeout_s=drain_timeout_s,
                )
            await asyncio.sleep(_DESCRIBE_AGAIN_S)
        return None

    async def answer_policy(self, order: AnyPolicyOrder, by: str) -> AnyPolicyAnswer:
        """Answer what is asked about the policy, or change it."""
        return await self._policies.answer(order, by)

    async def sessions(self) -> list[SessionView]:
        """Return every session."""
        return await ask_sessions(self._crew)

    async def connections(self) -> list[ConnectionView]:
        """Return every connection that has not ended."""
        return await ask_connections(self._crew)

    async def filters(self) -> list[FilterView]:
        """Return every installed filter."""
        return await ask_filters(self._crew)

    async def transfers(self) -> list[TransferView]:
        """Return every object that is held, the oldest first."""
        return await ask_transfers(self._crew)

    async def status(self) -> StatusView:
        """Return the gate as a whole."""
        views = await ask_status(self._crew)
        view = gather_status(views, self._doors.listeners(self.loaded.configuration.listeners))
        view.phase = view.phase if self._phase is Phase.READY else self._phase
        view.pid, view.boot, view.diagnosis = os.getpid(), self._boot_mark, self._diagnosis
        view.backend = view.backend or self._diagnosis.partition(":")[0]
        view.started, view.policy = self._started, self.policy
        view.records_queued_bytes += self._sender.queued_bytes
        view.records_lost += self._sender.lost
        view.store_failure = self._store.stored.failure
        view.memory_bytes += self._usage.resident_bytes()
        view.cpu_s += self._usage.cpu_s()
        view.reloads = self._history.view
        view.learning = learn_views(
            self.loaded.settings.policy, self._clock.wall(), view.learned_by
        )
        view.certificates = self.loaded.certificates
        view.drain_ends, view.authority = self._drain_ends, self._signer.chain
        view.alerts_open = self._attendants.alerts.open
        view.workers = worker_views(
            self._crew, self._audit, self._signer, self._store, self._attendants.posts, views
        )
        view.steering = self._doors.steering
        view.warnings = [
            *process_warnings(self._crew, self._audit, self._signer, views),
            *self._store.warnings(),
            *self._policies.warnings,
            *self._attendants.warnings(),
            *gather_warnings([(worker.name, one) for worker, one in views.items()]),
            *settings_for_restart(self._begun_with, self.loaded),
        ]
        return view

    # -- private -------------------------------------------------------------------------------

    def _make_sender(self, configuration: Configuration) -> RecordSender:
        return RecordSender(
            configuration.limits.record_queue_bytes_max,
            self._clock,
            self.say,
            self._tallies.row(_OWN_ROW),
            goes_on=configuration.when_log_full == "count",
        )

    def _make_control(self, listening: int | None) -> ControlServer:
        acts = OperatorLog(self._sender.write, self._clock)
        return ControlServer(self, self.loaded.configuration.control_path, acts, listening)

    async def _count_learned(self) -> Mapping[str, int]:
        return gather_learned((await ask_status(self._crew)).values())

    def _record(
        self,
        event: ServiceEvent,
        *,
        diagnosis: str = "",
        policy: str = "",
        causes: tuple[str, ...] = (),
    ) -> None:
        self._sender.write(
            ServiceRecord(
                time=self._clock.wall(),
                event=event,
                version=VERSION,
                boot=self._boot_mark,
                backend=self._diagnosis.partition(":")[0],
                diagnosis=diagnosis,
                policy=policy,
                causes=causes,
            )
        )
