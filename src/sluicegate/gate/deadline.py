"""Deadlines of a connection: when it must end if nothing happens, and what to say then.

``connection`` asks when the wheel comes to it. The invariant: both questions are answered from the
same facts and limits, so whatever expired is what the record names.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from sluicegate.errors import Side
from sluicegate.filterapi import Outcome
from sluicegate.limits import Limits

if TYPE_CHECKING:
    from .pump import Direction

__all__ = ["Expiry", "find_deadline", "find_expiry"]


class Expiry(NamedTuple):
    """How a connection ends whose deadline came."""

    outcome: Outcome
    reason: str
    error: int = 0
    side: Side | None = None


def find_deadline(
    limits: Limits,
    started: float,
    last_active: float,
    directions: tuple[Direction, Direction] | None,
) -> float:
    """Return when an open connection is due, on the port's monotonic clock.

    Args:
        limits: In force.
        started: When the connection was accepted.
        last_active: When its last byte moved.
        directions: Both, when the pump runs them.
    """
    due = started + limits.connection_total_s
    idle_s = limits.idle_timeout_s
    for direction in directions or ():
        if direction.is_done:
            idle_s = min(idle_s, limits.half_closed_timeout_s)
        if direction.blocked_since:
            due = min(due, direction.blocked_since + limits.send_stall_s)
    return min(due, last_active + idle_s)


def find_expiry(
    limits: Limits,
    now: float,
    started: float,
    directions: tuple[Direction, Direction] | None,
) -> Expiry:
    """Say which deadline of an open connection has passed."""
    for direction in directions or ():
        if direction.blocked_since and direction.blocked_since + limits.send_stall_s <= now:
            side = direction.sink_side
            return Expiry(Outcome.FAILED, f"{side} stalled", errno.ETIMEDOUT, side)
    if started + limits.connection_total_s <= now:
        return Expiry(Outcome.REFUSED, "connection_total_s reached")
    what = "half-closed" if any(item.is_done for item in directions or ()) else "idle"
    return Expiry(Outcome.FAILED, f"{what} time-out", errno.ETIMEDOUT, Side.INTERNAL)
