"""Tallies: numbers that every process keeps where the others can read them.

The supervisor makes the memory, each process writes its own row. The invariant: a row has one
writer, so no lock is needed, and what a process that was killed had counted is still there.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from sluicegate.process_limits import PROCESS_ROWS_MAX

__all__ = ["CONNECTIONS", "RECORDS", "Tallies"]

_CELLS: Final = 8
"""A row is one cache line."""

RECORDS: Final = 0
"""Cell: records made, less those that found no room."""

CONNECTIONS: Final = 1
"""Cell: connections that were let in and have not ended."""


class Tallies:
    """The rows of one gate."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory that ``make`` made; the descriptor stays the caller's."""
        self._map = mmap.mmap(descriptor, PROCESS_ROWS_MAX * _CELLS * 8)
        self._cells = memoryview(self._map).cast("Q")

    @staticmethod
    def make() -> int:
        """Return the descriptor of new memory, all zero."""
        descriptor = os.memfd_create("sluicegate-tallies", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, PROCESS_ROWS_MAX * _CELLS * 8)
        return descriptor

    def row(self, row: int) -> memoryview:
        """Return the cells of one process."""
        return self._cells[row * _CELLS : (row + 1) * _CELLS]

    def clear(self, row: int) -> None:
        """Let a new process have a row."""
        for cell in range(row * _CELLS, (row + 1) * _CELLS):
            self._cells[cell] = 0
