"""Times: how long answers took, from the buckets that they were counted in.

Pages of filters and scanners show it. The invariant: buckets tell below which bound an answer was,
and no more than that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.gate.views import FilterView, ScannerView
from sluicegate.metrics import CATALOGUE

__all__ = ["Times", "times_of"]

_HALF: Final = 0.5
_MOST: Final = 0.95


@dataclass(frozen=True, slots=True)
class Times:
    """How long the answers of one filter or scanner took."""

    name: str
    answers: int
    total_s: float
    mean_s: float
    half_s: float | None
    """Half of them took no longer; None: longer than every bound."""
    most_s: float | None
    """Nineteen of twenty took no longer."""
    bound_s: float
    """The greatest bound."""
    buckets: Sequence[int]
    share: float
    """Of the time of all in the list, from 0 to 1."""


def times_of(rows: Sequence[FilterView] | Sequence[ScannerView], metric: str) -> list[Times]:
    """Return the times of those that have answered at all, the most time first.

    Args:
        rows: Filters or scanners.
        metric: Whose buckets they have.
    """
    bounds = CATALOGUE[metric].bounds
    whole = sum(row.answer_s for row in rows)
    found: list[Times] = []
    for row in rows:
        answers = sum(row.answer_buckets)
        if not answers:
            continue
        found.append(
            Times(
                row.name,
                answers,
                row.answer_s,
                row.answer_s / answers,
                _below(row.answer_buckets, bounds, _HALF),
                _below(row.answer_buckets, bounds, _MOST),
                bounds[-1],
                row.answer_buckets,
                row.answer_s / whole if whole else 0.0,
            )
        )
    return sorted(found, key=lambda one: -one.total_s)


def _below(buckets: Sequence[int], bounds: Sequence[float], part: float) -> float | None:
    """Return the lowest bound that a part of the answers was below."""
    wanted, seen = part * sum(buckets), 0
    for bound, count in zip(bounds, buckets, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return None
