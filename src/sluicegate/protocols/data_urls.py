r"""Files in ``data:`` URLs: what stands in a page as base64 and is offered by it (RFC 2397).

``examination`` looks into each. The invariant: each that decodes is given, wherever in the text it
stands; what does not decode is text like the rest.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["data_urls"]


def data_urls(text: bytes) -> Iterator[bytes]:
    """Give the bytes of each file.

    >>> list(data_urls(b'<a href="data:application/x-a;base64,aGVs%0AbG8=">'))
    [b'hello']
    """
    # A pattern with letters of either case would take ten times as long as these three bytes.
    at = text.find(_MARK)
    while at >= 0:
        start = at + len(_MARK)
        if text[at - len(_BASE) : at].lower() == _BASE:
            digits = _DIGITS.match(text, start)
            before = text[max(0, at - _TYPE_BYTES_MAX) : at].lower()
            if digits is not None and b"data:" in before:
                yield from _decoded(digits[0])
                start = digits.end()
        at = text.find(_MARK, start)


def _decoded(written: bytes) -> Iterator[bytes]:
    digits = _BREAK.sub(b"", written)
    plain = digits.replace(b"%2B", b"+").replace(b"%2F", b"/").replace(b"%3D", b"=")
    whole = plain.rstrip(b"=")
    try:
        yield binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
    except binascii.Error:
        return


_MARK: Final = b"64,"
_BASE: Final = b";base"
_TYPE_BYTES_MAX: Final = 256
"""Between the scheme and the data: a MIME type with its parameters."""
_DIGITS: Final = re.compile(rb"(?:[A-Za-z0-9+/=\s]|%(?:2B|2F|3D|0A|0D))+")
_BREAK: Final = re.compile(rb"\s|%0A|%0D")
