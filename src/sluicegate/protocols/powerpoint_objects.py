r"""Objects in PowerPoint documents, which pack them once more: OLE files and VBA projects (MS-PPT).

``examination`` looks into each. The invariant: every compressed storage in the stream is unpacked,
whether something refers to it or not; one that is damaged is an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from sluicegate.errors import LimitExceeded, ProtocolError

__all__ = ["powerpoint_objects"]


def powerpoint_objects(stream: bytes, *, bytes_max: int) -> Iterator[bytes]:
    """Give the bytes of each object in the stream ``PowerPoint Document``.

    Args:
        stream: All of it.
        bytes_max: Of one object.

    Raises:
        ProtocolError: One is damaged.
        LimitExceeded: One is larger.
    """
    at = stream.find(_COMPRESSED)
    while at >= 0:
        start = at + len(_COMPRESSED) + _SIZES.size
        if start <= len(stream):
            length, _ = _SIZES.unpack_from(stream, at + len(_COMPRESSED))
            packed = stream[start : start + max(0, length - _SIZE_BYTES)]
            # The same four bytes may stand in text: only what begins like zlib is an object.
            if packed[:1] == b"\x78":
                yield _inflate(packed, bytes_max)
        at = stream.find(_COMPRESSED, at + 1)


def _inflate(packed: bytes, bytes_max: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(packed, max(1, bytes_max))
    except zlib.error as error:
        raise ProtocolError("an object in a PowerPoint document is damaged") from error
    if decoder.unconsumed_tail:
        raise LimitExceeded("bytes_max", bytes_max)
    return content


#: Version 0, instance 1, type 0x1011: ExOleObjStgCompressedAtom (2.10.35) and kin.
_COMPRESSED: Final = b"\x10\0\x11\x10"
#: Length of the record, and of what is unpacked.
_SIZES: Final = struct.Struct("<II")
_SIZE_BYTES: Final = 4
