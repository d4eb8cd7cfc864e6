"""Spool room: what held objects may take of the file system, and what it has left.

The supervisor tells it to the alert process, whose conditions look at it. The invariant: a file
system that cannot be asked raises no alert of its own.
"""

from __future__ import annotations

import os
import pathlib

import msgspec

__all__ = ["SpoolRoom"]


class SpoolRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What held objects may take."""

    folder: str
    bytes_max: int
    free_bytes_min: int
    """What they leave of their file system."""

    def free_bytes(self) -> int:
        """Return what the file system has left; the most there is where it cannot be asked."""
        try:
            found = os.statvfs(pathlib.Path(self.folder))
        except OSError:
            return 1 << 62
        return found.f_bavail * found.f_frsize
