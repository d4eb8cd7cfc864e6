"""How much a coded body may become before it is refused.

Whoever makes a ``ContentDecoder`` gives it one; the defaults are those of ``protocol_limits``. The
invariant: what grows with a peer's input has a bound here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.protocol_limits import (
    CODING_FRAMES_MAX,
    CODING_RATIO_FLOOR_BYTES,
    CODING_RATIO_MAX,
    CODINGS_MAX,
)

__all__ = ["DEFAULT_CODING_BOUNDS", "CodingBounds"]


@dataclass(frozen=True, slots=True)
class CodingBounds:
    """Bounds of one body; a rule may have its own."""

    bytes_max: int | None = None
    #: Decoded, of each coding; None where whoever keeps the bytes has a bound of its own.
    ratio_max: int = CODING_RATIO_MAX
    #: Decoded to received bytes, of each coding.
    ratio_floor_bytes: int = CODING_RATIO_FLOOR_BYTES
    #: The ratio is not judged before so much was decoded.
    codings_max: int = CODINGS_MAX
    frames_max: int = CODING_FRAMES_MAX
    #: Frames of one zstd body.


DEFAULT_CODING_BOUNDS: Final = CodingBounds()
