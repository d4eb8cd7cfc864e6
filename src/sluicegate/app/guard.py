"""The guard of a process with a port: bounded memory, a watched loop.

``run`` and each worker keep one around a gate's life. The invariant: memory, and how long the loop
stands still, are bounded for whatever filters do.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

from sluicegate.gate.watchdog import LoopWatchdog
from sluicegate.limits import Limits
from sluicegate.port.loop import current_port

from .build import Gate

__all__ = ["bound_memory", "watch_loop"]


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
