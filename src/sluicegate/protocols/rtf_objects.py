r"""Objects in RTF documents: files written as hexadecimal digits (Rich Text Format 1.9.1).

``examination`` looks into each. The invariant: digits count wherever they stand in an object's
group: control words, blanks and line ends between them hide nothing, as Word skips them, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["rtf_objects"]


def rtf_objects(data: bytes) -> Iterator[tuple[str, bytes]]:
    r"""Give a name and the bytes of each object.

    >>> list(rtf_objects(rb"{\rt{\object{\*\objdata 4d5\bin0 a}}}"))
    [('object 0', b'MZ')]
    """
    for number, match in enumerate(_OBJECT_DATA.finditer(data)):
        digits = _NO_DIGITS.sub(b"", _CONTROL.sub(b"", _group(data, match.end())))
        yield f"object {number}", bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))


def _group(data: bytes, start: int) -> bytes:
    """Return what stands from ``start`` to the end of the group around it."""
    depth, at = 1, start
    for brace in _BRACE.finditer(data, start):
        depth += 1 if brace[0] == b"{" else -1
        at = brace.end()
        if depth == 0:
            return data[start : at - 1]
    return data[start:]


_OBJECT_DATA: Final = re.compile(rb"\\objdata\b|\\datastore\b|\\pict\b")
_BRACE: Final = re.compile(rb"[{}]")
_CONTROL: Final = re.compile(rb"\\(?:[a-zA-Z]{1,32}-?\d{0,10} ?|'[0-9a-fA-F]{2}|[^a-zA-Z])")
_NO_DIGITS: Final = re.compile(rb"[^0-9a-fA-F]")
