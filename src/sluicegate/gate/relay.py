"""Relay: an element of a mixed chain that passes bytes on, through stream filters or none.

A chain with data filters keeps its stream filters in relays, and puts one in the place of a data
filter that left. The invariant: per direction at most one chunk is between the receive and the
completed send.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window
from sluicegate.errors import Side
from sluicegate.port.pending import SocketCompletion

from .stages import Stages

if TYPE_CHECKING:
    from .connection import GateConnection

__all__ = ["ChainSocket", "RelayHalf"]


class ChainSocket(Protocol):
    """What the chain uses of network sockets and link ends alike."""

    @property
    def is_shut(self) -> bool:
        """Whether our stream to the other end was ended."""
        ...

    @property
    def is_end_told(self) -> bool:
        """Whether a reader was told the end of the other end's stream."""
        ...

    @property
    def is_deserted(self) -> bool:
        """Whether the other end was closed without a reset: nobody takes what is sent."""
        ...

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """Receive once."""
        ...

    def start_send(
        self,
        data: Buffer | Window | bytes,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """Send all of ``data``."""
        ...

    def shutdown(self, abortive: bool = False) -> None:
        """End the stream towards the neighbour."""
        ...

    def withdraw(self) -> None:
        """Complete a pending receive with ``ECANCELED``."""
        ...


class RelayHalf:
    """One direction of a relay."""

    __slots__ = (
        "_connection",
        "_on_quiet",
        "_sink",
        "is_done",
        "is_moving",
        "is_paused",
        "side",
        "source",
        "stages",
    )

    def __init__(
        self,
        connection: GateConnection,
        on_quiet: Callable[[], None],
        side: Side,
        way: tuple[ChainSocket, ChainSocket],
        stages: Stages | None,
    ) -> None:
        self.side = side
        self.stages = stages
        self.is_moving = False
        #: Between a receive that brought bytes and their completed send.
        self.is_done = False
        #: Nothing more comes: the source has ended, or the sink's stream was ended.
        self.is_paused = False
        #: No new receive is started: the chain collapses.
        self.source, self._sink = way
        self._connection = connection
        self._on_quiet = on_quiet
        #: Told whenever nothing is under way here.

    @property
    def is_over(self) -> bool:
        """Whether the last byte and the end were passed on."""
        return self.is_done and not self.is_moving

    def start(self) -> None:
        """Receive the next chunk; where a filter left, go on where it stopped."""
        if self.is_done or self._connection.is_closing:
            return
        if self._sink.is_shut or self._sink.is_deserted:
            self.is_done = True
            self._on_quiet()
        elif self.source.is_end_told:
            self._on_end()
        elif not self.is_paused:
            self.source.start_receive(None, self, None)

    def pause(self) -> None:
        """Take no more from the source."""
        self.is_paused = True
        if not self.is_moving:
            self.source.withdraw()

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Take a chunk and send it on, or the completion of that send."""
        del address
        if self._connection.is_closing or (self.is_paused and not self.is_moving and not success):
            return
        if user_data is _SENT:
            self._on_sent(error)
        elif not success:
            self._connection.on_transport_error(self.side, error)
        elif len(buffer):
            self._on_chunk(buffer)
        else:
            self._on_end()

    def _on_chunk(self, window: Window) -> None:
        data: Window | bytes = window
        stages = self.stages
        if stages is not None:
            verdict = stages.judge(self.side, window)
            if stages.cut_reason is not None:
                self._connection.refuse(stages.cut_reason)
                return
            if verdict is not True:
                data = verdict
                if not stages.is_active:
                    self.stages = None
        if len(data):
            self.is_moving = True
            self._sink.start_send(data, self, _SENT)
        else:
            self.start()

    def _on_sent(self, error: int) -> None:
        self.is_moving = False
        if error == errno.EPIPE and self._sink.is_deserted:
            self.is_done = True
        elif error:
            sink_side = Side.SERVER if self.side is Side.CLIENT else Side.CLIENT
            self._connection.on_transport_error(sink_side, error)
        elif self.is_done:
            self._sink.shutdown()
        else:
            self.start()
        self._on_quiet()

    def _on_end(self) -> None:
        self.is_done = True
        stages, self.stages = self.stages, None
        tail = stages.end(self.side) if stages is not None else b""
        if stages is not None and stages.cut_reason is not None:
            self._connection.refuse(stages.cut_reason)
        elif tail:
            self.is_moving = True
            self._sink.start_send(tail, self, _SENT)
        else:
            self._sink.shutdown()
            self._on_quiet()


_SENT = object()
"""Marks the completion of a send."""
