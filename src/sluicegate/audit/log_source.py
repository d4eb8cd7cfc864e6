"""LogSource: all of a log for those who read it from one end to the other: files, or a store.

``why``, ``simulate`` and ``learn`` read one; ``stored_log`` is the other kind. The invariant: both
give the same records in the same order, and what is kept of them in memory is one.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sluicegate.errors import ConfigError

from .query import LogFile, LogLine

__all__ = ["FileLogs", "LogSource"]


class LogSource(Protocol):
    """A log, to be read whole."""

    @property
    def names(self) -> Sequence[str]:
        """What it consists of, for people."""
        ...

    @property
    def size(self) -> int:
        """How much there is to read, in a unit of its own."""
        ...

    @property
    def read(self) -> int:
        """How much of that was read since the beginning."""
        ...

    def lines(self, *texts: str) -> Iterator[LogLine]:
        """Yield the records that hold one of these texts, the oldest first; of none: all.

        A record that holds one need not be about it.

        Raises:
            ConfigError: It cannot be read.
        """
        ...

    def about(self, identifier: str) -> Iterator[LogLine]:
        """Yield the records about a connection, a request or a session, the oldest first.

        A record that is given need not be about it.

        Raises:
            ConfigError: It cannot be read.
        """
        ...

    def around(self, time: float, seconds: float, *texts: str) -> Iterator[LogLine]:
        """Yield the records with one of these texts about a time; others may come, too.

        Raises:
            ConfigError: It cannot be read.
        """
        ...

    def last(self, wanted: Callable[[LogLine], bool], *texts: str) -> LogLine | None:
        """Return the newest record that is wanted of those with one of these texts.

        Raises:
            ConfigError: It cannot be read.
        """
        ...


class FileLogs:
    """A log's files, the oldest first."""

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self.read = 0
        #: Bytes; more than there are where files are compressed.
        self._paths = paths

    @property
    def names(self) -> Sequence[str]:
        """The files."""
        return [str(path) for path in self._paths]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self._paths)

    def lines(self, *texts: str) -> Iterator[LogLine]:
        """As in ``LogSource``."""
        for path in self._paths:
            yield from self._lines_of(path, texts)

    def about(self, identifier: str) -> Iterator[LogLine]:
        """As in ``LogSource``."""
        return self.lines(identifier)

    def around(self, time: float, seconds: float, *texts: str) -> Iterator[LogLine]:  # noqa: ARG002 - files are read whole
        """As in ``LogSource``."""
        return self.lines(*texts)

    def last(self, wanted: Callable[[LogLine], bool], *texts: str) -> LogLine | None:
        """As in ``LogSource``; files are read from the newest on."""
        for path in reversed(self._paths):
            found: LogLine | None = None
            for line in self._lines_of(path, texts):
                if wanted(line):
                    found = line
            if found is not None:
                return found
        return None

    def _lines_of(self, path: pathlib.Path, texts: Sequence[str]) -> Iterator[LogLine]:
        try:
            log = LogFile(path)
            log.only_with(*texts)
            seen = 0
            try:
                for line in log.new_lines():
                    self.read += log.bytes_read - seen
                    seen = log.bytes_read
                    yield line
            finally:
                log.close()
        except (OSError, EOFError) as error:
            raise ConfigError(
                str(path),
                f"cannot be read: {getattr(error, 'strerror', None) or error}",
                "is it whole? name other files with --log",
            ) from error
