"""Answers that are kept: bounded in number, each for its time, the longest unused leave first.

The resolver keeps in it what servers said, also that a name has no address, and judges it at each
use: a changed policy applies at once. The invariant: an entry is never returned at or after its
end, and there are never more entries than the bound.
"""

from __future__ import annotations

import collections
from typing import Generic, TypeVar

from .packets import Question

__all__ = ["AnswerCache"]

OutcomeT = TypeVar("OutcomeT")


class AnswerCache(Generic[OutcomeT]):
    """What was learned, by question; it reads no clock."""

    __slots__ = ("_entries", "_entries_max")

    def __init__(self, entries_max: int) -> None:
        self._entries: collections.OrderedDict[Question, tuple[float, OutcomeT]]
        self._entries = collections.OrderedDict()
        self._entries_max = entries_max

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: Question, now_s: float) -> tuple[float, OutcomeT] | None:
        """Return an entry with its end, and count that as a use; None when there is none."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry[0] <= now_s:
            del self._entries[question]
            return None
        self._entries.move_to_end(question)
        return entry

    def keep(self, question: Question, outcome: OutcomeT, until_s: float) -> None:
        """Keep an outcome until ``until_s``; makes room by the entry that was unused longest."""
        self._entries[question] = (until_s, outcome)
        self._entries.move_to_end(question)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything (the network changed)."""
        self._entries.clear()
