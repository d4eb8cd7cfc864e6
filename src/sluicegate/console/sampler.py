"""Sampler: how the gate is, asked every few seconds, for pages that are live.

The invariant: however many people look, the gate is asked once, and what is kept is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from sluicegate.clock import Clock
from sluicegate.console_limits import CONSOLE_SAMPLE_S, CONSOLE_SAMPLES_MAX
from sluicegate.gate.control_messages import StatusReply, StatusRequest
from sluicegate.gate.views import StatusView

from .link import GateLink, GateLost

__all__ = ["Sample", "Sampler"]


_RATE_S_MIN: Final = CONSOLE_SAMPLE_S / 2
"""A shorter time makes no rate: one connection would be a hundred a second."""


class Sample(NamedTuple):
    """The gate at one moment."""

    time: float
    connections: int
    sessions: int
    allowed_per_s: float
    denied_per_s: float
    bytes_per_s: float
    held: int
    """Objects."""


class Sampler:
    """The last samples, and the status that the last one is of."""

    def __init__(self, link: GateLink, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=CONSOLE_SAMPLES_MAX)
        self._news = asyncio.Condition()
        self.status: StatusView | None = None
        #: None: the gate does not answer.
        self._before: tuple[float, StatusView] | None = None

    @property
    def samples(self) -> Sequence[Sample]:
        """The samples, the oldest first."""
        return tuple(self._samples)

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(CONSOLE_SAMPLE_S)

    async def look(self) -> None:
        """Ask once, and tell everybody who waits."""
        try:
            reply = await self._link.ask(StatusRequest(), "console")
        except GateLost:
            reply = None
        if isinstance(reply, StatusReply):
            self._take(reply.status)
        else:
            self.status = self._before = None
        async with self._news:
            self._news.notify_all()

    async def wait(self) -> None:
        """Wait for the next sample."""
        async with self._news:
            await self._news.wait()

    def _take(self, status: StatusView) -> None:
        now = self._clock.monotonic()
        self.status = status
        if self._before is not None and now - self._before[0] < _RATE_S_MIN:
            return  # a page has asked in between
        if self._before is not None and self._before[1].boot == status.boot:
            before, elapsed_s = self._before[1], now - self._before[0]
            self._samples.append(
                Sample(
                    self._clock.wall(),
                    status.connections,
                    status.sessions,
                    _rate(before.connections_allowed, status.connections_allowed, elapsed_s),
                    _rate(before.connections_denied, status.connections_denied, elapsed_s),
                    _rate(_moved(before), _moved(status), elapsed_s),
                    status.spool_transfers,
                )
            )
        self._before = now, status


def _moved(status: StatusView) -> int:
    return status.bytes_to_client + status.bytes_to_server


def _rate(before: int, after: int, elapsed_s: float) -> float:
    # A worker that was replaced counts from nothing again.
    return max(after - before, 0) / elapsed_s if elapsed_s > 0 else 0.0
