"""Journal: how far the audit writer came, in memory that outlives it.

The supervisor holds the memory and gives it to each writer in turn. The invariant: whatever moment
a writer is killed at, its successor finds out exactly which batches are in the file, so none is
lost and none is written twice.

Before a write the writer notes where in the file it will begin, how long it is, and how far each
sender's batches then are; after it, that these are in the file. A successor that finds a write
noted and not confirmed looks at the file: as only the writer appends to it, the write is there
whole if the file is that long; else what there is of it is cut off.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from sluicegate.process_limits import PROCESS_ROWS_MAX

__all__ = ["JOURNAL_BYTES", "Journal"]

_HEADER: Final = 4
_STATE, _OFFSET, _LENGTH, _INODE = range(_HEADER)
_ROW: Final = 4
_NUMBER, _RECORDS, _NEXT_NUMBER, _NEXT_RECORDS = range(_ROW)

JOURNAL_BYTES: Final = 8 * (_HEADER + _ROW * PROCESS_ROWS_MAX)
"""What the memory has to have."""


class Journal:
    """The rows of all senders, and the write in flight; each row is one sender's."""

    __slots__ = ("_cells", "_map")

    def __init__(self, descriptor: int) -> None:
        """Map the memory; the descriptor may be closed afterwards."""
        self._map = mmap.mmap(descriptor, JOURNAL_BYTES)
        self._cells = memoryview(self._map).cast("Q")

    def close(self) -> None:
        """Give the mapping up."""
        self._cells.release()
        self._map.close()

    def number(self, row: int) -> int:
        """Return the last batch of a sender that is in the file."""
        return self._cells[_HEADER + row * _ROW + _NUMBER]

    def records(self, row: int) -> int:
        """Return how many records of a sender are in the file."""
        return self._cells[_HEADER + row * _ROW + _RECORDS]

    def clear(self, row: int) -> None:
        """Let a new sender have a row; its former one has none left."""
        at = _HEADER + row * _ROW
        for cell in range(at, at + _ROW):
            self._cells[cell] = 0

    def intend(self, descriptor: int, length: int, batches: dict[int, tuple[int, int]]) -> None:
        """Note a write that comes next.

        Args:
            descriptor: The file, open for appending.
            length: Bytes of the write.
            batches: For each row the last batch in it, and how many records all of it are.
        """
        cells = self._cells
        status = os.fstat(descriptor)
        cells[_OFFSET], cells[_LENGTH], cells[_INODE] = status.st_size, length, status.st_ino
        for row, (number, records) in batches.items():
            at = _HEADER + row * _ROW
            cells[at + _NEXT_RECORDS] = cells[at + _RECORDS] + records
            cells[at + _NEXT_NUMBER] = number
        cells[_STATE] = 1

    def settle(self) -> None:
        """Note that the write is in the file, whole."""
        cells = self._cells
        for row in range(PROCESS_ROWS_MAX):
            at = _HEADER + row * _ROW
            if cells[at + _NEXT_NUMBER]:
                cells[at + _RECORDS] = cells[at + _NEXT_RECORDS]
                cells[at + _NUMBER] = cells[at + _NEXT_NUMBER]
        cells[_STATE] = 0
        self._forget()

    def abandon(self) -> None:
        """Note that nothing of the write is in the file."""
        self._cells[_STATE] = 0
        self._forget()

    def recover(self, descriptor: int) -> None:
        """Find out what became of the write that the last writer died in.

        Args:
            descriptor: The file that it wrote, open for appending.

        Raises:
            OSError: The file cannot be cut.
        """
        cells = self._cells
        status = os.fstat(descriptor)
        if not cells[_STATE]:
            self._forget()
        elif status.st_ino == cells[_INODE] and status.st_size >= cells[_OFFSET] + cells[_LENGTH]:
            self.settle()
        else:
            if status.st_ino == cells[_INODE] and status.st_size > cells[_OFFSET]:
                os.ftruncate(descriptor, cells[_OFFSET])
            self.abandon()

    def recover_left(self, descriptor: int) -> None:
        """Find out what became of the last writer's write, if it was to a file that was left since.

        Args:
            descriptor: That file, open for appending; nothing is done if the write was to another.

        Raises:
            OSError: The file cannot be cut.
        """
        cells = self._cells
        if cells[_STATE] and os.fstat(descriptor).st_ino == cells[_INODE]:
            self.recover(descriptor)

    def _forget(self) -> None:
        cells = self._cells
        for row in range(PROCESS_ROWS_MAX):
            cells[_HEADER + row * _ROW + _NEXT_NUMBER] = 0
