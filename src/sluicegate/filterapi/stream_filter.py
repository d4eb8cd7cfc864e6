"""Stream filters: every chunk, inline and cheap.

The pump calls ``on_data`` between a receive and the send, so a filter here costs one Python call
per chunk. The invariant: only what ``on_data`` released goes on; a held rest is shown again, in
front of what comes next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from sluicegate.buffer import Window
from sluicegate.errors import Side

from .position import Position

if TYPE_CHECKING:
    from .views import Connection

__all__ = [
    "FORWARD",
    "HOLD",
    "LEAVE",
    "Cut",
    "Forward",
    "Leave",
    "Rewrite",
    "StreamFilter",
    "StreamVerdict",
]


@dataclass(frozen=True, slots=True)
class Forward:
    """Release the first ``count`` bytes (None: all) and hold the rest."""

    count: int | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Send ``data`` in place of the bytes shown."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """Refuse the connection: both sides are reset; ``reason`` goes into the record."""

    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Release these bytes and leave the chain: both directions go on without this filter."""


StreamVerdict = Forward | Rewrite | Cut | Leave

FORWARD: Final = Forward()
"""Release everything shown."""

HOLD: Final = Forward(0)
"""Release nothing yet."""

LEAVE: Final = Leave()
"""Release these bytes and leave."""


class StreamFilter:
    """Looks at every chunk of one connection; make ``__slots__`` where it matters."""

    name: ClassVar[str] = ""
    position: ClassVar[Position] = Position.MIDDLE

    def on_start(self, connection: Connection) -> None:
        """Take the connection before its first byte."""

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        """Judge the bytes that ``side`` sent, held ones first; the window is valid in this call."""
        raise NotImplementedError

    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        """Judge what was held when ``side`` ended its stream; exactly once per direction."""
        del side, held
        return FORWARD

    def detach(self) -> None:
        """Take the end of the connection; exactly once."""
