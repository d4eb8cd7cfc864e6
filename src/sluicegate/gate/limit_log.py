"""LimitLog: a record when a limit is reached, at most one a second for each.

The service notes every occurrence here. The invariant: no flood of clients floods the log, and no
occurrence is lost (``throttle``).
"""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.audit import LimitRecord, Recorder
from sluicegate.clock import Clock
from sluicegate.errors import LimitExceeded

from .throttle import Throttle

__all__ = ["LimitLog"]


class LimitLog:
    """Which limits were reached of late, and how often."""

    __slots__ = ("_clock", "_recorder", "_throttle")

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._throttle: Throttle[tuple[LimitExceeded, str, str]] = Throttle(call_after, self._write)

    def note(self, error: LimitExceeded, *, client: str = "", connection: str = "") -> None:
        """Take note of a limit that was reached."""
        self._throttle.note(error.limit, (error, client, connection))

    def flush(self) -> None:
        """Record what was counted and not recorded: the service stops."""
        self._throttle.flush()

    def _write(self, fact: tuple[LimitExceeded, str, str], count: int) -> None:
        error, client, connection = fact
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
