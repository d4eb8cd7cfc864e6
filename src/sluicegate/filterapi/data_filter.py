"""Data filters: both sockets of a connection, as a coroutine or by callbacks.

The chain makes one instance per connection (or a session filter attaches one). The invariant:
``detach`` comes exactly once, after every pending operation has completed.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from .datagram_filter import DatagramFilter
from .isolation import Isolation
from .position import Position
from .shown import Shown
from .stream_filter import StreamFilter

if TYPE_CHECKING:
    from .data_socket import DataSocket
    from .views import Connection

__all__ = ["AnyDataFilter", "CallbackDataFilter", "DataFilter"]


class DataFilter(abc.ABC):
    """A data filter written as one coroutine; an instance serves one connection."""

    name: ClassVar[str] = ""
    isolation: ClassVar[Isolation] = "none"
    shows: ClassVar[tuple[Shown, ...]] = ()
    """What it promises to show of every connection that it is attached to."""
    position: ClassVar[Position] = Position.MIDDLE

    @abc.abstractmethod
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        """Relay, watch, change or answer.

        Returning leaves the chain: what comes later passes without this filter, in the kernel when
        no other filter is left. Raising aborts the connection.

        Args:
            client: Towards the client.
            server: Towards the server; None when emulating.
            connection: The connection.
        """

    def is_drained(self) -> bool:
        """Tell whether all data has been processed; asked at a session's end, to a bound."""
        return True

    def detach(self) -> None:
        """Take the end of the connection; exactly once, also if ``run`` was never called."""


class CallbackDataFilter(abc.ABC):
    """A data filter in the model's own form, for those who port one."""

    name: ClassVar[str] = ""
    isolation: ClassVar[Isolation] = "none"
    shows: ClassVar[tuple[Shown, ...]] = ()
    """What it promises to show of every connection that it is attached to."""
    position: ClassVar[Position] = Position.MIDDLE

    @abc.abstractmethod
    def set_sockets(
        self,
        client: DataSocket,
        server: DataSocket | None,
        connection: Connection,
        context: Any,
    ) -> None:
        """Take the sockets and start the first operations; an exception aborts the connection."""

    def is_drained(self) -> bool:
        """Tell whether all data has been processed; asked at a session's end, to a bound."""
        return True

    @abc.abstractmethod
    def detach(self) -> None:
        """Take the end of the connection; exactly once, also if ``set_sockets`` never came."""


AnyDataFilter: TypeAlias = DataFilter | CallbackDataFilter | StreamFilter | DatagramFilter
