"""Running a gate in one process: from the files to a service, until a signal ends it.

``cli run --inline`` calls ``run_gate``; ``supervise`` is its twin for a gate of several processes,
and ``wishes`` says what signals mean to both. The invariant: nothing listens before everything was
checked, and whatever ends a gate, its records are written and its folder is free for the next.
"""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Final

from sluicegate import collector
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.port.diagnosis import diagnose
from sluicegate.port.loop import current_port, run
from sluicegate.sandbox.wire import WireSocket

from .account import kept_capabilities, take_account
from .alerts_config import AlertSettings
from .authority_files import OpenAuthority, open_authority_of
from .build import Gate
from .confinement import Confinement, confine_process, refuse_new_rings
from .draining import Draining
from .early import load_early
from .guard import bound_memory, watch_loop
from .heartbeat import ManagerHeartbeat
from .load import Loaded, load
from .machine import (
    StateLock,
    make_directory,
    notify_service_manager,
    raise_descriptor_limit,
)
from .passed_sockets import accept_passed
from .processes.attendants import Attendants
from .processes.child_post import Upkeep
from .processes.signer_post import SignerPost
from .wishes import Wishes

__all__ = ["run_gate"]


def run_gate(path: pathlib.Path, say: Callable[[str], None]) -> None:
    """Run the gate that a configuration describes, until it is told to end.

    Args:
        path: Of ``sluicegate.toml``.
        say: Shows a line to whoever started it.

    Raises:
        ConfigRefused: The files are wrong; nothing was started.
        ConfigError: The machine cannot give what they ask for.
        BackendUnavailable: The backend that was asked for by name is refused.
    """
    # First: it may take the rights of the one who starts the gate.
    authority = open_authority_of(path)
    take_account(path)
    findings = Findings()
    loaded = load(path, findings)
    if loaded is None:
        raise ConfigRefused(tuple(findings.errors))
    load_early()
    configuration = loaded.configuration
    accept_passed(one.address for one in configuration.listeners if not one.is_udp)
    make_directory(configuration.state_dir, '"state_dir" in [service]')
    make_directory(configuration.spool_dir, '"dir" in [spool]')
    lock = StateLock(configuration.lock_path)
    try:
        diagnosis = str(diagnose(configuration.backend))
        bound_memory(configuration.limits)
        writable = configuration.state_dir, configuration.spool_dir, configuration.log_path.parent
        confinement = confine_process(
            [*writable, *configuration.writable],
            capabilities=kept_capabilities(
                configuration, loaded.settings.policy.network_relations.has_routes
            ),
            has_sandbox=configuration.has_sandbox,
        )
        life = _Life(loaded, diagnosis, confinement, say, authority)
        run(life.live(), backend=configuration.backend, limits=configuration.limits)
    finally:
        lock.release()


class _Life:
    """One gate from start to end, and the signals that move it on."""

    def __init__(
        self,
        loaded: Loaded,
        diagnosis: str,
        confinement: Confinement,
        say: Callable[[str], None],
        authority: OpenAuthority | None,
    ) -> None:
        self._authority = authority
        self._loaded = loaded
        self._confinement = confinement
        self._limits = loaded.configuration.limits
        self._diagnosis = diagnosis
        self._say = say
        self._wishes = Wishes(self._limits.drain_timeout_s)

    async def live(self) -> None:
        """Start, serve until asked to stop, drain, stop."""
        gate = Gate(
            self._loaded,
            current_port(),
            diagnosis=self._diagnosis,
            say=self._say,
            on_stop_requested=self._wishes.stop,
        )
        signer = SignerPost(
            SystemClock(),
            self._say,
            lambda _, __: gate.leaves.attach(WireSocket(fileno=signer.connect())),
        )
        write, configuration = gate.recorder.write, self._loaded.configuration
        if not configuration.alerts.is_asked_for:
            # One process is what is wanted here: another one only for who has asked for it.
            configuration = dataclasses.replace(configuration, alerts=AlertSettings())
        if names := ", ".join(one.name for one in configuration.sinks):
            gate.warnings.append(f"with --inline nothing is sent to: {names}; run it with workers")
        upkeep = Upkeep(write, SystemClock(), self._say)
        attendants = Attendants(configuration, gate, upkeep)
        gate.alerting = attendants.alerts
        try:
            with self._wishes.taken_from_signals():
                attendants.listen()
                await signer.change(self._authority)
                gate.authority = signer.chain
                if self._authority is not None:
                    gate.warnings.append(_KEY_IS_NEAR)
                await self._start(gate)
                attendants.start()
                async with asyncio.TaskGroup() as tasks:
                    reloading = tasks.create_task(self._reload_when_asked(gate))
                    await self._wishes.stop_asked.wait()
                    reloading.cancel()
                notify_service_manager("STOPPING=1")
                await self._drain_gate(gate)
        finally:
            await attendants.close()
            await gate.stop()
            await signer.close()
        self._say("stopped")

    async def _start(self, gate: Gate) -> None:
        gate.descriptors_max, warning = raise_descriptor_limit(self._limits)
        if warning:
            gate.warnings.append(warning)
        if self._loaded.configuration.has_sandbox:
            refuse_new_rings(self._confinement)
        gate.confinement = self._confinement
        await gate.start()
        watch_loop(gate, self._say, ManagerHeartbeat().on_beat)
        collector.quieten()
        status = gate.view()
        for line in status.warnings:
            self._say(f"warning: {line}")
        self._say(f"backend {status.diagnosis}")
        for listener in status.listeners:
            self._say(f"listening on {listener.address} ({listener.name})")
        self._say(f"ready, policy {status.policy[:12]}, pid {status.pid}")
        notify_service_manager("READY=1")

    async def _drain_gate(self, gate: Gate) -> None:
        timeout_s = self._wishes.drain_timeout_s
        count = gate.service.connection_count
        if self._wishes.is_hurried or not count or not timeout_s:
            return
        self._say(f"draining {count} connections, at most {timeout_s:g} s; a signal ends it now")
        draining = Draining()
        self._wishes.on_hurried = lambda: draining.end_in(0)
        await draining.wait(gate.drain(timeout_s), timeout_s)

    async def _reload_when_asked(self, gate: Gate) -> None:
        while True:
            await self._wishes.reload_asked.wait()
            self._wishes.reload_asked.clear()
            gate.reopen_log()
            try:
                for line in await gate.reload("SIGHUP"):
                    self._say(f"warning: {line}")
            except ConfigRefused as error:
                for one in error.errors:
                    self._say(f"error: {one}")
                self._say("reload refused: what was in force stays in force")
            else:
                self._say(f"reloaded, policy {gate.service.policy.hash[:12]}")


_KEY_IS_NEAR: Final = (
    "everything runs in one process: filters are within reach of the CA's key (leave --inline out)"
)
