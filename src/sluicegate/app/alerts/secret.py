"""The first line of a private file, read when it is needed, so that it may be changed meanwhile."""

from __future__ import annotations

import pathlib
from typing import Final

from sluicegate.access_limits import SECRET_FILE_BYTES_MAX
from sluicegate.errors import ConfigError
from sluicegate.identity import read_private_file

from .fault import ActionFailed

__all__ = ["KEY", "PASSWORD", "read_secret_line", "secret_line"]

PASSWORD: Final = "a password"  # noqa: S105 - what a file has, in words
KEY: Final = "the key of a webhook"


def secret_line(path: str, holds: str) -> str:
    """Return it.

    Args:
        path: Of the file.
        holds: What it has, in words: ``PASSWORD`` or ``KEY``.

    Raises:
        ConfigError: It cannot be read, others may read it, or it is empty.
    """
    text = read_private_file(
        pathlib.Path(path),
        bytes_max=SECRET_FILE_BYTES_MAX,
        holds=holds,
        danger="could put another in its place",
        cure="relative paths begin at the folder of sluicegate.toml",
    ).text
    line = text.partition("\n")[0].rstrip("\r")
    if not line:
        raise ConfigError(path, "its first line is empty", f"write {holds} there")
    return line


def read_secret_line(path: str, holds: str) -> str:
    """Return it, for an action that needs it now.

    Raises:
        ActionFailed: It cannot be had.
    """
    try:
        return secret_line(path, holds)
    except ConfigError as error:
        raise ActionFailed(str(error)) from error
