"""Sessions: one per client address, with the filters attached to it and what it may expect.

The service finds or makes one for every connection. The invariant: a session lives while it has a
connection or an outstanding action, and ``detach`` reaches each of its filters exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import BadContext, LimitExceeded
from sluicegate.filterapi import (
    Connection,
    DataFilterFactory,
    HeldTransfer,
    Position,
    SessionFilter,
    TransferOffer,
)
from sluicegate.policy import PolicySnapshot

from .registry import EventStep, RulePlan
from .secondary import ExpectedConnection, FactoryAction
from .views import SessionView

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["GateSession"]


class GateSession:
    """One client; satisfies ``filterapi.Session``."""

    __slots__ = (
        "_expected",
        "_filters",
        "_service",
        "client_address",
        "connections",
        "id",
        "last_active",
        "pinned_slots",
        "plans",
        "private_bytes",
        "started",
        "wheel_slot",
    )

    def __init__(
        self, service: FirewallService, identifier: str, client_address: SocketAddress, now: float
    ) -> None:
        self.id = identifier
        self.client_address = client_address
        self.connections = 0
        self.pinned_slots = 0
        self.private_bytes = 0
        self.started = now
        self.last_active = now
        self.plans: dict[str, tuple[PolicySnapshot, RulePlan]] = {}
        #: What was decided for this client by listener, and the policy that decided.
        self.wheel_slot = -1
        self._service = service
        self._filters: dict[str, tuple[EventStep, SessionFilter | None]] = {}
        self._expected: set[ExpectedConnection] = set()

    # -- filters -------------------------------------------------------------------------------

    def attached(self, step: EventStep) -> SessionFilter | None:
        """Return the session filter of an installed filter, attaching it at its first event."""
        name = step.installed.name
        known = self._filters.get(name)
        if known is not None and known[0].installed is step.installed:
            return known[1]
        if known is not None and known[1] is not None:
            # A reload replaced the filter: the old one's presence in this session ends.
            known[1].detach()
        session_filter = step.filter.attach(self)
        self._filters[name] = (step, session_filter)
        step.installed.sessions += session_filter is not None
        return session_filter

    def filter_named(self, name: str) -> SessionFilter | None:
        """Return an attached session filter, or None."""
        known = self._filters.get(name)
        return known[1] if known is not None else None

    def view(self) -> SessionView:
        """Return a copy of this moment, for people."""
        port = self._service.port
        return SessionView(
            session=self.id,
            client=self.client_address.host,
            started=self._service.clock.wall() - (port.now - self.started),
            idle_s=0.0 if self.connections else port.now - self.last_active,
            connections=self.connections,
            expected=len(self._expected),
            filters=[name for name, (_, there) in self._filters.items() if there is not None],
        )

    def end(self) -> None:
        """Cancel what is expected and detach the filters."""
        for expected in list(self._expected):
            expected.cancel()
        for step, session_filter in self._filters.values():
            if session_filter is not None:
                step.installed.sessions -= 1
                try:
                    session_filter.detach()
                except Exception as error:  # noqa: BLE001 - third-party code
                    self._service.on_filter_error(step.installed, error)
        self._filters.clear()

    # -- the deadline of an idle session -------------------------------------------------------

    def due(self) -> float:
        """Return when the session is forgotten if nothing happens."""
        if self.connections or self._expected:
            return self._service.port.now + self._service.limits.session_idle_s
        return self.last_active + self._service.limits.session_idle_s

    def on_expired(self) -> None:
        """Take the end of an idle session."""
        self._service.forget_session(self)

    # -- expectations (filterapi.Session) --------------------------------------------------------

    def allow_future_connect(
        self,
        connection: Connection,
        target: SocketAddress,
        *,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        dial_later: bool = False,
    ) -> ExpectedConnection:
        """As ``filterapi.Session.allow_future_connect``."""
        primary = self._own(connection)
        told = (session_filter, context)
        return self._expect(
            ExpectedConnection.from_client(
                self._service, primary, target, ports, told, dial_later=dial_later
            )
        )

    def connect_to_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        session_filter: SessionFilter | None = None,
        context: Any = None,
    ) -> ExpectedConnection:
        """As ``filterapi.Session.connect_to_client``."""
        primary = self._own(connection)
        self._check_own_address(client)
        told = (session_filter, context)
        return self._expect(ExpectedConnection.to_client(self._service, primary, client, told))

    def bind_for_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        peers: AddressFilter,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
    ) -> ExpectedConnection:
        """As ``filterapi.Session.bind_for_client``."""
        primary = self._own(connection)
        self._check_own_address(client)
        told = (session_filter, context)
        return self._expect(
            ExpectedConnection.from_server(self._service, primary, client, peers, ports, told)
        )

    def set_data_filter_factory(
        self,
        expected: Any,
        factory: DataFilterFactory,
        *,
        position: Position = Position.MIDDLE,
        context: Any = None,
    ) -> FactoryAction:
        """As ``filterapi.Session.set_data_filter_factory``."""
        if not isinstance(expected, ExpectedConnection) or not expected.is_pending:
            raise BadContext("the expectation is over: set the factory before it is used")
        return expected.add_factory(factory, position, context)

    def hold_transfer(
        self, connection: Connection, offer: TransferOffer, *, deliver_later: bool = False
    ) -> HeldTransfer:
        """As ``filterapi.Session.hold_transfer``."""
        held: HeldTransfer = self._service.transfers.hold(
            self._own(connection), offer, deliver_later=deliver_later
        )
        return held

    def drop_expected(self, expected: ExpectedConnection) -> None:
        """Forget an expectation that is over."""
        self._expected.discard(expected)

    def _expect(self, expected: ExpectedConnection) -> ExpectedConnection:
        self._expected.add(expected)
        return expected

    def _check_own_address(self, client: SocketAddress) -> None:
        if client.host != self.client_address.host:
            raise ValueError(f"{client} is not the client's own address (a bounce)")

    def _own(self, connection: Connection) -> GateConnection:
        """Check that a connection is this session's own and that there is room for one more."""
        bound = self._service.limits.expected_connections_per_session_max
        if len(self._expected) >= bound:
            raise LimitExceeded("expected_connections_per_session_max", bound)
        found = self._service.find_connection(connection.id)
        if found is None or found.session is not self:
            raise BadContext("the connection is over, or another session's")
        return found
