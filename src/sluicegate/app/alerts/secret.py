"""The first line of a private file, read when it is needed, so that it may be changed meanwhile."""

from __future__ import annotations

import pathlib

from sluicegate.access_limits import SECRET_FILE_BYTES_MAX
from sluicegate.errors import ConfigError
from sluicegate.identity import read_private_file

from .fault import ActionFailed

__all__ = ["read_secret_line"]


def read_secret_line(path: str, holds: str) -> str:
    """Return it.

    Args:
        path: Of the file.
        holds: What it has, in words.

    Raises:
        ActionFailed: It cannot be read, others may read it, or it is empty.
    """
    try:
        text = read_private_file(
            pathlib.Path(path),
            bytes_max=SECRET_FILE_BYTES_MAX,
            holds=holds,
            danger="could put another in its place",
            cure="relative paths begin at the folder of sluicegate.toml",
        ).text
    except ConfigError as error:
        raise ActionFailed(str(error)) from error
    line = text.partition("\n")[0].rstrip("\r")
    if not line:
        raise ActionFailed(f"{path}: its first line is empty")
    return line
