"""What all messages to and from sandboxed processes have in common: msgpack, one per packet.

``isolation.messages`` and ``scan.messages`` define what is said, ``wire`` carries it. The
invariant: a message fits into one packet, whatever it is about.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["MESSAGE_BYTES_MAX", "PART_BYTES_MAX", "Message", "encode"]

PART_BYTES_MAX: Final = 64 << 10
"""Bytes of an object or a stream in one message."""

MESSAGE_BYTES_MAX: Final = PART_BYTES_MAX + (32 << 10)
"""A message: one part and what describes it; texts are cut before they could reach this."""


class Message(msgspec.Struct, tag=True, array_like=True):
    """What all messages have: a tag, and fields in their order."""


_ENCODER: Final = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """Return a message as it travels."""
    return _ENCODER.encode(message)
