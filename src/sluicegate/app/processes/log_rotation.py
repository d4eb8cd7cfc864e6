"""LogRotation: begins another file of the log in time, and lets go of files that are stored.

``store_post`` turns it, in the supervisor. The invariant: a file goes only when the store has said,
after its transaction, that it ends in a later one; and only files that this one has moved go: what
an operator's rotation has moved is the operator's.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Final

from sluicegate.app.log_config import StoreSettings
from sluicegate.audit.query import rotated_files
from sluicegate.clock import Clock

from .orders import Stored

__all__ = ["LogRotation"]


class LogRotation:
    """The files of one gate's log."""

    def __init__(
        self,
        path: pathlib.Path,
        settings: StoreSettings,
        clock: Clock,
        say: Callable[[str], None],
        *,
        reopen: Callable[[], None],
        hold: Callable[[str], None],
    ) -> None:
        """Begin.

        Args:
            path: Of the log.
            settings: How large and how old a file may become, and how much may wait.
            clock: Tells how old the file is.
            say: Shows a line to whoever started the gate.
            reopen: Makes the log's writer open the path again.
            hold: Makes it write nothing, for a reason; for none, go on.
        """
        self._path = path
        self._settings = settings
        self._clock = clock
        self._say = say
        self._reopen = reopen
        self._hold = hold
        self._known = (0, 0.0)
        #: The file's number, and the time of its first record.
        self._trouble = ""

    def turn(self, stored: Stored) -> None:
        """Do what is due.

        Args:
            stored: What the store's keeper has said last.
        """
        try:
            self._let_go(stored.inode)
            if self._is_due():
                self._rotate()
            self._trouble = ""
        except OSError as error:
            cause = f"{self._path}: the log cannot be rotated: {error.strerror}"
            if cause != self._trouble:
                self._trouble = cause
                self._say(cause)
        bound = self._settings.unstored_bytes
        is_too_much = stored.bytes_behind > bound
        self._hold(f"unstored_bytes: more than {bound} bytes wait to be stored" * is_too_much)

    def _is_due(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False  # somebody else is about to rotate
        if status.st_size >= self._settings.rotate_bytes:
            return True
        if self._known[0] != status.st_ino:
            self._known = status.st_ino, _time_of_first(self._path)
        began = self._known[1]
        return bool(began) and self._clock.wall() - began >= self._settings.rotate_hours * 3600

    def _rotate(self) -> None:
        stamp = dt.datetime.fromtimestamp(self._clock.wall(), dt.UTC).strftime("%Y%m%d%H%M%S")
        moved = self._path.with_name(f"{self._path.name}-{stamp}")
        if moved.exists():
            return  # it was rotated within this second: the next turn does it
        self._path.rename(moved)
        self._reopen()

    def _let_go(self, inode: int) -> None:
        """Remove our files that come before the one in which the store ends."""
        if not inode:
            return
        files = rotated_files(self._path)
        numbers = [path.stat().st_ino for path in files]
        if inode not in numbers:
            return
        for path in files[: numbers.index(inode)]:
            if _OURS.fullmatch(path.name.removeprefix(self._path.name)):
                path.unlink()


_OURS: Final = re.compile(r"-\d{14}", re.ASCII)
_LINE_BYTES_MAX: Final = 1 << 16


def _time_of_first(path: pathlib.Path) -> float:
    """Return the time of a file's first record; 0: it has none that can be read yet."""
    with path.open("rb") as file:
        line, end, _ = os.pread(file.fileno(), _LINE_BYTES_MAX, 0).partition(b"\n")
    try:
        time = json.loads(line)["time"] if end else 0.0
    except (ValueError, KeyError, TypeError):
        return 0.0
    return float(time) if isinstance(time, int | float) else 0.0
