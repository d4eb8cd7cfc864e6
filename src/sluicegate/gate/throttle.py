"""Throttle: at most one record a second for each thing that can happen in a flood.

``limit_log`` and ``kept_log`` write through one. The invariant: no occurrence is lost: those that
follow a record within a second are counted, and recorded when the second is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Throttle"]

FactT = TypeVar("FactT")

_INTERVAL_S: Final = 1.0


class Throttle(Generic[FactT]):
    """What was recorded within the last second, and how often it happened since."""

    __slots__ = ("_call_after", "_last", "_write")

    def __init__(
        self,
        call_after: Callable[[float, Callable[[], None]], object],
        write: Callable[[FactT, int], None],
    ) -> None:
        self._call_after = call_after
        self._write = write
        self._last: dict[str, tuple[FactT, int]] = {}

    def note(self, key: str, fact: FactT) -> None:
        """Take note of an occurrence; the record of several has the facts of the last."""
        known = self._last.get(key)
        if known is not None:
            self._last[key] = fact, known[1] + 1
            return
        self._last[key] = fact, 0
        self._call_after(_INTERVAL_S, lambda: self._on_second(key))
        self._write(fact, 1)

    def flush(self) -> None:
        """Record what was counted and not recorded: the service stops."""
        for key, (fact, count) in list(self._last.items()):
            if count:
                self._last[key] = fact, 0
                self._write(fact, count)

    def _on_second(self, key: str) -> None:
        fact, count = self._last[key]
        if not count:
            del self._last[key]
            return
        self._last[key] = fact, 0
        self._call_after(_INTERVAL_S, lambda: self._on_second(key))
        self._write(fact, count)
