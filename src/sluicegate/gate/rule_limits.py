"""Limits of one rule's connections: how many bytes, how long, how long silent.

Connections ask what their plan has; a rule without limits costs them nothing. How many may be open
at once is counted by ``rule_places``. The invariant: a
limit that is reached names its rule, and ends the connection by a reset: what came through until
then never looks whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from sluicegate.errors import LimitExceeded, Side
from sluicegate.filterapi import FORWARD, Cut, StreamVerdict, Window
from sluicegate.policy import AnyRule

from .own_stage import OwnStage

if TYPE_CHECKING:
    from .connection import GateConnection
    from .udp_connection import UdpConnection

__all__ = ["ByteCount", "RuleDeadlines", "has_bytes_left"]


class _Timed(Protocol):
    """A connection, as far as its time goes."""

    started: float
    last_active: float


class RuleDeadlines:
    """When a connection of a rule has to end; on the port's monotonic clock."""

    __slots__ = ("_duration_s", "_idle_s", "_name")

    def __init__(self, rule: AnyRule) -> None:
        self._name = rule.name
        self._duration_s = rule.limits.duration_s
        self._idle_s = rule.limits.idle_timeout_s

    def due_for(self, one: _Timed) -> float:
        """Return when the first of its limits is reached if nothing happens."""
        due = float("inf") if self._duration_s is None else one.started + self._duration_s
        return due if self._idle_s is None else min(due, one.last_active + self._idle_s)

    def reached_by(self, one: _Timed, now: float) -> LimitExceeded | None:
        """Return the limit that is reached."""
        if self._duration_s is not None and one.started + self._duration_s <= now:
            return LimitExceeded(f"rule {self._name} duration_s", self._duration_s)
        if self._idle_s is not None and one.last_active + self._idle_s <= now:
            return LimitExceeded(f"rule {self._name} idle_timeout_s", self._idle_s)
        return None


class ByteCount(OwnStage):
    """Counts both directions of one connection, at its client; nothing is spliced past it."""

    __slots__ = ("_connection", "_count")

    name = "limits.bytes_max"

    def __init__(self, connection: GateConnection) -> None:
        self._connection = connection
        self._count = 0

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        """Let bytes pass up to the limit; a chunk that passes it is not sent."""
        del side
        self._count += window.length
        bound = self._connection.plan.bytes_max
        if bound is None or self._count <= bound:
            return FORWARD
        limit = LimitExceeded(f"rule {self._connection.rule} bytes_max", bound)
        self._connection.on_limit(limit)
        return Cut(f"limit {limit.limit}")


def has_bytes_left(connection: UdpConnection, length: int) -> bool:
    """Tell whether a datagram of so many bytes may pass; one that may not ends its connection."""
    bound = connection.plan.bytes_max
    count = connection.bytes_to_server + connection.bytes_to_client + length
    if bound is None or count <= bound:
        return True
    connection.end_at(LimitExceeded(f"rule {connection.plan.rule.name} bytes_max", bound))
    return False
