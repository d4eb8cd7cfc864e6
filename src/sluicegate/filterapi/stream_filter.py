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
from sluicegate.limits import LAST_WORDS_BYTES_MAX

from .isolation import Isolation
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
    "Wait",
]


@dataclass(frozen=True, slots=True)
class Forward:
    """Release the first ``count`` bytes (None: all) and hold the rest."""

    count: int | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Send ``data`` in place of the first ``count`` bytes (None: all) and hold the rest.

    With ``count=0`` it puts ``data`` in front of what is held.
    """

    data: bytes
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Refuse the connection: both sides are reset; ``reason`` goes into the record.

    A side may be told something first, as ``Connection.refuse`` says.
    """

    reason: str
    to_client: bytes = b""
    to_server: bytes = b""

    def __post_init__(self) -> None:
        if max(len(self.to_client), len(self.to_server)) > LAST_WORDS_BYTES_MAX:
            raise ValueError(f"last words have at most {LAST_WORDS_BYTES_MAX} bytes")


@dataclass(frozen=True, slots=True)
class Leave:
    """Release these bytes and leave the chain: both directions go on without this filter.

    What it holds of the other direction is released, too.
    """


@dataclass(frozen=True, slots=True)
class Wait:
    """Release the first ``count`` bytes, hold the rest, and ask again in ``seconds``.

    Until then nothing is received from this side: its sender is slowed down by TCP itself. Then
    ``on_data`` is shown what is held, which may be nothing. Not an answer to ``on_end``, which
    comes after all waiting. A wait beyond ``idle_timeout_s`` ends a connection on which nothing
    else happens.
    """

    seconds: float
    count: int = 0


StreamVerdict = Forward | Rewrite | Cut | Leave | Wait

FORWARD: Final = Forward()
"""Release everything shown."""

HOLD: Final = Forward(0)
"""Release nothing yet."""

LEAVE: Final = Leave()
"""Release these bytes and leave."""


class StreamFilter:
    """Looks at every chunk of one connection; make ``__slots__`` where it matters."""

    name: ClassVar[str] = ""
    isolation: ClassVar[Isolation] = "none"
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
