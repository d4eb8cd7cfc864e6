"""Row: one line of a table of the dashboard, of whatever it is about.

``listings`` makes them, ``dashboard`` shows them. The invariant: a cell's text is printable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from sluicegate.cli.display import format_time, printable

__all__ = ["Cell", "Row", "number", "searched_text", "text"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one column."""

    shown: str
    order: float | str
    """What the table is sorted by; of one type in each column."""
    is_alarming: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line."""

    identity: str
    """What stays the same while the line changes; no other line of the table has it."""
    cells: tuple[Cell, ...]
    searched: str
    """What plain words are looked for in, in lower case."""
    fields: Mapping[str, object]
    """What queries are asked of, as the record of it would have them; empty: it is not asked."""
    source: msgspec.Struct | Mapping[str, object]
    """All there is to know."""
    ends: str = ""
    """What ``kill`` is given; empty: it cannot be ended."""

    def details(self) -> list[tuple[str, str]]:
        """Return everything that is known of it, by name, as printable text."""
        known = msgspec.to_builtins(self.source)
        return [(printable(str(name)), _shown(str(name), value)) for name, value in known.items()]


def text(value: str, *, is_alarming: bool = False) -> Cell:
    """Return a cell with a text that anybody may have chosen."""
    return Cell(printable(value), value.lower(), is_alarming)


def number(shown: str, order: float, *, is_alarming: bool = False) -> Cell:
    """Return a cell that is sorted by a number."""
    return Cell(printable(shown), order, is_alarming)


def searched_text(parts: Iterable[str]) -> str:
    """Return what plain words are looked for in."""
    return " ".join(parts).lower()


def _shown(name: str, value: object) -> str:
    """Write a value as its name says what it is."""
    if isinstance(value, float) and name in _TIMES:
        return format_time(value) if value else ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return _flat(value)


_TIMES: Final = frozenset({"time", "started", "until"})


def _flat(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_flat(one) for one in cast("list[object]", value))
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return ", ".join(f"{printable(str(name))}={_flat(one)}" for name, one in pairs)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))
