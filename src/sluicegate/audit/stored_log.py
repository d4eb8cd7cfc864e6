"""StoredLog: all records of a gate, those in its store and those that only its log has yet.

Commands read it. The invariant: every record is given once, in the order in which it was recorded.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import msgspec

from sluicegate.clock import Clock

from .query import LogLine
from .search.matching import predicate_of
from .search.query import Query
from .store import Follower, LogPosition, StorePlace, StoreReader

__all__ = ["StoredLog", "line_of"]

_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class StoredLog:
    """A store and the log that it follows, open for questions."""

    def __init__(self, log: pathlib.Path, place: StorePlace, clock: Clock) -> None:
        """Open both.

        Raises:
            ConfigError: There is no store, or it cannot be read.
        """
        self.skipped = 0
        #: Lines that were no records.
        self._log = log
        self.store = StoreReader(place, clock)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def read(self, query: Query) -> Iterator[LogLine]:
        """Yield all records that a query chooses, the oldest first."""
        last, rest = self.end_and_rest(query)
        for record in self.store.read(query):
            if record.seq > last:
                break
            yield line_of(record.line.encode("utf-8"))
        yield from rest

    def newest(self, query: Query, count: int) -> list[LogLine]:
        """Return the newest records that a query chooses, the oldest of them first."""
        if not count:
            return []
        last, rest = self.end_and_rest(query)
        rest = rest[-count:]
        wanted = count - len(rest)
        stored: list[LogLine] = []
        before = last + 1
        while wanted > len(stored):
            found = self.store.search(query, wanted - len(stored), before=before, seconds_max=60)
            stored += [line_of(record.line.encode("utf-8")) for record in found.records]
            before = found.before
            if found.is_complete:
                break
        return [*reversed(stored), *rest]

    def end_and_rest(self, query: Query) -> tuple[int, list[LogLine]]:
        """Return the number of the last stored record, and what is in the log alone.

        The end is looked at first: what is stored from then on is read from the log. A file that
        went meanwhile was stored to its end: then the store ends elsewhere by now.
        """
        while True:
            last, position = self.store.end
            gaps: list[str] = []
            try:
                rest = self._unstored(query, position, gaps.append)
            except FileNotFoundError:
                continue  # a rotation moved it at this moment: it has another name now
            if not gaps or self.store.end[1].inode == position.inode:
                return last, rest

    def _unstored(
        self, query: Query, position: LogPosition, on_gap: Callable[[str], None]
    ) -> list[LogLine]:
        """Return what a query chooses of the lines that are in the log alone.

        Raises:
            FileNotFoundError: A file was moved before it could be opened.
        """
        passes, chosen = predicate_of(query), list[LogLine]()
        skipped = 0
        follower = Follower(self._log, position, on_gap)
        try:
            while (chunk := follower.read()) is not None:
                for raw in chunk.lines:
                    try:
                        fields = _decoder.decode(raw)
                    except msgspec.DecodeError:
                        skipped += 1
                        continue
                    if passes(fields):
                        chosen.append(LogLine(raw, fields))
        finally:
            follower.close()
        self.skipped = skipped
        return chosen


def line_of(raw: bytes) -> LogLine:
    """Return a stored record as a line."""
    return LogLine(raw, _decoder.decode(raw))
