"""Between which times everything lies that a query can choose; a store reads no further."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

from .fields import FieldType
from .query import All, Compare, Operator, Query

__all__ = ["TimeBounds", "time_bounds"]


class TimeBounds(NamedTuple):
    """Seconds since the Unix epoch, both included."""

    low: float = -math.inf
    high: float = math.inf


def time_bounds(query: Query) -> TimeBounds:
    """Return bounds of the times of records that a query chooses; it may choose fewer."""
    if isinstance(query, All):
        bounds = [time_bounds(part) for part in query.parts]
        return TimeBounds(
            max((one.low for one in bounds), default=-math.inf),
            min((one.high for one in bounds), default=math.inf),
        )
    if not isinstance(query, Compare) or query.field.type is not FieldType.TIME:
        return TimeBounds()
    if query.field.read_from != ("time",):
        return TimeBounds()
    times = cast("tuple[float, ...]", query.values)
    match query.operator:
        case Operator.AT_LEAST | Operator.ABOVE:
            return TimeBounds(low=min(times))
        case Operator.AT_MOST | Operator.BELOW:
            return TimeBounds(high=max(times))
        case Operator.IS:
            return TimeBounds(min(times), max(times))
        case Operator.IS_NOT:
            return TimeBounds()
