"""The guard of a process with a loop: bounded memory, a watched loop, a heartbeat for others.

``run`` keeps one around a gate's life. The invariant: the service manager is told that the gate is
alive only by a loop that turns.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from typing import Final

from sluicegate.gate.watchdog import LoopWatchdog
from sluicegate.limits import WATCHDOG_BEAT_S, Limits
from sluicegate.port.loop import current_port

from .build import Gate
from .machine import notify_service_manager

__all__ = ["ManagerHeartbeat", "beat_for_manager", "bound_memory", "watch_loop"]

_MICROSECONDS: Final = 1_000_000


def bound_memory(limits: Limits) -> None:
    """Set ``memory_bytes_max`` on this process, unless it is bounded lower already.

    RLIMIT_DATA, not RLIMIT_AS: the address space of a process with threads is mostly reserved and
    never used (64 MiB per thread by glibc alone), so a bound on it would be none on memory.
    """
    wanted = limits.memory_bytes_max
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if wanted and (hard == resource.RLIM_INFINITY or hard > wanted):
        # Both: the soft limit alone would be any filter's to raise.
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


class ManagerHeartbeat:
    """Tells systemd that the loop turns, as often as it asks for (``WatchdogSec=``)."""

    def __init__(self) -> None:
        self._beats_between = 0
        self._beats = 0
        interval_s = _asked_interval_s()
        self._is_asked = interval_s > 0
        if self._is_asked:
            # Twice as often as it must be, as sd_watchdog_enabled(3) advises.
            self._beats_between = max(int(interval_s / 2 / WATCHDOG_BEAT_S), 1)

    def on_beat(self) -> None:
        """Take that the loop turns."""
        if self._is_asked:
            self._beats += 1
            if self._beats >= self._beats_between:
                self._beats = 0
                notify_service_manager("WATCHDOG=1")


async def beat_for_manager() -> None:
    """Tell the service manager that this loop turns, until cancelled; for a process without a port.

    The supervisor's word is for itself: workers that hang end themselves, and it replaces them.
    """
    heartbeat = ManagerHeartbeat()
    while True:
        heartbeat.on_beat()
        await asyncio.sleep(WATCHDOG_BEAT_S)


def _asked_interval_s() -> float:
    """Return the interval that the service manager gave this process, 0 when it gave none."""
    pid = os.environ.get("WATCHDOG_PID", "")
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / _MICROSECONDS


def watch_loop(gate: Gate, say: Callable[[str], None], on_beat: Callable[[], None]) -> None:
    """Let a watchdog look after the running loop, until the gate stops."""
    gate.watchdog = LoopWatchdog(
        current_port(),
        gate.recorder,
        lambda: gate.loaded.settings.filters,
        say=say,
        on_beat=on_beat,
    )
    gate.watchdog.start()
