"""In a cell: an object that a data filter takes out of its dialogue; the gate holds and judges it.

``cell_place`` makes them. The invariant: the object is in the gate; what is encoded on its way to a
side comes back piece by piece, each sent whole before the next one comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from sluicegate.buffer import Buffer, ConstBuffer, Window, extent
from sluicegate.errors import FILTER_ERRORS, BadContext, OperationPending, TransportError
from sluicegate.filterapi import DataSocket, Outcome, TransferOffer, TransferOutcome
from sluicegate.sandbox.message import PART_BYTES_MAX

from . import calls
from .cell_calls import About, CellCalls
from .cell_socket import CellSocket
from .failures import shortened
from .messages import CHUNK_BYTES_MAX

__all__ = ["CellOpenTransfer", "TransferPlace"]


class TransferPlace(Protocol):
    """Where a transfer is opened: a filter's place in a connection."""

    def spawn(self, work: object) -> None:
        """Run a coroutine, for as long as the place is there."""
        ...

    def forget_transfer(self, number: int) -> None:
        """Take that an object is over."""
        ...


class CellOpenTransfer:
    """One object; satisfies ``filterapi.OpenTransfer``."""

    def __init__(
        self,
        cell_calls: CellCalls,
        place: TransferPlace,
        about: About,
        opened: calls.Object,
        offer: TransferOffer,
    ) -> None:
        self.offer = offer
        self.is_wanted = opened.is_wanted
        self.size = 0
        #: Bytes fed; once released, those to be delivered.
        self.number = opened.number
        self._calls = cell_calls
        self._place = place
        self._about = about
        self._outcome: TransferOutcome | None = None
        #: The last that the gate said.
        self._is_feeding = False
        self._is_over = False
        self._encode: Callable[[Window], bytes] | None = None
        self._sink: DataSocket | None = None
        self._failure: BaseException | None = None
        #: What ``encode`` raised.
        self._parts: list[bytes] = []
        #: Of the piece that comes.

    async def feed(self, data: Buffer | Window | bytes) -> bool:
        """As ``filterapi.OpenTransfer.feed``."""
        if self._is_feeding:
            raise OperationPending("one feed at a time")
        buffer, start, length = extent(data)
        whole = bytes(buffer.view[start : start + length])
        self._is_feeding = True
        try:
            for offset in range(0, max(length, 1), CHUNK_BYTES_MAX):
                chunk = whole[offset : offset + CHUNK_BYTES_MAX]
                if not await self._feed_chunk(chunk):
                    return False
                self.size += len(chunk)
        finally:
            self._is_feeding = False
        return True

    async def _feed_chunk(self, chunk: bytes) -> bool:
        for offset in range(0, len(chunk) - PART_BYTES_MAX, PART_BYTES_MAX):
            part = chunk[offset : offset + PART_BYTES_MAX]
            self._calls.tell(calls.FeedObject(self.number, part, False), self._about)
        rest = chunk[(max(len(chunk), 1) - 1) // PART_BYTES_MAX * PART_BYTES_MAX :]
        last = calls.FeedObject(self.number, rest, True)
        return (await self._calls.later(last, calls.Truth, self._about)).is_so

    async def finish(self) -> TransferOutcome:
        """As ``filterapi.OpenTransfer.finish``."""
        if self._is_feeding:
            raise OperationPending("wait for feed before the object is finished")
        if self._is_over and self._outcome is not None:
            return self._outcome
        errand = calls.FinishObject(self.number)
        said = await self._calls.later(errand, calls.OutcomeFacts, self._about)
        self._outcome = said.transfer_outcome()
        if self._outcome.outcome is Outcome.RELEASED:
            self.size = said.size
        else:
            self._end()
        return self._outcome

    async def deliver(
        self, socket: DataSocket, encode: Callable[[Window], bytes] | None = None
    ) -> TransferOutcome:
        """As ``filterapi.OpenTransfer.deliver``."""
        if not isinstance(socket, CellSocket):
            raise BadContext("an object is delivered to a socket of the filter's own connection")
        self._encode, self._sink, self._failure = encode, socket, None
        errand = calls.DeliverObject(self.number, socket.is_server, encode is not None)
        try:
            said = await self._calls.later(errand, calls.OutcomeFacts, self._about)
        except FILTER_ERRORS as error:
            if not isinstance(error, BadContext):
                self._end()
            if self._failure is not None:
                raise self._failure from None
            raise
        self._outcome = said.transfer_outcome()
        self._end()
        return self._outcome

    def pass_by(self) -> None:
        """As ``filterapi.OpenTransfer.pass_by``."""
        self._calls.do(calls.PassBy(self.number), self._about)

    def cancel(self, reason: str) -> None:
        """As ``filterapi.OpenTransfer.cancel``."""
        if not self._is_over:
            self._calls.tell(calls.CancelObject(self.number, shortened(reason)), self._about)
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel("given up by the filter" if error is None else f"given up: {error!r}")

    def _end(self) -> None:
        self._is_over = True
        self._place.forget_transfer(self.number)

    # -- pieces --------------------------------------------------------------------------------

    def on_piece(self, data: bytes, is_last: bool) -> None:
        """Take a part of a piece; send what it is encoded to when it is whole."""
        self._parts.append(data)
        if is_last:
            piece, self._parts = b"".join(self._parts), []
            self._place.spawn(self._send_piece(piece))

    async def _send_piece(self, piece: bytes) -> None:
        error, failure = 0, ""
        assert self._encode is not None, "pieces come while it is delivered"
        assert self._sink is not None, "likewise"
        try:
            encoded = bytes(self._encode(Window(ConstBuffer(piece), 0, len(piece))))
            await self._sink.send(encoded)
        except TransportError as transport:
            error = transport.error
        except asyncio.CancelledError:
            return
        except FILTER_ERRORS as raised:
            self._failure, failure = raised, shortened(f"{type(raised).__name__}: {raised}")
        self._calls.tell(calls.PieceSent(self.number, error, failure), self._about)
