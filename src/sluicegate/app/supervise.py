"""Running a gate of several processes: supervisor, workers, audit writer.

``cli run`` calls ``supervise``; ``run`` is its twin for a gate in one process. Signals mean the
same in both. The invariant: nothing listens before everything was checked, and whatever ends a
gate, its records are written and its folder is free for the next.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import Callable

from sluicegate import collector
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.port.diagnosis import diagnose

from .account import take_account
from .authority_files import open_authority_of
from .config import Configuration
from .early import load_early
from .heartbeat import beat_for_manager
from .load import Loaded, load
from .machine import (
    StateLock,
    make_directory,
    notify_service_manager,
    raise_descriptor_limit,
)
from .passed_sockets import accept_passed
from .processes.handover import Handover, say_preflight, take_handover, take_signals
from .processes.supervisor import Seat, Supervisor
from .wishes import Wishes

__all__ = ["check_takeover", "supervise"]


def supervise(path: pathlib.Path, say: Callable[[str], None], workers: int | None) -> None:
    """Run the gate that a configuration describes, until it is told to end.

    Args:
        path: Of ``sluicegate.toml``.
        say: Shows a line to whoever started it.
        workers: How many; None for what the configuration says.

    Raises:
        ConfigRefused: The files are wrong; nothing was started.
        ConfigError: The machine cannot give what they ask for.
        BackendUnavailable: The backend that was asked for by name is refused.
    """
    left = take_handover()
    # First: it may take the rights of the one who starts the gate.
    authority = left.authority.open() if left and left.authority else open_authority_of(path)
    take_account(path)
    loaded = _load(path)
    load_early()
    configuration = loaded.configuration
    accept_passed(one.address for one in configuration.listeners if not one.is_udp)
    make_directory(configuration.state_dir, '"state_dir" in [service]')
    make_directory(configuration.spool_dir, '"dir" in [spool]')
    diagnosis = str(diagnose(configuration.backend))
    lock = StateLock(configuration.lock_path) if left is None else StateLock.take(left.lock)
    options = () if workers is None else ("--workers", str(workers))
    arguments = ("run", "--config", str(path.absolute()), *options)
    seat = Seat(lock.descriptor, arguments, authority)
    try:
        life = _Life(loaded, _slots(configuration, workers, left), say)
        asyncio.run(life.live(diagnosis, seat, left))
    finally:
        lock.release()


def check_takeover(path: pathlib.Path) -> None:
    """Read the files as a program that is to take over, and tell who asks.

    Raises:
        ConfigRefused: They are wrong for this version.
    """
    _load(path)
    say_preflight()


def _load(path: pathlib.Path) -> Loaded:
    findings = Findings()
    loaded = load(path, findings)
    if loaded is None:
        raise ConfigRefused(tuple(findings.errors))
    return loaded


def _slots(configuration: Configuration, workers: int | None, left: Handover | None) -> int:
    """Return how many workers there are: after an upgrade as many as before."""
    if left is not None:
        return left.slots
    wanted = configuration.workers if workers is None else workers
    return len(os.sched_getaffinity(0)) if wanted == "auto" else wanted


class _Life:
    """One gate from start to end, and what moves it on."""

    def __init__(self, loaded: Loaded, slots: int, say: Callable[[str], None]) -> None:
        self._loaded = loaded
        self._slots = slots
        self._say = say

    async def live(self, diagnosis: str, seat: Seat, left: Handover | None) -> None:
        """Start or take over, serve until asked to stop, drain, stop."""
        limits = self._loaded.configuration.limits
        self._wishes = wishes = Wishes(limits.drain_timeout_s)
        raise_descriptor_limit(limits)  # what a worker cannot get it says itself
        self._supervisor = supervisor = Supervisor(
            self._loaded,
            self._slots,
            diagnosis=diagnosis,
            say=self._say,
            on_stop_requested=wishes.stop,
            seat=seat,
            left=left,
        )
        try:
            with wishes.taken_from_signals():
                take_signals()
                await supervisor.start()
                collector.quieten()
                await self._say_ready(diagnosis)
                async with asyncio.TaskGroup() as tasks:
                    beside = [
                        tasks.create_task(self._reload_when_asked()),
                        tasks.create_task(beat_for_manager()),
                    ]
                    await wishes.stop_asked.wait()
                    for task in beside:
                        task.cancel()
                supervisor.begin_end()
                notify_service_manager("STOPPING=1")
                await self._drain()
        finally:
            await supervisor.stop()
        self._say("stopped")

    async def _say_ready(self, diagnosis: str) -> None:
        status = await self._supervisor.status()
        for line in status.warnings:
            self._say(f"warning: {line}")
        self._say(f"backend {diagnosis}")
        for listener in status.listeners:
            self._say(f"listening on {listener.address} ({listener.name})")
        self._say(f"{self._slots} worker{'s' if self._slots > 1 else ''}: {status.steering}")
        self._say(f"ready, policy {status.policy[:12]}, pid {status.pid}")
        notify_service_manager("READY=1")

    async def _drain(self) -> None:
        wishes = self._wishes
        timeout_s = wishes.drain_timeout_s
        count = (await self._supervisor.status()).connections
        if wishes.is_hurried or not count or not timeout_s:
            return
        self._say(f"draining {count} connections, at most {timeout_s:g} s; a signal ends it now")
        wishes.on_hurried = self._supervisor.hurry
        await self._supervisor.drain(timeout_s)

    async def _reload_when_asked(self) -> None:
        while True:
            await self._wishes.reload_asked.wait()
            self._wishes.reload_asked.clear()
            self._supervisor.reopen_log()
            try:
                for line in await self._supervisor.reload("SIGHUP"):
                    self._say(f"warning: {line}")
            except ConfigRefused as error:
                for one in error.errors:
                    self._say(f"error: {one}")
                self._say("reload refused: what was in force stays in force")
            else:
                self._say(f"reloaded, policy {self._supervisor.policy[:12]}")
