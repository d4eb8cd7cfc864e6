"""Sessions: one per client address, with the filters attached to it and what it may expect.

The service finds or makes one for every connection. The invariant: a session lives while it has a
connection or an outstanding action, and ``detach`` reaches each of its filters exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import FILTER_ERRORS, BadContext, LimitExceeded
from sluicegate.filterapi import (
    Connection,
    DataFilterFactory,
    HeldTransfer,
    Position,
    SessionFilter,
    TransferOffer,
    User,
)
from sluicegate.policy import PolicySnapshot

from .registry import EventStep, Installed, RulePlan
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
        "user",
        "wheel_slot",
    )

    def __init__(
        self, service: FirewallService, identifier: str, client_address: SocketAddress, now: float
    ) -> None:
        self.id = identifier
        self.client_address = client_address
        self.user: User | None = None
        #: Who the client has shown to be.
        self.connections = 0
        self.pinned_slots = 0
        self.private_bytes = 0
        self.started = now
        self.last_active = now
        self.plans: dict[str, tuple[PolicySnapshot, RulePlan]] = {}
        #: What was decided for this client by listener, and the policy that decided.
        self.wheel_slot = -1
        self._service = service
        self._filters: dict[Installed, SessionFilter | None] = {}
        #: By identity: after a reload, connections in flight keep the filter that they came by.
        self._expected: dict[ExpectedConnection, None] = {}

    # -- filters -------------------------------------------------------------------------------

    def attached(self, step: EventStep) -> SessionFilter | None:
        """Return the session filter of an installed filter, attaching it at its first event."""
        installed = step.installed
        if installed in self._filters:
            return self._filters[installed]
        session_filter = step.filter.attach(self)
        self._filters[installed] = session_filter
        installed.sessions += session_filter is not None
        return session_filter

    def find_attached(self, step: EventStep) -> SessionFilter | None:
        """Return the session filter of an installed filter, if there is one."""
        return self._filters.get(step.installed)

    def detach_filter(self, installed: Installed) -> None:
        """End a filter's presence in this session."""
        session_filter = self._filters.pop(installed, None)
        if session_filter is not None:
            installed.sessions -= 1
            try:
                session_filter.detach()
            except FILTER_ERRORS as error:
                self._service.on_filter_error(installed, error)

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
            filters=[one.name for one, there in self._filters.items() if there is not None],
        )

    def end(self) -> None:
        """Cancel what is expected and detach the filters."""
        for expected in list(self._expected):
            expected.cancel()
        for installed in list(self._filters):
            self.detach_filter(installed)

    # -- the deadline of an idle session -------------------------------------------------------

    def due(self) -> float:
        """Return when the session is forgotten if nothing happens."""
        if self.connections or self._expected or self._service.slow.has(self):
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
        primary = self._own_with_room(connection)
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
        primary = self._own_with_room(connection)
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
        primary = self._own_with_room(connection)
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
        self._expected.pop(expected, None)

    def _expect(self, expected: ExpectedConnection) -> ExpectedConnection:
        self._expected[expected] = None
        return expected

    def _check_own_address(self, client: SocketAddress) -> None:
        if client.host != self.client_address.host:
            raise ValueError(f"{client} is not the client's own address (a bounce)")

    def _own_with_room(self, connection: Connection) -> GateConnection:
        """Check that a connection is this session's own and that there is room for one more."""
        bound = self._service.limits.expected_connections_per_session_max
        if len(self._expected) >= bound:
            raise LimitExceeded("expected_connections_per_session_max", bound)
        return self._own(connection)

    def _own(self, connection: Connection) -> GateConnection:
        """Check that a connection is this session's own."""
        found = self._service.find_connection(connection.id)
        if found is None or found.session is not self:
            raise BadContext("the connection is over, or another session's")
        return found
