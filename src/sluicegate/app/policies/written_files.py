"""Writing the files of a policy: each whole or not at all, and back again if it was no use.

``desk`` writes with it once the texts are checked. The invariant: whoever opens a file of the
policy at any moment reads one whole version of it, with the owner and the mode that it had.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Final

from sluicegate.errors import ConfigError

from .replaced_file import replace_file

__all__ = ["cannot_write", "write_files"]

_CURE: Final = (
    "let the gate's user write the policy's files and their folder (of a service of systemd also: "
    "ReadWritePaths=), or change them yourself and reload"
)


def write_files(texts: Mapping[pathlib.Path, str]) -> None:
    """Replace files; if one of them fails, those before it are as they were.

    Raises:
        ConfigError: A file cannot be written; its cause says so if others could not be put back.
    """
    before: dict[pathlib.Path, str] = {}
    for path, text in texts.items():
        try:
            before[path] = path.read_text("utf-8")
            _replace(path, text)
        except OSError as error:
            cause = f"cannot be written: {error.strerror}"
            left = [str(one) for one, text in before.items() if not _put_back(one, text)]
            if left:
                cause += f"; AND THESE COULD NOT BE PUT BACK: {', '.join(left)}"
            raise ConfigError(str(path), cause, _CURE) from error


def cannot_write(main: pathlib.Path) -> str:
    """Say why the file of a policy cannot be replaced; empty: nothing speaks against it."""
    path = pathlib.Path(os.path.realpath(main))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"{path.parent} cannot be written by the gate's user"
    return ""


def _put_back(path: pathlib.Path, text: str) -> bool:
    try:
        if path.read_text("utf-8") != text:
            _replace(path, text)
    except OSError:
        return False
    return True


def _replace(path: pathlib.Path, text: str) -> None:
    """Replace one file, which is there.

    Raises:
        OSError: It cannot be written; it is as it was.
    """
    # Through links: the file itself is replaced, not the link to it.
    path = pathlib.Path(os.path.realpath(path))
    replace_file(path, text.encode(), path.stat())
