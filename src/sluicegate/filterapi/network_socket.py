"""NetworkSocket: a socket that a filter has from a session, to connect and accept as its client.

``Session.create_network_socket`` makes one. The invariant: what it connects to and whom it lets in
is judged by the rules of the listeners by which that client came, and recorded as the session's.
"""

from __future__ import annotations

from typing import Any, Protocol

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.port import AcceptCompletion

from .data_socket import DataSocket

__all__ = ["NetworkSocket"]


class NetworkSocket(DataSocket, Protocol):
    """One connection, or one address that is listened on; until ``close``, or the session's end."""

    async def connect(self, host: str, port: int, *, timeout_s: float | None = None) -> None:
        """Connect to a host that the rules allow this client; both it and its end are recorded.

        Args:
            host: A name or an address.
            port: Of the server.
            timeout_s: Of each attempt; None: ``connect_timeout_s``.

        Raises:
            TransportError: ``EACCES``: policy refuses it; ``EHOSTUNREACH``: it has no address;
                otherwise as connecting failed.
            LimitExceeded: The client has too many connections.
            BadContext: The session is over, or the socket is in use.
        """
        ...

    def listen(self, address: SocketAddress, *, peers: AddressFilter, backlog: int = 8) -> None:
        """Bind an address of the gate, and listen there.

        Args:
            address: Port 0 lets the kernel choose; ``local_address`` tells.
            peers: Who may connect; a rule with the protocol ``bind`` must allow them, too. Others
                are reset and recorded.
            backlog: How many may wait for an accept.

        Raises:
            TransportError: The address cannot be bound.
            LimitExceeded: The client has too many connections.
            BadContext: The session is over, or the socket is in use.
        """
        ...

    def start_accept(self, completion: AcceptCompletion, user_data: Any = None) -> None:
        """Accept one connection.

        Raises:
            OperationPending: An accept is in flight.
            BadContext: The socket does not listen.
        """
        ...

    async def accept(self) -> DataSocket:
        """Accept one connection and return its socket.

        Raises:
            TransportError: Accepting failed.
            BadContext: The socket does not listen.
        """
        ...

    def local_address(self) -> SocketAddress:
        """Return the gate's own end; ``BadContext`` before there is one."""
        ...

    def peer_address(self) -> SocketAddress:
        """Return the other end; ``BadContext`` while it is not connected."""
        ...
