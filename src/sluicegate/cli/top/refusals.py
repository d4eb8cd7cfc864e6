"""Refusals: the last records of what was refused or failed, read from the end of the log.

``dashboard`` reads on every few seconds, on a thread. The invariant: at the first reading, no more
than ``TOP_LOG_BYTES`` of the file are looked at, however large it is.
"""

from __future__ import annotations

import pathlib
from collections import deque
from typing import Final

from sluicegate.audit.query import LogFile
from sluicegate.audit.search import parse_query
from sluicegate.audit.search.matching import predicate_of
from sluicegate.console_limits import TOP_LOG_BYTES, TOP_REFUSALS_MAX

from .listings import refusal_row
from .row import Row

__all__ = ["Refusals"]

_REFUSED: Final = (
    "verdict:denied,refused,failed or outcome:refused,failed or kind:limit,filter-failure"
)


class Refusals:
    """What was refused lately."""

    def __init__(self, log: pathlib.Path) -> None:
        self.cause = ""
        #: Why the log cannot be read; empty while it can.
        self._path = log
        self._file: LogFile | None = None
        self._passes = predicate_of(parse_query(_REFUSED, 0.0))
        self._kept: deque[Row] = deque(maxlen=TOP_REFUSALS_MAX)
        self._count = 0

    def read(self) -> list[Row]:
        """Return the last refusals, with those that came since the last call."""
        try:
            if self._file is None:
                self._file = LogFile(self._path)
                self._file.skip_to_last(TOP_LOG_BYTES)
            for line in self._file.new_lines():
                if self._passes(line.fields):
                    self._count += 1
                    self._kept.append(refusal_row(line, self._count))
        except OSError as error:
            self.cause = f"{self._path} cannot be read: {error.strerror}"
        else:
            self.cause = ""
        return list(self._kept)

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()
