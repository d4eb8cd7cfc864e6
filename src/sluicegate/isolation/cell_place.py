"""In a cell: a filter's place in one connection, from the gate's ``Open`` to its ``Detached``.

``server`` makes one per ``Open``. Data and callback filters get the two sockets; stream filters run
in the gate's own relay, here. The invariant: a filter is detached exactly once, after everything
that it had pending was told, and it leaves only when nothing of it is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sluicegate.errors import (
    FILTER_ERRORS,
    BadContext,
    FilterFailed,
    LimitExceeded,
    OperationPending,
    Side,
    TransportError,
)
from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    DataFilter,
    DatagramFilter,
    StreamFilter,
    TransferOffer,
)
from sluicegate.gate.relay import RelayHalf
from sluicegate.gate.stages import Stage, StageGroup
from sluicegate.port.scope import entered

from . import calls
from .cell_calls import About
from .cell_datagrams import CellDatagramEnd, DatagramRelay
from .cell_session import HeldInGate
from .cell_socket import CellSocket
from .cell_transfer import CellOpenTransfer
from .facts import OfferFacts
from .failures import shortened
from .messages import (
    Drained,
    Left,
    LimitReached,
    Message,
    Raised,
    TransportFailed,
)

if TYPE_CHECKING:
    from sluicegate.gate.connection import GateConnection

    from .cell_connection import CellConnection
    from .cell_firewall import GateSide

__all__ = ["CellPlace"]

_ASK_AGAIN_S = 0.05
"""How often a slow filter is asked whether it has finished."""


class CellPlace:
    """One filter in one connection: the scope of its code, and what the relay takes for one."""

    is_unseen: ClassVar[bool] = False
    """Whether a filter that leaves ends the connection: the gate decides that when it is told."""

    def __init__(
        self,
        gate: GateSide,
        connection: CellConnection,
        number: int,
        *,
        has_server: bool,
        has_datagrams: bool = False,
        on_gone: Callable[[], None],
    ) -> None:
        self.number = number
        self.is_over = False
        #: Whether the connection has ended, or is about to.
        make = CellDatagramEnd if has_datagrams else CellSocket
        self.client = make(self, Side.CLIENT)
        self.server = make(self, Side.SERVER) if has_server else None
        client, server = self.client, self.server
        if isinstance(client, CellDatagramEnd) and isinstance(server, CellDatagramEnd):
            client.twin, server.twin = server, client
        self._gate = gate
        self._connection = connection
        self._calls = connection.firewall.calls
        self._about = About(connection.session.id, connection.id, number)
        self.port = connection.firewall.port
        self._on_gone = on_gone
        self._filter: AnyDataFilter | None = None
        self._halves: tuple[RelayHalf, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transfers: dict[int, CellOpenTransfer] = {}
        #: By the gate's number, until they are over.
        self._runs = 0
        #: Coroutines of filters that have not returned.
        self._is_leaving = False
        self._is_detached = False
        connection.places.append(self)

    # -- running -------------------------------------------------------------------------------

    def start(self, make: Callable[[], AnyDataFilter], context: Any) -> None:
        """Make the filter and start it; a failure ends the connection."""
        try:
            with entered(self):
                self._start(make(), context)
        except FILTER_ERRORS as error:
            self.on_filter_failure(error)

    def _start(self, made: object, context: Any) -> None:
        self._filter = cast("AnyDataFilter", made)
        connection, server = self._connection, self.server
        if isinstance(made, StreamFilter):
            self._start_relay(made)
        elif isinstance(made, DataFilter):
            self._runs += 1
            self.spawn(self._run(made))
        elif isinstance(made, DatagramFilter):
            self._start_datagrams(made)
        elif isinstance(made, HeldInGate):
            self._give_place(made)
        elif isinstance(made, CallbackDataFilter):
            made.set_sockets(self.client, server, cast("Any", connection), context)
        else:
            self._filter = None
            raise TypeError(f"{made!r} is no data filter")

    def _start_relay(self, stream_filter: StreamFilter) -> None:
        server, relayed = self.server, cast("GateConnection", self)
        assert server is not None, "a stream filter emulates nobody"
        group = StageGroup([Stage(stream_filter.name, stream_filter)])
        group.start(cast("Any", self._connection))
        bound, clock = self._connection.firewall.limits.stream_hold_bytes_max, self.port.clock
        first, second = (
            RelayHalf(relayed, self._on_quiet, side, way, group.for_side(side, bound, clock))
            for side, way in (
                (Side.CLIENT, (self.client, server)),
                (Side.SERVER, (server, self.client)),
            )
        )
        first.other, second.other = second, first
        self._halves = (first, second)
        for half in self._halves:
            half.start()

    def _start_datagrams(self, datagram_filter: DatagramFilter) -> None:
        client, server = self.client, self.server
        if not isinstance(client, CellDatagramEnd) or not isinstance(server, CellDatagramEnd):
            raise BadContext(f"{type(datagram_filter).__name__} is a filter for datagrams")
        datagram_filter.on_start(cast("Any", self._connection))
        for ends in ((client, server), (server, client)):
            DatagramRelay(self, datagram_filter, ends, self.begin_leave).start()

    # -- for the relays --------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended."""
        return self.is_over

    def refuse(self, reason: str, *, to_client: bytes = b"", to_server: bytes = b"") -> None:
        """End the connection as refused."""
        self._connection.refuse(reason, to_client=to_client, to_server=to_server)

    def on_transport_error(self, side: Side, error: int) -> None:
        """Give the connection up because a side failed."""
        self.on_filter_failure(TransportError(error, side))

    async def _run(self, data_filter: DataFilter) -> None:
        try:
            await data_filter.run(self.client, self.server, cast("Any", self._connection))
        except asyncio.CancelledError as error:
            if not self.is_over:
                self.on_filter_failure(RuntimeError(f"was cancelled: {error}"))
        except FILTER_ERRORS as error:
            self.on_filter_failure(error)
        finally:
            self._runs -= 1
            if self._filter is not data_filter:
                self._detach_one(data_filter)
        if self._filter is data_filter and not self.is_over:
            self.begin_leave()

    def spawn(self, work: Any) -> None:
        """Run a coroutine in this place's scope."""
        with entered(self):
            task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- leaving -------------------------------------------------------------------------------

    def has(self, data_filter: AnyDataFilter) -> bool:
        """Tell whether a filter is here, and the connection has not ended."""
        return self._filter is data_filter and not self.is_over

    def hand_over(self, successor: AnyDataFilter, context: Any) -> None:
        """Let another filter go on in this place."""
        before = self._filter
        assert before is not None, "has comes first"
        if isinstance(successor, HeldInGate):
            self._give_place(successor)
            return
        if not (isinstance(before, DataFilter) and self._runs):
            self._detach_one(before)
        with entered(self):
            self._start(successor, context)

    def _give_place(self, successor: HeldInGate) -> None:
        """Let what holds an object in the gate go on in this place; it detaches what was here."""
        for one in (self.client, self.server):
            if one is not None and one.has_anything:
                raise OperationPending("something is under way on a socket that is handed over")
        self._calls.do(calls.HandOver(successor.number), self._about)
        successor.on_placed()
        self.is_over = True

    def begin_leave(self) -> None:
        """Leave as soon as nothing is under way."""
        if not self._is_leaving and not self.is_over:
            self._is_leaving = True
            self.spawn(self._leave())

    async def _leave(self) -> None:
        try:
            for half in self._halves:
                half.pause()
            sockets = [one for one in (self.client, self.server) if one is not None]
            unread = [await one.settle() for one in sockets]
            for source, data, sink in zip(sockets, unread, reversed(sockets), strict=True):
                # It crossed with the wish to leave; what comes later the gate passes on.
                if isinstance(source, CellDatagramEnd) and isinstance(sink, CellDatagramEnd):
                    if data is not None and source.came_from is not None:
                        await sink.send_to(data, source.came_from)
                elif data and len(sockets) > 1 and not sink.is_shut:
                    await sink.send(data)
        except TransportError as error:
            self.on_filter_failure(error)
        if not self.is_over:
            self.is_over = True
            self.tell(Left(self.number))

    def _on_quiet(self) -> None:
        """Leave when the stream filter has left both directions."""
        if all(half.stages is None or not half.stages.is_active for half in self._halves) and not (
            any(half.is_moving or half.is_done for half in self._halves)
        ):
            self.begin_leave()

    # -- objects -------------------------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """Whether a filter is here that has sockets to deliver an object to."""
        return isinstance(self._filter, DataFilter | CallbackDataFilter) and not self.is_over

    def open_transfer(self, offer: TransferOffer) -> CellOpenTransfer:
        """Open an object for the filter."""
        errand = calls.OpenObject(OfferFacts.of(offer))
        opened = self._calls.now(errand, calls.Object, self._about)
        made = CellOpenTransfer(self._calls, self, self._about, opened, offer)
        self._transfers[made.number] = made
        return made

    def forget_transfer(self, number: int) -> None:
        """As ``cell_transfer.TransferPlace.forget_transfer``."""
        self._transfers.pop(number, None)

    def on_piece(self, message: calls.Piece) -> None:
        """Take a part of a piece of an object that is being delivered."""
        transfer = self._transfers.get(message.transfer)
        if transfer is not None:
            transfer.on_piece(message.data, message.is_last)

    # -- ending --------------------------------------------------------------------------------

    def on_filter_failure(self, error: BaseException) -> None:
        """Tell the gate that the filter has failed, or gave up; it ends the connection."""
        if self.is_over:
            return
        self.is_over = True
        if isinstance(error, TransportError) and error.side is not Side.INTERNAL:
            self.tell(TransportFailed(self.number, error.side.value, error.error))
        elif isinstance(error, LimitExceeded):
            self.tell(LimitReached(self.number, error.limit, error.bound))
        elif isinstance(error, FilterFailed):
            self.tell(Raised(self.number, shortened(error.cause)))
        else:
            self.tell(Raised(self.number, shortened(f"{type(error).__name__}: {error}")))

    def detach(self) -> None:
        """Take that the connection has ended for the filter."""
        self.is_over = True
        for half in self._halves:
            half.stop()
        for one in (self.client, self.server):
            if one is not None:
                one.abandon()
        if self._runs:
            limits = self._connection.firewall.limits
            self.port.call_after(limits.drain_timeout_s, self._give_up)
        self._check_drained()

    def _check_drained(self) -> None:
        """Be gone when the filter has finished; ask again until then."""
        if self._is_detached:
            return
        if not self._runs and self._is_drained():
            self._finish()
        else:
            self.port.call_after(_ASK_AGAIN_S, self._check_drained)

    def _is_drained(self) -> bool:
        data_filter = self._filter
        if data_filter is None or isinstance(data_filter, StreamFilter | DatagramFilter):
            return True
        try:
            return bool(data_filter.is_drained())
        except FILTER_ERRORS:
            return True

    def _give_up(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        self._finish()

    def _finish(self) -> None:
        if self._is_detached:
            return
        self._is_detached = True
        if self._filter is not None:
            self._detach_one(self._filter)
        self.tell(Drained(self.number))
        self._connection.places.remove(self)
        self._on_gone()

    def _detach_one(self, data_filter: AnyDataFilter) -> None:
        try:
            data_filter.detach()
        except FILTER_ERRORS as error:
            self.on_filter_failure(error)

    # -- for the sockets -------------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """As ``cell_socket.Place.tell``."""
        self._gate.tell(message)

    def post(self, action: Callable[[], None]) -> None:
        """As ``cell_socket.Place.post``."""
        self.port.post(action)
