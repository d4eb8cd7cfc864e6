"""What audio and video look like: by the first bytes, never by a name or a type.

The web proxy asks before it lets a held object through in part. The invariant: what begins so is no
program, no script and no page to any system, so that a part of it can be played, at most.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MEDIA_HEAD_BYTES", "is_media"]

MEDIA_HEAD_BYTES: Final = 2 * 188 + 1
"""What ``is_media`` needs to see: three packets' beginnings of an MPEG transport stream."""


def is_media(head: bytes) -> bool:
    """Tell whether bytes begin an audio or video file.

    MP4 and its kin, Matroska and WebM, Ogg, FLAC, MP3 with a tag or a plain frame, WAV and AVI, and
    MPEG transport streams.
    """
    if len(head) < MEDIA_HEAD_BYTES:
        return False
    if head[4:8] == b"ftyp" and head[:2] == b"\0\0":
        return True
    if head[:4] == b"RIFF":
        return head[8:12] in {b"WAVE", b"AVI "}
    if head[0] == _SYNC:
        return head[188] == _SYNC and head[376] == _SYNC
    return head.startswith(_BEGINNINGS)


_SYNC: Final = 0x47
_BEGINNINGS: Final = (
    b"\x1a\x45\xdf\xa3",
    b"OggS\0",
    b"fLaC\0",
    b"ID3\2",
    b"ID3\3",
    b"ID3\4",
    # A frame of MPEG 1 or 2, layer 3: others look like text in UTF-16.
    b"\xff\xfb",
    b"\xff\xfa",
    b"\xff\xf3",
    b"\xff\xf2",
)
