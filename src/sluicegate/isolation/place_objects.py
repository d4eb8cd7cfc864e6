"""The objects that a data filter in a cell takes out of its dialogue, as the gate has them.

``data`` has one for each place. The invariant: the gate holds them and judges them, as those of a
filter in the gate; the cell feeds and names them, and gets to see again only what was released.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sluicegate.buffer import Window
from sluicegate.errors import BadContext, ProtocolError
from sluicegate.filterapi import Connection, Outcome, TransferOffer
from sluicegate.gate.open_transfer import GateOpenTransfer
from sluicegate.sandbox.message import PART_BYTES_MAX

from . import calls
from .content import IsolatedFilterError
from .messages import CHUNK_BYTES_MAX

if TYPE_CHECKING:
    from sluicegate.filterapi import DataSocket
    from sluicegate.port import SocketCompletion

    from .cell import Cell

__all__ = ["PlaceObjects"]


class _Opened:
    """One object."""

    __slots__ = ("parts", "parts_bytes", "sink", "transfer")

    def __init__(self, transfer: GateOpenTransfer) -> None:
        self.transfer = transfer
        self.parts: list[bytes] = []
        #: Of what the cell is feeding.
        self.parts_bytes = 0
        self.sink: _CellSink | None = None
        #: Gets the pieces that the cell encodes.


class PlaceObjects:
    """Those of one filter in one connection."""

    def __init__(
        self,
        cell: Cell,
        number: int,
        connection: Connection,
        socket: Callable[[bool], DataSocket],
    ) -> None:
        """Make it.

        Args:
            cell: Where the filter is.
            number: The place's.
            connection: Whose dialogue it is.
            socket: Returns the one towards the server, or the client.
        """
        self._cell = cell
        self._number = number
        self._connection = connection
        self._socket = socket
        self._opened: dict[int, _Opened] = {}
        self._numbers = 0

    def open(self, offer: TransferOffer) -> calls.Object:
        """Open one."""
        transfer = self._connection.open_transfer(offer)
        assert isinstance(transfer, GateOpenTransfer), "the gate's own connections hold objects"
        if len(self._opened) > self._cell.limits.open_transfers_per_connection_max:
            over = [number for number, one in self._opened.items() if one.transfer.is_over]
            for number in over:
                del self._opened[number]
        self._numbers += 1
        self._opened[self._numbers] = _Opened(transfer)
        return calls.Object(self._numbers, transfer.is_wanted)

    async def _feed_whole(self, opened: _Opened) -> calls.Result:
        parts, opened.parts, opened.parts_bytes = opened.parts, [], 0
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return calls.Truth(await opened.transfer.feed(whole))

    def feed(self, errand: calls.FeedObject) -> Coroutine[Any, Any, calls.Result] | None:
        """Take a part; the last of what the filter feeds at once is answered."""
        opened = self._find(errand.number)
        opened.parts.append(errand.data)
        opened.parts_bytes += len(errand.data)
        if opened.parts_bytes > CHUNK_BYTES_MAX:
            raise ProtocolError(f"fed more than {CHUNK_BYTES_MAX} bytes at once")
        return self._feed_whole(opened) if errand.is_last else None

    async def finish(self, number: int) -> calls.Result:
        """Have one judged."""
        transfer = self._find(number).transfer
        outcome = await transfer.finish()
        size = transfer.size if outcome.outcome is Outcome.RELEASED else 0
        return calls.OutcomeFacts.of(outcome, size)

    async def deliver(self, errand: calls.DeliverObject) -> calls.Result:
        """Send one, or let the cell send what it makes of each piece."""
        opened = self._find(errand.number)
        if not errand.is_encoded:
            socket = self._socket(errand.is_server)
            return calls.OutcomeFacts.of(await opened.transfer.deliver(socket))
        opened.sink = _CellSink(self._cell, self._number, errand)
        return calls.OutcomeFacts.of(await opened.transfer.deliver_into(opened.sink))

    def pass_by(self, number: int) -> None:
        """Let one go by."""
        self._find(number).transfer.pass_by()

    def cancel(self, number: int, reason: str) -> None:
        """Give one up; harmless when it is over."""
        opened = self._opened.get(number)
        if opened is not None:
            opened.transfer.cancel(reason)

    def on_piece_sent(self, errand: calls.PieceSent) -> None:
        """Take that the cell sent a piece, or could not."""
        opened = self._opened.get(errand.number)
        if opened is not None and opened.sink is not None:
            opened.sink.on_sent(errand.error, errand.failure)

    def _find(self, number: int) -> _Opened:
        found = self._opened.get(number)
        if found is None:
            raise BadContext("the object is over")
        return found


class _CellSink:
    """Stands before a socket: the cell sends what it makes of each piece (``gate.Encoder``)."""

    def __init__(self, cell: Cell, number: int, errand: calls.DeliverObject) -> None:
        self.failure: BaseException | None = None
        self.cause = ""
        self._cell = cell
        self._number = number
        self._errand = errand
        self._piece: Window | None = None
        self._told: SocketCompletion | None = None
        self._user_data: Any = None

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Give a piece to the cell; its completion speaks of the piece."""
        self._piece, self._told, self._user_data = data, completion, user_data
        errand = self._errand
        for offset in range(0, data.length, PART_BYTES_MAX):
            part = bytes(data.window(offset, min(PART_BYTES_MAX, data.length - offset)))
            is_last = offset + PART_BYTES_MAX >= data.length
            self._cell.tell(
                calls.Piece(self._number, errand.number, errand.is_server, part, is_last)
            )

    def on_sent(self, error: int, failure: str) -> None:
        """Take what became of a piece."""
        piece, told = self._piece, self._told
        self._piece = self._told = None
        if told is None or piece is None:
            raise ProtocolError("sent a piece that it was not given")
        if failure:
            self.failure, self.cause = IsolatedFilterError(failure), failure
            error = error or errno.EIO
        told.complete_socket_io(not error, error, piece, self._user_data, None)
