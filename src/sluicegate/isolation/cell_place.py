"""In a cell: a filter's place in one connection, from the gate's ``Open`` to its ``Detached``.

``server`` makes one per ``Open``. Data and callback filters get the two sockets; stream filters run
in the gate's own relay, here. The invariant: a filter is detached exactly once, after everything
that it had pending was told, and it leaves only when nothing of it is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from sluicegate.address import SocketAddress
from sluicegate.errors import (
    FILTER_ERRORS,
    BadContext,
    FilterFailed,
    LimitExceeded,
    Side,
    TransportError,
)
from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    DataFilter,
    DatagramFilter,
    StreamFilter,
)
from sluicegate.gate.relay import RelayHalf
from sluicegate.gate.stages import Stage, StageGroup
from sluicegate.port.scope import entered

from .cell_datagrams import CellDatagramEnd, DatagramRelay
from .cell_socket import CellSocket
from .facts import ConnectionFacts, facts_of
from .messages import (
    CountSent,
    DialServer,
    Drained,
    Left,
    LimitReached,
    Message,
    Raised,
    TransportFailed,
)
from .objects import CellConnection, CellFirewall, GateSide, shortened

if TYPE_CHECKING:
    from sluicegate.gate.connection import GateConnection

__all__ = ["CellPlace", "PlaceConnection"]

_ASK_AGAIN_S = 0.05
"""How often a slow filter is asked whether it has finished."""


class PlaceConnection(CellConnection):
    """The connection that a filter is in; satisfies ``filterapi.Connection``."""

    def __init__(
        self, gate: GateSide, firewall: CellFirewall, number: int, facts: ConnectionFacts
    ) -> None:
        super().__init__(gate, firewall, number, facts)
        self.place: CellPlace
        self.port = firewall.port

    @property
    def is_closing(self) -> bool:
        """Whether it has ended; for the relay."""
        return self.place.is_over

    def leave(self, data_filter: AnyDataFilter) -> None:
        """As ``filterapi.Connection.leave``."""
        if isinstance(data_filter, DataFilter):
            raise BadContext("a DataFilter leaves the chain by returning from run")
        self.place.check_current(data_filter)
        self.place.begin_leave()

    def hand_over(
        self, data_filter: AnyDataFilter, successor: AnyDataFilter, context: Any = None
    ) -> None:
        """As ``filterapi.Connection.hand_over``."""
        self.place.check_current(data_filter)
        self.place.hand_over(successor, context)

    def dial_server(self, address: SocketAddress) -> None:
        """As ``filterapi.Connection.dial_server``; a mistake ends the connection."""
        self._gate.tell(DialServer(self._number, facts_of(address)))

    def count_sent(self, count: int) -> None:
        """As ``filterapi.Connection.count_sent``."""
        if not self.is_emulated:
            raise BadContext("only a filter that emulates the server counts what it sends")
        self._gate.tell(CountSent(self._number, count))

    def on_transport_error(self, side: Side, error: int) -> None:
        """Give the connection up because a side failed; for the relay."""
        self.place.on_filter_failure(TransportError(error, side))

    def on_filter_failure(self, error: BaseException) -> None:
        """Take a stream filter's failure; for the relay."""
        self.place.on_filter_failure(error)


class CellPlace:
    """One filter in one connection; the scope in which its code runs."""

    def __init__(
        self,
        gate: GateSide,
        connection: PlaceConnection,
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
        self._port = connection.port
        self._on_gone = on_gone
        self._filter: AnyDataFilter | None = None
        self._halves: tuple[RelayHalf, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs = 0
        #: Coroutines of filters that have not returned.
        self._is_leaving = False
        self._is_detached = False
        connection.place = self

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
            self._spawn(self._run(made))
        elif isinstance(made, DatagramFilter):
            self._start_datagrams(made)
        elif isinstance(made, CallbackDataFilter):
            made.set_sockets(self.client, server, cast("Any", connection), context)
        else:
            self._filter = None
            raise TypeError(f"{made!r} is no data filter")

    def _start_relay(self, stream_filter: StreamFilter) -> None:
        server, connection = self.server, cast("GateConnection", self._connection)
        assert server is not None, "a stream filter emulates nobody"
        group = StageGroup([Stage(stream_filter.name, stream_filter)])
        group.start(connection)
        bound, clock = self._connection.firewall.limits.stream_hold_bytes_max, self._port.clock
        first, second = (
            RelayHalf(connection, self._on_quiet, side, way, group.for_side(side, bound, clock))
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

    def refuse(self, reason: str) -> None:
        """End the connection as refused; for the relay of datagrams."""
        self._connection.refuse(reason)

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

    def _spawn(self, work: Any) -> None:
        with entered(self):
            task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- leaving -------------------------------------------------------------------------------

    def check_current(self, data_filter: AnyDataFilter) -> None:
        """Refuse what another filter than the one in this place asks.

        Raises:
            BadContext: It is not here, or the connection has ended.
        """
        if self._filter is not data_filter or self.is_over:
            raise BadContext("the filter is not in this connection's chain")

    def hand_over(self, successor: AnyDataFilter, context: Any) -> None:
        """Let another filter go on in this place."""
        before = self._filter
        assert before is not None, "check_current comes first"
        if not (isinstance(before, DataFilter) and self._runs):
            self._detach_one(before)
        with entered(self):
            self._start(successor, context)

    def begin_leave(self) -> None:
        """Leave as soon as nothing is under way."""
        if not self._is_leaving and not self.is_over:
            self._is_leaving = True
            self._spawn(self._leave())

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
            self._port.call_after(limits.drain_timeout_s, self._give_up)
        self._check_drained()

    def _check_drained(self) -> None:
        """Be gone when the filter has finished; ask again until then."""
        if self._is_detached:
            return
        if not self._runs and self._is_drained():
            self._finish()
        else:
            self._port.call_after(_ASK_AGAIN_S, self._check_drained)

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
        self._port.post(action)
