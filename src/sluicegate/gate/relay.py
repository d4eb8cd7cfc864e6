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
from sluicegate.buffer import Buffer, ConstBuffer, Window
from sluicegate.errors import Side
from sluicegate.port.pending import SocketCompletion

from .last_words import refuse_by
from .stages import INSPECT_NEEDS_FILTER, Stages

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
        "_is_receiving",
        "_late",
        "_on_quiet",
        "_sink",
        "is_done",
        "is_moving",
        "is_paused",
        "other",
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
        #: Between a receive that brought bytes and their completed send, or while a stage waits.
        self.is_done = False
        #: Nothing more comes: the source has ended, or the sink's stream was ended.
        self.is_paused = False
        #: No new receive is started: the chain collapses.
        self.other: RelayHalf | None = None
        #: The other direction of the same relay.
        self.source, self._sink = way
        self._connection = connection
        self._is_receiving = False
        self._late: bytes | None = None
        #: What came, or the end, while something else was being sent.
        self._on_quiet = on_quiet
        #: Told whenever nothing is under way here.

    @property
    def is_over(self) -> bool:
        """Whether the last byte and the end were passed on."""
        return self.is_done and not self.is_moving

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._connection.on_internal_error(error)

    def start(self) -> None:
        """Receive the next chunk; where a filter left, go on where it stopped."""
        if self.is_done or self._is_receiving or self._connection.is_closing:
            return
        if self._sink.is_shut or self._sink.is_deserted:
            self.is_done = True
            self._on_quiet()
        elif self.source.is_end_told:
            self._on_end()
        elif not self.is_paused:
            self._is_receiving = True
            self.source.start_receive(None, self, None)

    def pause(self) -> None:
        """Take no more from the source."""
        self.is_paused = True
        if not self.is_moving:
            self.source.withdraw()

    def stop(self) -> None:
        """Wait no longer: the connection ends."""
        if self.stages is not None and self.stages.timer is not None:
            self.stages.timer.cancel()

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
        is_sent = user_data is _SENT
        self._is_receiving = self._is_receiving and is_sent
        if self._connection.is_closing or (self.is_paused and not self.is_moving and not success):
            return
        if is_sent:
            self._on_sent(error)
        elif not success:
            self._connection.on_transport_error(self.side, error)
        elif self.is_moving:
            # What a stage held that has left is being sent: this comes behind it.
            self._late = bytes(buffer)
        elif len(buffer):
            self._on_chunk(buffer)
        else:
            self._on_end()

    def on_stage_left(self) -> None:
        """Give out what a stage holds that left by an answer in the other direction."""
        stages = self.stages
        if stages is None or self._connection.is_closing:
            return
        if stages.timer is not None:
            # It may be its own wait; one that is another's goes on for the rest of its time.
            stages.timer.cancel()
            stages.timer = None
            self.is_moving = False
        if not self.is_moving and stages.has_leftover:
            self._go_on()

    def _on_chunk(self, window: Window) -> None:
        stages = self.stages
        if stages is None:
            self._send(window)
            return
        verdict = stages.judge(self.side, window)
        self._send_released(stages, window if verdict is True else verdict)

    def _send_released(self, stages: Stages, released: Window | bytes) -> None:
        """Send what stages released, and see to what else they answered."""
        if stages.cut is not None:
            refuse_by(self._connection, stages.cut)
            return
        if stages.has_leaver and self._connection.is_unseen:
            self._connection.refuse(INSPECT_NEEDS_FILTER)
            return
        if len(released):
            self._send(released)
        if stages.has_leaver:
            stages.has_leaver = False
            if self.other is not None:
                self.other.on_stage_left()
        if not len(released):
            self._go_on()

    def _send(self, data: Window | bytes) -> None:
        self.is_moving = True
        self._sink.start_send(data, self, _SENT)

    def _on_sent(self, error: int) -> None:
        self.is_moving = False
        if error == errno.EPIPE and self._sink.is_deserted:
            self.is_done = True
        elif error:
            sink_side = Side.SERVER if self.side is Side.CLIENT else Side.CLIENT
            self._connection.on_transport_error(sink_side, error)
        else:
            self._go_on()
        self._on_quiet()

    def _on_end(self) -> None:
        self.is_done = True
        self._go_on()
        self._on_quiet()

    def _go_on(self) -> None:
        """Do what is next: what stages hold, what came meanwhile, the end, or a receive."""
        stages, late = self.stages, self._late
        wait_s = None if stages is None else stages.wait_s
        if stages is not None and stages.has_leftover:
            self._send_released(stages, stages.flush(self.side))
        elif stages is not None and wait_s is not None:
            if wait_s > 0:
                self._wait(stages, wait_s)
            else:
                self._send_released(stages, stages.again(self.side))
        elif late is not None:
            self._late = None
            if late:
                self._on_chunk(Window(ConstBuffer(late), 0, len(late)))
            else:
                self._on_end()
        elif self.is_done:
            self._pass_end_on(stages)
        else:
            if stages is not None and not stages.is_active:
                self.stages = None
            self.start()

    def _pass_end_on(self, stages: Stages | None) -> None:
        if stages is not None and not stages.is_ended:
            self._send_released(stages, stages.end(self.side))
        else:
            self.stages = None
            self._sink.shutdown()

    def _wait(self, stages: Stages, wait_s: float) -> None:
        """Receive nothing until a stage's time has come."""
        self.is_moving = True
        if stages.timer is None:
            stages.timer = self._connection.port.call_after(wait_s, lambda: self._on_waited(stages))

    def _on_waited(self, stages: Stages) -> None:
        stages.timer = None
        self.is_moving = False
        if self._connection.is_closing:
            return
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - a filter may raise anything; fail closed
            self._connection.on_filter_failure(error)
            return
        self._on_quiet()


_SENT = object()
"""Marks the completion of a send."""
