"""Parameters that several operations have, and the part of a list that they ask for.

The invariant: whatever is asked for, at most ``ROWS_MAX`` rows are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from .operation import Called, Parameter

__all__ = ["CURSOR", "FILTER", "LIMIT", "NUMBER_MAX", "ROWS_DEFAULT", "page_of"]

RowT = TypeVar("RowT")

ROWS_DEFAULT: Final = 100
ROWS_MAX: Final = 500
NUMBER_MAX: Final = 10**17

LIMIT: Final = Parameter(
    "limit", "At most so many rows.",
    {"type": "integer", "minimum": 1, "maximum": ROWS_MAX, "default": ROWS_DEFAULT},
)  # fmt: skip
CURSOR: Final = Parameter(
    "cursor", "Where to go on: next of the answer before.",
    {"type": "integer", "minimum": 0, "maximum": NUMBER_MAX},
)  # fmt: skip
FILTER: Final = Parameter(
    "filter", "Words that a row has, in whatever case.", {"type": "string", "maxLength": 200}
)


def page_of(rows: Sequence[RowT], called: Called) -> tuple[list[RowT], int | None]:
    """Return the rows that were asked for, and the cursor of the next; None: there are none."""
    begin, limit = called.number("cursor"), called.number("limit", ROWS_DEFAULT)
    end = begin + limit
    return list(rows[begin:end]), end if end < len(rows) else None
