"""Buckets: how often somebody may ask, by address or by name.

The invariant: what is kept is bounded, and whoever asks too often is refused without any work.
"""

from __future__ import annotations

from collections import OrderedDict

from sluicegate.clock import Clock
from sluicegate.console_limits import CONSOLE_BUCKETS_MAX

__all__ = ["Buckets"]


class Buckets:
    """Token buckets, one for each key."""

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> bool:
        """Take one; False: there is none left."""
        now = self._clock.monotonic()
        level, since = self._levels.pop(key, (float(self._burst), now))
        level = min(level + (now - since) * self._per_second, float(self._burst))
        has_one = level >= 1
        self._levels[key] = (level - 1 if has_one else level, now)
        while len(self._levels) > CONSOLE_BUCKETS_MAX:
            self._levels.popitem(last=False)
        return has_one

    def give_back(self, key: str) -> None:
        """Forget that a key has taken any: it proved to be who it should."""
        self._levels.pop(key, None)
