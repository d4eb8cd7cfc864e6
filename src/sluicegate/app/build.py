"""A gate, put together: the service with its port, recorder, spool and control socket.

``run`` makes one and keeps it alive, and so does each worker of several, which is given what they
share. The invariant: this is the only place that knows every part, and each part is given what it
needs.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.audit import Record, RecordSender, RecordWriter, ServiceRecord
from sluicegate.audit.alerts import Raising
from sluicegate.audit.records import ServiceEvent
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError, TransportError
from sluicegate.gate.census import Census
from sluicegate.gate.control import ControlServer
from sluicegate.gate.operator_log import OperatorLog
from sluicegate.gate.policy_orders import AnyPolicyAnswer, AnyPolicyOrder
from sluicegate.gate.service import FirewallService
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    Phase,
    SessionView,
    StatusView,
    TransferView,
)
from sluicegate.gate.watchdog import LoopWatchdog
from sluicegate.metrics import Series
from sluicegate.port import CompletionPort, Listener
from sluicegate.port.backend import RawSocket
from sluicegate.spool import SpoolStore
from sluicegate.version import VERSION

from .config import Configuration
from .confinement import Confinement
from .gate_leaves import GateLeaves
from .learning import LearnLog, learn_views
from .load import Loaded, load
from .machine import Usage
from .measuring import measure_gate
from .network_findings import NO_RIGHT_TO_ROUTE, lacks_right_to_route
from .passed_sockets import cannot_listen, listen
from .policies.desk import PolicyDesk
from .reload import ReloadHistory, settings_for_restart
from .shown_settings import show_filter_settings, show_scanner_settings

if TYPE_CHECKING:
    from .processes.alert_post import AlertPost

__all__ = ["Gate", "Share"]

_LISTENING: Final = frozenset({Phase.READY, Phase.REFUSING})


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker of several is given by the supervisor."""

    recorder: RecordSender
    boot_mark: str
    listen: Callable[[SocketAddress], Listener]
    """Takes the supervisor's listening socket for an address."""
    census: Census
    """Counts clients, and what is held, over all workers."""
    bind_datagrams: Callable[[SocketAddress], RawSocket]
    """Takes the supervisor's UDP socket for an address."""


