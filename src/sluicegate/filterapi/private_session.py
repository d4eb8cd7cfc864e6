"""PrivateSession: connections that a filter makes for a client whom the gate does not know.

``Firewall.create_private_session`` makes one. The invariant: what goes through it is judged by the
rules of a listener as if that client had asked there, and recorded in the name of its user.
"""

from __future__ import annotations

from typing import Protocol

from sluicegate.address import SocketAddress

from .data_socket import DataSocket
from .user import User

__all__ = ["PrivateSession"]


class PrivateSession(Protocol):
    """One client, or one user, that a filter speaks for; ends with ``close`` or with the gate."""

    @property
    def id(self) -> str:
        """The identifier in records."""
        ...

    @property
    def client_address(self) -> SocketAddress:
        """For whom; its port has no meaning."""
        ...

    @property
    def user(self) -> User | None:
        """Who, as rules see it; None: only the address counts."""
        ...

    def can_reach(self, host: str, port: int) -> bool:
        """Tell whether the rules let this client reach a host; nothing is looked up or recorded."""
        ...

    async def connect(self, host: str, port: int, *, timeout_s: float | None = None) -> DataSocket:
        """Connect to a host that the rules allow, as this client; both it and its end are recorded.

        Args:
            host: A name or an address.
            port: Of the server.
            timeout_s: Of each attempt; None: ``connect_timeout_s``.

        Raises:
            TransportError: ``EACCES``: policy refuses it; ``EHOSTUNREACH``: it has no address;
                otherwise as connecting failed.
            LimitExceeded: The session has too many connections.
            BadContext: The session is over.
        """
        ...

    def close(self) -> None:
        """End it and every connection of it."""
        ...
