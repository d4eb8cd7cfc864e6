"""Endless bodies: which messages are no objects, because nobody waits for their end.

Stages ask before they keep anything back. The invariant: it is asked of the head alone, so that
whoever is told that a body is endless is told before its first byte.
"""

from __future__ import annotations

from typing import Final

from sluicegate.protocols.http1 import Request, Response

__all__ = ["is_endless"]


def is_endless(head: Request | Response) -> bool:
    """Tell whether a message's reader waits for every piece of its body."""
    content_type = (head.fields.first(b"content-type") or b"").partition(b";")[0]
    return content_type.strip(b" \t").lower() in _ENDLESS


_ENDLESS: Final = frozenset(
    {b"application/grpc", b"application/grpc+proto", b"application/x-ndjson",
     b"multipart/x-mixed-replace", b"text/event-stream"}
)  # fmt: skip
