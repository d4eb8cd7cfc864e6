"""Follower: the lines of the log's files in their order, from where a store ends.

The store's process has one. The invariant: no line is passed over in silence, and none is given
twice: a file is known by its number in the file system and by its first line, and one is left for
the next only when the writer of the log has gone on to that.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from sluicegate.audit.query import rotated_files
from sluicegate.log_limits import STORE_BATCH_RECORDS_MAX, STORE_READ_BYTES_MAX

from .position import LogPosition

__all__ = ["Chunk", "Follower", "end_of_log"]

_COMPRESSED: Final = ".gz"
_MARK_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines, one behind the other."""

    lines: list[bytes]
    """Without line ends; those that are empty are left out."""
    position: LogPosition
    """Where the last one ends."""
    has_more: bool = False
    """Whether it ends where it is full, and not where the log did when it was read."""


class Follower:
    """The log at a path, and what rotations made of it."""

    def __init__(
        self, path: pathlib.Path, position: LogPosition, on_gap: Callable[[str], None]
    ) -> None:
        """Begin, without opening anything yet.

        Args:
            path: Of the log, which need not be there yet.
            position: Where the store ends.
            on_gap: Told why lines are missing, if some are.
        """
        self._path = path
        self._position = position
        self._on_gap = on_gap
        self._file: IO[bytes] | None = None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Chunk | None:
        """Return the next lines; None: there are no more yet.

        Raises:
            OSError: A file cannot be read.
        """
        if self._file is None and not self._open_first():
            return None
        chunk = self._read_lines()
        if chunk is not None:
            return chunk
        following = self._following()
        if following is None:
            return None
        # Its writer is there now: what it had left to say here, it has said.
        chunk = self._read_lines()
        if chunk is not None:
            return chunk
        self._go_on_in(following)
        return self._read_lines()

    @property
    def bytes_behind(self) -> int:
        """Bytes that are in the file, or in later ones, and were not read.

        Raises:
            OSError: A file cannot be looked at.
        """
        if self._file is None:
            return sum(path.stat().st_size for path in self._files())
        opened = os.fstat(self._file.fileno())
        paths = self._files()
        index = next((i for i, one in enumerate(paths) if _is_file(one, opened.st_ino)), None)
        later = [] if index is None else paths[index + 1 :]
        rest = opened.st_size - self._position.offset
        return max(0, rest) + sum(path.stat().st_size for path in later)

    # -- files ---------------------------------------------------------------------------------

    def _files(self) -> list[pathlib.Path]:
        try:
            found = rotated_files(self._path)
        except FileNotFoundError:
            return []
        return [path for path in found if path.suffix != _COMPRESSED]

    def _open_first(self) -> bool:
        """Open the file in which the store ends, or the oldest if it ends nowhere."""
        paths = self._files()
        if not paths:
            return False
        known = self._position
        if not known.inode:
            self._go_on_in(paths[0])
            return True
        for path in paths:
            file = path.open("rb")
            status = os.fstat(file.fileno())
            if (
                status.st_ino == known.inode
                and status.st_size >= known.offset
                and known.mark in {"", _mark_of(file)}
            ):
                file.seek(known.offset)
                self._file = file
                return True
            file.close()
        self._on_gap(
            "the file in which the store ends is gone: what was in it and not stored is missing;"
            f" it goes on with {paths[0]}"
        )
        self._go_on_in(paths[0])
        return True

    def _go_on_in(self, path: pathlib.Path) -> None:
        self.close()
        self._file = path.open("rb")
        self._position = LogPosition(os.fstat(self._file.fileno()).st_ino, 0)

    def _following(self) -> pathlib.Path | None:
        """Return the file that comes next, once somebody writes there."""
        assert self._file is not None, "it reads one"
        opened = os.fstat(self._file.fileno())
        paths = self._files()
        index = next((i for i, one in enumerate(paths) if _is_file(one, opened.st_ino)), None)
        if index is None:
            # It was removed, or compressed: its reader has it still.
            later = [one for one in paths if one.stat().st_mtime_ns >= opened.st_mtime_ns]
        elif opened.st_size < self._position.offset:
            self._on_gap(f"{paths[index]} was cut in place: what was not stored is missing")
            return paths[index]
        else:
            later = paths[index + 1 :]
        return next((path for path in later if path.stat().st_size), None)

    # -- lines ---------------------------------------------------------------------------------

    def _read_lines(self) -> Chunk | None:
        """Return whole lines from where we are; a line that is not whole waits."""
        file = self._file
        assert file is not None, "it reads one"
        file.seek(self._position.offset)
        block = file.read(STORE_READ_BYTES_MAX)
        pieces = block.split(b"\n")[:-1]
        if not pieces:
            return self._pass_by_a_long_line() if len(block) == STORE_READ_BYTES_MAX else None
        is_full = len(pieces) > STORE_BATCH_RECORDS_MAX or len(block) == STORE_READ_BYTES_MAX
        pieces = pieces[:STORE_BATCH_RECORDS_MAX]
        self._move(sum(map(len, pieces)) + len(pieces))
        return Chunk([line for line in pieces if line], self._position, is_full)

    def _pass_by_a_long_line(self) -> Chunk | None:
        """Leave out a line that is longer than any record."""
        file = self._file
        assert file is not None, "it reads one"
        length = 0
        file.seek(self._position.offset)
        while block := file.read(STORE_READ_BYTES_MAX):
            end = block.find(b"\n") + 1
            length += end or len(block)
            if end:
                self._on_gap(f"a line of {length} bytes is no record, and is left out")
                self._move(length)
                return Chunk([], self._position, has_more=True)
        return None

    def _move(self, length: int) -> None:
        known, file = self._position, self._file
        assert file is not None, "it reads one"
        mark = known.mark or _mark_of(file)
        self._position = LogPosition(known.inode, known.offset + length, mark)


def end_of_log(path: pathlib.Path) -> LogPosition:
    """Return where the log at a path ends now; where there is none yet, its beginning.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return LogPosition()
    with file:
        status = os.fstat(file.fileno())
        # An empty file has no first line yet to be known by.
        mark = _mark_of(file) if status.st_size else ""
        return LogPosition(status.st_ino, status.st_size, mark)


def _is_file(path: pathlib.Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


def _mark_of(file: IO[bytes]) -> str:
    """Return what tells a file from a later one with the same number: its first line."""
    file.seek(0)
    first, end, _ = file.read(_MARK_BYTES).partition(b"\n")
    return hashlib.sha256(first + end).hexdigest()[:16]
