"""Replacing one file: whoever opens it reads the old version or the new one, also after a crash.

``history`` and ``written_files`` write with it. The invariant: when it fails, the file is as it was
and nothing is left beside it.
"""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile

__all__ = ["replace_file"]


def replace_file(path: pathlib.Path, content: bytes, like: os.stat_result | None = None) -> None:
    """Write a file whole, or not at all.

    Args:
        path: Of the file, whether it is there or not.
        content: What it has afterwards.
        like: Whose owner and mode it gets; None: ours alone (0600).

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    made = pathlib.Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if like is not None:
                if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
