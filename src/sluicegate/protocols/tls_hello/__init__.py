"""The ClientHello as a gate sees it that does not open TLS: bytes in, one reading or a refusal out.

``HelloReader`` reads it (RFC 8446 section 4.1.2), ``AnswerReader`` tells whether the server asks
for another one. The invariant: what is returned has one reading, for us and for every server that
takes it; everything else is refused with a ``TlsRefused`` before any name is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .answer import AnswerReader, RecordSkipper
    from .fault import SniFault, TlsFault, TlsRefused
    from .hello import ClientHello, EchKind, is_grease
    from .known_hellos import KnownHellos
    from .reader import HelloReader
else:
    __getattr__ = front(
        __name__,
        answer=("AnswerReader", "RecordSkipper"),
        fault=("SniFault", "TlsFault", "TlsRefused"),
        hello=("ClientHello", "EchKind", "is_grease"),
        known_hellos=("KnownHellos",),
        reader=("HelloReader",),
    )

__all__ = [
    "AnswerReader",
    "ClientHello",
    "EchKind",
    "HelloReader",
    "KnownHellos",
    "RecordSkipper",
    "SniFault",
    "TlsFault",
    "TlsRefused",
    "is_grease",
]
