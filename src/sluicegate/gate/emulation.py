"""Emulation of outbound connections: a data filter that is the server.

``connection`` puts it at the end of the chain instead of dialling; ``chain`` gives it one socket
and says farewell when it leaves. The invariant: nothing is dialled for it, and the client ends as
with a server that closes: after it got everything that was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.buffer import Window
from sluicegate.filterapi import Emulate, Position
from sluicegate.port import StreamSocket

from .link import LinkEnd

if TYPE_CHECKING:
    from .connection import GateConnection

__all__ = ["begin_emulation", "say_farewell"]


def begin_emulation(connection: GateConnection, emulation: Emulate) -> None:
    """Put the filter behind every other one, as the server."""
    assert emulation.data_filter is not None, "the dispatcher refuses an emulation without one"
    connection.is_emulated = True
    connection.attach(emulation.data_filter, Position.EMULATION, emulation.context, "")


def say_farewell(socket: StreamSocket | LinkEnd) -> None:
    """End the stream to the client of a filter that has left, and drop what the client still says.

    Closing at once would reset the connection where the client has sent what nobody read, and take
    the last answer with it (RFC 9293 section 3.6.1). The half-closed time-out bounds it.
    """
    socket.shutdown()
    if not (socket.is_finished or socket.is_closed):
        socket.start_receive(None, _Farewell(socket))


class _Farewell:
    """Drops what comes, to the end of the stream."""

    __slots__ = ("_socket",)

    def __init__(self, socket: StreamSocket | LinkEnd) -> None:
        self._socket = socket

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Receive on, or close after the last."""
        del error, user_data, address
        if success and buffer.length:
            self._socket.start_receive(None, self)
        elif not self._socket.is_closed:
            self._socket.close()
