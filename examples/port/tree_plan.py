"""What to copy: the pieces of a tree of files, opened as they come up.

Both ways of copying (``copy_tree_callbacks``, ``copy_tree_await``) take pieces from here and copy
them through the port. The invariant: a file's two handles are closed when its last piece is done,
so no more files are open than operations are in flight.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluicegate.port import CompletionPort, Handle

__all__ = ["IN_FLIGHT", "PIECE_SIZE", "FileCopy", "Piece", "plan_pieces"]

IN_FLIGHT = 64
PIECE_SIZE = 256 << 10


class FileCopy:
    """One file on its way; closed when its last piece is done."""

    def __init__(self, source: Handle, target: Handle, pieces: int) -> None:
        self.source = source
        self.target = target
        self._pieces_left = pieces

    def finish_piece(self) -> None:
        """Count a piece as done."""
        self._pieces_left -= 1
        if not self._pieces_left:
            self.source.close()
            self.target.close()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one file."""

    file: FileCopy
    offset: int
    length: int


def plan_pieces(port: CompletionPort, source: Path, target: Path) -> Iterator[Piece]:
    """Make the folders and yield the pieces of every file, opening each when its turn comes.

    Raises:
        FileExistsError: The target exists; nothing is overwritten.
        OSError: A file cannot be opened or made, or is neither file, folder nor link.
    """
    target.mkdir()
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path, copy = Path(entry.path), target / entry.name
        status = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            copy.symlink_to(path.readlink())
        elif entry.is_dir():
            yield from plan_pieces(port, path, copy)
        elif stat.S_ISREG(status.st_mode):
            yield from _open_file(port, path, copy, status)
        else:
            raise OSError(f"{path} is neither a file nor a folder nor a link")


def _open_file(
    port: CompletionPort, path: Path, copy: Path, status: os.stat_result
) -> Iterator[Piece]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.open(copy, flags, stat.S_IMODE(status.st_mode))
    offsets = range(0, status.st_size, PIECE_SIZE)
    if not offsets:
        os.close(target)
        return
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    file = FileCopy(port.hook(source), port.hook(target), len(offsets))
    for offset in offsets:
        yield Piece(file, offset, min(PIECE_SIZE, status.st_size - offset))
