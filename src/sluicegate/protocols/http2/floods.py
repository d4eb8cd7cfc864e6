"""FloodWatch: what a peer may make us do without a message getting on (hostile group I3).

Each connection has one. The invariant: the work that a peer causes is in proportion to the messages
that it exchanges and to the time that has passed: everything else is counted, and too much of it
ends the connection.

Every count leaks: so many at once, so many a second from then on. Progress, a frame with bytes of a
message in either direction, pays for frames of control, as clients that measure the way (gRPC) send
a PING, and most a WINDOW_UPDATE or two, for each of them.
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import Side

from .bounds import Http2Bounds
from .fault import Http2Fault, Http2ProtocolError

__all__ = ["FloodWatch"]


class FloodWatch:
    """What one peer has done lately."""

    __slots__ = ("_bounds", "_control", "_empty", "_resets", "_side", "_since", "_tiny", "now")

    def __init__(self, bounds: Http2Bounds, side: Side) -> None:
        self._bounds = bounds
        self._side = side
        self._control = self._resets = self._empty = self._tiny = 0.0
        self._since = 0.0
        self.now = 0.0
        #: The time of what is read, in seconds; whoever feeds the connection sets it.

    def start(self, now: float) -> None:
        """Take what time it is when the connection begins."""
        self._since = self.now = now

    def note_control(self, weight: float = 1.0) -> None:
        """Count a frame of control.

        Raises:
            Http2ProtocolError: There were too many.
        """
        self._control += weight
        if self._control > self._bounds.control_frames_max:
            self._leak()
            if self._control > self._bounds.control_frames_max:
                raise Http2ProtocolError(Http2Fault.CONTROL_FLOOD, self._side)

    def note_reset(self) -> None:
        """Count a stream that the peer reset, or that was reset for what the peer did on it.

        Raises:
            Http2ProtocolError: There were too many (Rapid Reset, MadeYouReset).
        """
        self._resets += 1
        if self._resets > self._bounds.resets_max:
            self._leak()
            if self._resets > self._bounds.resets_max:
                raise Http2ProtocolError(Http2Fault.RESET_FLOOD, self._side)

    def note_empty(self) -> None:
        """Count a frame of a body, or of a head, that has nothing in it and ends nothing.

        Raises:
            Http2ProtocolError: There were too many.
        """
        self._empty += 1
        if self._empty > self._bounds.tiny_frames_max:
            self._leak()
            if self._empty > self._bounds.tiny_frames_max:
                raise Http2ProtocolError(Http2Fault.EMPTY_FLOOD, self._side)

    def note_tiny(self) -> bool:
        """Count a frame that we cut small because of the peer's window; True: too many were."""
        self._tiny += 1
        if self._tiny > self._bounds.tiny_frames_max:
            self._leak()
        return self._tiny > self._bounds.tiny_frames_max

    def note_progress(self) -> None:
        """Take that a message got on by a frame."""
        self._control = max(0.0, self._control - _PAID_FOR_BY_PROGRESS)

    def _leak(self) -> None:
        """Let go of what is long ago."""
        bounds, passed = self._bounds, max(0.0, self.now - self._since)
        self._since = self.now
        self._control = max(0.0, self._control - passed * bounds.control_frames_per_s)
        self._resets = max(0.0, self._resets - passed * bounds.resets_per_s)
        self._empty = max(0.0, self._empty - passed * bounds.resets_per_s)
        self._tiny = max(0.0, self._tiny - passed * bounds.resets_per_s)


_PAID_FOR_BY_PROGRESS: Final = 4.0
"""Frames of control that one frame with bytes pays for."""
