"""Copy a tree of files with 64 operations in flight, by callbacks: no asyncio at all.

Run it: ``python copy_tree_callbacks.py SOURCE TARGET``. Each of 64 lanes owns a buffer and an
overlapped; the completion of a read starts the write, the completion of the write the next read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tree_plan import IN_FLIGHT, PIECE_SIZE, Piece, plan_pieces

from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, Overlapped, choose_backend


class TreeCopy:
    """One copy of a tree; ``run`` turns the port until the last lane has ended."""

    def __init__(self, port: CompletionPort, source: Path, target: Path) -> None:
        self.bytes_copied = 0
        self.error = 0
        #: The first errno; it ends every lane.
        self._port = port
        self._pieces = plan_pieces(port, source, target)
        self._lanes = 0

    def run(self) -> int:
        """Copy everything and return the bytes.

        Raises:
            OSError: The first operation that failed.
        """
        for _ in range(IN_FLIGHT):
            self._lanes += 1
            Lane(self, self._port).take_next()
        while self._lanes:
            self._port.turn()
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return self.bytes_copied

    def next_piece(self) -> Piece | None:
        """Return what to copy next; None ends the lane that asks."""
        piece = None if self.error else next(self._pieces, None)
        if piece is None:
            self._lanes -= 1
        return piece


class Lane:
    """A buffer and an overlapped that copy one piece after the other."""

    def __init__(self, tree: TreeCopy, port: CompletionPort) -> None:
        self._tree = tree
        self._buffer = port.create_buffer(PIECE_SIZE)
        self._overlapped = port.create_overlapped()
        self._overlapped.set_notification(self)
        self._piece: Piece | None = None
        self._written = 0

    def take_next(self) -> None:
        """Start to read the next piece, if there is one."""
        self._piece = piece = self._tree.next_piece()
        if piece is not None:
            self._overlapped.offset = piece.offset
            piece.file.source.start_read(self._buffer, self._overlapped, piece.length)
            self._overlapped.user_data = "read"

    def complete_async_io(
        self,
        success: bool,
        bytes_transferred: int,
        error: int,
        overlapped: Overlapped,
        user_data: str,
    ) -> None:
        """Write what was read; when all of it is written, read the next piece."""
        piece = self._piece
        assert piece is not None
        if not success:
            self._tree.error = self._tree.error or error
            piece.file.finish_piece()
            self.take_next()
            return
        if user_data == "read":
            self._written = 0
            overlapped.user_data = "write"
        else:
            self._written += bytes_transferred
        if self._written < self._buffer.used:
            overlapped.offset = piece.offset + self._written
            piece.file.target.start_write(self._buffer.window(self._written), overlapped)
            return
        self._tree.bytes_copied += self._buffer.used
        piece.file.finish_piece()
        self.take_next()


def copy_tree(source: Path, target: Path) -> int:
    """Copy a folder and return the bytes copied."""
    limits = Limits()
    port = CompletionPort(choose_backend("auto", limits), limits=limits)
    try:
        return TreeCopy(port, source, target).run()
    finally:
        port.close()


if __name__ == "__main__":
    print(copy_tree(Path(sys.argv[1]), Path(sys.argv[2])), "bytes copied")
