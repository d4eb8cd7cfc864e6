"""Ranges of HTTP: which bytes of an object a client asks for, and whether it may have a part.

The web proxy takes ``Range`` out of requests whose answers are held as a whole, and makes the part
of it itself. The invariant: only one plain range is a part; whatever else is asked for gets the
whole, which every client of RFC 9110 takes (section 14.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["AskedRange", "RangeUnsatisfiable", "asked_range", "content_range", "may_have_part"]


class RangeUnsatisfiable(Exception):
    """The range begins behind the end: the answer is 416."""


@dataclass(frozen=True, slots=True)
class AskedRange:
    """One range, as it was asked for, before the size is known."""

    first: int | None
    """None: the last ``last`` bytes."""
    last: int | None
    """Inclusive; None: to the end."""

    def of(self, size: int) -> range:
        """Return the bytes that it means of an object.

        Raises:
            RangeUnsatisfiable: There are none.
        """
        if self.first is None:
            found = range(max(0, size - (self.last or 0)), size)
        else:
            stop = size if self.last is None else min(self.last + 1, size)
            found = range(self.first, stop)
        if not found:
            raise RangeUnsatisfiable
        return found


def asked_range(values: Sequence[bytes]) -> AskedRange | None:
    """Return the range of ``Range``; None: the whole is to be sent.

    Several ranges, other units and what is malformed are ignored, as a server may (RFC 9110 section
    14.2).
    """
    found = _ONE_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        return None
    first, last = (int(text) if text else None for text in found.groups())
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return AskedRange(first, last)


def may_have_part(condition: bytes | None, etags: Sequence[bytes], dates: Sequence[bytes]) -> bool:
    """Tell whether ``If-Range`` lets a client have a part (RFC 9110 section 13.1.5).

    Args:
        condition: What it says; None: nothing.
        etags: The values of the response's ``ETag``.
        dates: Those of its ``Last-Modified``; a date counts only as the same text.
    """
    if condition is None:
        return True
    wanted = condition.strip()
    if wanted[:1] == b'"':
        return [wanted] == [etag.strip() for etag in etags]
    # A weak entity tag never holds: it begins with W/, and no date does.
    return not wanted.startswith(b"W/") and [wanted] == [date.strip() for date in dates]


def content_range(part: range | None, size: int) -> bytes:
    """Return the value of ``Content-Range``; of None, for a 416."""
    if part is None:
        return b"bytes */%d" % size
    return b"bytes %d-%d/%d" % (part.start, part.stop - 1, size)


#: RFC 9110 section 14.1.1; 18 digits fit into 63 bits.
_ONE_RANGE: Final = re.compile(
    rb"[ \t]*bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE
)
