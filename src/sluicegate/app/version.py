"""The version of the program, as its records and its status name it. Nothing else is here."""

from __future__ import annotations

import importlib.metadata
from typing import Final

__all__ = ["VERSION"]

VERSION: Final = importlib.metadata.version("sluicegate")
