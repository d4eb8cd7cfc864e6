"""DataSocket: one end of a data filter's place in the chain.

The gate's stream sockets and the links between filters satisfy it, and so does a network socket.
The invariant: the two ends of a place look alike, whether the network or a neighbour is behind.
"""

from __future__ import annotations

from typing import Any, Protocol

from sluicegate.buffer import Buffer, Window
from sluicegate.port import SocketCompletion

__all__ = ["DataSocket"]


class DataSocket(Protocol):
    """One end of a data filter's place in the chain; alike for network and neighbour.

    A completed send means that the next element took the buffer: the neighbour's receive completed
    with it, or, at the network, the kernel accepted its last byte.
    """

    def start_receive(
        self, buffer: Buffer | None, completion: SocketCompletion, user_data: Any = None
    ) -> None:
        """Receive once; ``buffer=None`` lets the service supply a shared one, zero copy.

        Raises:
            OperationPending: A receive is in flight.
        """
        ...

    def start_send(
        self,
        data: Buffer | Window | bytes,
        completion: SocketCompletion | None = None,
        user_data: Any = None,
    ) -> None:
        """Send all of ``data``.

        Raises:
            OperationPending: A send is in flight.
        """
        ...

    async def receive(self) -> Window:
        """Return the next bytes, an empty window at end of stream; valid until the next receive.

        Raises:
            TransportError: The connection failed.
        """
        ...

    async def send(self, data: Buffer | Window | bytes) -> None:
        """Send all of ``data``; awaiting it is back-pressure.

        Raises:
            TransportError: The connection failed.
        """
        ...

    def shutdown(self, abortive: bool = False) -> None:
        """End the stream towards this socket; abortive resets."""
        ...

    def close(self, abortive: bool = False) -> None:
        """Close; pending operations complete first with ``ECANCELED``."""
        ...
