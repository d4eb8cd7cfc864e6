"""Datagram filters: every datagram of one UDP connection, inline and whole.

The gate's UDP relay calls ``on_datagram`` between a receive and the send. ``DataFilter`` and
``CallbackDataFilter`` serve UDP connections too: their sockets are ``DatagramEnd`` objects, which
keep the boundaries of datagrams. The invariant: a datagram goes on whole, in other words, or not at
all; nothing is held back, joined or cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window
from sluicegate.errors import Side
from sluicegate.port import SocketCompletion

from .data_socket import DataSocket
from .isolation import Isolation
from .position import Position
from .stream_filter import Cut, Forward, Leave, Rewrite

if TYPE_CHECKING:
    from .views import Connection

__all__ = ["DROP", "DatagramEnd", "DatagramFilter", "DatagramVerdict", "Drop"]


@dataclass(frozen=True, slots=True)
class Drop:
    """Discard this datagram; it is counted in the connection's record."""


DatagramVerdict = Forward | Rewrite | Drop | Cut | Leave
"""``FORWARD`` lets the datagram go on, ``Rewrite(data)`` another in its place, ``DROP`` none;
``Cut(reason)`` ends the connection as refused, ``LEAVE`` lets this and all later ones go on."""

DROP: Final = Drop()
"""Discard this datagram."""


class DatagramFilter:
    """Looks at every datagram of one connection, or of one peer where it was attached for one."""

    name: ClassVar[str] = ""
    position: ClassVar[Position] = Position.MIDDLE
    isolation: ClassVar[Isolation] = "none"

    def on_start(self, connection: Connection) -> None:
        """Take the connection before its first datagram."""

    def on_datagram(self, side: Side, peer: SocketAddress, window: Window) -> DatagramVerdict:
        """Judge one datagram.

        Args:
            side: Who sent it: ``Side.CLIENT``, or ``Side.SERVER`` for the peer.
            peer: The peer that it goes to, or comes from.
            window: All of it, valid in this call.
        """
        raise NotImplementedError

    def detach(self) -> None:
        """Take the end of the connection, or of the peer it was attached for; exactly once."""


class DatagramEnd(DataSocket, Protocol):
    """One end of a data filter's place in a UDP connection: as ``DataSocket``, with addresses.

    ``complete_socket_io`` is told the peer as its ``address``. ``start_send`` sends one datagram to
    the peer of the last one received at either end. There is no end of stream: an empty window is
    an empty datagram, and the connection's end is ``ECANCELED``.
    """

    def start_send_to(
        self,
        data: Buffer | Window | bytes,
        address: SocketAddress,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """Send one datagram.

        Args:
            data: All of it.
            address: Towards the server side: the peer that gets it. Towards the client side: the
                peer that it is said to come from. A peer of this connection, judged already.
            completion: Whom to tell; may be omitted.
            user_data: Handed back unchanged.

        Raises:
            BadContext: The connection has ended, or does not know that peer.
        """
        ...

    async def receive_from(self) -> tuple[Window, SocketAddress]:
        """Return the next datagram and its peer.

        Raises:
            TransportError: The connection has ended (``ECANCELED``).
        """
        ...

    async def send_to(self, data: Buffer | Window | bytes, address: SocketAddress) -> None:
        """Send one datagram, as ``start_send_to``."""
        ...
