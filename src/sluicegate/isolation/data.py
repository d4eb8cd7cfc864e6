"""A data filter of any kind in a cell: the callback filter that stands for it in a chain.

It has the place's two sockets and does on them what the cell asks; what they say goes back. The
invariant: the cell decides only about its own connection: a mistake, a lie or the end of the cell
fails this connection, by the filter's name, and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import pydantic
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.buffer import Window
from sluicegate.errors import (
    FILTER_ERRORS,
    LimitExceeded,
    ProtocolError,
    Side,
    TransportError,
)
from sluicegate.filterapi import CallbackDataFilter, Connection, DataSocket, Position
from sluicegate.gate.settings import PerConnection
from sluicegate.gate.udp_connection import UdpConnection
from sluicegate.gate.udp_ends import UdpEnd
from sluicegate.port.scope import FailureScope, current_scope

from .cell import Asked, Cell, CellFailed, Phase
from .content import IsolatedFilterError
from .facts import ConnectionFacts, address_of, facts_of
from .messages import (
    CHUNK_BYTES_MAX,
    PART_BYTES_MAX,
    CloseSocket,
    CountSent,
    Detached,
    Drained,
    Dropped,
    FromCell,
    Left,
    LimitReached,
    Manifest,
    Message,
    NeverOpened,
    Open,
    Raised,
    Received,
    Sent,
    Shutdown,
    StartReceive,
    StartSend,
    TransportFailed,
    Withdraw,
)
from .place_objects import PlaceObjects

if TYPE_CHECKING:
    from sluicegate.gate.relay import ChainSocket

__all__ = ["IsolatedData", "isolated_data", "stand_in_class"]


class _Table(pydantic.BaseModel, extra="allow", frozen=True):
    """A rule's settings as they were written; the cell's own model reads them."""


def isolated_data(cell: Cell, manifest: Manifest) -> PerConnection:
    """Return what makes the stand-ins of a filter that says this of itself.

    Raises:
        ValueError: There is no such position.
    """
    stand_in = stand_in_class(manifest.name, Position(manifest.position))

    def make(table: _Table) -> IsolatedData:
        cell.check_expected()
        return stand_in(cell, 0, table.model_dump())

    return PerConnection(make, _Table, _Table())


def stand_in_class(filter_name: str, place: Position) -> type[IsolatedData]:
    """Make the class of stand-ins for filters of one name and position."""

    class Isolated(IsolatedData):
        name: ClassVar[str] = filter_name
        position: ClassVar[Position] = place

    return Isolated


class _Io(NamedTuple):
    """What an operation of ours was."""

    is_server: bool
    is_send: bool


class _Way:
    """One of the two sockets."""

    __slots__ = ("is_deferred", "parts", "parts_bytes", "socket")

    def __init__(self, socket: DataSocket | None) -> None:
        self.socket = socket
        self.parts: list[bytes] = []
        #: Of a chunk that the cell is sending.
        self.parts_bytes = 0
        self.is_deferred = False
        #: Whether a receive waits for the wire.


class IsolatedData(CallbackDataFilter, Asked):
    """Stands for one filter in one connection."""

    def __init__(
        self,
        cell: Cell,
        handle: int,
        rule_settings: Mapping[str, Any],
        connection: Connection | None = None,
    ) -> None:
        """Make one.

        Args:
            cell: Where the filter is.
            handle: Which of those that it has announced, or has made for a factory; 0: a new one.
            rule_settings: What a new one is made with.
            connection: What the cell was told of already when this is made.
        """
        self._cell = cell
        self._known: Connection | None = None
        #: What the cell was told of for this.
        if connection is not None:
            self._know(connection)
        self._handle = handle
        self._incarnation = cell.restarts
        #: Whose handle it is.
        self._rule_settings = dict(rule_settings)
        self._number = 0
        self._connection: Connection
        self._scope: FailureScope | None = None
        self._ways: tuple[_Way, _Way]
        self._is_over = False
        self._is_gone = True
        #: Whether nothing of the filter is left in the cell.
        self._opening: asyncio.Task[None] | None = None
        self._objects: PlaceObjects | None = None

    # -- filterapi.CallbackDataFilter --------------------------------------------------------------

    @override
    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> None:
        del context
        self._connection = connection
        self._know(connection)
        self._scope = current_scope()
        self._ways = (_Way(client), _Way(server))
        if self._cell.phase is Phase.READY:
            self._open()
        else:
            self._opening = asyncio.get_running_loop().create_task(self._wait_and_open())

    @override
    def is_drained(self) -> bool:
        return self._is_gone

    @override
    def detach(self) -> None:
        self._is_over = True
        if self._known is not None:
            self._cell.known.drop(self._known)
            self._known = None
        if self._opening is not None:
            self._opening.cancel()
        if self._number and not self._is_gone:
            self._cell.tell(Detached(self._number))
        elif self._handle and not self._number and self._incarnation == self._cell.restarts:
            self._cell.tell(NeverOpened(self._handle))

    def _know(self, connection: Connection) -> None:
        if self._known is None:
            self._known = connection
            self._cell.known.add(connection)

    # -- for calls of the cell ---------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether its connection has ended for it."""
        return self._is_over

    @property
    def connection(self) -> Connection:
        """Where it is."""
        return self._connection

    @property
    def objects(self) -> PlaceObjects:
        """What the filter has taken out of its dialogue."""
        if self._objects is None:
            self._objects = PlaceObjects(self._cell, self._number, self._connection, self._socket)
        return self._objects

    async def _wait_and_open(self) -> None:
        timeout_s = self._cell.limits.filter_event_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._cell.wait_ready()
            if not self._is_over:
                self._open()
        except TimeoutError:
            late = f"its process was not ready within {timeout_s:g} s (filter_event_timeout_s)"
            self.fail(CellFailed(late))
        except CellFailed as error:
            self.fail(error)

    def _open(self) -> None:
        if self._handle and self._incarnation != self._cell.restarts:
            raise CellFailed("its process was replaced before the connection came up")
        facts = ConnectionFacts.of(self._connection)
        has_server = self._ways[1].socket is not None
        has_datagrams = isinstance(self._ways[0].socket, UdpEnd)
        self._number = self._cell.ask(
            self,
            lambda number: Open(
                number, self._handle, facts, has_server, has_datagrams, self._rule_settings
            ),
        )
        self._is_gone = False

    # -- what the sockets say ----------------------------------------------------------------------

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Take the result of a receive or a send (the sockets only)."""
        if self._is_over or not isinstance(user_data, _Io):
            return
        number, is_server = self._number, user_data.is_server
        if user_data.is_send:
            self._cell.tell(Sent(number, is_server, 0 if success else error or errno.EIO))
        elif not success:
            self._cell.tell(Received(number, is_server, error or errno.EIO, b"", True))
        elif address is not None:
            data = bytes(buffer)
            self._cell.tell(Received(number, is_server, 0, data, True, facts_of(address)))
        else:
            self._pass_on(is_server, buffer)

    def _pass_on(self, is_server: bool, window: Window) -> None:
        length = window.length
        if length <= PART_BYTES_MAX:
            self._cell.tell(Received(self._number, is_server, 0, bytes(window), True))
            return
        for offset in range(0, length, PART_BYTES_MAX):
            part = window.window(offset, min(PART_BYTES_MAX, length - offset))
            is_last = offset + PART_BYTES_MAX >= length
            self._cell.tell(Received(self._number, is_server, 0, bytes(part), is_last))

    # -- what the cell says ------------------------------------------------------------------------

    @override
    def take(self, message: FromCell, descriptors: list[int]) -> bool:
        for one in descriptors:
            os.close(one)
        if isinstance(message, Drained):
            self._is_gone = True
            return True
        if not self._is_over:
            try:
                self._do(message)
            except FILTER_ERRORS as error:
                self.give_up(error)
        return False

    @override
    def fail(self, error: CellFailed) -> None:
        self._is_gone = True
        if not self._is_over:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """End the connection: the filter has failed."""
        if self._scope is not None:
            self._scope.on_filter_failure(error)

    def _do(self, message: Message) -> None:
        match message:
            case StartReceive(_, is_server, size):
                self._receive(self._way(is_server), is_server, size)
            case StartSend(_, is_server, data, is_last, peer):
                if peer is None:
                    self._send(self._way(is_server), is_server, data, is_last)
                else:
                    self._send_datagram(is_server, data, address_of(peer))
            case Withdraw(_, is_server):
                self._withdraw(self._way(is_server), is_server)
            case Shutdown(_, is_server):
                self._socket(is_server).shutdown()
            case CloseSocket(_, is_server, is_abortive):
                self._socket(is_server).close(is_abortive)
            case Left():
                self._connection.leave(self)
            case _:
                self._do_more(message)

    def _do_more(self, message: Message) -> None:
        connection = self._connection
        match message:
            case CountSent(_, count):
                connection.count_sent(count)
            case Dropped():
                self._drop_datagram()
            case TransportFailed(_, side, error):
                self.give_up(TransportError(error, _SIDES.get(side, Side.INTERNAL)))
            case LimitReached(_, limit, bound):
                self.give_up(LimitExceeded(limit, bound))
            case Raised(_, cause):
                self.give_up(IsolatedFilterError(cause))
            case _:
                raise ProtocolError(f"said {type(message).__name__} of a connection")

    def _way(self, is_server: bool) -> _Way:
        return self._ways[is_server]

    def _socket(self, is_server: bool) -> DataSocket:
        found = self._ways[is_server].socket
        if found is None:
            raise ProtocolError("used a server that is not there")
        return found

    def _receive(self, way: _Way, is_server: bool, size: int) -> None:
        if self._cell.is_congested:
            way.is_deferred = True
            self._cell.call_when_drained(lambda: self._receive_late(way, is_server, size))
            return
        buffer = None
        if size > 0:
            buffer = self._cell.port.create_buffer(min(size, CHUNK_BYTES_MAX))
        self._socket(is_server).start_receive(buffer, self, _Io(is_server, is_send=False))

    def _receive_late(self, way: _Way, is_server: bool, size: int) -> None:
        if not way.is_deferred or self._is_over:
            return
        way.is_deferred = False
        try:
            self._receive(way, is_server, size)
        except FILTER_ERRORS as error:
            self.give_up(error)

    def _withdraw(self, way: _Way, is_server: bool) -> None:
        if way.is_deferred:
            way.is_deferred = False
            self._cell.tell(Received(self._number, is_server, errno.ECANCELED, b"", True))
            return
        socket: ChainSocket | UdpEnd = self._socket(is_server)  # type: ignore[assignment]  # a chain's
        socket.withdraw()

    def _send(self, way: _Way, is_server: bool, data: bytes, is_last: bool) -> None:
        way.parts_bytes += len(data)
        if way.parts_bytes > CHUNK_BYTES_MAX:
            raise ProtocolError(f"sent more than {CHUNK_BYTES_MAX} bytes at once")
        way.parts.append(data)
        if not is_last:
            return
        parts, way.parts, way.parts_bytes = way.parts, [], 0
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._socket(is_server).start_send(whole, self, _Io(is_server, is_send=True))

    # -- datagrams ---------------------------------------------------------------------------------

    def _send_datagram(self, is_server: bool, data: bytes, peer: SocketAddress) -> None:
        end = self._socket(is_server)
        if not isinstance(end, UdpEnd):
            raise ProtocolError("sent a datagram on a stream")
        bound = self._cell.limits.udp_datagram_bytes_max
        if len(data) > bound:
            raise ProtocolError(f"sent a datagram of more than {bound} bytes")
        end.start_send_to(data, peer, self, _Io(is_server, is_send=True))

    def _drop_datagram(self) -> None:
        connection = self._connection
        if not isinstance(connection, UdpConnection):
            raise ProtocolError("dropped a datagram of a stream")
        connection.drop("filter")


_SIDES: Final = {side.value: side for side in Side}
