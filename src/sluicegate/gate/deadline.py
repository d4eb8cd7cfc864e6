"""Deadlines of a connection: when it must end if nothing happens, and what to say then.

``connection`` asks when the wheel comes to it. The invariant: both questions are answered from the
same facts and limits, so whatever expired is what the record names.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sluicegate.errors import Side
from sluicegate.filterapi import Outcome
from sluicegate.limits import Limits

__all__ = ["Expiry", "Outlet", "find_deadline", "find_expiry"]


class Outlet(Protocol):
    """What sends to one side: a direction of the pump, or a socket of the chain."""

    @property
    def is_done(self) -> bool:
        """Whether the stream to that side was ended."""
        ...

    @property
    def blocked_since(self) -> float:
        """When the side stopped taking bytes; 0 while it takes them."""
        ...

    @property
    def sink_side(self) -> Side:
        """Which side that is."""
        ...


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
    outlets: Sequence[Outlet],
) -> float:
    """Return when an open connection is due, on the port's monotonic clock.

    Args:
        limits: In force.
        started: When the connection was accepted.
        last_active: When its last byte moved.
        outlets: What sends to either side, as far as they are there.
    """
    due = started + limits.connection_total_s
    idle_s = limits.idle_timeout_s
    for outlet in outlets:
        if outlet.is_done:
            idle_s = min(idle_s, limits.half_closed_timeout_s)
        if outlet.blocked_since:
            due = min(due, outlet.blocked_since + limits.send_stall_s)
    return min(due, last_active + idle_s)


def find_expiry(
    limits: Limits,
    now: float,
    started: float,
    outlets: Sequence[Outlet],
) -> Expiry:
    """Say which deadline of an open connection has passed."""
    for outlet in outlets:
        if outlet.blocked_since and outlet.blocked_since + limits.send_stall_s <= now:
            side = outlet.sink_side
            return Expiry(Outcome.FAILED, f"{side} stalled", errno.ETIMEDOUT, side)
    if started + limits.connection_total_s <= now:
        return Expiry(Outcome.REFUSED, "connection_total_s reached")
    what = "half-closed" if any(item.is_done for item in outlets) else "idle"
    return Expiry(Outcome.FAILED, f"{what} time-out", errno.ETIMEDOUT, Side.INTERNAL)
