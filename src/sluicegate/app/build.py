"""A gate, put together: the service with its port, recorder, spool and control socket.

``run`` makes one and keeps it alive; commands reach it through the control socket. The invariant:
this is the only place that knows every part, and each part is given what it needs.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from typing import Final

from sluicegate.audit import Record, RecordWriter, ServiceRecord
from sluicegate.audit.records import ServiceEvent
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError, TransportError
from sluicegate.gate.control import ControlServer
from sluicegate.gate.service import FirewallService
from sluicegate.gate.views import ConnectionView, FilterView, Phase, SessionView, StatusView
from sluicegate.gate.watchdog import LoopWatchdog
from sluicegate.port import CompletionPort
from sluicegate.spool import SpoolStore

from .load import Loaded, load
from .machine import resident_bytes
from .reload import settings_for_restart

__all__ = ["VERSION", "Gate"]

_LISTENING: Final = frozenset({Phase.READY, Phase.REFUSING})

VERSION: Final = importlib.metadata.version("sluicegate")


class Gate:
    """One running gate; satisfies ``gate.control.ControlTarget``.

    Made on the port's thread, after ``app.run`` prepared the machine; ``start`` and ``stop`` once.
    """

    def __init__(
        self,
        loaded: Loaded,
        port: CompletionPort,
        *,
        diagnosis: str,
        say: Callable[[str], None],
        on_stop_requested: Callable[[], None],
    ) -> None:
        """Put the parts together.

        Args:
            loaded: What to begin with.
            port: Everything of this gate completes on it.
            diagnosis: Why the port has the backend that it has.
            say: Shows a line to whoever started the gate.
            on_stop_requested: Called when a command asks for the end.

        Raises:
            ConfigError: The log cannot be opened.
        """
        configuration = loaded.configuration
        self.loaded = loaded
        #: What is in force.
        self.warnings: list[str] = []
        #: What the machine could not give; the warnings of the files are in ``loaded``.
        self.descriptors_max = 0
        self.watchdog: LoopWatchdog | None = None
        #: Set by whoever owns the process (``guard``).
        self._begun_with = loaded
        self._port = port
        self._clock = clock = port.clock
        self._diagnosis = diagnosis
        self._say = say
        self._on_stop_requested = on_stop_requested
        self._boot_mark = f"{int(clock.wall()):x}"
        self._started = clock.wall()
        self.recorder = RecordWriter(port, configuration.log_path, say)
        self.spool = SpoolStore(port, configuration.spool_dir, configuration.limits)
        self.service = FirewallService(
            port,
            limits=configuration.limits,
            recorder=self.recorder,
            clock=clock,
            spool=self.spool,
            boot_mark=self._boot_mark,
        )
        self._control = ControlServer(self, configuration.control_path)

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at the spool, start the service, listen for commands.

        Raises:
            ConfigError: Something that the configuration names cannot be used.
        """
        self._record("started", diagnosis=self._diagnosis)
        self.warnings += self.spool.check()
        try:
            await self.service.start(self.loaded.settings)
        except TransportError as error:
            raise _cannot_listen(self.loaded, error) from error
        await self._control.start()
        self._record("ready", policy=self.service.policy.hash)

    async def drain(self, timeout_s: float) -> None:
        """Let in nothing new; wait for what is there, at most ``timeout_s``."""
        self._record("draining")
        await self.service.drain(timeout_s)

    async def stop(self) -> None:
        """End everything, in the order in which nothing is lost; also after a failed start."""
        await self._control.stop()
        await self.service.stop()
        self.spool.close()
        if self.watchdog is not None:
            self.watchdog.stop()
        self._record("stopped")
        await self.recorder.close()

    def reopen_log(self) -> None:
        """Open the log's path again, after a rotation."""
        self.recorder.reopen()

    # -- what commands ask (ControlTarget) -------------------------------------------------------

    async def reload(self) -> list[str]:
        """Read all files again and put them in force, whole; return warnings.

        Raises:
            ConfigRefused: Something is wrong; what was in force stays in force.
        """
        findings = Findings()
        loaded = load(self.loaded.configuration.path, findings, self.loaded)
        if loaded is not None:
            try:
                await self.service.apply(loaded.settings)
            except TransportError as error:
                findings.errors.append(_cannot_listen(loaded, error))
        if loaded is None or findings.errors:
            causes = tuple(str(error) for error in findings.errors)
            self._record("reload-refused", causes=causes)
            raise ConfigRefused(tuple(findings.errors))
        self.loaded = loaded
        self._record("reloaded", policy=self.service.policy.hash)
        return [*loaded.warnings, *settings_for_restart(self._begun_with, loaded)]

    def request_stop(self) -> None:
        """Begin to drain."""
        self._on_stop_requested()

    def sessions(self) -> list[SessionView]:
        """Return every session."""
        return self.service.sessions()

    def connections(self) -> list[ConnectionView]:
        """Return every connection that has not ended."""
        return self.service.connections()

    def filters(self) -> list[FilterView]:
        """Return every installed filter."""
        return self.service.filters()

    def status(self) -> StatusView:
        """Return the gate as a whole."""
        service, recorder = self.service, self.recorder
        held = self.spool.statistics()
        phase = service.phase
        if phase is Phase.READY and not recorder.is_accepting:
            phase = Phase.REFUSING
        return StatusView(
            phase=phase,
            version=VERSION,
            pid=os.getpid(),
            boot=self._boot_mark,
            backend=self._port.backend.name,
            diagnosis=self._diagnosis,
            started=self._started,
            policy=service.policy.hash,
            listeners=service.listeners() if phase in _LISTENING else [],
            connections=service.connection_count,
            sessions=service.session_count,
            connections_allowed=service.allowed,
            connections_denied=service.denied,
            bytes_to_server=service.bytes_from_clients,
            bytes_to_client=service.bytes_from_servers,
            spool_bytes=held.bytes_held,
            spool_transfers=held.bodies,
            records_queued_bytes=recorder.queued_bytes,
            records_lost=recorder.lost,
            records_failure=recorder.failure,
            descriptors_max=self.descriptors_max,
            memory_bytes=resident_bytes(),
            warnings=[
                *self._internal_errors(),
                *(self.watchdog.warnings() if self.watchdog is not None else ()),
                *self.warnings,
                *self.loaded.warnings,
                *settings_for_restart(self._begun_with, self.loaded),
            ],
        )

    # -- private -------------------------------------------------------------------------------

    def _internal_errors(self) -> list[str]:
        """Return a warning if something failed that belongs to no connection: a bug of ours."""
        count = self._port.statistics().unhandled_errors
        return [f"{count} internal errors; the gate's own output has them"] if count else []

    def _record(
        self,
        event: ServiceEvent,
        *,
        diagnosis: str = "",
        policy: str = "",
        causes: tuple[str, ...] = (),
    ) -> None:
        record: Record = ServiceRecord(
            time=self._clock.wall(),
            event=event,
            version=VERSION,
            boot=self._boot_mark,
            backend=self._port.backend.name,
            diagnosis=diagnosis,
            policy=policy,
            causes=causes,
        )
        self.recorder.write(record)


def _cannot_listen(loaded: Loaded, error: TransportError) -> ConfigError:
    return ConfigError(
        loaded.configuration.document.where(("listener",)),
        str(error),
        "is the port taken (ss -ltnp), or below 1024 and the gate not permitted to bind it?",
    )
