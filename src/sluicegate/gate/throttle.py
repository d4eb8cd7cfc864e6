"""Throttle: at most one record within an interval for each thing that can happen in a flood.

``limit_log``, ``kept_log`` and ``flood`` write through one. The invariant: no occurrence is lost:
those that follow a record within the interval are counted, and recorded when it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Throttle"]

FactT = TypeVar("FactT")

_INTERVAL_S: Final = 1.0


class Throttle(Generic[FactT]):
    """What was recorded within the last interval, and how often it happened since."""

    __slots__ = ("_call_after", "_interval_s", "_last", "_write")

    def __init__(
        self,
        call_after: Callable[[float, Callable[[], None]], object],
        write: Callable[[FactT, int], None],
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._call_after = call_after
        self._write = write
        self._interval_s = interval_s
        self._last: dict[Hashable, tuple[FactT, int]] = {}

    def note(self, key: Hashable, fact: FactT) -> None:
        """Take note of an occurrence; the record of several has the facts of the last."""
        known = self._last.get(key)
        if known is not None:
            self._last[key] = fact, known[1] + 1
            return
        self._last[key] = fact, 0
        self._call_after(self._interval_s, lambda: self._on_over(key))
        self._write(fact, 1)

    def flush(self) -> None:
        """Record what was counted and not recorded: the service stops."""
        for key, (fact, count) in list(self._last.items()):
            if count:
                self._last[key] = fact, 0
                self._write(fact, count)

    def _on_over(self, key: Hashable) -> None:
        fact, count = self._last[key]
        if not count:
            del self._last[key]
            return
        self._last[key] = fact, 0
        self._call_after(self._interval_s, lambda: self._on_over(key))
        self._write(fact, count)
