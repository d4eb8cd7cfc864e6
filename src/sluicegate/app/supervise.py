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

from sluicegate.documents import ConfigRefused, Findings
from sluicegate.port.diagnosis import diagnose

from .account import take_account
from .guard import beat_for_manager
from .load import Loaded, load
from .machine import (
    StateLock,
    make_directory,
    notify_service_manager,
    quieten_collector,
    raise_descriptor_limit,
)
from .processes.supervisor import Supervisor
from .wishes import Wishes

__all__ = ["supervise"]


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
    take_account(path)
    findings = Findings()
    loaded = load(path, findings)
    if loaded is None:
        raise ConfigRefused(tuple(findings.errors))
    configuration = loaded.configuration
    make_directory(configuration.state_dir, '"state_dir" in [service]')
    make_directory(configuration.spool_dir, '"dir" in [spool]')
    wanted = configuration.workers if workers is None else workers
    slots = len(os.sched_getaffinity(0)) if wanted == "auto" else wanted
    diagnosis = str(diagnose(configuration.backend))
    lock = StateLock(configuration.lock_path)
    try:
        asyncio.run(_live(loaded, slots, diagnosis, say))
    finally:
        lock.release()


async def _live(loaded: Loaded, slots: int, diagnosis: str, say: Callable[[str], None]) -> None:
    """Start, serve until asked to stop, drain, stop."""
    wishes = Wishes(loaded.configuration.limits.drain_timeout_s)
    raise_descriptor_limit(loaded.configuration.limits)  # what a worker cannot get it says itself
    supervisor = Supervisor(
        loaded, slots, diagnosis=diagnosis, say=say, on_stop_requested=wishes.stop
    )
    try:
        with wishes.taken_from_signals():
            await supervisor.start()
            quieten_collector()
            await _say_ready(supervisor, diagnosis, say)
            async with asyncio.TaskGroup() as tasks:
                reloading = tasks.create_task(_reload_when_asked(supervisor, wishes, say))
                beating = tasks.create_task(beat_for_manager())
                await wishes.stop_asked.wait()
                reloading.cancel()
                beating.cancel()
            supervisor.begin_end()
            notify_service_manager("STOPPING=1")
            await _drain(supervisor, wishes, say)
    finally:
        await supervisor.stop()
    say("stopped")


async def _say_ready(supervisor: Supervisor, diagnosis: str, say: Callable[[str], None]) -> None:
    status = await supervisor.status()
    for line in status.warnings:
        say(f"warning: {line}")
    say(f"backend {diagnosis}")
    for listener in status.listeners:
        say(f"listening on {listener.address} ({listener.name})")
    workers = len(status.workers) - 1
    say(f"{workers} worker{'s' if workers != 1 else ''}: {status.steering}")
    say(f"ready, policy {status.policy[:12]}, pid {status.pid}")
    notify_service_manager("READY=1")


async def _drain(supervisor: Supervisor, wishes: Wishes, say: Callable[[str], None]) -> None:
    timeout_s = wishes.drain_timeout_s
    count = (await supervisor.status()).connections
    if wishes.is_hurried or not count or not timeout_s:
        return
    say(f"draining {count} connections, at most {timeout_s:g} s; a signal ends it now")
    wishes.on_hurried = supervisor.hurry
    await supervisor.drain(timeout_s)


async def _reload_when_asked(
    supervisor: Supervisor, wishes: Wishes, say: Callable[[str], None]
) -> None:
    while True:
        await wishes.reload_asked.wait()
        wishes.reload_asked.clear()
        supervisor.reopen_log()
        try:
            for line in await supervisor.reload():
                say(f"warning: {line}")
        except ConfigRefused as error:
            for one in error.errors:
                say(f"error: {one}")
            say("reload refused: what was in force stays in force")
        else:
            say(f"reloaded, policy {supervisor.policy[:12]}")
