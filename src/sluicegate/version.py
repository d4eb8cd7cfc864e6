"""The version of the program that runs, as its records and its status name it.

Everybody has it from here. The invariant: it is read once, at the start of a process, for the
program on disk may be a newer one later.
"""

from __future__ import annotations

import importlib.metadata
from typing import Final

__all__ = ["VERSION"]

VERSION: Final = importlib.metadata.version("sluicegate")
