"""The gate's listener: a client knocks, the policy answers.

One per configured address; hands each admitted client to a connection. The invariant: nothing is
dialled, and no filter is asked, for a client that policy refuses.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.port import Listener
from sluicegate.port.backend import RawSocket

from .internal_error import internal_error
from .settings import ListenerSettings
from .views import ListenerView

if TYPE_CHECKING:
    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .service import FirewallService

__all__ = ["EntryListener"]


class EntryListener:
    """One address of the gate."""

    __slots__ = ("_arriving", "_service", "accepted", "listener", "refused", "settings")

    def __init__(
        self, service: FirewallService, settings: ListenerSettings, listener: Listener
    ) -> None:
        self.settings = settings
        self.listener = listener
        self.accepted = 0
        self.refused = 0
        self._service = service
        self._arriving: tuple[SocketAddress, FloodClient, int] | None = None
        #: Who is being let in, on whose account, and how many had been decided on before.
        listener.on_paused = self._on_paused

    def open(self) -> None:
        """Begin to accept."""
        self.listener.accept_into(self._on_accepted)

    def pause(self) -> None:
        """Leave new clients in the kernel's backlog until ``open``."""
        self._service.on_accept_paused(self.settings, errno.EMFILE)
        self.listener.pause_accepting()

    def close(self, *, takes_late: bool = False) -> None:
        """Stop listening; ``takes_late`` lets in whom the kernel has accepted by now."""
        self.listener.close(takes_late=takes_late)

    def view(self) -> ListenerView:
        """Return a copy of this moment, for people."""
        return ListenerView(
            name=self.settings.name,
            address=str(self.listener.local_address()),
            accepted=self.accepted,
            is_paused=self.listener.is_paused,
        )

    @property
    def name(self) -> str:
        """What rules and records call it."""
        return self.settings.name

    @property
    def proxy_peers(self) -> tuple[IpNetwork, ...]:
        """Who announces clients here; nobody on most listeners."""
        return self.settings.proxy_peers

    def _on_accepted(self, raw: RawSocket) -> None:
        try:
            name = raw.getpeername()
        except OSError:
            # The client was gone before anybody looked: it never had a connection.
            raw.close()
            return
        client = SocketAddress.from_kernel(name)
        if self.settings.proxy_peers:
            self._service.proxy_headers.take(self, raw, client)
        else:
            self.take_client(raw, client, None)

    def take_client(
        self, raw: RawSocket, client: SocketAddress, announced: Announced | None
    ) -> None:
        """Go on with a client that came by itself, or that a peer announced."""
        settings, service = self.settings, self._service
        # Nothing is done for a client before this.
        flood = service.flood.admit(client)
        if flood is None:
            service.turn_away(raw)
            self.refused += 1
            return
        self._arriving = client, flood, service.allowed + service.denied
        door = service.admission if settings.entry is None else service.entries
        if door.admit(settings, raw, client, flood, announced):
            self.accepted += 1
        else:
            service.flood.end_connection(flood, is_half_open=True)
            self.refused += 1
        self._arriving = None

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised while it let somebody in (``port.Answerable``).

        Its socket has been ended; whoever had it by then has recorded that.
        """
        arriving, self._arriving = self._arriving, None
        service = self._service
        if arriving is None or arriving[2] != service.allowed + service.denied:
            return
        client, flood, _ = arriving
        service.flood.end_connection(flood, is_half_open=True)
        service.denied += 1
        self.refused += 1
        reason, policy = internal_error(error), service.policy.hash
        service.records.refusal(self.name, client, reason, rule="", policy=policy)

    def count_refused(self) -> None:
        """Count a client that was turned away."""
        self.refused += 1

    def _on_paused(self, error: int) -> None:
        self._service.on_accept_paused(self.settings, error)
