"""The directory of the spool, and the only place that opens and closes its files.

The store checks it once at start and opens files in it from the blocking pool, because creating and
freeing an inode may wait for the file system's journal. The invariant: no file of the spool ever
has a name that outlives the call that made it, and none has a name that a client chose.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from sluicegate.errors import ConfigError, LimitExceeded, TransportError, errno_name
from sluicegate.limits import Limits

__all__ = ["OpenedFile", "SpoolDirectory"]

_TMPFS_MAGIC: Final = 0x01021994
_RAMFS_MAGIC: Final = 0x858458F6
_MODE: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

#: Kernels and file systems without O_TMPFILE answer with one of these (open(2)).
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})

_libc = ctypes.CDLL(None, use_errno=True)


class OpenedFile:
    """A new spool file's descriptor, and what the file system had free at that moment."""

    __slots__ = ("descriptor", "free_bytes")

    def __init__(self, descriptor: int, free_bytes: int) -> None:
        self.descriptor = descriptor
        self.free_bytes = free_bytes


class SpoolDirectory:
    """One private directory; every method may block."""

    __slots__ = ("_limits", "_without_tmpfile", "path")

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._without_tmpfile = False

    def check(self) -> list[str]:
        """Look whether objects can be held here; return warnings for the operator.

        Raises:
            ConfigError: The directory is missing, shared with others, not writable, or too full.
        """
        where = f"spool directory {self.path}"
        try:
            status = self.path.lstat()
        except OSError as error:
            raise ConfigError(
                where, os.strerror(error.errno or errno.EIO), f"mkdir -m 700 {self.path}"
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(where, "is not a directory", "name a directory of its own")
        if status.st_uid != os.geteuid():
            raise ConfigError(
                where, f"belongs to user {status.st_uid}", f"chown {os.geteuid()} {self.path}"
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigError(where, "others may enter it", f"chmod 700 {self.path}")
        try:
            os.close(self.open_file().descriptor)
        except LimitExceeded as error:
            cure = f'make room, name another directory, or lower "{error.limit}" in [limits]'
            raise ConfigError(where, str(error), cure) from error
        except TransportError as error:
            raise ConfigError(where, str(error), "name another directory") from error
        if _file_system_type(self.path) in {_TMPFS_MAGIC, _RAMFS_MAGIC}:
            return [f"{where} lies in memory (tmpfs): held objects take memory; use a disk"]
        return []

    def open_file(self) -> OpenedFile:
        """Create a file without a name, mode 0600, open for reading and writing.

        Raises:
            LimitExceeded: ``spool_free_bytes_min`` or ``spool_free_inodes_min``.
            TransportError: The file system refused.
        """
        try:
            free_bytes = self._check_room()
            return OpenedFile(self._create(), free_bytes)
        except OSError as error:
            raise TransportError(error.errno or errno.EIO, doing="create a spool file") from error

    def _check_room(self) -> int:
        room = os.statvfs(self.path)
        free_bytes = room.f_bavail * room.f_frsize
        if free_bytes < self._limits.spool_free_bytes_min:
            raise LimitExceeded("spool_free_bytes_min", self._limits.spool_free_bytes_min)
        # File systems that make inodes as needed (btrfs) report none at all.
        if room.f_files and room.f_favail < self._limits.spool_free_inodes_min:
            raise LimitExceeded("spool_free_inodes_min", self._limits.spool_free_inodes_min)
        return free_bytes

    def _create(self) -> int:
        if not self._without_tmpfile:
            try:
                # O_EXCL: the file can never be linked into the tree afterwards.
                return os.open(self.path, os.O_TMPFILE | os.O_EXCL | _FLAGS, _MODE)
            except OSError as error:
                if error.errno not in _NO_TMPFILE or not self.path.is_dir():
                    raise
                self._without_tmpfile = True
        path = self.path / f"held-{secrets.token_hex(16)}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | _FLAGS, _MODE)
        try:
            path.unlink()
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _file_system_type(path: Path) -> int:
    """Return the magic number of statfs(2), whose first member it is; 0 when it cannot be had."""
    answer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), answer):
        error = ctypes.get_errno()
        raise ConfigError(f"spool directory {path}", f"statfs: {errno_name(error)}")
    return int.from_bytes(answer.raw[: ctypes.sizeof(ctypes.c_long)], "little")
