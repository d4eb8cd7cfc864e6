"""How much one end of an HTTP/2 connection takes before it refuses.

Whoever makes an ``Http2Server`` or ``Http2Client`` gives it one; the defaults are those of
``protocol_limits``. The invariant: whatever a peer can make us hold, answer or do without any
progress of a message has a bound here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sluicegate.protocol_limits import (
    HTTP2_CONNECTION_WINDOW_BYTES,
    HTTP2_CONTINUATIONS_MAX,
    HTTP2_CONTROL_FRAMES_MAX,
    HTTP2_CONTROL_FRAMES_PER_S,
    HTTP2_RESETS_MAX,
    HTTP2_RESETS_PER_S,
    HTTP2_SETTINGS_MAX,
    HTTP2_STREAM_WINDOW_BYTES,
    HTTP2_STREAMS_MAX,
    HTTP2_TINY_FRAMES_MAX,
)
from sluicegate.protocols.http1.bounds import HttpBounds

__all__ = ["DEFAULT_HTTP2_BOUNDS", "Http2Bounds"]


@dataclass(frozen=True, slots=True)
class Http2Bounds:
    """Bounds of one connection."""

    heads: HttpBounds = field(default_factory=HttpBounds)
    #: Of heads and trailers, as in HTTP/1.
    streams_max: int = HTTP2_STREAMS_MAX
    stream_window_bytes: int = HTTP2_STREAM_WINDOW_BYTES
    connection_window_bytes: int = HTTP2_CONNECTION_WINDOW_BYTES
    continuations_max: int = HTTP2_CONTINUATIONS_MAX
    settings_max: int = HTTP2_SETTINGS_MAX
    control_frames_max: int = HTTP2_CONTROL_FRAMES_MAX
    control_frames_per_s: float = HTTP2_CONTROL_FRAMES_PER_S
    resets_max: int = HTTP2_RESETS_MAX
    resets_per_s: float = HTTP2_RESETS_PER_S
    tiny_frames_max: int = HTTP2_TINY_FRAMES_MAX


DEFAULT_HTTP2_BOUNDS: Final = Http2Bounds()
