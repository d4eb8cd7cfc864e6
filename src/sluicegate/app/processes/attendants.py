"""Attendants: the processes that look after a gate and meet none of its traffic, kept together.

``supervisor`` has one. The invariant: they start after everything that serves, and end before it.
"""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.app.config import Configuration
from sluicegate.audit.records import AnyRecord
from sluicegate.clock import Clock

from .attendant_post import AttendantPost
from .console_post import ConsolePost, ConsoleTarget
from .metrics_post import MetricsPost

__all__ = ["Attendants"]


class Attendants:
    """The console, and who is asked for metrics."""

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
        self.console = ConsolePost(configuration, target, record, clock, say)
        self._others: tuple[AttendantPost, ...] = (MetricsPost(configuration, target, clock, say),)

    @property
    def posts(self) -> list[ConsolePost | AttendantPost]:
        """Those that the configuration has."""
        found: list[ConsolePost | AttendantPost] = []
        if self.console.settings is not None:
            found.append(self.console)
        return [*found, *(one for one in self._others if one.is_wanted)]

    def listen(self) -> None:
        """Open their addresses.

        Raises:
            ConfigError: One cannot be opened.
        """
        self.console.listen()
        for one in self._others:
            one.listen()

    def start(self) -> None:
        """Start them."""
        self.console.start()
        for one in self._others:
            one.start()

    async def close(self) -> None:
        """End them, and close their addresses."""
        await self.console.close()
        for one in self._others:
            await one.close()

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        return [
            *self.console.warnings(),
            *(line for one in self._others for line in one.warnings()),
        ]
