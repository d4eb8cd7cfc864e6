"""Staying: what is left of a demonstration that was played, for people to look at.

``live`` calls it. The invariant: it ends with the first signal, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from sluicegate.app.build import Gate
from sluicegate.app.processes.alert_post import AlertPost
from sluicegate.app.processes.child_post import Upkeep
from sluicegate.app.processes.console_post import ConsolePost
from sluicegate.app.processes.store_post import StorePost
from sluicegate.clock import Clock

__all__ = ["stay"]


class _Log:
    """The log of a gate of one process; satisfies ``LogKeeper``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def reopen(self) -> None:
        """Open the path again."""
        self._gate.reopen_log()

    def hold(self, cause: str) -> None:
        """Refuse to hold: a demonstration's log is never so long that it must wait."""
        assert not cause, cause


async def stay(gate: Gate, clock: Clock, say: Callable[[str], None]) -> None:
    """Keep a gate, a console that shows its records, and its alerts, until SIGINT or SIGTERM.

    Raises:
        ConfigError: The console lacks a library, or its address cannot be opened.
    """
    configuration = gate.loaded.configuration
    upkeep = Upkeep(gate.recorder.write, clock, say)
    store = StorePost(configuration, upkeep, _Log(gate))
    console = ConsolePost(configuration, gate, upkeep)
    gate.alerting = alerts = AlertPost(configuration, gate, upkeep, since=0.0)
    console.listen()
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    try:
        store.start()
        alerts.start()
        console.start()
        say("gate, servers and console stay until Ctrl-C (--exit ends at once)")
        await over.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await console.close()
        await alerts.close()
        await store.close()
