"""The heartbeat for the service manager, which ends what does not beat.

``run`` lets the watched loop of its gate beat, ``supervise`` its own. The invariant: the service
manager is told that the gate is alive only by a loop that turns.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from sluicegate.limits import WATCHDOG_BEAT_S

from .machine import notify_service_manager

__all__ = ["ManagerHeartbeat", "beat_for_manager"]

_MICROSECONDS: Final = 1_000_000


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
