"""Private sessions: what filters connect to in a client's name, by its rules and on its record.

``service`` makes them for filters and ends them when it stops; a ``ClientDialler`` connects. The
invariant: each is known until it was closed, and the end of the gate closes all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.filterapi import User
from sluicegate.port import StreamSocket

from .client_dialler import ClientDialler

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["PrivateSessions"]


class PrivateSessions:
    """All private sessions of one service."""

    __slots__ = ("_service", "_sessions")

    def __init__(self, service: FirewallService) -> None:
        self._service = service
        self._sessions: set[_PrivateSession] = set()

    def create(
        self, identifier: str, client: SocketAddress, listener: str, user: User | None
    ) -> _PrivateSession:
        """Make one; the listener's rules are those of the moment at which something is asked."""
        session = _PrivateSession(self._service, identifier, client, listener, user)
        self._sessions.add(session)
        session.on_closed = self._sessions.discard
        return session

    def diallers(self) -> list[ClientDialler]:
        """Return what connects for each of them."""
        return [session.dialler for session in self._sessions]

    def close(self) -> None:
        """End all of them: the service stops."""
        for session in list(self._sessions):
            session.close()


class _PrivateSession:
    """One; satisfies ``filterapi.PrivateSession``."""

    def __init__(
        self,
        service: FirewallService,
        identifier: str,
        client: SocketAddress,
        listener: str,
        user: User | None,
    ) -> None:
        self.id = identifier
        self.client_address = client.with_port(0)
        self.user = user
        self.on_closed: Callable[[_PrivateSession], None] | None = None
        self.dialler = ClientDialler(
            service, identifier, client, user, lambda: (listener,), rules_user=lambda: user
        )

    def can_reach(self, host: str, port: int) -> bool:
        """As ``filterapi.PrivateSession.can_reach``."""
        return self.dialler.can_reach(host, port)

    async def connect(
        self, host: str, port: int, *, timeout_s: float | None = None
    ) -> StreamSocket:
        """As ``filterapi.PrivateSession.connect``."""
        return await self.dialler.connect(host, port, timeout_s=timeout_s)

    def close(self) -> None:
        """As ``filterapi.PrivateSession.close``."""
        self.dialler.close()
        if self.on_closed is not None:
            self.on_closed(self)
