"""WholeLog: a gate's store, and behind it what only its log has yet, read whole.

The invariant: every record is given once, in the order in which it was recorded.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

from sluicegate.clock import Clock

from .query import LogLine
from .search import EVERYTHING
from .search.bounds import TimeBounds
from .store import StorePlace
from .stored_log import StoredLog, line_of

__all__ = ["WholeLog"]


class WholeLog:
    """A store and its log; satisfies ``LogSource``."""

    def __init__(self, log: pathlib.Path, place: StorePlace, clock: Clock) -> None:
        """Open both.

        Raises:
            ConfigError: There is no store, or it cannot be read.
        """
        self.names: Sequence[str] = [place.name, str(log)]
        self.read = 0
        #: Records that were come past.
        self._log = StoredLog(log, place, clock)

    def close(self) -> None:
        """Close the store."""
        self._log.close()

    @property
    def size(self) -> int:
        """Records that are stored."""
        return self._log.store.count

    def lines(self, *texts: str) -> Iterator[LogLine]:
        """As in ``LogSource``."""
        last, rest = self._log.end_and_rest(EVERYTHING)
        wanted = _escaped(texts)
        first = self._log.store.first
        for record in self._log.store.holding(wanted, before=last + 1):
            self.read = record.seq - first + 1
            yield line_of(record.line.encode("utf-8"))
        yield from (line for line in rest if _holds(line, wanted))

    def about(self, identifier: str) -> Iterator[LogLine]:
        """As in ``LogSource``; sessions have no index, and are found by their text."""
        last, rest = self._log.end_and_rest(EVERYTHING)
        wanted = _escaped([identifier])
        found = list(self._log.store.about(identifier, before=last + 1))
        held = [line for line in rest if _holds(line, wanted)]
        if not found and not held:
            yield from self.lines(identifier)
            return
        yield from (line_of(record.line.encode("utf-8")) for record in found)
        yield from held

    def around(self, time: float, seconds: float, *texts: str) -> Iterator[LogLine]:
        """As in ``LogSource``."""
        last, rest = self._log.end_and_rest(EVERYTHING)
        wanted = _escaped(texts)
        bounds = TimeBounds(time - seconds, time + seconds)
        for record in self._log.store.holding(wanted, before=last + 1, bounds=bounds):
            yield line_of(record.line.encode("utf-8"))
        yield from (line for line in rest if _holds(line, wanted))

    def last(self, wanted: Callable[[LogLine], bool], *texts: str) -> LogLine | None:
        """As in ``LogSource``."""
        last, rest = self._log.end_and_rest(EVERYTHING)
        needed = _escaped(texts)
        for line in reversed(rest):
            if _holds(line, needed) and wanted(line):
                return line
        for record in self._log.store.holding(needed, before=last + 1, newest_first=True):
            line = line_of(record.line.encode("utf-8"))
            if wanted(line):
                return line
        return None


def _escaped(texts: Sequence[str]) -> list[str]:
    """Return texts as they stand in lines."""
    return [json.dumps(text)[1:-1] for text in texts]


def _holds(line: LogLine, texts: Sequence[str]) -> bool:
    return not texts or any(text.encode("ascii") in line.raw for text in texts)
