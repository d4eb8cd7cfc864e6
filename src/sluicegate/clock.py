"""The one place that reads the clock.

Everything above takes a ``Clock`` as an argument, so tests and the simulated port run on virtual
time. The invariant: no other module calls ``time.monotonic`` or ``time.time`` (a test in
``tests/repo`` walks the tree).
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the port and the gate ask for time."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back; the origin has no meaning."""
        ...

    def wall(self) -> float:
        """Return seconds since the Unix epoch, for records that people read."""
        ...


class SystemClock:
    """The operating system's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - the one place that may
    wall = staticmethod(time.time)  # noqa: TID251 - the one place that may
