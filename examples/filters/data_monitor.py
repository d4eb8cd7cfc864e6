"""Watches streams for patterns and raises alerts; it stops nothing.

A `ConnectionFilter` puts one `StreamFilter` into each connection of its rules. Alerts are `note`
records, so `sluicegate log --kind note` shows them. The invariant: a pattern is found however the
stream is cut into chunks, and every alert that was not raised is counted in one that was.
"""

from collections.abc import Callable
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    FORWARD,
    LEAVE,
    Connection,
    ConnectionFilter,
    Events,
    Firewall,
    Side,
    StreamFilter,
    StreamVerdict,
    Window,
)


class DataMonitorSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patterns: dict[str, Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=100)
    """What to look for, by the name that alerts give it; as UTF-8 bytes."""
    ignore_case: bool = False
    """Whether ASCII letters match in either case."""
    alerts_per_minute: int = Field(default=60, ge=1, le=6000)
    """Alerts that are raised; those above it are counted."""


class Finder:
    """Finds the first place of each pattern in a stream that comes in pieces."""

    def __init__(self, patterns: dict[str, bytes]) -> None:
        self._missing = dict(patterns)
        self._overlap = max(map(len, patterns.values())) - 1
        self._tail = b""
        #: The last bytes seen: a match may have begun in them.
        self._seen = 0

    def feed(self, data: bytes) -> list[tuple[str, int]]:
        """Return the patterns found for the first time, each with its offset in the stream."""
        searched = self._tail + data
        start = self._seen - len(self._tail)
        places = {name: searched.find(one) for name, one in self._missing.items()}
        # In the order in which they became complete, which no cut changes.
        found = sorted(
            (place + len(self._missing[name]), name) for name, place in places.items() if place >= 0
        )
        hits = [(name, start + places[name]) for _, name in found]
        for name, _ in hits:
            del self._missing[name]
        self._seen += len(data)
        self._tail = searched[max(0, len(searched) - self._overlap) :]
        return hits

    @property
    def is_done(self) -> bool:
        """Whether every pattern was found."""
        return not self._missing


class AlertBudget:
    """Lets through so many alerts per minute, spread evenly behind a first burst."""

    def __init__(self, per_minute: int, now: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._now = now
        self._left = float(per_minute)
        self._filled_at = now()
        self.suppressed = 0
        #: Since the last alert that was raised.

    def take(self) -> bool:
        """Tell whether an alert may be raised now; if not, it counts as suppressed."""
        now = self._now()
        gained = (now - self._filled_at) * self._per_minute / 60
        self._left = min(self._left + gained, float(self._per_minute))
        self._filled_at = now
        if self._left < 1:
            self.suppressed += 1
            return False
        self._left -= 1
        return True


class DataMonitor(ConnectionFilter[DataMonitorSettings]):
    """Installed once; all connections share one budget of alerts."""

    name = "data_monitor"
    Settings = DataMonitorSettings

    def __init__(self, settings: DataMonitorSettings) -> None:
        super().__init__(settings)
        self._patterns = {name: self.fold(one.encode()) for name, one in settings.patterns.items()}
        self._budget: AlertBudget

    @override
    def start(self, firewall: Firewall) -> Events:
        self._budget = AlertBudget(self.settings.alerts_per_minute, lambda: firewall.port.now)
        return super().start(firewall)

    @override
    def make(self, connection: Connection, settings: DataMonitorSettings) -> StreamFilter:
        return _Watch(self)

    @override
    def stop(self) -> None:
        if self._budget.suppressed:
            self.firewall.note(self.name, "alerts suppressed", self._suppressed())

    def fold(self, data: bytes) -> bytes:
        """Return bytes as they are compared."""
        return data.lower() if self.settings.ignore_case else data

    def finder(self) -> Finder:
        """Make what looks through one direction of one connection."""
        return Finder(self._patterns)

    def alert(self, connection: Connection, side: Side, pattern: str, offset: int) -> None:
        """Raise an alert, or count it."""
        if self._budget.take():
            facts = {
                "client": connection.client_address.host,
                "sent_by": side.value,
                "offset": offset,
            }
            connection.note(self, f"found {pattern}", facts | self._suppressed())

    def _suppressed(self) -> dict[str, int]:
        suppressed, self._budget.suppressed = self._budget.suppressed, 0
        return {"suppressed_before": suppressed}


class _Watch(StreamFilter):
    """One connection: each pattern raises one alert in each direction, wherever it comes first."""

    name = "data_monitor"

    def __init__(self, owner: DataMonitor) -> None:
        self._owner = owner
        self._finders: Final = {Side.CLIENT: owner.finder(), Side.SERVER: owner.finder()}
        self._connection: Connection

    @override
    def on_start(self, connection: Connection) -> None:
        self._connection = connection

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        data = self._owner.fold(bytes(window))
        for pattern, offset in self._finders[side].feed(data):
            self._owner.alert(self._connection, side, pattern, offset)
        return LEAVE if all(one.is_done for one in self._finders.values()) else FORWARD
