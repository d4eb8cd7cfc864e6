"""How much one end takes before it refuses, and what an operator may let through.

Whoever makes an ``Http1Server`` or ``Http1Client`` gives it one; the defaults are those of
``protocol_limits``. The invariant: what grows with a peer's input has a bound here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.protocol_limits import (
    HTTP_CHUNK_EXTENSIONS_BYTES_MAX,
    HTTP_FIELD_BYTES_MAX,
    HTTP_FIELDS_MAX,
    HTTP_HEAD_BYTES_MAX,
    HTTP_INFORMATIONAL_RESPONSES_MAX,
    HTTP_PIPELINE_BYTES_MAX,
    HTTP_TARGET_BYTES_MAX,
    HTTP_TRAILER_BYTES_MAX,
    HTTP_TRAILERS_MAX,
)

__all__ = ["DEFAULT_BOUNDS", "HttpBounds"]


@dataclass(frozen=True, slots=True)
class HttpBounds:
    """Bounds of one connection; a rule may have its own."""

    head_bytes_max: int = HTTP_HEAD_BYTES_MAX
    target_bytes_max: int = HTTP_TARGET_BYTES_MAX
    field_bytes_max: int = HTTP_FIELD_BYTES_MAX
    #: One field, name and value.
    fields_max: int = HTTP_FIELDS_MAX
    chunk_extensions_bytes_max: int = HTTP_CHUNK_EXTENSIONS_BYTES_MAX
    #: Of one message.
    trailer_bytes_max: int = HTTP_TRAILER_BYTES_MAX
    trailers_max: int = HTTP_TRAILERS_MAX
    pipeline_bytes_max: int = HTTP_PIPELINE_BYTES_MAX
    informational_responses_max: int = HTTP_INFORMATIONAL_RESPONSES_MAX
    lets_any_method_have_a_body: bool = False
    #: Whether GET, HEAD and DELETE may have one; servers that do not expect it read its bytes as
    #: the next request (RFC 9110 section 9.3.1).


DEFAULT_BOUNDS: Final = HttpBounds()
