"""Where the commands of the log read records: a gate's store and log, or files alone.

The invariant: both ways give the same records in the same order.
"""

from __future__ import annotations

import pathlib
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from sluicegate.app.log_config import open_place
from sluicegate.app.service_config import StatePaths
from sluicegate.audit.query import LogFile, LogLine
from sluicegate.audit.search.matching import predicate_of
from sluicegate.audit.search.query import Query
from sluicegate.audit.store import has_store
from sluicegate.audit.stored_log import StoredLog
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError

__all__ = ["FileRecords", "Records", "open_records"]


class Records(Protocol):
    """Records, open for questions."""

    @property
    def skipped(self) -> int:
        """Lines that were no records."""
        ...

    def read(self, query: Query) -> Iterator[LogLine]:
        """Yield all records that a query chooses, the oldest first."""
        ...

    def newest(self, query: Query, count: int) -> list[LogLine]:
        """Return the newest records that a query chooses, the oldest of them first."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class FileRecords:
    """The records of one file, in which more may come."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open it.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            self._file = LogFile(path)
        except OSError as error:
            raise ConfigError(
                str(path),
                f"the log cannot be read: {error.strerror}",
                "did the gate ever run? choose its --config, or the log's --file",
            ) from error

    @property
    def skipped(self) -> int:
        """Lines that were no records."""
        return self._file.skipped

    def read(self, query: Query) -> Iterator[LogLine]:
        """Yield what a query chooses of the lines that were not read yet."""
        passes = predicate_of(query)
        return (line for line in self._file.new_lines() if passes(line.fields))

    def newest(self, query: Query, count: int) -> list[LogLine]:
        """Return the newest records that a query chooses, the oldest of them first."""
        return list(deque(self.read(query), maxlen=count))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_records(paths: StatePaths) -> Records:
    """Open a gate's store and log, or its log where it has no store yet.

    Raises:
        ConfigError: They cannot be read.
    """
    if paths.store is not None and has_store(place := open_place(paths.store)):
        return StoredLog(paths.log_path, place, SystemClock())
    return FileRecords(paths.log_path)
