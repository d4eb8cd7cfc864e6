"""Present: the connections and sessions that are open now, asked once for all who look.

The invariant: the gate is asked for its rows at most once in ``CONSOLE_SAMPLE_S``, however many
windows show them.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from sluicegate.clock import Clock
from sluicegate.console_limits import CONSOLE_SAMPLE_S
from sluicegate.gate.control_messages import (
    ConnectionsReply,
    ConnectionsRequest,
    SessionsReply,
    SessionsRequest,
)
from sluicegate.gate.views import ConnectionView, SessionView

from .link import GateLink, GateLost

__all__ = ["Present", "Rows"]

_BY = "console"


class Rows(NamedTuple):
    """What is open."""

    connections: list[ConnectionView]
    sessions: list[SessionView]
    connections_total: int
    """More than there are rows, where there are more than one answer may have."""
    sessions_total: int


class Present:
    """What is open now; the newest first."""

    def __init__(self, link: GateLink, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._turn = asyncio.Lock()
        self._known: tuple[float, Rows] | None = None

    async def rows(self) -> Rows:
        """Return what is open, or was a moment ago.

        Raises:
            GateLost: The gate does not answer.
        """
        async with self._turn:
            now = self._clock.monotonic()
            if self._known is None or now - self._known[0] >= CONSOLE_SAMPLE_S:
                self._known = now, await self._ask()
            return self._known[1]

    def forget(self) -> None:
        """Ask anew next time: something was ended."""
        self._known = None

    async def _ask(self) -> Rows:
        connections, sessions = await asyncio.gather(
            self._link.ask(ConnectionsRequest(), _BY), self._link.ask(SessionsRequest(), _BY)
        )
        if not isinstance(connections, ConnectionsReply) or not isinstance(sessions, SessionsReply):
            raise GateLost("the gate does not say what is open")
        connections.rows.sort(key=lambda row: -row.started)
        sessions.rows.sort(key=lambda row: -row.started)
        return Rows(connections.rows, sessions.rows, connections.total, sessions.total)
