"""In a cell: the ends of a UDP connection that a filter has, and the relay of datagram filters.

``cell_place`` makes them. The invariant: a datagram is one message, with its peer, in both
directions; nothing is joined or cut, and each end has one receive with the gate at a time.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, ConstBuffer, Window, extent
from sluicegate.errors import BadContext, FilterFailed, Side
from sluicegate.filterapi import Cut, DatagramFilter, Drop, Forward, Rewrite
from sluicegate.filterapi.stream_filter import Leave
from sluicegate.port.pending import EMPTY, PendingIo, SocketCompletion

from .cell_socket import CellSocket
from .facts import facts_of
from .messages import Dropped, Received, StartSend

if TYPE_CHECKING:
    from .cell_place import CellPlace

__all__ = ["CellDatagramEnd", "DatagramRelay"]


class CellDatagramEnd(CellSocket):
    """One end; satisfies ``filterapi.DatagramEnd``."""

    def __init__(self, place: CellPlace, side: Side) -> None:
        super().__init__(place, side)
        self.twin = self
        #: The filter's other end.
        self.peer: SocketAddress | None = None
        #: The peer of the last datagram received at either end.
        self.came_from: SocketAddress | None = None
        #: The peer of the datagram that the gate brought last.
        self._sends: deque[tuple[PendingIo, Window]] = deque()

    async def receive_from(self) -> tuple[Window, SocketAddress]:
        """As ``filterapi.DatagramEnd.receive_from``."""
        window = await self.receive()
        assert self.peer is not None, "a datagram has a peer"
        return window, self.peer

    def start_send_to(
        self,
        data: Buffer | Window | bytes,
        address: SocketAddress,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """As ``filterapi.DatagramEnd.start_send_to``."""
        self._send_datagram(PendingIo(completion, user_data), data, address)

    async def send_to(self, data: Buffer | Window | bytes, address: SocketAddress) -> None:
        """As ``filterapi.DatagramEnd.send_to``."""
        pending = PendingIo(None, None, asyncio.get_running_loop().create_future())
        self._send_datagram(pending, data, address)
        assert pending.future is not None
        await pending.future

    @override
    def shutdown(self, abortive: bool = False) -> None:
        del abortive
        raise BadContext("datagrams have no stream to end; connection.refuse ends the connection")

    @property
    @override
    def is_busy(self) -> bool:
        return bool(self._sends) or super().is_busy

    @override
    def abandon(self) -> None:
        super().abandon()
        while self._sends:
            self._finish_datagram(errno.ECANCELED)

    # -- the gate tells ----------------------------------------------------------------------------

    @override
    def on_received(self, message: Received) -> None:
        if message.peer is not None:
            self.came_from = SocketAddress(*message.peer)
        super().on_received(message)

    @override
    def on_sent(self, error: int) -> None:
        if self._sends:
            self._finish_datagram(error)
            self._tell_settled()

    # -- private -----------------------------------------------------------------------------------

    @override
    def _complete(self, pending: PendingIo, error: int, data: bytes) -> None:
        window = EMPTY
        if not error:
            self.peer = self.twin.peer = pending.address = self.came_from
            window = Window(ConstBuffer(data), 0, len(data))
            if pending.buffer is not None:
                pending.buffer.append(data)
                window = pending.buffer.window()
        pending.complete(error, window, self.side, self._place)

    @override
    def _begin_send(self, pending: PendingIo, data: Buffer | Window | bytes) -> None:
        self._send_datagram(pending, data, None)

    def _send_datagram(
        self, pending: PendingIo, data: Buffer | Window | bytes, address: SocketAddress | None
    ) -> None:
        if self.is_closed:
            raise BadContext("the connection has ended")
        to = address or self.peer
        if to is None:
            raise BadContext("nothing was received yet: name the peer (start_send_to)")
        buffer, start, length = extent(data)
        buffer.lease()
        pending.address = to
        self._sends.append((pending, Window(buffer, start, length)))
        taken = bytes(buffer.view[start : start + length])
        self._place.tell(
            StartSend(self._place.number, self.side is Side.SERVER, taken, True, facts_of(to))
        )

    def _finish_datagram(self, error: int) -> None:
        pending, window = self._sends.popleft()
        try:
            pending.complete(error, window, self.side, self._place)
        finally:
            window.buffer.release()


class DatagramRelay:
    """Shows a datagram filter what comes at one end, and sends what it releases at the other."""

    __slots__ = ("_filter", "_on_left", "_place", "_side", "_sink", "_source")

    def __init__(
        self,
        place: CellPlace,
        datagram_filter: DatagramFilter,
        ends: tuple[CellDatagramEnd, CellDatagramEnd],
        on_left: Callable[[], None],
    ) -> None:
        self._place = place
        self._filter = datagram_filter
        self._source, self._sink = ends
        self._side = self._source.side
        self._on_left = on_left

    def start(self) -> None:
        """Take the next datagram."""
        self._source.start_receive(None, self)

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Judge a datagram (the end only)."""
        del user_data, error
        if self._place.is_over or not success or address is None:
            return  # the connection has ended, or the filter leaves
        verdict: object = self._filter.on_datagram(self._side, address, buffer)
        match verdict:
            case Forward(count=None):
                self._sink.start_send_to(buffer, address)
            case Rewrite(data=other):
                self._sink.start_send_to(other, address)
            case Drop():
                self._place.tell(Dropped(self._place.number))
            case Cut(reason=reason):
                self._place.refuse(reason)
                return
            case Leave():
                self._sink.start_send_to(buffer, address)
                self._on_left()
                return
            case _:
                answered = f"TypeError: answered {verdict!r} to a datagram"
                raise FilterFailed(type(self._filter).__name__, answered)
        self.start()
