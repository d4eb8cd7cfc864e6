"""Open transfers: objects that data filters take out of their dialogue and have judged.

``Connection.open_transfer`` makes one; ``holding`` keeps and judges it, as what moves on a data
connection of its own. The invariant: it ends with its connection at the latest, in one record, and
whoever waits on it is told.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window, extent
from sluicegate.errors import (
    FILTER_ERRORS,
    BadContext,
    OperationPending,
    Side,
    SluicegateError,
    TransportError,
    errno_name,
)
from sluicegate.filterapi import (
    DataSocket,
    Direction,
    Outcome,
    TransferOffer,
    TransferOutcome,
)
from sluicegate.spool import SENDING, Sink

from .holding import Holding, HoldingStage
from .judgement import UNWANTED

if TYPE_CHECKING:
    from sluicegate.port import SocketCompletion

    from .connection import GateConnection
    from .transfer import TransferService

__all__ = ["Encoder", "GateOpenTransfer"]


class GateOpenTransfer:
    """One object in a dialogue (``filterapi.OpenTransfer``)."""

    __slots__ = (
        "_connection",
        "_encoder",
        "_holding",
        "_last_active",
        "_outcome",
        "_over",
        "_room",
        "_size",
        "_verdict",
        "offer",
    )

    def __init__(
        self, service: TransferService[Any], connection: GateConnection, offer: TransferOffer
    ) -> None:
        self.offer = offer
        self._connection = connection
        self._size = 0
        self._outcome: TransferOutcome | None = None
        #: How it ended.
        self._verdict: asyncio.Future[TransferOutcome] | None = None
        self._room: asyncio.Future[None] | None = None
        self._over: asyncio.Future[BaseException | None] | None = None
        self._encoder: Encoder | None = None
        self._last_active = connection.port.now
        steps = service.content_filters(connection)
        objection = service.objection(connection, offer)
        self._holding = Holding(service, connection, offer, steps, self, objection)
        connection.add_dependent(self)

    # -- filterapi.OpenTransfer ------------------------------------------------------------------

    @property
    def is_wanted(self) -> bool:
        """As ``filterapi.OpenTransfer.is_wanted``."""
        return self._holding.is_wanted

    @property
    def size(self) -> int:
        """As ``filterapi.OpenTransfer.size``."""
        holding = self._holding
        return holding.release_size if holding.stage is HoldingStage.RELEASED else self._size

    async def feed(self, data: Buffer | Window | bytes) -> bool:
        """As ``filterapi.OpenTransfer.feed``."""
        holding = self._holding
        if holding.stage is HoldingStage.OVER:
            return False
        if holding.stage is not HoldingStage.FILLING:
            raise BadContext("the object is finished: open another transfer for the next one")
        if self._room is not None:
            raise OperationPending("one feed at a time")
        window = Window(*extent(data))
        self._size += window.length
        self._last_active = self._connection.port.now
        if window.length and not holding.append(window) and not self.is_over:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None
        return not self.is_over

    async def finish(self) -> TransferOutcome:
        """As ``filterapi.OpenTransfer.finish``."""
        if self._room is not None:
            raise OperationPending("wait for feed before the object is finished")
        if self._outcome is not None:
            return self._outcome
        if self._verdict is None:
            self._verdict = asyncio.get_running_loop().create_future()
            self._holding.finish()
        # Shielded: who gives up waiting must not end the wait of others.
        return await asyncio.shield(self._verdict)

    async def deliver(
        self, socket: DataSocket, encode: Callable[[Window], bytes] | None = None
    ) -> TransferOutcome:
        """As ``filterapi.OpenTransfer.deliver``."""
        if encode is not None:
            return await self.deliver_into(_Encoded(socket, encode))
        return await self._deliver(socket)

    async def deliver_into(self, encoder: Encoder) -> TransferOutcome:
        """As ``deliver``, with what encodes each piece itself."""
        return await self._deliver(encoder, encoder)

    async def _deliver(self, sink: Sink, encoder: Encoder | None = None) -> TransferOutcome:
        holding = self._holding
        if holding.stage is not HoldingStage.RELEASED:
            raise BadContext("only an object that was released is delivered, and only once")
        self._encoder = encoder
        self._over = asyncio.get_running_loop().create_future()
        holding.deliver(sink)
        try:
            error = await self._over
        except asyncio.CancelledError:
            self.cancel("its delivery was cancelled")
            raise
        if error is not None:
            raise error
        assert self._outcome is not None, "a delivery ends the transfer"
        return self._outcome

    def pass_by(self) -> None:
        """As ``filterapi.OpenTransfer.pass_by``."""
        if self.is_wanted or self._size or self._holding.stage is not HoldingStage.FILLING:
            raise BadContext("an object that a content filter asks for, or that was fed, is held")
        self._end(self._holding.settle(Outcome.RELEASED, UNWANTED))

    def cancel(self, reason: str = "the connection ended") -> None:
        """As ``filterapi.OpenTransfer.cancel``; the connection's end does it, too."""
        if not self.is_over:
            self._end(self._holding.settle(Outcome.FAILED, reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel("given up by the filter" if error is None else f"given up: {error!r}")

    # -- for the connection (Dependent) ----------------------------------------------------------

    def last_active(self) -> float:
        """Return when something last happened; a judgement has a deadline of its own."""
        port, stage = self._connection.port, self._holding.stage
        return port.now if stage in _AT_WORK else self._last_active

    # -- the holding tells (HoldingOwner) --------------------------------------------------------

    def on_holding_ready(self) -> None:
        """Let the next bytes come."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def on_released(self, outcome: TransferOutcome) -> None:
        """Tell the verdict; the object waits to be delivered."""
        self._last_active = self._connection.port.now
        self._tell_verdict(outcome)

    def on_refused(self, outcome: TransferOutcome) -> None:
        """Tell that nobody gets it."""
        self._end(outcome)

    def on_delivered(self, error: SluicegateError | None) -> None:
        """Take the end of the delivery."""
        holding = self._holding
        if error is None:
            self._end(holding.settle_delivered())
            return
        failure, reason = self._describe(error)
        self._end(holding.settle(Outcome.FAILED, reason), failure)

    # -- private -------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether it was delivered, refused or given up."""
        return self._holding.stage is HoldingStage.OVER

    def _describe(self, error: SluicegateError) -> tuple[BaseException, str]:
        """Return what a failed delivery raises, and what the record says of it."""
        encoder = self._encoder
        if encoder is not None and encoder.failure is not None:
            return encoder.failure, f"encoding it failed: {encoder.cause}"
        if not isinstance(error, TransportError) or error.doing != SENDING:
            return error, f"spool failure: {error}"
        side = Side.CLIENT if self.offer.direction is Direction.DOWNLOAD else Side.SERVER
        return TransportError(error.error, side, SENDING), f"{side} {errno_name(error.error)}"

    def _end(self, outcome: TransferOutcome, failure: BaseException | None = None) -> None:
        """Tell whoever waits; the connection is not concerned with it any more."""
        self._outcome = outcome
        self._connection.drop_dependent(self)
        self.on_holding_ready()
        self._tell_verdict(outcome)
        if self._over is not None and not self._over.done():
            if failure is None and outcome.outcome is not Outcome.RELEASED:
                failure = TransportError(errno.ECANCELED, doing=SENDING)
            self._over.set_result(failure)

    def _tell_verdict(self, outcome: TransferOutcome) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(outcome)


class Encoder(Sink, Protocol):
    """Stands before a socket: sends what the filter makes of each piece."""

    failure: BaseException | None
    #: Why a piece could not be encoded.
    cause: str
    #: The same, for people.


class _Encoded:
    """Satisfies ``Encoder`` for a filter in the gate."""

    __slots__ = ("_encode", "_piece", "_socket", "_told", "cause", "failure")

    def __init__(self, socket: DataSocket, encode: Callable[[Window], bytes]) -> None:
        self.failure: BaseException | None = None
        #: What ``encode`` raised.
        self.cause = ""
        self._socket = socket
        self._encode = encode
        self._piece: Window | None = None
        self._told: SocketCompletion | None = None

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Send what the piece is encoded to; its completion speaks of the piece."""
        try:
            encoded = bytes(self._encode(data))
        except FILTER_ERRORS as error:
            self.failure, self.cause = error, f"{type(error).__name__}: {error}"
            raise BadContext("the piece could not be encoded") from error
        self._piece, self._told = data, completion
        self._socket.start_send(encoded, self, user_data)

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Take the result of a send (the socket only)."""
        del buffer
        piece, told = self._piece, self._told
        self._piece = self._told = None
        if told is not None and piece is not None:
            told.complete_socket_io(success, error, piece, user_data, address)


_AT_WORK = (HoldingStage.STORING, HoldingStage.JUDGING)
