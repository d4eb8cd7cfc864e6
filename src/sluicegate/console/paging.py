"""Paging: a part of a long list, and where its other parts are.

The invariant: whatever a browser asks for, at most ``CONSOLE_PAGE_ROWS`` rows are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sluicegate.console_limits import CONSOLE_PAGE_ROWS

__all__ = ["Part", "part_of"]

RowT = TypeVar("RowT")
_DIGITS_MAX = 6


@dataclass(frozen=True, slots=True)
class Part(Generic[RowT]):
    """Some rows of a list."""

    rows: Sequence[RowT]
    first: int
    """The number of the first of them, from 1."""
    total: int
    before: int
    """The page before; 0: this is the first."""
    behind: int
    """The page behind; 0: this is the last."""

    @property
    def number(self) -> int:
        """The page that this is."""
        return self.before + 1

    @property
    def last(self) -> int:
        """The number of the last of the rows."""
        return self.first + len(self.rows) - 1


def part_of(rows: Sequence[RowT], page: str) -> Part[RowT]:
    """Return a page of a list; the last one, if there is none of that number."""
    number = int(page) if page.isascii() and page.isdigit() and len(page) <= _DIGITS_MAX else 1
    pages = max(-(-len(rows) // CONSOLE_PAGE_ROWS), 1)
    number = min(max(number, 1), pages)
    begin = (number - 1) * CONSOLE_PAGE_ROWS
    shown = rows[begin : begin + CONSOLE_PAGE_ROWS]
    return Part(shown, begin + 1, len(rows), number - 1, number + 1 if number < pages else 0)
