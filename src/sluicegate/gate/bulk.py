"""Bulk: what a direction of the pump knows of itself once it filled a receive buffer.

Most connections never fill one and have none of this. The invariant: a direction becomes bulky by
what it did within one turn, so that a slow sum of small things stays interactive.
"""

from __future__ import annotations

import enum
from typing import Final

from .splice import SpliceFlow

__all__ = ["Bulk", "Flow"]

_FULL_SLOTS_TO_BULK: Final = 4
"""Full small slots in one turn that make a direction bulky."""


class Flow(enum.Enum):
    """How a direction receives."""

    INTERACTIVE = "interactive"
    BULK = "bulk"
    SPLICED = "spliced"


class Bulk:
    """What a direction knows of itself once it filled a slot."""

    __slots__ = ("_full_at", "_full_count", "bytes_spliced", "flow", "splice")

    def __init__(self) -> None:
        self.flow = Flow.INTERACTIVE
        self.splice: SpliceFlow | None = None
        self.bytes_spliced = 0
        self._full_at = -1.0
        self._full_count = 0

    def is_proven(self, now: float) -> bool:
        """Count a full slot; True for the one that makes the direction bulky."""
        if self._full_at != now:
            self._full_at = now
            self._full_count = 0
        self._full_count += 1
        return self._full_count == _FULL_SLOTS_TO_BULK
