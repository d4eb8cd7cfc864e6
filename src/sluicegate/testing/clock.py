"""Time that stands still until a test moves it.

Tests hand ``ManualClock`` to whatever asks for a ``Clock``; the simulated port and network run on
``VirtualClock``, which also holds what will happen. The invariant: events run in the order of their
times, those of equal time in the order in which they were made, and time never goes back.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["ManualClock", "ScheduledEvent", "VirtualClock"]


class ManualClock:
    """A clock that moves by ``advance`` only."""

    __slots__ = ("_now", "_wall_offset")

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_750_000_000.0) -> None:
        self._now = monotonic
        self._wall_offset = wall - monotonic

    def monotonic(self) -> float:
        """Return the virtual seconds."""
        return self._now

    def wall(self) -> float:
        """Return the virtual seconds since the epoch."""
        return self._now + self._wall_offset

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds``."""
        self.advance_to(self._now + seconds)

    def advance_to(self, when: float) -> None:
        """Move on to ``when`` on the monotonic clock."""
        assert when >= self._now, "time does not go back"
        self._now = when


class ScheduledEvent:
    """One thing that will happen on a virtual clock; ``cancel`` prevents it."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when = when
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Prevent it; harmless afterwards."""
        self.action = None


class VirtualClock(ManualClock):
    """A manual clock with a schedule of what the simulated world will do."""

    __slots__ = ("_heap", "_order")

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_750_000_000.0) -> None:
        super().__init__(monotonic, wall)
        self._heap: list[tuple[float, int, ScheduledEvent]] = []
        self._order = itertools.count().__next__

    def call_at(self, when: float, action: Callable[[], None]) -> ScheduledEvent:
        """Let ``action`` happen at ``when``, at the earliest with the next ``run_due``."""
        event = ScheduledEvent(max(when, self._now), action)
        heapq.heappush(self._heap, (event.when, self._order(), event))
        return event

    def call_after(self, delay_s: float, action: Callable[[], None]) -> ScheduledEvent:
        """Let ``action`` happen in ``delay_s`` seconds."""
        return self.call_at(self._now + delay_s, action)

    def next_event(self) -> float | None:
        """Return when the next event is due; None when nothing is scheduled."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_due(self) -> int:
        """Run every event due by now and return how many ran; new ones due now run too."""
        count = 0
        while (when := self.next_event()) is not None and when <= self._now:
            event = heapq.heappop(self._heap)[2]
            action, event.action = event.action, None
            if action is not None:
                count += 1
                action()
        return count
