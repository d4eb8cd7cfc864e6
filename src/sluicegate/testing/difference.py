"""What was expected and what came, written so that a person sees where they part.

The playbook, conversations and checks make their messages here. The invariant: bytes are shown as
text that names every one of them, one line of the protocol per line, and never flood a terminal.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

__all__ = ["difference_of_bytes", "difference_of_lines", "shown", "shown_lines"]

_LINE_BYTES_MAX: Final = 96
"""A longer line of bytes is shown on several."""

_LINES_MAX: Final = 60
"""More lines than these say nothing more."""

_ESCAPES: Final = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r", 0x22: r"\"", 0x5C: r"\\"}
_PRINTABLE: Final = range(0x20, 0x7F)


def shown(data: bytes) -> str:
    r"""Write bytes as one quoted text: ``"GET /\r\n"``; what is not printable as ``\x00``."""
    text = "".join(
        _ESCAPES.get(byte) or (chr(byte) if byte in _PRINTABLE else f"\\x{byte:02x}")
        for byte in data
    )
    return f'"{text}"'


def shown_lines(data: bytes) -> list[str]:
    """Write bytes as quoted texts, a new one after each line end and at a bound."""
    pieces: list[str] = []
    for line in data.splitlines(keepends=True) if b"\n" in data else [data]:
        pieces += [
            shown(line[at : at + _LINE_BYTES_MAX])
            for at in range(0, max(len(line), 1), _LINE_BYTES_MAX)
        ]
    return pieces


def difference_of_lines(expected: Sequence[str], actual: Sequence[str]) -> str:
    """Return both as one text: ``-`` was expected and did not come, ``+`` came unexpected."""
    marked = [line for line in difflib.ndiff(expected, actual) if not line.startswith("?")]
    if len(marked) > _LINES_MAX:
        first = next(at for at, line in enumerate(marked) if line[0] in "-+")
        start = max(0, first - 3)
        left_out = len(marked) - start - _LINES_MAX
        marked = marked[start : start + _LINES_MAX]
        if left_out > 0:
            marked.append(f"  … and {left_out} more lines")
        if start:
            marked.insert(0, f"  … {start} equal lines")
    return "\n".join(marked)


def difference_of_bytes(expected: bytes, actual: bytes) -> str:
    """Return where two texts of bytes part, and both around there, line by line."""
    at = _first_difference(expected, actual)
    head = f"they part at byte {at} ({len(expected)} expected, {len(actual)} came)"
    bound = _LINE_BYTES_MAX * _LINES_MAX
    start = max(0, at - bound // 2) if max(len(expected), len(actual)) > bound else 0
    both = (shown_lines(data[start : start + bound]) for data in (expected, actual))
    where = f", shown from byte {start}" if start else ""
    return f"{head}{where}:\n{difference_of_lines(*both)}"


def _first_difference(one: bytes, other: bytes) -> int:
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
