"""Early: what libraries load when they first need it, loaded at a process's start.

Every process of a gate calls it. The invariant: a process that works loads nothing from disk: by
then there may be another version, or no descriptor left to read it with, and what fails so would be
a client's request.
"""

from __future__ import annotations

import importlib
from typing import Final

__all__ = ["load_early"]

_ALWAYS: Final = (
    "concurrent.futures.thread",  # with the first thread
    "encodings.ascii",
    "encodings.idna",  # with the first name of a host
    "encodings.unicode_escape",  # with the first odd text of a client
    "encodings.utf_16_be",
    "encodings.utf_16_le",
)


def load_early(*more: str) -> None:
    """Load what all processes need so, and more modules that one of them does."""
    for name in (*_ALWAYS, *more):
        importlib.import_module(name)
