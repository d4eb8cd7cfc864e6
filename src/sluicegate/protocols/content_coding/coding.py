"""The codings that the gate reads, and what ``Content-Encoding`` says of them.

``decoder`` makes its chain of them. The invariant: a list of codings has one reading; what browsers
take for something else than what it says is refused (``docs/decisions`` tells how they read it).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final

from sluicegate.protocol_limits import CODINGS_MAX
from sluicegate.protocols.text import printable

from .fault import CodingError, CodingFault

__all__ = ["Coding", "content_codings"]


class Coding(enum.Enum):
    """A content coding (the IANA registry), by its token."""

    GZIP = "gzip"
    DEFLATE = "deflate"
    BROTLI = "br"
    ZSTD = "zstd"

    @property
    def window_bytes(self) -> int:
        """What decoding one body of it may take in memory."""
        return _WINDOW_BYTES[self]


def content_codings(values: Iterable[bytes], *, count_max: int = CODINGS_MAX) -> tuple[Coding, ...]:
    """Return the codings of a body in the order in which they were applied.

    ``identity`` alone is none. Among others it is refused: Chromium then decodes nothing, others
    the rest.

    Args:
        values: Those of ``Content-Encoding`` (RFC 9110 section 8.4).
        count_max: How many there may be.

    Raises:
        CodingError: A coding is unknown, there are too many, or it is no list.
    """
    tokens = [token.strip(b" \t").lower() for token in b",".join(values).split(b",")]
    tokens = [token for token in tokens if token]
    if not tokens or tokens == [b"identity"]:
        return ()
    if len(tokens) > count_max:
        raise CodingError(CodingFault.TOO_MANY, f"{len(tokens)}, at most {count_max}")
    return tuple(_coding(token) for token in tokens)


def _coding(token: bytes) -> Coding:
    if _TOKEN.fullmatch(token) is None:
        raise CodingError(CodingFault.FIELD_MALFORMED, printable(token[:40]))
    found = _BY_TOKEN.get(token)
    if found is None:
        raise CodingError(CodingFault.UNKNOWN, printable(token[:40]))
    return found


_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BY_TOKEN: Final = {
    **{coding.value.encode(): coding for coding in Coding},
    b"x-gzip": Coding.GZIP,  # RFC 9110 section 8.4.1.3
}
_WINDOW_BYTES: Final = {
    Coding.GZIP: 64 << 10,
    Coding.DEFLATE: 64 << 10,
    Coding.BROTLI: 16 << 20,  # RFC 7932 section 9.1: a window of 24 bits
    Coding.ZSTD: 8 << 20,  # RFC 9659 section 3
}
