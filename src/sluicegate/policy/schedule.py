"""Schedules: hours of the week, on the clocks of a time zone, with days off.

``parse_objects`` makes them with the time zone that ``app`` read; rules ask ``is_active`` and the
snapshot ``until``. The invariant: an instant is judged by what the clocks of the zone show at it:
an hour that clocks show twice counts twice, one that they skip never comes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["DAY_NAMES", "MINUTES_PER_DAY", "Schedule", "Span"]

DAY_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_PER_DAY: Final = 1440

_LOOK_AHEAD_DAYS: Final = 9
"""A week has every hour there is; two days more for those that a change of clocks moves."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Part of one weekday: from its first minute until right before its last."""

    day: int
    """0 is Monday."""
    start: int
    """Minutes from midnight."""
    end: int
    """Minutes from midnight, at most 1440; above ``start``."""


@dataclass(slots=True, eq=False)
class Schedule:
    """One schedule; immutable but for the memory of its last answer."""

    name: str
    time_zone: dt.tzinfo
    time_zone_name: str
    spans: tuple[Span, ...]
    """Sorted; those that cross midnight are two."""
    dates_off: frozenset[dt.date] = frozenset()
    """Local dates on which it is never active."""
    _known: tuple[float, float, bool] = field(default=(0.0, 0.0, False), init=False, repr=False)
    """From when until when the last answer holds, and the answer."""

    def is_active(self, now: float) -> bool:
        """Tell whether it is active at an instant, in seconds since the epoch (UTC)."""
        start, end, is_active = self._known
        if start <= now < end:
            return is_active
        is_active = self._is_active(now)
        self._known = (now, self._change_after(now, is_active=is_active), is_active)
        return is_active

    def until(self, now: float) -> float:
        """Return an instant until which the answer stays what it is at ``now``.

        Where it is not known to change within nine days, the end of these nine days.
        """
        self.is_active(now)
        return self._known[1]

    def canonical(self) -> list[object]:
        """Return what it decides by, for the hash of a policy."""
        spans = [[span.day, span.start, span.end] for span in self.spans]
        return [self.time_zone_name, spans, sorted(map(str, self.dates_off))]

    def _is_active(self, now: float) -> bool:
        local = dt.datetime.fromtimestamp(now, self.time_zone)
        if local.date() in self.dates_off:
            return False
        day, minute = local.weekday(), local.hour * 60 + local.minute
        return any(span.day == day and span.start <= minute < span.end for span in self.spans)

    def _change_after(self, now: float, *, is_active: bool) -> float:
        border = now
        for border in self._borders_after(now):
            if self._is_active(border) != is_active:
                return border
        return border

    def _borders_after(self, now: float) -> Iterator[float]:
        """Yield the instants at which the answer may change, in order."""
        today = dt.datetime.fromtimestamp(now, self.time_zone).date()
        borders: set[float] = set()
        for offset in range(-1, _LOOK_AHEAD_DAYS):
            date = today + dt.timedelta(days=offset)
            minutes = {0, *_minutes_of(self.spans, date.weekday())}
            for minute in minutes:
                borders |= self._instants(date, minute)
        previous = now
        for border in sorted(one for one in borders if one > now):
            change = self._clock_change(previous, border)
            if change is not None:
                yield change
            yield border
            previous = border

    def _instants(self, date: dt.date, minute: int) -> set[float]:
        """Return when clocks show a minute: once, twice, or, around one that they skip, near it."""
        wall = dt.datetime.combine(date, dt.time()) + dt.timedelta(minutes=minute)
        return {wall.replace(fold=fold, tzinfo=self.time_zone).timestamp() for fold in (0, 1)}

    def _clock_change(self, start: float, end: float) -> float | None:
        """Return when clocks change between two borders; they are at most a day apart."""
        before = self._offset(start)
        if before == self._offset(end):
            return None
        low, high = int(start), int(end)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return float(high) if start < high < end else None

    def _offset(self, instant: float) -> dt.timedelta | None:
        return dt.datetime.fromtimestamp(instant, self.time_zone).utcoffset()


def _minutes_of(spans: Sequence[Span], weekday: int) -> Iterator[int]:
    for span in spans:
        if span.day == weekday:
            yield span.start
            yield span.end
