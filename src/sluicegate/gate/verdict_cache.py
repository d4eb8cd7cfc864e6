"""Verdicts that are kept: the same bytes, judged by the same filter, need not be judged again.

``judgement`` asks it before a filter, and notes what the filter said. The invariant: only releases
are kept, of filters that say what their verdict rests on besides the bytes, and one counts only for
the same bytes (SHA-256 and size), the same installation of the filter, and the same version, and
not for ever: not every change shows in a version.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.clock import Clock
from sluicegate.filterapi import Transfer

from .registry import ContentStep

__all__ = ["VerdictCache", "VerdictCounts"]

_Key = tuple[int, str, str, int, bool]


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """What a cache did, since the start."""

    kept: int
    """Verdicts now."""
    hits: int
    """Objects that a filter did not have to judge."""
    misses: int
    """Objects that it had to, though its verdict could have been kept."""


class VerdictCache:
    """The verdicts of one worker; the one that was asked for longest ago is forgotten first."""

    __slots__ = ("_clock", "_entries_max", "_hits", "_kept", "_kept_s", "_misses")

    def __init__(self, clock: Clock, entries_max: int, kept_s: float) -> None:
        self._clock = clock
        self._entries_max = entries_max
        self._kept_s = kept_s
        self._kept: dict[_Key, float] = {}
        #: When each was given, on the monotonic clock.
        self._hits = self._misses = 0

    def is_released(self, step: ContentStep, version: str, transfer: Transfer) -> bool:
        """Tell whether a filter has released these bytes before, by this version."""
        key = _key_of(step, version, transfer)
        given = self._kept.pop(key, None)
        if given is None or self._clock.monotonic() - given >= self._kept_s:
            self._misses += 1
            return False
        self._hits += 1
        self._kept[key] = given
        return True

    def note_release(self, step: ContentStep, version: str, transfer: Transfer) -> None:
        """Keep that a filter released these bytes, by a version that it named before it looked."""
        if not self._entries_max:
            return
        if len(self._kept) >= self._entries_max:
            del self._kept[next(iter(self._kept))]
        self._kept[_key_of(step, version, transfer)] = self._clock.monotonic()

    def counts(self) -> VerdictCounts:
        """Return what it did."""
        return VerdictCounts(len(self._kept), self._hits, self._misses)


def _key_of(step: ContentStep, version: str, transfer: Transfer) -> _Key:
    serial = step.installed.serial
    return serial, version, transfer.sha256, transfer.size, transfer.offer.is_text
