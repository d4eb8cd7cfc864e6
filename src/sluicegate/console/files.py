"""Files: what pages load beside themselves, read once, each under a name with its digest.

The invariant: a browser that has a file by its name has that very file, so it may keep it for good.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import pathlib
from dataclasses import dataclass
from typing import Final

__all__ = ["FILES", "StaticFile", "file_path"]

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file."""

    content: bytes
    type: str


def _read() -> tuple[dict[str, StaticFile], dict[str, str]]:
    files: dict[str, StaticFile] = {}
    paths: dict[str, str] = {}
    for one in (importlib.resources.files("sluicegate.console") / "static").iterdir():
        name = pathlib.PurePath(one.name)
        if name.suffix in _TYPES:
            content = one.read_bytes()
            stamped = f"{name.stem}.{hashlib.sha256(content).hexdigest()[:12]}{name.suffix}"
            files[stamped] = StaticFile(content, _TYPES[name.suffix])
            paths[one.name] = f"/static/{stamped}"
    return files, paths


FILES, _PATHS = _read()


def file_path(name: str) -> str:
    """Return the path of a file by its plain name, for templates."""
    return _PATHS[name]
