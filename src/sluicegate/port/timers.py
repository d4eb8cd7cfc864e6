"""Deadlines on the port's clock.

Two shapes: ``Timers.call_after`` for single timers (a heap), and ``DeadlineWheel`` for the many
deadlines of connections, where a renewal costs one attribute store. The invariant: a timer
never fires early, never inside the call that set it, and never after ``cancel``.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final, Protocol

from sluicegate.clock import Clock

__all__ = ["DeadlineWheel", "Expiring", "Timer", "Timers"]


_SWEPT_AT_MIN: Final = 256
"""Fewer timers are not worth a look at each."""


class Timer:
    """One pending call; ``cancel`` forgets it."""

    __slots__ = ("_action", "when")

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when = when
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget the call; harmless afterwards."""
        self._action = None

    @property
    def is_pending(self) -> bool:
        """Whether it will still fire."""
        return self._action is not None

    def fire(self) -> None:
        """Run the call once (the port's timers only)."""
        action, self._action = self._action, None
        if action is not None:
            action()


class Expiring(Protocol):
    """Something with a deadline that may move."""

    wheel_slot: int
    #: Where the wheel keeps it; -1 while it is not on the wheel. The wheel's alone.

    def due(self) -> float:
        """Return when the deadline is, on the port's monotonic clock, as things stand now."""
        ...

    def on_expired(self) -> None:
        """Take the end of the time; the object is off the wheel."""
        ...


class DeadlineWheel:
    """The deadlines of many objects, by whole ticks: cheap to add, renew and remove.

    A connection that is busy does nothing here: when its tick comes, ``due`` tells that the
    deadline has moved, and it is put on a later tick. A closed one is removed at once, so nothing
    is kept alive by a stale entry.
    """

    __slots__ = ("_armed", "_clock", "_ticks", "_timer", "_timers", "tick_s")

    def __init__(self, timers: Timers, clock: Clock, tick_s: float = 1.0) -> None:
        self.tick_s = tick_s
        self._timers = timers
        self._clock = clock
        self._ticks: dict[int, dict[Expiring, None]] = {}
        #: In the order in which they were added: one seed of a simulation is one run.
        self._timer: Timer | None = None
        self._armed = 0

    def __len__(self) -> int:
        return sum(len(items) for items in self._ticks.values())

    def add(self, item: Expiring, when: float) -> None:
        """Put an object on the wheel, or move it to an earlier deadline."""
        slot = int(when / self.tick_s) + 1
        before = item.wheel_slot
        if before == slot:
            return
        if before >= 0:
            self.remove(item)
        item.wheel_slot = slot
        items = self._ticks.get(slot)
        if items is None:
            self._ticks[slot] = {item: None}
            if self._timer is None or slot < self._armed:
                self._arm(slot)
        else:
            items[item] = None

    def hasten(self, item: Expiring, when: float) -> None:
        """Move an object to an earlier deadline; one that is not earlier costs nothing."""
        if int(when / self.tick_s) + 1 < item.wheel_slot:
            self.add(item, when)

    def remove(self, item: Expiring) -> None:
        """Take an object off; harmless when it is not on the wheel."""
        slot = item.wheel_slot
        if slot >= 0:
            item.wheel_slot = -1
            items = self._ticks[slot]
            del items[item]
            if not items and slot != self._armed:
                del self._ticks[slot]

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = slot
        self._timer = self._timers.call_at(slot * self.tick_s, self._on_tick)

    def _on_tick(self) -> None:
        now = self._clock.monotonic()
        last = int(now / self.tick_s)
        self._timer = None
        try:
            for slot in sorted(slot for slot in self._ticks if slot <= last):
                self._expire(slot, now)
        finally:
            # Also behind a failure: the others' deadlines come with the next turn.
            if self._ticks:
                self._arm(min(self._ticks))

    def _expire(self, slot: int, now: float) -> None:
        """Let end what is due; an end may take others off, also out of this slot."""
        items = self._ticks.get(slot, {})
        while items:
            item = next(iter(items))
            del items[item]
            item.wheel_slot = -1
            due = item.due()
            if due <= now:
                item.on_expired()
            else:
                self.add(item, due)
        if self._ticks.get(slot) is items:
            del self._ticks[slot]


class Timers:
    """All timers of one port; the port asks for the next deadline and runs what is due."""

    __slots__ = ("_clock", "_heap", "_order", "_swept_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count().__next__
        self._swept_at = _SWEPT_AT_MIN
        #: The length at which the heap is rid of cancelled timers, which else stay until due.

    def __len__(self) -> int:
        return sum(1 for _, _, timer in self._heap if timer.is_pending)

    def call_after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` once, after ``delay_s`` seconds, on the port's thread."""
        return self.call_at(self._clock.monotonic() + delay_s, action)

    def call_at(self, when: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` once, at ``when`` on the port's monotonic clock."""
        timer = Timer(when, action)
        heapq.heappush(self._heap, (when, self._order(), timer))
        if len(self._heap) >= self._swept_at:
            self._sweep()
        return timer

    def _sweep(self) -> None:
        # In place: ``run_due`` may be at work on it.
        self._heap[:] = [entry for entry in self._heap if entry[2].is_pending]
        heapq.heapify(self._heap)
        self._swept_at = max(2 * len(self._heap), _SWEPT_AT_MIN)

    def next_deadline(self) -> float | None:
        """Return when the next pending timer is due; None when there is none."""
        heap = self._heap
        while heap and not heap[0][2].is_pending:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_due(self, on_error: Callable[[BaseException], None]) -> None:
        """Run what is due by now; what that starts waits for the next turn."""
        now = self._clock.monotonic()
        heap = self._heap
        due: list[Timer] = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap)[2])
        for timer in due:
            try:
                timer.fire()
            except Exception as error:  # noqa: BLE001 - one timer's failure is not another's
                on_error(error)
