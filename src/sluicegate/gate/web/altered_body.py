"""Heads put right for a body that is not what its sender sent (RFC 9110, RFC 9530).

The stages that decode or alter bodies call it before the head goes on. The invariant: no head says
anything of the old bytes: not their length, coding, digest, nor that parts of them can be had.
"""

from __future__ import annotations

from typing import Final

from sluicegate.protocols.http1 import (
    CHUNKED,
    Fields,
    Framing,
    FramingKind,
    Request,
    Response,
)

__all__ = ["mend_head", "mend_trailers"]


def mend_head(
    head: Request | Response, *, length: int | None = None, is_decoded: bool = False
) -> None:
    """Change the head of a message whose body was, or may be, changed.

    Args:
        head: Of the message; its framing is set.
        length: Of the new body; None if it is not known yet.
        is_decoded: Whether the content coding was taken off.
    """
    fields = head.fields
    fields.remove(*_OF_THE_OLD_BYTES)
    if is_decoded:
        fields.remove(b"Content-Encoding")
    if isinstance(head, Response):
        _weaken_validator(fields)
        # Nobody may ask for parts: they would be parts of the bytes that the server has.
        fields.remove(b"Accept-Ranges")
    if length is not None:
        head.framing = Framing.of_length(length)
    elif head.framing.kind is FramingKind.LENGTH:
        head.framing = CHUNKED


def mend_trailers(trailers: Fields) -> Fields:
    """Return trailers without what they say of the old bytes."""
    mended = trailers.copy()
    mended.remove(*_OF_THE_OLD_BYTES, b"ETag")
    return mended


def _weaken_validator(fields: Fields) -> None:
    """Make a strong validator weak: it still says what the content is made from.

    RFC 9110 section 8.8.1 asks for it when the bytes change and the meaning does not (nginx does so
    when it compresses). ``Last-Modified`` is weak already (section 8.8.2.2).
    """
    tag = fields.first(b"etag")
    if tag is not None and not tag.startswith(b"W/"):
        fields.set(b"ETag", b"W/" + tag)


_OF_THE_OLD_BYTES: Final = (b"Content-Digest", b"Content-MD5", b"Digest", b"Repr-Digest")
"""RFC 9530, and the two that came before it."""
