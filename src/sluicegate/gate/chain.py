"""The chain of a connection that has data filters: elements, links, and leaving.

Stream filters alone need no chain: the pump runs them inline. As soon as one data filter is
attached, every element gets two sockets that look alike, on the network or on a link. A data filter
that leaves is replaced by a relay; when the last has left and the relays are quiet, the chain
collapses into the pump, and what nobody inspects is spliced. A server that is dialled later joins
behind a link, on which sends wait until then; an emulating filter is the server, so its element has
one socket only, and its chain never collapses. The invariant: no filter sees more than its
predecessor released, and no byte is lost or doubled when one leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.errors import (
    FILTER_ERRORS,
    BadContext,
    FilterFailed,
    LimitExceeded,
    Side,
    TransportError,
    WindowExpired,
)
from sluicegate.filterapi import AnyDataFilter, CallbackDataFilter, DataFilter, StreamFilter
from sluicegate.port import StreamSocket
from sluicegate.port.backend import RawSocket
from sluicegate.port.given_away import GivenAway
from sluicegate.port.layer import driver_of
from sluicegate.port.scope import entered

from .attached import Attached
from .blockage import ChainAccount
from .emulation import say_farewell
from .link import LinkEnd, make_link
from .pump import Direction
from .relay import RelayHalf
from .stages import INSPECT_NEEDS_FILTER, StageGroup, Stages

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["FilterChain", "Outlet"]

ElementSocket = StreamSocket | LinkEnd


class _Element:
    """One place in the chain: a data filter, or a relay (with stages, or after a leave).

    It is the scope in which its filter's code runs, so a failure is told with the filter's name.
    """

    __slots__ = ("_connection", "attached", "client", "group", "halves", "server")

    def __init__(
        self, connection: GateConnection, client: ElementSocket, server: ElementSocket | None
    ) -> None:
        self.client = client
        self.server = server
        #: None where the filter is the server itself.
        self.attached: Attached | None = None
        self.group: StageGroup | None = None
        #: The stream filters here, if it is their place.
        self.halves: tuple[RelayHalf, ...] = ()
        #: From the client and from the server, while no data filter is here.
        self._connection = connection

    @property
    def sockets(self) -> tuple[ElementSocket, ...]:
        """Both sockets; an emulating filter has one."""
        return (self.client,) if self.server is None else (self.client, self.server)

    @property
    def is_over(self) -> bool:
        """Whether nothing will pass here any more."""
        if all(socket.is_closed or socket.is_finished for socket in self.sockets):
            return True
        return bool(self.halves) and all(half.is_over for half in self.halves)

    def filter_names(self) -> tuple[str, ...]:
        """Whose code runs here."""
        if self.attached is not None:
            return (self.attached.name,)
        return tuple(stage.name for stage in self.group.stages) if self.group is not None else ()

    @property
    def id(self) -> str:
        """The connection's, for records."""
        return self._connection.id

    def on_filter_failure(self, error: BaseException) -> None:
        """End the connection, by the failed filter's name."""
        if isinstance(error, BadContext | WindowExpired) and self._connection.is_closing:
            return  # It used a socket that was closed meanwhile, not by itself, or its window.
        self._connection.on_filter_failure(self._named(error))

    def _named(self, error: BaseException) -> BaseException:
        """Say which filter failed, unless the error speaks of the connection or a limit."""
        if self.attached is None or isinstance(error, LimitExceeded | FilterFailed):
            return error
        if isinstance(error, TransportError) and error.side is not Side.INTERNAL:
            return error
        failure = FilterFailed(self.attached.name, f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure


class Outlet:
    """What the deadlines ask of a network socket of a chain: how sending to it goes."""

    __slots__ = ("_socket",)

    def __init__(self, socket: StreamSocket) -> None:
        self._socket = socket

    @property
    def is_done(self) -> bool:
        """Whether the stream to it was ended."""
        return self._socket.is_shut

    @property
    def blocked_since(self) -> float:
        """When it stopped taking bytes; 0 while it takes them."""
        return self._socket.blocked_since

    @property
    def sink_side(self) -> Side:
        """Which side it is."""
        return self._socket.side


class FilterChain:
    """The elements of one connection, client to server."""

    def __init__(
        self,
        connection: GateConnection,
        service: FirewallService,
        client: RawSocket,
        server: RawSocket | None,
        attached: list[Attached],
    ) -> None:
        self._connection = connection
        self._service = service
        self._port = service.port
        self._account = ChainAccount(connection)
        self._client = self._own(client, Side.CLIENT)
        given, connection.client_given = connection.client_given, None
        if given is not None:
            self._client.take_over(given)
        self._server = None if server is None else self._own(server, Side.SERVER)
        given = connection.take_server_given()
        if self._server is not None and given is not None:
            self._server.take_over(given)
        self._server_link: LinkEnd | None = None
        #: Where a server that is dialled later joins.
        self._is_collapsing = False
        #: Nothing more is taken from the network: what is between two elements drains.
        self.bytes_counted: int = 0
        #: What an emulating filter says that it sent for the client.
        self._is_over = False
        #: The pump has taken over, or the connection ends.
        self._elements: list[_Element] = []
        self._build(attached)

    def _own(self, raw: RawSocket, side: Side) -> StreamSocket:
        socket = StreamSocket(self._port, raw, side)
        socket.account = self._account
        socket.on_closed = self._on_socket_closed
        socket.on_finished = self._on_socket_finished
        return socket

    def _link(self) -> tuple[LinkEnd, LinkEnd]:
        ends = make_link(self._port)
        for end in ends:
            end.account = self._account
            end.scope = self._connection
            end.on_closed = self._on_socket_closed
            end.on_finished = self._on_socket_finished
        return ends

    def _add(self, client: ElementSocket, server: ElementSocket | None) -> _Element:
        element = _Element(self._connection, client, server)
        for socket in element.sockets:
            socket.scope = element
        self._elements.append(element)
        return element

    def _build(self, attached: list[Attached]) -> None:
        """Lay the elements out with a link between each two neighbours."""
        runs: list[list[Attached]] = []
        for item in attached:
            is_stream = isinstance(item.filter, StreamFilter)
            if is_stream and runs and isinstance(runs[-1][0].filter, StreamFilter):
                runs[-1].append(item)
            else:
                runs.append([item])
        left: ElementSocket = self._client
        for index, run in enumerate(runs):
            is_last = index == len(runs) - 1
            right: ElementSocket | None = self._server
            following = left
            if is_last and self._connection.is_emulated:
                right = None
            elif right is None or not is_last:
                right, following = self._link()
                if is_last:
                    self._server_link = following
            element = self._add(left, right)
            if isinstance(run[0].filter, StreamFilter):
                element.group = StageGroup.of(run)
            else:
                element.attached = run[0]
            left = following

    # -- running -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every element; a failure ends the connection."""
        for element in list(self._elements):
            if self._connection.is_closing:
                return
            try:
                self._start_element(element)
            except FILTER_ERRORS as error:
                element.on_filter_failure(error)

    def _start_element(self, element: _Element) -> None:
        attached, connection = element.attached, self._connection
        if element.group is not None:
            element.group.start(connection)
            self._start_relay(element)
        elif attached is not None and isinstance(attached.filter, DataFilter):
            attached.task = self._service.spawn(self._run(element, attached, attached.filter))
        elif attached is not None and isinstance(attached.filter, CallbackDataFilter):
            with entered(element):
                attached.filter.set_sockets(
                    element.client, element.server, connection, attached.context
                )

    async def _run(self, element: _Element, attached: Attached, data_filter: DataFilter) -> None:
        connection = self._connection
        client, server = element.client, element.server
        failure: BaseException | None = None
        try:
            with entered(element):
                failure = await attached.failure_of(
                    lambda: data_filter.run(client, server, connection)
                )
        finally:
            self._service.wheel.remove(attached)
            attached.task = None
            if connection.is_closing or element.attached is not attached:
                attached.detach()
                self._service.slow.on_returned(attached)
        if failure is not None:
            element.on_filter_failure(failure)
        elif element.attached is attached:
            self._on_returned(element)
        failure = None  # its traceback knows this frame

    def join_server(self, server: RawSocket) -> None:
        """Go on with the server that was dialled later, behind what the filters sent meanwhile."""
        link, self._server_link = self._server_link, None
        assert link is not None, "a server joins once"
        self._server = self._own(server, Side.SERVER)
        element = self._add(link, self._server)
        if any(other.attached is not None for other in self._elements):
            self._start_relay(element)
        else:
            self._begin_collapse()

    def _start_relay(self, element: _Element) -> None:
        assert element.server is not None, "an emulating filter is never relayed past"
        bound, group = self._service.limits.stream_hold_bytes_max, element.group
        clock = self._port.clock
        element.halves = first, second = tuple(
            RelayHalf(
                self._connection,
                self.on_relay_quiet,
                side,
                (source, sink),
                group.for_side(side, bound, clock) if group else None,
            )
            for side, source, sink in (
                (Side.CLIENT, element.client, element.server),
                (Side.SERVER, element.server, element.client),
            )
        )
        first.other, second.other = second, first
        for half in element.halves:
            half.is_paused = self._is_collapsing and self._is_network(half.source)
            half.start()

    def _is_network(self, socket: object) -> bool:
        return socket is self._client or socket is self._server

    # -- leaving -------------------------------------------------------------------------------

    def leave(self, data_filter: AnyDataFilter) -> None:
        """Take a callback filter out of the chain.

        Raises:
            BadContext: It is not in this chain, or is a coroutine, which leaves by returning.
        """
        place = self.place_of(data_filter)
        if isinstance(data_filter, DataFilter):
            raise BadContext("a DataFilter leaves the chain by returning from run")
        for element in self._elements:
            if element.attached is place:
                self._on_returned(element)

    def place_of(self, data_filter: AnyDataFilter) -> Attached:
        """Return a data filter's place.

        Raises:
            BadContext: It is not in this chain.
        """
        for element in self._elements:
            if element.attached is not None and element.attached.filter is data_filter:
                return element.attached
        raise BadContext("the filter is not in this connection's chain")

    def hand_over(self, place: Attached, following: Attached) -> None:
        """Let another filter go on in a data filter's place."""
        for element in self._elements:
            if element.attached is place:
                element.attached = following
                if not place.is_running:
                    place.detach()
                self._start_element(element)

    def _on_returned(self, element: _Element) -> None:
        """Go on without a data filter once its last sends are through."""
        attached = element.attached
        if self._connection.is_closing or attached is None:
            return
        if any(socket.is_closed for socket in element.sockets):
            self._wind_up(element)
            return
        for socket in element.sockets:
            if socket.is_sending:
                socket.on_send_idle = lambda: self._on_returned(element)
                return
        for socket in element.sockets:
            socket.withdraw()
        if self._connection.is_closing:
            return
        if element.server is None:
            half_closed_s = self._service.limits.half_closed_timeout_s
            self._service.wheel.hasten(self._connection, self._port.now + half_closed_s)
            say_farewell(element.client)
            return
        if any(socket.is_receiving or socket.is_sending for socket in element.sockets):
            element.on_filter_failure(FilterFailed(attached.name, "went on while it was leaving"))
            return
        element.attached = None
        attached.detach()
        if any(other.attached is not None for other in self._elements):
            self._start_relay(element)
        else:
            self._begin_collapse()

    @property
    def is_watched(self) -> bool:
        """Whether some filter has not left."""
        groups = (one.group for one in self._elements if one.group is not None)
        return any(one.attached is not None for one in self._elements) or any(
            group.is_watching for group in groups
        )

    def _begin_collapse(self) -> None:
        """Take no more from the network, and let drain what is between two elements."""
        if self._connection.is_unseen:
            self._connection.refuse(INSPECT_NEEDS_FILTER)
            return
        self._is_collapsing = True
        for half in self._halves():
            if self._is_network(half.source):
                half.pause()
        for element in self._elements:
            if not element.halves and len(self._elements) > 1:
                self._start_relay(element)
        self.on_relay_quiet()

    def on_relay_quiet(self) -> None:
        """Collapse when no data filter is left and nothing is between two elements."""
        if self._is_over or self._connection.is_closing:
            return
        if all(element.is_over for element in self._elements):
            self._end()
        elif self._is_collapsing and self._server is not None and self._is_quiet():
            self._collapse()

    def _is_quiet(self) -> bool:
        if any(half.is_moving for half in self._halves()):
            return False
        return not any(
            isinstance(socket, LinkEnd) and (socket.is_sending or socket.is_end_under_way)
            for element in self._elements
            for socket in element.sockets
        )

    def _collapse(self) -> None:
        """Hand both sockets to the pump, with the stages that are left."""
        connection = self._connection
        assert self._server is not None
        self._is_over = True
        counts = self.byte_counts()
        client, server = self._client.give_away(), self._server.give_away()
        first, second = Direction(self._port), Direction(self._port)
        first.open(connection, Side.CLIENT, client.raw, server.raw, self._stages_left(Side.CLIENT))
        second.open(connection, Side.SERVER, server.raw, client.raw, self._stages_left(Side.SERVER))
        backend = self._port.backend
        drivers = driver_of(client.raw, backend), driver_of(server.raw, backend)
        first.run_on(drivers[0], drivers[1])
        second.run_on(drivers[1], drivers[0])
        first.take_operation(client.receive_op)
        second.take_operation(server.receive_op)
        connection.adopt_directions(first, second, counts)
        for side, error in ((Side.CLIENT, client.error), (Side.SERVER, server.error)):
            if error:
                connection.on_transport_error(side, error)
        first.adopt(client.ahead, ended=client.ended, shut=server.shut)
        second.adopt(server.ahead, ended=server.ended, shut=client.shut)

    def _stages_left(self, side: Side) -> Stages | None:
        """Return the stages that bytes from a side still meet, with what they hold, in order."""
        halves = [half for half in self._halves() if half.side is side]
        if side is Side.SERVER:
            halves.reverse()
        parts = [half.stages for half in halves if half.stages is not None]
        stages = Stages.joined(parts) if parts else None
        return stages if stages is not None and stages.is_active else None

    def _halves(self) -> list[RelayHalf]:
        return [half for element in self._elements for half in element.halves]

    # -- ending --------------------------------------------------------------------------------

    def stop(self, *, abortive: bool) -> None:
        """Close every socket; pending operations complete first, then filters are detached."""
        for half in self._halves():
            half.stop()
        for element in self._elements:
            for socket in element.sockets:
                socket.close(abortive=abortive)
        if self._server_link is not None:
            self._server_link.close(abortive=abortive)
        if not abortive and any(
            socket.is_sending for element in self._elements for socket in element.sockets
        ):
            # A last send may wait for a peer that never reads.
            limits = self._service.limits
            self._port.call_after(limits.send_stall_s, lambda: self.stop(abortive=True))

    def let_go(self) -> None:
        """Leave no circle for the collector: the connection is over, its filters are told."""
        links = [socket for one in self._elements for socket in one.sockets]
        if self._server_link is not None:
            links.append(self._server_link)
        for socket in links:
            if isinstance(socket, LinkEnd):
                socket.let_go()
        for half in self._halves():
            half.other = None
        self._elements.clear()

    def give_away(self, side: Side) -> GivenAway | None:
        """Hand a side's socket over, to tell it something; None while it is used for sending.

        Nobody in the chain gets at it any more; whoever waits for bytes is told ``ECANCELED``.
        """
        socket = self._client if side is Side.CLIENT else self._server
        if socket is None or socket.is_closed or socket.is_sending or socket.is_shut:
            return None
        socket.withdraw()
        given = socket.give_away()
        while given.ahead:
            buffer = given.ahead.popleft()[0]
            self._account.give_up(buffer)
            buffer.release()
        return given

    def _wind_up(self, element: _Element) -> None:
        """End as a filter did that closed a socket and left; its neighbours get its last words."""
        if any(socket.was_aborted for socket in element.sockets):
            self._end()
            return
        for socket in element.sockets:
            socket.close()
        self.on_relay_quiet()

    @property
    def is_busy(self) -> bool:
        """Whether a socket is open, or something started on it was not told.

        A server that is still dialled is the connection's.
        """
        link = self._server_link
        return any(socket.is_busy for element in self._elements for socket in element.sockets) or (
            link is not None and link.is_busy
        )

    def _on_socket_closed(self) -> None:
        connection = self._connection
        if connection.is_closing:
            connection.join()
        elif self._client.is_closed and (self._server is None or self._server.is_closed):
            self._end()
        else:
            self.on_relay_quiet()

    def _on_socket_finished(self) -> None:
        """End when both sides have said and heard the last, whatever the filters do."""
        client, server = self._client, self._server
        if self._is_over:
            return
        if server is not None and client.is_finished and server.is_finished:
            self._end()
        else:
            self.on_relay_quiet()

    def _end(self) -> None:
        """End the connection as its filters ended their sockets."""
        self._is_over = True
        sockets = [socket for element in self._elements for socket in element.sockets]
        if any(socket.was_aborted for socket in sockets):
            self._connection.fail("aborted by a filter")
        else:
            self._connection.close(abortive=False)

    # -- asking --------------------------------------------------------------------------------

    @property
    def outlets(self) -> tuple[Outlet, ...]:
        """The network sockets, for the deadlines."""
        sockets = (self._client,) if self._server is None else (self._client, self._server)
        return tuple(Outlet(socket) for socket in sockets)

    @property
    def last_active(self) -> float:
        """When a byte last moved at the network, on the port's clock."""
        client, server = self._client, self._server
        return client.last_active if server is None else max(client.last_active, server.last_active)

    def byte_counts(self) -> tuple[int, int]:
        """Return the bytes that the server and the client were sent: what is held is not.

        An emulating filter is the server: it was sent what it received, unless it counts itself.
        """
        if self._connection.is_emulated:
            taken = self.bytes_counted or self._elements[-1].client.bytes_received
            return taken, self._client.bytes_sent
        server = self._server
        return 0 if server is None else server.bytes_sent, self._client.bytes_sent
