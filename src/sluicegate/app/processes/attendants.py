"""Attendants: the processes that look after a gate and meet none of its traffic, kept together.

``supervisor`` has one. The invariant: they start after everything that serves, and end before it.
"""

from __future__ import annotations

from sluicegate.app.config import Configuration

from .alert_post import AlertPost
from .attendant_post import AttendantPost
from .child_post import Upkeep
from .console_post import ConsolePost, ConsoleTarget
from .metrics_post import MetricsPost

__all__ = ["Attendants"]


class Attendants:
    """The console, who is asked for metrics, and who raises alerts."""

    def __init__(
        self,
        configuration: Configuration,
        target: ConsoleTarget,
        upkeep: Upkeep,
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says which there are.
            target: Who answers them.
            upkeep: What every place needs.
        """
        self.alerts = AlertPost(configuration, target, upkeep)
        self._console = ConsolePost(configuration, target, upkeep)
        self._all: tuple[AttendantPost, ...] = (
            self.alerts,
            self._console,
            MetricsPost(configuration, target, upkeep),
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

    def change(self, configuration: Configuration) -> None:
        """Put in force what a reload changes for them."""
        self.alerts.change(configuration)
        self._console.renew_password()

    async def close(self) -> None:
        """End them, and close their addresses."""
        for one in self._all:
            await one.close()

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        return [line for one in self._all for line in one.warnings()]
