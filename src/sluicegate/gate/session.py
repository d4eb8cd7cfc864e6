"""Sessions: one per client address, with the filters attached to it and what it may expect.

The service finds or makes one for every connection. The invariant: a session lives while it has a
connection or an outstanding action, and ``detach`` reaches each of its filters exactly once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sluicegate.address import AddressFilter, IpAddress, SocketAddress
from sluicegate.errors import FILTER_ERRORS, BadContext, LimitExceeded, Side, TransportError
from sluicegate.filterapi import (
    Action,
    Connection,
    DataFilterFactory,
    Event,
    HeldTransfer,
    Position,
    SessionFilter,
    TransferOffer,
    User,
)
from sluicegate.policy.protocols import Direction
from sluicegate.port import Timer

from .announced import check_announced, is_announced
from .binds import begin_bind
from .client_dialler import ClientDialler
from .factories import EventFactory, ExpectedFactory, What
from .network_socket import GateNetworkSocket
from .redirection import redirect
from .registry import EventStep, Installed, RulePlan
from .secondary import ExpectedConnection, Use, is_named, listen_for
from .session_lookups import counted_lookup, look_up_address, look_up_name
from .views import SessionView

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["GateSession", "session_key"]


def session_key(client: SocketAddress, user: User | None) -> str:
    """Return what distinguishes a session from every other one."""
    # Neither an address nor a user's name has a space in it. Whom different things vouch for are
    # two: a certificate with groups of its own may name a namesake of one of the users file.
    return client.host if user is None else f"{client.host} {user.name} {user.scheme}"


class GateSession:
    """One client; satisfies ``filterapi.Session``."""

    __slots__ = (
        "__weakref__",
        "_dialler",
        "_expected",
        "_filters",
        "_more_steps",
        "_service",
        "client_address",
        "connections",
        "factories",
        "id",
        "key",
        "last_active",
        "listeners",
        "lookups",
        "pinned_slots",
        "plans",
        "private_bytes",
        "rules_user",
        "started",
        "user",
        "wheel_slot",
    )

    def __init__(
        self,
        service: FirewallService,
        identifier: str,
        client_address: SocketAddress,
        now: float,
        user: User | None = None,
    ) -> None:
        self.id = identifier
        self.key = session_key(client_address, user)
        self.lookups = 0
        #: Destinations that are being looked up for it.
        self.client_address = client_address
        self.user = user
        #: Who the client has shown to be.
        self.rules_user = user
        #: The same as rules see it now; None once there is no such user any more.
        self.connections = 0
        self.pinned_slots = 0
        self.private_bytes = 0
        self.factories: list[EventFactory] = []
        #: Data filters for events that no filter registered for.
        self._more_steps: list[EventStep] = []
        self.started = now
        self.last_active = now
        self.plans: dict[str, tuple[int, RulePlan]] = {}
        #: What was decided for this client by listener, and as of which change of policy.
        self.wheel_slot = -1
        self._service = service
        self._filters: dict[Installed, SessionFilter | None] = {}
        #: By identity: after a reload, connections in flight keep the filter that they came by.
        self._expected: dict[ExpectedConnection, None] = {}
        self.listeners: dict[str, None] = {}
        #: Proxy listeners by which the client came: their rules are the session's.
        self._dialler: ClientDialler | None = None
        #: Connects what filters ask for in its name; made when one does.

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

    def attach_filter(self, name: str) -> None:
        """As ``filterapi.Session.attach_filter``."""
        step = self._service.find_event_step(name)
        if all(step.installed is not one.installed for one in self._more_steps):
            self._more_steps.append(step)
        self.attached(step)

    @property
    def is_plain(self) -> bool:
        """Whether nothing runs for its connections beside what their rules say."""
        return not (self.factories or self._more_steps)

    def own_steps(self, plan: RulePlan) -> list[EventStep]:
        """Return the filters that were attached to this session beside a rule's own."""
        return [one for one in self._more_steps if not plan.has(one.installed)]

    def detach_filter(self, installed: Installed) -> None:
        """End a filter's presence in this session."""
        session_filter = self._filters.pop(installed, None)
        self._more_steps = [one for one in self._more_steps if one.installed is not installed]
        if session_filter is not None:
            installed.sessions -= 1
            try:
                session_filter.detach()
            except FILTER_ERRORS as error:
                self._service.on_filter_error(installed, error)

    @property
    def open_dialler(self) -> ClientDialler | None:
        """What filters have connected in its name; None while that is nothing."""
        return self._dialler

    @property
    def filter_names(self) -> tuple[str, ...]:
        """Filters that are attached to it."""
        return tuple(one.name for one, there in self._filters.items() if there is not None)

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
            user=self.user.name if self.user is not None else "",
            filters=[*self.filter_names],
        )

    def end(self) -> None:
        """Cancel what is expected, end what filters connected, and detach the filters."""
        self._service.records.session_ended(self)
        self._dialling().close()
        for expected in list(self._expected):
            expected.cancel()
        for factory in list(self.factories):
            factory.cancel()
        for installed in list(self._filters):
            self.detach_filter(installed)

    # -- the deadline of an idle session -------------------------------------------------------

    def due(self) -> float:
        """Return when the session is forgotten if nothing happens."""
        is_dialling = self._dialler is not None and self._dialler.is_busy
        if self.connections or self._expected or is_dialling or self._service.slow.has(self):
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
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> ExpectedConnection:
        """As ``filterapi.Session.allow_future_connect``."""
        primary = self._own_with_room(connection)
        check_announced(primary, Direction.OUTBOUND, [target])
        self._check_targets(primary, [target])
        expected = self.expect(
            ExpectedConnection.from_client(
                self._service, primary, target, ports, (session_filter, context),
                use=Use(allow_multiple, timeout_s), dial_later=dial_later,
            )
        )  # fmt: skip
        self._foresee(primary, expected)
        return expected

    def redirect_connections(
        self,
        connection: Connection,
        targets: Sequence[SocketAddress],
        *,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> list[Action]:
        """As ``filterapi.Session.redirect_connections``."""
        primary = self._own_with_room(connection, len(targets))
        check_announced(primary, Direction.OUTBOUND, targets)
        self._check_targets(primary, targets)
        expected = redirect(
            self._service, primary, targets, ports, (session_filter, context),
            Use(allow_multiple, timeout_s),
        )  # fmt: skip
        for one in expected:
            self._foresee(primary, self.expect(one))
        return [*expected]

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
        self.check_own_address(client)
        check_announced(primary, Direction.INBOUND, [client])
        told = (session_filter, context)
        return self.expect(ExpectedConnection.to_client(self._service, primary, client, told))

    def bind_for_client(
        self,
        connection: Connection,
        client: SocketAddress,
        *,
        peers: AddressFilter,
        ports: range | None = None,
        session_filter: SessionFilter | None = None,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> ExpectedConnection:
        """As ``filterapi.Session.bind_for_client``."""
        primary = self._own_with_room(connection)
        self.check_own_address(client)
        if client.port:
            check_announced(primary, Direction.INBOUND, [client])
        local = primary.client_side_address if primary.is_emulated else primary.server_side_address
        expected = self.expect(
            ExpectedConnection.from_server(
                self._service, primary, client, peers, (session_filter, context),
                use=Use(allow_multiple, timeout_s),
            )
        )  # fmt: skip
        state = begin_bind(
            self._service,
            expected,
            local.with_port(ports[0] if ports is not None and len(ports) == 1 else 0),
            lambda: listen_for(self._service, local, ports),
        )
        if state.denial:
            raise TransportError(errno.EACCES, Side.INTERNAL, f"bind denied: {state.denial}")
        return expected

    def retroactive_allow_bind(self, address: SocketAddress, peers: AddressFilter) -> bool:
        """As ``filterapi.Session.retroactive_allow_bind``."""
        for expected in self._expected:
            if expected.bind is not None and is_named(expected.address, address):
                return expected.admit_peers(peers)
        raise LookupError(f"this client has no bind at {address}: use bind_for_client")

    def set_data_filter_factory(
        self,
        foreseen: Action | type[Event],
        factory: DataFilterFactory,
        *,
        address: SocketAddress | None = None,
        position: Position = Position.MIDDLE,
        context: Any = None,
        allow_multiple: bool = False,
        timeout_s: float | None = None,
    ) -> ExpectedFactory | EventFactory:
        """As ``filterapi.Session.set_data_filter_factory``."""
        if isinstance(foreseen, type):
            bound = self._service.limits.expected_connections_per_session_max
            if len(self.factories) >= bound:
                raise LimitExceeded("expected_connections_per_session_max", bound)
            what, use = What(factory, position, context), Use(allow_multiple, timeout_s)
            any_address = SocketAddress("::" if ":" in self.client_address.host else "0.0.0.0", 0)  # noqa: S104 - means any
            made = EventFactory(self, foreseen, address or any_address, what, use)
            self.factories.append(made)
            return made
        if not isinstance(foreseen, ExpectedConnection) or not foreseen.is_pending:
            raise BadContext("the expectation is over: set the factory before it is used")
        return foreseen.add_factory(factory, position, context)

    # -- network sockets (filterapi.Session) -----------------------------------------------------

    def host_access_check(self, host: str, port: int) -> bool:
        """As ``filterapi.Session.host_access_check``."""
        return self._dialling().can_reach(host, port)

    def create_network_socket(self) -> GateNetworkSocket:
        """As ``filterapi.Session.create_network_socket``."""
        return GateNetworkSocket(self._dialling())

    async def host_by_name(
        self, connection: Connection, host: str, port: int
    ) -> tuple[IpAddress, ...]:
        """As ``filterapi.Session.host_by_name``."""
        own = self._own_open(connection)
        with counted_lookup(self._service, self):
            return await look_up_name(self._service, own, self._dialling(), host, port)

    async def host_by_address(self, connection: Connection, address: IpAddress) -> tuple[str, ...]:
        """As ``filterapi.Session.host_by_address``."""
        own = self._own_open(connection)
        with counted_lookup(self._service, self):
            return await look_up_address(self._service, own, address)

    def close_sockets(self) -> None:
        """End every network socket of it."""
        dialler, self._dialler = self._dialler, None
        if dialler is not None:
            dialler.close()

    def _dialling(self) -> ClientDialler:
        if self._dialler is None:
            self._dialler = ClientDialler(
                self._service,
                self.id,
                self.client_address,
                self.user,
                lambda: self.listeners,
                rules_user=lambda: self.rules_user,
                elsewhere=lambda: self.connections,
            )
        return self._dialler

    def drop_factory(self, factory: EventFactory) -> None:
        """Forget a factory that is over."""
        if factory in self.factories:
            self.factories.remove(factory)

    def call_after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` once, later."""
        return self._service.port.call_after(delay_s, action)

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

    def expect(self, expected: ExpectedConnection) -> ExpectedConnection:
        """Keep an expectation until it is over."""
        self._expected[expected] = None
        return expected

    def withdraw_refused(self, primary: GateConnection) -> None:
        """Withdraw what a connection announced and its rule would not let it reach any more."""
        for expected in list(self._expected):
            if expected.primary is primary and (
                not is_announced(expected)
                or (
                    expected.is_client_expected
                    and primary.judge_target(expected.target) is not None
                )
            ):
                expected.cancel()

    def check_own_address(self, client: SocketAddress) -> None:
        """Raise ``ValueError`` for any other host than the client's own (a bounce)."""
        if client.host != self.client_address.host:
            raise ValueError(f"{client} is not the client's own address (a bounce)")

    def _check_targets(self, primary: GateConnection, targets: Sequence[SocketAddress]) -> None:
        """Refuse to expect what the primary's rule would not let it reach."""
        for target in targets:
            denial = primary.judge_target(target)
            if denial is not None:
                raise TransportError(errno.EACCES, Side.SERVER, f"{target}: {denial.reason}")

    def _foresee(self, primary: GateConnection, expected: ExpectedConnection) -> None:
        """Let a client that came by a proxy ask the proxy for it."""
        if primary.entry_mode.is_explicit:
            self._service.entries.foreseen.add(expected)

    def _own_with_room(self, connection: Connection, count: int = 1) -> GateConnection:
        """Check that a connection is this session's own and that there is room for more."""
        self.check_room(count)
        return self._own(connection)

    def check_room(self, count: int = 1) -> None:
        """Raise ``LimitExceeded`` when no more expectations fit."""
        bound = self._service.limits.expected_connections_per_session_max
        if len(self._expected) + count > bound:
            raise LimitExceeded("expected_connections_per_session_max", bound)

    def _own(self, connection: Connection) -> GateConnection:
        """Check that a connection is this session's own."""
        found = self._service.find_connection(connection.id)
        if found is None or found.session is not self:
            raise BadContext("the connection is over, or another session's")
        return found

    def _own_open(self, connection: Connection) -> GateConnection:
        """Check that a connection is this session's own and does not end."""
        found = self._own(connection)
        if found.is_closing:
            raise BadContext("the connection is over")
        return found
