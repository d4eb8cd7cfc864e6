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
    for match in _URL.finditer(text):
        digits = match[1].translate(None, b" \t\r\n").replace(b"%0A", b"").replace(b"%0D", b"")
        plain = digits.replace(b"%2B", b"+").replace(b"%2F", b"/").replace(b"%3D", b"=")
        whole = plain.rstrip(b"=")
        try:
            yield binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
        except binascii.Error:
            continue


_URL: Final = re.compile(
    rb"data:[a-z0-9!#$&^_.+/;=%\"' -]{0,200};base64,((?:[A-Za-z0-9+/=\s]|%(?:2B|2F|3D|0A|0D))+)",
    re.IGNORECASE,
)
