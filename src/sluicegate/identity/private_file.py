"""Files that others must not write or read: users, passwords, keys; read with that checked.

``user_file`` and ``app/secret_files`` read with it. The invariant: the checks are of the very file
that was read, not of a name that somebody could lead elsewhere in between.
"""

from __future__ import annotations

import os
import pathlib
import stat
from dataclasses import dataclass

from sluicegate.errors import ConfigError

__all__ = ["PrivateContent", "read_private_file"]


@dataclass(frozen=True, slots=True)
class PrivateContent:
    """What was read, and of which version of the file."""

    text: str
    status: os.stat_result


def read_private_file(
    path: pathlib.Path,
    *,
    bytes_max: int,
    holds: str,
    danger: str,
    cure: str = "",
    is_public: bool = False,
) -> PrivateContent:
    """Read a file that only its owner may write, and that not everybody may read.

    Args:
        path: The file.
        bytes_max: How long it may be.
        holds: What everybody could read, in words.
        danger: What another owner could do, in words.
        cure: What to do when it cannot be read.
        is_public: Everybody may read it (certificates).

    Raises:
        ConfigError: It cannot be read, or others could have written or read it.
    """
    where = os.fspath(path)
    try:
        # Not blocking, for what stands there may be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_status(where, status, "" if is_public else holds, danger)
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(where, f"cannot be read: {error.strerror}", cure) from error
    if len(content) > bytes_max:
        raise ConfigError(where, f"is longer than {bytes_max} bytes")
    try:
        return PrivateContent(content.decode("utf-8"), status)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name}:{line}", "not UTF-8", "save the file as UTF-8") from error


def _check_status(where: str, status: os.stat_result, secret: str, danger: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(where, "is not a file")
    if status.st_uid not in {0, os.geteuid()}:
        cause = f"belongs to the user {status.st_uid}, who {danger}"
        raise ConfigError(where, cause, f"chown root {where}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = "0600" if secret else "0644"
        raise ConfigError(where, "others can write it", f"chmod {mode} {where}")
    if secret and status.st_mode & stat.S_IROTH:
        raise ConfigError(where, f"everybody can read {secret}", f"chmod 0600 {where}")
