"""Frames as they are on the wire: their types, flags and settings, and how each is written.

``connection`` reads and writes with it (RFC 9113 sections 4, 6 and 6.5.2). The invariant: what is
written here is well formed whatever it is given.
"""

from __future__ import annotations

import struct
from typing import Final

from .fault import ErrorCode

__all__ = [
    "FRAME_BYTES",
    "HEAD",
    "PREFACE",
    "WINDOW",
    "Flag",
    "FrameType",
    "Setting",
    "frame",
    "frame_head",
    "go_away",
    "reset_stream",
    "settings",
    "window_update",
]


class FrameType:
    """RFC 9113 section 6, and what others have added."""

    DATA: Final = 0
    HEADERS: Final = 1
    PRIORITY: Final = 2
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PUSH_PROMISE: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9


class Flag:
    """Of frames; each has its meaning on some types only."""

    ACK: Final = 0x1
    END_STREAM: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


class Setting:
    """RFC 9113 section 6.5.2, RFC 8441 section 3."""

    HEADER_TABLE_SIZE: Final = 1
    ENABLE_PUSH: Final = 2
    MAX_CONCURRENT_STREAMS: Final = 3
    INITIAL_WINDOW_SIZE: Final = 4
    MAX_FRAME_SIZE: Final = 5
    MAX_HEADER_LIST_SIZE: Final = 6
    ENABLE_CONNECT_PROTOCOL: Final = 8


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with (RFC 9113 section 3.4)."""

HEAD: Final = 9
"""Bytes of a frame's head."""

FRAME_BYTES: Final = 16384
"""The payload of a frame that both ends take without a word about it; we never take longer ones."""


WINDOW: Final = 65535
"""Every window before somebody says otherwise (RFC 9113 section 6.9.2)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def frame_head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """Write the head of a frame whose payload follows."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """Write a SETTINGS frame."""
    payload = b"".join([_SETTING.pack(key, value) for key, value in values.items()])
    return frame(FrameType.SETTINGS, 0, 0, payload)


def window_update(stream: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def reset_stream(stream: int, code: ErrorCode) -> bytes:
    """Write a RST_STREAM frame."""
    return frame(FrameType.RST_STREAM, 0, stream, _WORD.pack(code))


def go_away(last: int, code: ErrorCode) -> bytes:
    """Write a GOAWAY frame; it has no words, which could tell a peer what it need not know."""
    return frame(FrameType.GOAWAY, 0, 0, _WORDS.pack(last, code))


_HEAD: Final = struct.Struct(">BHBBL")
_SETTING: Final = struct.Struct(">HL")
_WORD: Final = struct.Struct(">L")
_WORDS: Final = struct.Struct(">LL")
