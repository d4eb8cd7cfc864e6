"""Counters: how near every alert is to being raised, for each value that it counts apart.

``engine`` has one for each alert. The invariant: at most ``ALERT_KEYS_MAX`` values are known; of
more, the one that was silent longest is forgotten, and that is said.
"""

from __future__ import annotations

import msgspec

from sluicegate.alert_limits import ALERT_KEYS_MAX

from .recent_events import RecentEvents

__all__ = ["Counter", "Counters"]


class Counter(msgspec.Struct):
    """One value's."""

    recent: RecentEvents
    raised: float = 0.0
    """When the alert was raised last for it, in seconds since the Unix epoch; 0: never."""


class Counters(msgspec.Struct):
    """One alert's; kept over a restart."""

    values: dict[str, Counter] = {}
    """The one that was silent longest first."""
    minute: int = 0
    """Since the Unix epoch, in which ``raised`` counts."""
    raised: int = 0
    """How often the alert was raised in that minute, for whatever value."""
    forgotten: int = 0
    """Values that were forgotten for others."""

    def of(self, value: str) -> tuple[Counter, bool]:
        """Return a value's counter, and whether another value was forgotten for it."""
        found = self.values.pop(value, None)
        if found is not None:
            self.values[value] = found
            return found, False
        is_full = len(self.values) >= ALERT_KEYS_MAX
        if is_full:
            del self.values[next(iter(self.values))]
            self.forgotten += 1
        made = self.values[value] = Counter(RecentEvents())
        return made, is_full
