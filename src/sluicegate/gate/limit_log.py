"""LimitLog: a record when a limit is reached, at most one a second for each.

The service notes every occurrence here. The invariant: no flood of clients floods the log, and no
occurrence is lost: those that follow a record within a second are counted, and recorded when the
second is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sluicegate.audit import LimitRecord, Recorder
from sluicegate.clock import Clock
from sluicegate.errors import LimitExceeded

__all__ = ["LimitLog"]

_INTERVAL_S: Final = 1.0


class Burst:
    """A limit that was recorded within the last second, and what came since."""

    __slots__ = ("client", "connection", "count", "error")

    def __init__(self, error: LimitExceeded) -> None:
        self.error = error
        self.count = 0
        self.client = ""
        self.connection = ""
        #: Of the last occurrence.


class LimitLog:
    """Which limits were reached of late, and how often."""

    __slots__ = ("_bursts", "_call_after", "_clock", "_recorder")

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._call_after = call_after
        self._bursts: dict[str, Burst] = {}

    def note(self, error: LimitExceeded, *, client: str = "", connection: str = "") -> None:
        """Take note of a limit that was reached."""
        burst = self._bursts.get(error.limit)
        if burst is None:
            self._write(error, 1, client, connection)
            self._bursts[error.limit] = Burst(error)
            self._call_after(_INTERVAL_S, lambda: self._on_second(error.limit))
        else:
            burst.count += 1
            burst.client, burst.connection = client, connection

    def flush(self) -> None:
        """Record what was counted and not recorded: the service stops."""
        for burst in self._bursts.values():
            self._write_burst(burst)

    def _on_second(self, limit: str) -> None:
        burst = self._bursts[limit]
        if burst.count:
            self._write_burst(burst)
            self._call_after(_INTERVAL_S, lambda: self._on_second(limit))
        else:
            del self._bursts[limit]

    def _write_burst(self, burst: Burst) -> None:
        count, burst.count = burst.count, 0
        if count:
            self._write(burst.error, count, burst.client, burst.connection)

    def _write(self, error: LimitExceeded, count: int, client: str, connection: str) -> None:
        self._recorder.write(
            LimitRecord(
                time=self._clock.wall(),
                limit=error.limit,
                bound=error.bound,
                count=count,
                client=client,
                connection=connection,
            )
        )
