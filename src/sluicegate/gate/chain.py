"""The chain of a connection that has data filters: elements, links, and leaving.

Stream filters alone need no chain: the pump runs them inline. As soon as one data filter is
attached, every element gets two sockets that look alike, on the network or on a link. A data filter
that leaves is replaced by a relay; when the last has left and the relays are quiet, the chain
collapses into the pump, and what nobody inspects is spliced. A server that is dialled later joins
behind a link, on which sends wait until then. The invariant: no filter sees more than its
predecessor released, and no byte is lost or doubled when one leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluicegate.errors import BadContext, FilterFailed, LimitExceeded, Side, TransportError
from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    DataFilter,
    Position,
    StreamFilter,
)
from sluicegate.port import StreamSocket
from sluicegate.port.backend import RawSocket
from sluicegate.port.scope import entered

from .link import LinkEnd, make_link
from .pump import Direction
from .relay import Relay, RelayHalf
from .stages import Stage, StageGroup

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["Attached", "FilterChain"]

ElementSocket = StreamSocket | LinkEnd


class Attached:
    """A data filter attached to one connection; detached exactly once."""

    __slots__ = ("_is_detached", "context", "filter", "is_running", "name", "position")

    def __init__(
        self, data_filter: AnyDataFilter, position: Position, context: Any, name: str
    ) -> None:
        self.filter = data_filter
        self.position = position
        self.context = context
        self.name = name
        self.is_running = False
        #: Whether a coroutine of it has not ended.
        self._is_detached = False

    def detach(self, connection: GateConnection) -> None:
        """Tell the filter that the connection has ended for it."""
        if self._is_detached:
            return
        self._is_detached = True
        try:
            self.filter.detach()
        except Exception as error:  # noqa: BLE001 - third-party code, after the end
            connection.on_detach_error(self.name, error)


class _Element:
    """One place in the chain: a data filter, or a relay (with stages, or after a leave)."""

    __slots__ = ("attached", "client", "relay", "server")

    def __init__(self, client: ElementSocket, server: ElementSocket) -> None:
        self.client = client
        self.server = server
        self.attached: Attached | None = None
        self.relay: Relay | None = None


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
        self._client = self._own(client, Side.CLIENT)
        self._server = None if server is None else self._own(server, Side.SERVER)
        self._server_link: LinkEnd | None = None
        #: Where a server that is dialled later joins.
        self._is_collapsing = False
        #: Nothing more is taken from the network: what is between two elements drains.
        self._elements: list[_Element] = []
        self._groups: dict[int, StageGroup] = {}
        self._build(attached)

    def _own(self, raw: RawSocket, side: Side) -> StreamSocket:
        socket = StreamSocket(self._port, raw, side)
        socket.scope = self._connection
        socket.on_closed = self._on_socket_closed
        return socket

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
            right: ElementSocket
            following: ElementSocket
            if self._server is None or index < len(runs) - 1:
                right, following = make_link(self._port)
                right.scope = following.scope = self._connection
                if index == len(runs) - 1:
                    self._server_link = following
            else:
                right = following = self._server
            element = _Element(left, right)
            if isinstance(run[0].filter, StreamFilter):
                self._groups[index] = StageGroup([_stage(item) for item in run])
            else:
                element.attached = run[0]
            self._elements.append(element)
            left = following

    # -- running -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every element; a failure ends the connection."""
        for index, element in enumerate(self._elements):
            if self._connection.is_closing:
                return
            try:
                self._start_element(index, element)
            except Exception as error:  # noqa: BLE001 - third-party code; fail closed
                self._connection.on_filter_failure(_named(element, error))

    def _start_element(self, index: int, element: _Element) -> None:
        attached, connection = element.attached, self._connection
        if attached is None:
            group = self._groups[index]
            for stage in group.stages:
                stage.filter.on_start(connection)
            self._start_relay(element, group)
        elif isinstance(attached.filter, DataFilter):
            attached.is_running = True
            self._service.spawn(self._run(element, attached, attached.filter))
        elif isinstance(attached.filter, CallbackDataFilter):
            with entered(connection):
                attached.filter.set_sockets(
                    element.client, element.server, connection, attached.context
                )

    async def _run(self, element: _Element, attached: Attached, data_filter: DataFilter) -> None:
        connection = self._connection
        try:
            with entered(connection):
                await data_filter.run(element.client, element.server, connection)
        except Exception as error:  # noqa: BLE001 - third-party code; fail closed
            attached.is_running = False
            connection.on_filter_failure(_named(element, error))
        else:
            attached.is_running = False
            if element.attached is attached:
                self._on_returned(element)
        finally:
            attached.is_running = False
            if connection.is_closing or element.attached is not attached:
                attached.detach(connection)

    def join_server(self, server: RawSocket) -> None:
        """Go on with the server that was dialled later, behind what the filters sent meanwhile."""
        link, self._server_link = self._server_link, None
        assert link is not None, "a server joins once"
        self._server = self._own(server, Side.SERVER)
        element = _Element(link, self._server)
        self._elements.append(element)
        if any(other.attached is not None for other in self._elements):
            self._start_relay(element, None)
        else:
            self._begin_collapse()

    def _start_relay(self, element: _Element, group: StageGroup | None) -> None:
        bound = self._service.limits.stream_hold_bytes_max
        halves = [
            RelayHalf(
                self._connection, side, source, sink, group.for_side(side, bound) if group else None
            )
            for side, source, sink in (
                (Side.CLIENT, element.client, element.server),
                (Side.SERVER, element.server, element.client),
            )
        ]
        element.relay = Relay(halves[0], halves[1])
        for half in halves:
            half.is_paused = self._is_collapsing and self._is_network(half.source)
            half.start()

    def _is_network(self, socket: object) -> bool:
        return socket is self._client or socket is self._server

    # -- leaving -------------------------------------------------------------------------------

    def leave(self, data_filter: AnyDataFilter) -> None:
        """Take a callback filter out of the chain.

        Raises:
            BadContext: It is not in this chain.
        """
        place = self.place_of(data_filter)
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
        for index, element in enumerate(self._elements):
            if element.attached is place:
                element.attached = following
                if not place.is_running:
                    place.detach(self._connection)
                self._start_element(index, element)

    def _on_returned(self, element: _Element) -> None:
        """Go on without a data filter once its last sends are through."""
        if self._connection.is_closing:
            return
        if element.client.is_closed or element.server.is_closed:
            self._connection.close(abortive=self._was_aborted)
            return
        for socket in (element.client, element.server):
            if socket.is_sending:
                socket.on_send_idle = lambda: self._on_returned(element)
                return
        for socket in (element.client, element.server):
            socket.withdraw()
        attached, element.attached = element.attached, None
        if attached is not None:
            attached.detach(self._connection)
        if any(other.attached is not None for other in self._elements) or not self._can_collapse:
            self._start_relay(element, None)
        else:
            self._begin_collapse()

    @property
    def _can_collapse(self) -> bool:
        """Whether the pump can take over what stages hold: those of one element, not of more."""
        return len(self._groups) <= 1

    def _begin_collapse(self) -> None:
        """Take no more from the network, and let drain what is between two elements."""
        self._is_collapsing = True
        for half in self._halves():
            if self._is_network(half.source):
                half.pause()
        for element in self._elements:
            if element.relay is None and len(self._elements) > 1:
                self._start_relay(element, None)
        self.on_relay_quiet()

    def on_relay_quiet(self) -> None:
        """Collapse when no data filter is left and nothing is between two elements."""
        if self._connection.is_closing or not self._is_collapsing:
            return
        if self._server is None:
            return  # ``join_server`` looks again
        if any(half.is_moving for half in self._halves()):
            return
        links = [e.server for e in self._elements[:-1]] + [e.client for e in self._elements[1:]]
        if any(link.is_sending for link in links):
            return
        self._collapse()

    def _collapse(self) -> None:
        """Hand both sockets to the pump, with the stages that are left."""
        connection = self._connection
        assert self._server is not None
        client, server = self._client.give_away(), self._server.give_away()
        client_raw, server_raw = connection.raw_sockets
        assert client_raw is not None
        assert server_raw is not None
        staged = next((self._elements[index].relay for index in self._groups), None)
        directions: list[Direction] = []
        for place, side, source, sink in (
            (0, Side.CLIENT, client_raw, server_raw),
            (1, Side.SERVER, server_raw, client_raw),
        ):
            stages = None if staged is None else staged.halves[place].stages
            if stages is not None and not stages.is_active:
                stages = None
            direction = Direction(self._port)
            direction.open(connection, side, source, sink, stages)
            directions.append(direction)
        to_server, to_client = self.byte_counts()
        # What was received and not read yet is the pump's to send.
        to_server += sum(length for _, length in client.ahead)
        to_client += sum(length for _, length in server.ahead)
        connection.adopt_directions(directions[0], directions[1], (to_server, to_client))
        for direction, given, other in (
            (directions[0], client, server),
            (directions[1], server, client),
        ):
            direction.take_operation(given.receive_op)
            if given.error:
                connection.on_transport_error(direction.side, given.error)
                return
            direction.adopt(given.ahead, ended=given.ended, shut=other.shut)

    def _halves(self) -> list[RelayHalf]:
        return [
            half
            for element in self._elements
            if element.relay is not None
            for half in element.relay.halves
        ]

    # -- ending --------------------------------------------------------------------------------

    def stop(self, *, abortive: bool) -> None:
        """Close every socket; pending operations complete first, then filters are detached."""
        for element in self._elements:
            for socket in (element.client, element.server):
                socket.close(abortive=abortive)
        if self._server_link is not None:
            self._server_link.close(abortive=abortive)

    @property
    def is_busy(self) -> bool:
        """Whether a socket is not closed yet; one that is still dialled is the connection's."""
        client, server = self._connection.raw_sockets
        owned = (client,) if self._server is None else (client, server)
        return any(raw is not None and raw.fileno() >= 0 for raw in owned)

    def _on_socket_closed(self) -> None:
        connection = self._connection
        if connection.is_closing:
            connection.join()
        elif self._client.is_closed and (self._server is None or self._server.is_closed):
            if self._was_aborted:
                connection.fail("aborted by a filter")
            else:
                connection.close(abortive=False)

    @property
    def _was_aborted(self) -> bool:
        server = self._server
        return self._client.was_aborted or (server is not None and server.was_aborted)

    # -- asking --------------------------------------------------------------------------------

    @property
    def last_active(self) -> float:
        """When a byte last moved at the network, on the port's clock."""
        client, server = self._client, self._server
        return client.last_active if server is None else max(client.last_active, server.last_active)

    def byte_counts(self) -> tuple[int, int]:
        """Return the bytes that the server and the client were sent: what is held is not."""
        server = self._server
        return 0 if server is None else server.bytes_sent, self._client.bytes_sent

    def is_drained(self) -> bool:
        """Tell whether no data filter has unfinished work."""
        return all(
            item.attached is None
            or isinstance(item.attached.filter, StreamFilter)
            or item.attached.filter.is_drained()
            for item in self._elements
        )


def _stage(item: Attached) -> Stage:
    assert isinstance(item.filter, StreamFilter)
    return Stage(item.name, item.filter)


def _named(element: _Element, error: Exception) -> Exception:
    """Say which filter failed, unless the error speaks of the network or a limit."""
    if isinstance(error, TransportError | LimitExceeded | FilterFailed) or element.attached is None:
        return error
    failure = FilterFailed(element.attached.name, f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
