"""Differences between two versions of a text, line by line, as people read them.

The history of policies is shown with it. The invariant: what is shown leads from one text to the
other, whole; comparing costs bounded time, at worst by showing more lines than differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from sluicegate.policy_limits import POLICY_DIFFERENCE_LINES_MAX

__all__ = ["DifferentLine", "Mark", "differences"]

Mark: TypeAlias = Literal[" ", "-", "+", "@"]

_AROUND: Final = 3
"""Lines that are the same, shown around those that differ."""


class DifferentLine(NamedTuple):
    """One line."""

    mark: Mark
    """``-``: only the old text has it, ``+``: only the new one, ``@``: something was left out."""
    old: int
    """Its number in the old text; 0: it is not there."""
    new: int
    text: str


def differences(before: str, after: str) -> list[DifferentLine]:
    """Return the lines that differ, and some around them; none: the texts are alike."""
    if before == after:
        return []
    old, new = before.splitlines(), after.splitlines()
    if old == new:  # the end of the last line
        return [DifferentLine("@", len(old), len(new), "only the end of a line differs")]
    lines = list(_all_lines(old, new))
    shown = {
        near
        for at, line in enumerate(lines)
        if line.mark != " "
        for near in range(at - _AROUND, at + _AROUND + 1)
    }
    found: list[DifferentLine] = []
    is_gap = False
    for at, line in enumerate(lines):
        if at in shown:
            found.append(line)
            is_gap = False
        elif not is_gap:
            found.append(DifferentLine("@", line.old, line.new, ""))
            is_gap = True
    return found


def _all_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[DifferentLine]:
    for tag, low, high, first, last in _steps(old, new):
        if tag == "equal":
            for step in range(high - low):
                yield DifferentLine(" ", low + step + 1, first + step + 1, old[low + step])
            continue
        for at in range(low, high):
            yield DifferentLine("-", at + 1, 0, old[at])
        for at in range(first, last):
            yield DifferentLine("+", 0, at + 1, new[at])


def _steps(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield what is equal and what is not; equal ends are not compared with each other."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    yield "equal", 0, start, 0, start
    if len(middle_old) + len(middle_new) > POLICY_DIFFERENCE_LINES_MAX:
        yield "replace", start, len(old) - end, start, len(new) - end
    else:
        matcher = difflib.SequenceMatcher(None, middle_old, middle_new, autojunk=False)
        for tag, low, high, first, last in matcher.get_opcodes():
            yield tag, low + start, high + start, first + start, last + start
    yield "equal", len(old) - end, len(old), len(new) - end, len(new)