class Gate:
    """One running gate; satisfies ``gate.control.ControlTarget``.

    Made on the port's thread, after ``app.run`` prepared the machine; ``start`` and ``stop`` once.
    """

    alerting: AlertPost | None = None
    """Where alerts are raised; set by whoever starts processes beside this one (``run``)."""
    authority: str = ""
    """Certificates of the authority that signs leaves, PEM; set by whoever starts the signer."""

    def __init__(
        self,
        loaded: Loaded,
        port: CompletionPort,
        *,
        diagnosis: str,
        say: Callable[[str], None],
        on_stop_requested: Callable[[float | None], None],
        share: Share | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            loaded: What to begin with.
            port: Everything of this gate completes on it.
            diagnosis: Why the port has the backend that it has.
            say: Shows a line to whoever started the gate.
            on_stop_requested: Called when a command asks for the end, with the time to wait.
            share: Of a worker of several; without it the gate is all in this process.

        Raises:
            ConfigError: The log cannot be opened.
        """
        configuration = loaded.configuration
        self.loaded = loaded
        #: What is in force.
        self.warnings: list[str] = []
        #: What the machine could not give; the warnings of the files are in ``loaded``.
        self.descriptors_max, self.confinement = 0, Confinement()
        self.watchdog: LoopWatchdog | None = None
        #: Set by whoever owns the process (``guard``).
        self._begun_with = loaded
        self._reloading = asyncio.Lock()
        self.port = port
        self._clock = clock = port.clock
        self._diagnosis = diagnosis
        self._say = say
        self._on_stop_requested = on_stop_requested
        self._boot_mark = share.boot_mark if share else f"{int(clock.wall()):x}"
        self._started = clock.wall()
        self._drain_ends = 0.0
        self._usage = Usage()
        self._log = None if share else _open_log(configuration, port, say)
        recorder = share.recorder if share else self._log
        assert recorder is not None, "one of both writes"
        self.recorder: RecordSender | RecordWriter = recorder
        self.spool = SpoolStore(
            port,
            configuration.spool_dir,
            configuration.limits,
            elsewhere=share.census if share else None,
        )
        self.leaves = GateLeaves(port)
        self.leaves.configure(configuration.authority)
        self.service = FirewallService(
            port,
            limits=configuration.limits,
            recorder=recorder,
            clock=clock,
            spool=self.spool,
            boot_mark=self._boot_mark,
            listen=share.listen if share else functools.partial(listen, port),
            census=share.census if share else None,
            bind_datagrams=share.bind_datagrams if share else None,
            leaves=self.leaves,
        )
        self._history = ReloadHistory(clock, recorder.write, self._boot_mark)
        self._learning = LearnLog(clock, recorder.write, self._count_learned)
        self._policies = None if share else self._make_policies()
        self._control = None if share else self._make_control()

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at the spool, start the service, listen for commands.

        Raises:
            ConfigError: Something that the configuration names cannot be used.
        """
        self._record("started", diagnosis=self._diagnosis)
        self.warnings += self.spool.check()
        try:
            self.service.network.open()
        except TransportError as error:
            self.warnings.append(f"{error}: changes of addresses are not noticed")
        try:
            await self.service.start(self.loaded.settings)
        except TransportError as error:
            raise cannot_listen(self.loaded, error) from error
        if self._control is not None:
            await self._control.start()
        self._record("ready", policy=self.service.policy.hash)
        if self._policies is not None:
            await self._policies.note(None, "start")
        if self._log is not None:
            await self._learning.follow(self.service.policy)

    async def drain(self, timeout_s: float) -> None:
        """Let in nothing new; wait for what is there, at most ``timeout_s``."""
        self._record("draining")
        self._drain_ends = self._clock.wall() + timeout_s
        await self.service.drain(timeout_s)

    async def stop(self) -> None:
        """End everything, in the order in which nothing is lost; also after a failed start."""
        await self._learning.close()
        if self._control is not None:
            await self._control.stop()
        await self.service.stop()
        self.leaves.close()
        self.service.network.close()
        self.spool.close()
        if self.watchdog is not None:
            self.watchdog.stop()
        self._record("stopped")
        if self._log is not None:
            await self._log.close()
        self._usage.close()

    def reopen_log(self) -> None:
        """Open the log's path again, after a rotation."""
        if self._log is not None:
            self._log.reopen()

    async def put_in_force(self, loaded: Loaded) -> None:
        """Change to other files, whole.

        Raises:
            TransportError: An address cannot be listened on; what was in force stays in force.
        """
        await self.service.apply(loaded.settings)
        self.leaves.configure(loaded.configuration.authority)
        self.loaded = loaded

    # -- what commands ask (ControlTarget) -------------------------------------------------------

    async def reload(self, by: str) -> list[str]:
        """Read all files again and put them in force, whole; return warnings.

        Args:
            by: Who asked for it, for the records.

        Raises:
            ConfigRefused: Something is wrong; what was in force stays in force.
        """
        async with self._reloading:
            return await self._reload(by)

    async def _reload(self, by: str) -> list[str]:
        findings = Findings()
        # Loading imports code and may start processes: clients do not wait for that.
        path, before = self.loaded.configuration.path, self.loaded
        loaded = await self.port.run_blocking(load, path, findings, before)
        if loaded is not None:
            try:
                await self.put_in_force(loaded)
            except TransportError as error:
                findings.errors.append(cannot_listen(loaded, error))
        if loaded is None or findings.errors:
            self._history.note_refused([str(error) for error in findings.errors], by)
            raise ConfigRefused(tuple(findings.errors))
        assert self.service.policy.hash == loaded.settings.policy.hash, "it is in force"
        self._history.note_done(before.settings.policy, self.service.policy, by)
        if self._policies is not None:
            await self._policies.note(before, by)
        await self._learning.follow(self.service.policy)
        if self.alerting is not None:
            self.alerting.change(loaded.configuration)
        return [*loaded.warnings, *settings_for_restart(self._begun_with, loaded)]

    async def kill(self, identifiers: Sequence[str], by: str) -> list[str]:
        """End connections, and all connections of sessions; return what was there."""
        return [one for one in identifiers if self.service.kill(one, f"killed by {by}")]

    async def alerts(self) -> list[Raising]:
        """Return what was raised, where a process raises alerts beside this one."""
        return await self._alert_post().alerts()

    async def acknowledge(self, identifiers: Sequence[str], by: str) -> list[str]:
        """Acknowledge alerts; return the identifiers of those that were open."""
        return await self._alert_post().acknowledge(identifiers, by)

    def _alert_post(self) -> AlertPost:
        if self.alerting is None:
            raise ConfigRefused((ConfigError("alerts", "this process raises none"),))
        return self.alerting

    async def upgrade(
        self, program: Sequence[str], drain_timeout_s: float | None, by: str
    ) -> list[str]:
        """Refuse: whoever takes over needs somebody who stays.

        Raises:
            ConfigRefused: Always.
        """
        del program, drain_timeout_s, by
        raise ConfigRefused(
            (
                ConfigError(
                    "sluicegate upgrade",
                    "everything runs in one process here",
                    "start the gate without --inline",
                ),
            )
        )

    async def answer_policy(self, order: AnyPolicyOrder, by: str) -> AnyPolicyAnswer:
        """Answer what is asked about the policy, or change it."""
        assert self._policies is not None, "the supervisor is asked where there are workers"
        return await self._policies.answer(order, by)

    def request_stop(self, timeout_s: float | None) -> None:
        """Begin to drain."""
        self._on_stop_requested(timeout_s)

    async def sessions(self) -> list[SessionView]:
        """Return every session."""
        return self.service.sessions()

    async def connections(self) -> list[ConnectionView]:
        """Return every connection that has not ended."""
        return self.service.connections()

    async def filters(self) -> list[FilterView]:
        """Return every installed filter."""
        return show_filter_settings(self.service.filters(), self.loaded.configuration)

    async def transfers(self) -> list[TransferView]:
        """Return every object that is held, the oldest first."""
        return self.service.transfers.views()

    async def measures(self) -> list[Series]:
        """Return what is measured."""
        told = self.alerting.measures() if self.alerting is not None else []
        return [*measure_gate(self), *told]

    async def status(self) -> StatusView:
        """Return the gate as a whole."""
        return self.view()

    def view(self) -> StatusView:
        """Return the gate as a whole, at this moment."""
        service, recorder = self.service, self.recorder
        held = self.spool.statistics()
        verdicts = service.transfers.verdicts.counts()
        phase = service.phase
        if phase is Phase.READY and not recorder.is_accepting:
            phase = Phase.REFUSING
        return StatusView(
            phase=phase,
            version=VERSION,
            pid=os.getpid(),
            boot=self._boot_mark,
            backend=self.port.backend.name,
            diagnosis=self._diagnosis,
            started=self._started,
            policy=service.policy.hash,
            listeners=service.listeners() if phase in _LISTENING else [],
            certificates=self.loaded.certificates,
            authority=self.authority,
            connections=service.connection_count,
            sessions=service.session_count,
            connections_allowed=service.allowed,
            connections_denied=service.denied,
            bytes_to_server=service.bytes_from_clients,
            bytes_to_client=service.bytes_from_servers,
            spool_bytes=held.bytes_held,
            spool_transfers=held.bodies,
            verdicts_kept=verdicts.kept,
            verdict_hits=verdicts.hits,
            verdict_misses=verdicts.misses,
            records_queued_bytes=recorder.queued_bytes,
            records_lost=recorder.lost,
            records_failure=recorder.failure,
            alerts_open=self.alerting.open if self.alerting is not None else 0,
            descriptors_max=self.descriptors_max,
            memory_bytes=self._usage.resident_bytes(),
            reloads=self._history.view,
            learning=learn_views(service.policy, self._clock.wall(), service.learned),
            learned=service.learned.total(),
            learned_by=dict(service.learned),
            revoked=service.revocation.revoked,
            revoking=service.revocation.pending,
            drain_ends=self._drain_ends,
            cpu_s=self._usage.cpu_s(),
            protections=self.confinement.in_force,
            protections_lacking=self.confinement.lacking,
            flood=service.flood.view(),
            scanners=show_scanner_settings(service.scanners.views(), self.loaded.configuration),
            leaves=self.leaves.view(),
            warnings=[
                *self._internal_errors(),
                *self._unrecorded(),
                *(self.watchdog.warnings() if self.watchdog is not None else ()),
                *self.warnings,
                *service.scanners.warnings(),
                *self.loaded.warnings,
                *(self._policies.warnings if self._policies is not None else ()),
                *([NO_RIGHT_TO_ROUTE] if lacks_right_to_route(service.policy) else ()),
                *settings_for_restart(self._begun_with, self.loaded),
            ],
        )

    # -- private -------------------------------------------------------------------------------

    def _make_policies(self) -> PolicyDesk:
        return PolicyDesk(lambda: self.loaded, self.reload, self._clock, self._say)

    def _make_control(self) -> ControlServer:
        acts = OperatorLog(self.recorder.write, self._clock)
        return ControlServer(self, self.loaded.configuration.control_path, acts)

    async def _count_learned(self) -> Mapping[str, int]:
        return self.service.learned

    def _unrecorded(self) -> list[str]:
        """Return a warning while traffic goes on that cannot be recorded."""
        recorder = self.recorder
        if not (recorder.goes_on and recorder.failure):
            return []
        return [f"records cannot be written ({recorder.failure}), and traffic goes on"]

    def _internal_errors(self) -> list[str]:
        """Return a warning if something failed by a bug of ours, which has ended what it broke."""
        count = self.port.statistics().unhandled_errors
        return [f"{count} internal errors; the gate's own output has them"] if count else []

    def _record(
        self,
        event: ServiceEvent,
        *,
        diagnosis: str = "",
        policy: str = "",
    ) -> None:
        if self._log is None:
            return  # the supervisor records what becomes of the gate
        record: Record = ServiceRecord(
            time=self._clock.wall(),
            event=event,
            version=VERSION,
            boot=self._boot_mark,
            backend=self.port.backend.name,
            diagnosis=diagnosis,
            policy=policy,
        )
        self._log.write(record)


def _open_log(
    configuration: Configuration, port: CompletionPort, say: Callable[[str], None]
) -> RecordWriter:
    goes_on = configuration.when_log_full == "count"
    return RecordWriter(port, configuration.log_path, say, goes_on=goes_on)
