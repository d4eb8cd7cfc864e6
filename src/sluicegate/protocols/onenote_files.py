r"""Files that stand in OneNote sections: attachments that open with two clicks (MS-ONESTORE).

``examination`` looks into each. The invariant: every ``FileDataStoreObject`` in the bytes is given,
whether something refers to it or not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from sluicegate.errors import ProtocolError

__all__ = ["onenote_files"]


def onenote_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Give a name and the bytes of each file in a section.

    Raises:
        ProtocolError: One is cut off.
    """
    number, at = 0, data.find(_OBJECT)
    while at >= 0:
        start = at + len(_OBJECT) + _SIZE.size
        size = _SIZE.unpack_from(data, at + len(_OBJECT))[0] if start <= len(data) else -1
        if size < 0 or start + size > len(data):
            raise ProtocolError("a file in a OneNote section is cut off")
        yield f"file {number}", data[start : start + size]
        number += 1
        at = data.find(_OBJECT, at + len(_OBJECT))


#: guidHeader of a FileDataStoreObject (2.6.13): {BDE316E7-2665-4511-A4C4-8D4D0B7A9EAC}
_OBJECT: Final = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")
#: cbLength, unused, reserved.
_SIZE: Final = struct.Struct("<Q4x8x")
