"""Attendants: the processes that look after a gate and meet none of its traffic, kept together.

``supervisor`` has one. The invariant: they start after everything that serves, and end before it.
"""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.app.config import Configuration
from sluicegate.audit.records import AnyRecord
from sluicegate.clock import Clock

from .alert_post import AlertPost
from .attendant_post import AttendantPost
from .console_post import ConsolePost, ConsoleTarget
from .metrics_post import MetricsPost

__all__ = ["Attendants"]


class Attendants:
    """The console, who is asked for metrics, and who raises alerts."""

    def __init__(
        self,
        configuration: Configuration,
        target: ConsoleTarget,
        record: Callable[[AnyRecord], None],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says which there are.
            target: Who answers them.
            record: Writes what they want recorded.
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
        """
        self.alerts = AlertPost(configuration, target, record, clock, say)
        self._all: tuple[AttendantPost, ...] = (
            self.alerts,
            ConsolePost(configuration, target, record, clock, say),
            MetricsPost(configuration, target, clock, say),
        )

    @property
    def posts(self) -> list[AttendantPost]:
        """Those that the configuration has."""
        return [one for one in self._all if one.is_wanted]

    def listen(self) -> None:
        """Open their addresses.

        Raises:
            ConfigError: One cannot be opened.
        """
        for one in self._all:
            one.listen()

    def start(self) -> None:
        """Start them."""
        for one in self._all:
            one.start()

    async def close(self) -> None:
        """End them, and close their addresses."""
        for one in self._all:
            await one.close()

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        return [line for one in self._all for line in one.warnings()]
