"""How large one message of a WebSocket may become before it is refused.

Whoever makes a ``WebSocketCodec`` gives it one; the defaults are those of ``protocol_limits``. The
invariant: what grows with a peer's input has a bound here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.protocol_limits import (
    WEBSOCKET_FRAGMENTS_MAX,
    WEBSOCKET_MESSAGE_BYTES_MAX,
    WEBSOCKET_RATIO_FLOOR_BYTES,
    WEBSOCKET_RATIO_MAX,
)

__all__ = ["DEFAULT_WEBSOCKET_BOUNDS", "WebSocketBounds"]


@dataclass(frozen=True, slots=True)
class WebSocketBounds:
    """Bounds of one message, each way."""

    message_bytes_max: int = WEBSOCKET_MESSAGE_BYTES_MAX
    #: Decompressed.
    fragments_max: int = WEBSOCKET_FRAGMENTS_MAX
    ratio_max: int = WEBSOCKET_RATIO_MAX
    #: Decompressed to received bytes.
    ratio_floor_bytes: int = WEBSOCKET_RATIO_FLOOR_BYTES
    #: The ratio is not judged before so much was decompressed.


DEFAULT_WEBSOCKET_BOUNDS: Final = WebSocketBounds()
