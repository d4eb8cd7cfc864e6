"""StoredLog: all records of a gate, those in its store and those that only its log has yet.

Commands read it. The invariant: every record is given once, in the order in which it was recorded.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import msgspec

from sluicegate.clock import Clock

from .query import LogLine
from .search.matching import predicate_of
from .search.query import Query
from .store import Follower, LogPosition, StoreReader

__all__ = ["StoredLog"]

_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class StoredLog:
    """A store and the log that it follows, open for questions."""

    def __init__(self, log: pathlib.Path, folder: pathlib.Path, clock: Clock) -> None:
        """Open both.

        Raises:
            ConfigError: There is no store, or it cannot be read.
        """
        self.skipped = 0
        #: Lines that were no records.
        self._log = log
        self._store = StoreReader(folder, clock)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def read(self, query: Query) -> Iterator[LogLine]:
        """Yield all records that a query chooses, the oldest first."""
        # Looked at first: what is stored from now on is read from the log.
        last, position = self._store.end
        rest = self._unstored(query, position)
        for record in self._store.read(query):
            if record.seq > last:
                break
            yield self._line(record.line.encode("utf-8"))
        yield from rest

    def newest(self, query: Query, count: int) -> list[LogLine]:
        """Return the newest records that a query chooses, the oldest of them first."""
        if not count:
            return []
        last, position = self._store.end
        rest = self._unstored(query, position)[-count:]
        wanted = count - len(rest)
        stored: list[LogLine] = []
        before = last + 1
        while wanted > len(stored):
            found = self._store.search(query, wanted - len(stored), before=before, seconds_max=60)
            stored += [self._line(record.line.encode("utf-8")) for record in found.records]
            before = found.before
            if found.is_complete:
                break
        return [*reversed(stored), *rest]

    def _unstored(self, query: Query, position: LogPosition) -> list[LogLine]:
        """Return what a query chooses of the lines that are in the log alone."""
        passes, chosen = predicate_of(query), list[LogLine]()
        follower = Follower(self._log, position, lambda _: None)
        try:
            while (chunk := follower.read()) is not None:
                for raw in chunk.lines:
                    try:
                        fields = _decoder.decode(raw)
                    except msgspec.DecodeError:
                        self.skipped += 1
                        continue
                    if passes(fields):
                        chosen.append(LogLine(raw, fields))
        except FileNotFoundError:
            pass  # moved away by a rotation at this moment
        finally:
            follower.close()
        return chosen

    def _line(self, raw: bytes) -> LogLine:
        return LogLine(raw, _decoder.decode(raw))
