"""Backoff: when a process that has ended is started again.

``child`` asks it. The invariant: a process that has worked for a while is replaced at once; one
that keeps ending soon after its start is tried ever more seldom, and never given up.
"""

from __future__ import annotations

from sluicegate.process_limits import RESTART_CALM_S, RESTART_DELAY_MAX_S, RESTART_DELAY_MIN_S

__all__ = ["Backoff"]


class Backoff:
    """The history of one place that a process fills."""

    __slots__ = ("_delay_s", "_started")

    def __init__(self) -> None:
        self._delay_s = 0.0
        self._started = 0.0

    def on_started(self, now: float) -> None:
        """Take that a process was started."""
        self._started = now

    def on_ended(self, now: float) -> float:
        """Take that it has ended; return after how long the next is to be started."""
        if now - self._started >= RESTART_CALM_S:
            self._delay_s = 0.0
            return 0.0
        delay_s = self._delay_s
        self._delay_s = min(max(2 * delay_s, RESTART_DELAY_MIN_S), RESTART_DELAY_MAX_S)
        return delay_s

    @property
    def is_holding_back(self) -> bool:
        """Whether processes have ended soon after their starts, more than once."""
        return self._delay_s > RESTART_DELAY_MIN_S
