"""Census: what each client has, and what is held, over all workers of a gate.

The supervisor makes the memory, each worker's service counts in its own part of it and looks into
the others'. The invariant: a part has one writer and each client is one cell of it, so nothing is
locked and nothing is read half written; a worker that was killed is taken out by clearing its part.

Two workers that let the same client in at the same moment may both find room: a client can pass its
limit by as many connections as there are other workers, and only where the kernel does not steer.
A part is 16,384 groups of 16 cells. A client whose group is full cannot be counted, and is refused
when its count could matter.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
from typing import Final

from sluicegate.limits import PROCESS_ROWS_MAX

__all__ = ["Census"]

_GROUP: Final = 16
_GROUPS: Final = 1 << 14
_CELLS: Final = _GROUP * _GROUPS
_PART_BYTES: Final = 8 * _CELLS
_HEADER_BYTES: Final = 8192
_KEY_BYTES: Final = 16
_ROWS, _TOTALS, _HELD = 2, 3, 3 + PROCESS_ROWS_MAX
"""Cells of the header, behind the key: rows in use, then the connections of each row, then the
bytes that its spool holds."""
_COUNT_BITS: Final = 24
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_ALL_BYTES: Final = _HEADER_BYTES + PROCESS_ROWS_MAX * _PART_BYTES


class Census:
    """One process's view: it writes the part of ``row`` and reads all."""

    __slots__ = ("_at", "_begin", "_cells", "_key", "_map", "_row")

    def __init__(self, descriptor: int, row: int) -> None:
        """Map the memory that ``make`` made; the descriptor stays the caller's."""
        self._map = mmap.mmap(descriptor, _ALL_BYTES)
        self._cells = memoryview(self._map).cast("Q")
        self._key = self._map[:_KEY_BYTES]
        self._row = row
        self._begin = (_HEADER_BYTES + row * _PART_BYTES) >> 3
        self._at: dict[str, int] = {}
        #: The cells of clients that have a connection here.

    @staticmethod
    def make() -> int:
        """Return the descriptor of new memory; pages are taken as they are used."""
        descriptor = os.memfd_create("sluicegate-census", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _ALL_BYTES)
        os.pwrite(descriptor, secrets.token_bytes(_KEY_BYTES), 0)
        return descriptor

    # -- of a worker ---------------------------------------------------------------------------

    def note(self, client: str, change: int, connections: int) -> None:
        """Take that a client has ``change`` more connections here, now ``connections``."""
        cells = self._cells
        cells[_TOTALS + self._row] += change
        at = self._at.get(client)
        if at is None:
            at = self._take_cell(client)
            if at is None:
                return
            self._at[client] = at
        if connections:
            cells[at] = (cells[at] & ~_COUNT_MASK) | min(connections, _COUNT_MASK)
        else:
            cells[at] = 0
            del self._at[client]

    def has_room(self, client: str, connections: int, bound: int) -> bool:
        """Tell whether a client may have one more connection.

        Args:
            client: What its session goes by.
            connections: What it has here.
            bound: What it may have over all workers.
        """
        cells = self._cells
        if sum(cells[_TOTALS : _TOTALS + cells[_ROWS]].tolist()) < bound:
            return True  # all clients together do not have so many
        mark, group = self._mark(client)
        found = connections
        for row in range(cells[_ROWS]):
            if row == self._row or not cells[_TOTALS + row]:
                continue
            begin = ((_HEADER_BYTES + row * _PART_BYTES) >> 3) + group
            for cell in cells[begin : begin + _GROUP].tolist():
                if cell & ~_COUNT_MASK == mark:
                    found += cell & _COUNT_MASK
        if found >= bound:
            return False
        return client in self._at or self._free_cell(group) is not None

    def held_elsewhere(self) -> int:
        """Return the bytes that the spools of all other workers hold."""
        cells = self._cells
        held = sum(cells[_HELD : _HELD + cells[_ROWS]].tolist())
        return held - cells[_HELD + self._row]

    def note_held(self, count: int) -> None:
        """Take what the spool of this worker holds."""
        self._cells[_HELD + self._row] = count

    def _take_cell(self, client: str) -> int | None:
        mark, group = self._mark(client)
        at = self._free_cell(group)
        if at is not None:
            self._cells[at] = mark
        return at

    def _free_cell(self, group: int) -> int | None:
        begin = self._begin + group
        for at in range(begin, begin + _GROUP):
            if not self._cells[at]:
                return at
        return None

    def _mark(self, client: str) -> tuple[int, int]:
        """Return what marks a client's cell, never zero, and where its group begins."""
        digest = hashlib.blake2b(client.encode(), digest_size=12, key=self._key).digest()
        mark = int.from_bytes(digest[:8], "little") & ~_COUNT_MASK
        group = int.from_bytes(digest[8:], "little") % _GROUPS * _GROUP
        return mark or 1 << _COUNT_BITS, group

    # -- of the supervisor ---------------------------------------------------------------------

    def clear(self, row: int) -> None:
        """Take a worker out, or let a new one have its part."""
        self._cells[_TOTALS + row] = self._cells[_HELD + row] = 0
        self._cells[_ROWS] = max(self._cells[_ROWS], row + 1)
        # Gives the pages back; they are zero when they are used again.
        self._map.madvise(mmap.MADV_REMOVE, _HEADER_BYTES + row * _PART_BYTES, _PART_BYTES)
