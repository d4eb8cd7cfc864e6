"""LimitLog: a record when a limit is reached, at most one a second for each.

The service notes every occurrence here. The invariant: no flood of clients floods the log, and no
occurrence is lost: the next record of a limit counts those since the last.
"""

from __future__ import annotations

from typing import Final

from sluicegate.audit import LimitRecord, Recorder
from sluicegate.clock import Clock
from sluicegate.errors import LimitExceeded

__all__ = ["LimitLog"]

_INTERVAL_S: Final = 1.0


class LimitLog:
    """When each limit was recorded last, and how often it was reached since."""

    __slots__ = ("_clock", "_recorder", "_since")

    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder = recorder
        self._clock = clock
        self._since: dict[str, tuple[float, int]] = {}

    def note(self, error: LimitExceeded, *, client: str = "", connection: str = "") -> None:
        """Take note of a limit that was reached."""
        now = self._clock.monotonic()
        last, count = self._since.get(error.limit, (-_INTERVAL_S, 0))
        if now - last < _INTERVAL_S:
            self._since[error.limit] = (last, count + 1)
            return
        self._since[error.limit] = (now, 0)
        self._recorder.write(
            LimitRecord(
                time=self._clock.wall(),
                limit=error.limit,
                bound=error.bound,
                count=count + 1,
                client=client,
                connection=connection,
            )
        )
