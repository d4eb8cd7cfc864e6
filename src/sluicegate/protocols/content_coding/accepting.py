"""What a client says it decodes (``Accept-Encoding``), and what of it a server may be told.

A gate that must see bodies asks servers only for codings that it reads. The invariant: the narrowed
value allows nothing that the client did not allow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .coding import Coding

__all__ = ["accepted_codings", "narrow_accept_encoding"]


def accepted_codings(values: Iterable[bytes]) -> frozenset[Coding]:
    """Return the codings that a client says it decodes (RFC 9110 section 12.5.3)."""
    named: dict[bytes, bool] = {}
    for element in b",".join(values).split(b","):
        token, is_allowed = _read(element)
        named[token] = is_allowed
    others = named.get(b"*", False)
    return frozenset(
        coding
        for coding in Coding
        if named.get(coding.value.encode(), others)
        or (coding is Coding.GZIP and named.get(b"x-gzip", False))
    )


def narrow_accept_encoding(values: Iterable[bytes]) -> bytes:
    """Return what a server is told instead: only codings that the gate reads.

    Never empty: without the field a server may use any coding (RFC 9110 section 12.5.3).
    """
    kept = [
        element.strip(b" \t")
        for element in b",".join(values).split(b",")
        if _read(element)[0] in _KEPT
    ]
    return b", ".join(kept) or b"identity"


def _read(element: bytes) -> tuple[bytes, bool]:
    """Return the coding that an element of the field names, and whether it allows it."""
    token, _, weight = element.partition(b";")
    return token.strip(b" \t").lower(), _NEVER.fullmatch(weight.strip(b" \t")) is None


#: ``*`` is left out: it would allow what the gate cannot read.
_KEPT: Final = frozenset(
    {*(coding.value.encode() for coding in Coding), b"x-gzip", b"identity"},
)
_NEVER: Final = re.compile(rb"[qQ][ \t]*=[ \t]*0(?:\.0*)?")
