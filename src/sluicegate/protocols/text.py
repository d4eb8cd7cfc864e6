"""Bytes of a peer made fit for a record or an operator's eyes.

Parsers call it where they name something that a peer sent; it calls nobody. The invariant: what it
returns has one line and no control character, whatever came in.
"""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: bytes) -> str:
    r"""Return text as UTF-8 with everything unprintable escaped.

    >>> print(printable(b"a\x1b[2J\r\n\xff"))
    a\x1b[2J\r\n\xff
    """
    decoded = text.decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)
