"""Sizes in operators' files: a number of bytes, or one with a unit.

The tables of limits read with it. The invariant: a unit is written exactly, so ``1 MB`` is refused
and never guessed.
"""

from __future__ import annotations

import re
from typing import Final

from .model import Wrong

__all__ = ["parse_size"]


def parse_size(value: object) -> int:
    """Read a number of bytes: ``1048576`` or ``"1 MiB"``.

    Raises:
        Wrong: It is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Wrong(f"is {value!r}, must be a number of bytes", 'for example 1048576 or "1 MiB"')
    return int(found[1]) << _SHIFTS[found[2]]


_SIZE: Final = re.compile(r"([0-9]{1,18}) ?(B|KiB|MiB|GiB|TiB)", re.ASCII)
_SHIFTS: Final = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
