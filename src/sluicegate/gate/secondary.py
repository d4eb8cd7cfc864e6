"""Secondary connections: what a protocol announced and the gate therefore expects.

A session filter asks for one (``allow_future_connect``, ``bind_for_client``); the gate listens on
an address of its own, for one peer, one use and one minute. The invariant: only the expected peer
gets in, the judged address is the dialled one, and a listening socket never outlives its action.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import BadContext, LimitExceeded, Side, TransportError
from sluicegate.filterapi import (
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectRequested,
    DataFilterFactory,
    Event,
    Position,
    SessionFilter,
)
from sluicegate.port import Listener, Timer
from sluicegate.port.backend import RawSocket

from .dispatch import tell_one

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["ExpectedConnection", "FactoryAction"]

Told = tuple[SessionFilter | None, Any]
"""Who is told that the connection came up, and the object handed back then."""

_BACKLOG = 8
"""More than one peer may knock; only the expected one gets in."""


class FactoryAction:
    """A data filter factory set for an expected connection; satisfies ``filterapi.Action``."""

    __slots__ = ("_expected", "context", "factory", "position")

    def __init__(
        self,
        expected: ExpectedConnection,
        factory: DataFilterFactory,
        position: Position,
        context: Any,
    ) -> None:
        self._expected = expected
        self.factory = factory
        self.position = position
        self.context = context

    @property
    def address(self) -> SocketAddress:
        """The expected connection's address."""
        return self._expected.address

    @property
    def is_pending(self) -> bool:
        """Whether the factory can still be used."""
        return self._expected.has_factory(self)

    def cancel(self) -> None:
        """Take the factory back; harmless afterwards."""
        self._expected.drop_factory(self)


class ExpectedConnection:
    """One expected connection; satisfies ``filterapi.Action``."""

    def __init__(
        self,
        service: FirewallService,
        primary: GateConnection,
        listener: Listener | None,
        *,
        dialled_side: Side,
        target: SocketAddress,
        peers: AddressFilter,
        told: Told,
        dial_later: bool = False,
    ) -> None:
        self.dialled_side = dialled_side
        #: Which side the gate dials when the peer has come.
        self.dial_later = dial_later
        #: Whether the server is dialled only when a data filter asks for it.
        self.address = listener.local_address() if listener else primary.client_side_address
        self._service = service
        self._primary = primary
        self._listener = listener
        self._target = target
        self._peers = peers
        self._told = told
        self._factories: list[FactoryAction] = []
        self._remote: SocketAddress | None = None
        self._connection: GateConnection | None = None
        self._is_over = False
        self._timer: Timer = service.port.call_after(
            service.limits.expected_connection_timeout_s, self._on_timeout
        )
        primary.add_expected(self)
        if listener is not None:
            listener.accept_into(self._on_accepted)
        else:
            service.port.post(self._on_turn)

    @classmethod
    def from_client(
        cls,
        service: FirewallService,
        primary: GateConnection,
        target: SocketAddress,
        ports: range | None,
        told: Told,
        *,
        dial_later: bool,
    ) -> ExpectedConnection:
        """Expect the client; the server at ``target`` is dialled."""
        listener = _listen(service, primary.client_side_address, ports)
        peers = AddressFilter.only(primary.client_address.host)
        return cls(
            service, primary, listener,
            dialled_side=Side.SERVER, target=target, peers=peers, told=told, dial_later=dial_later,
        )  # fmt: skip

    @classmethod
    def to_client(
        cls, service: FirewallService, primary: GateConnection, client: SocketAddress, told: Told
    ) -> ExpectedConnection:
        """Expect nobody: dial ``client`` on the next turn, and the server when asked for."""
        return cls(
            service, primary, None,
            dialled_side=Side.CLIENT, target=client, peers=AddressFilter(), told=told,
            dial_later=True,
        )  # fmt: skip

    @classmethod
    def from_server(
        cls,
        service: FirewallService,
        primary: GateConnection,
        client: SocketAddress,
        peers: AddressFilter,
        ports: range | None,
        told: Told,
    ) -> ExpectedConnection:
        """Expect one of ``peers``; ``client`` is dialled."""
        listener = _listen(service, primary.server_side_address, ports)
        return cls(
            service, primary, listener,
            dialled_side=Side.CLIENT, target=client, peers=peers, told=told,
        )  # fmt: skip

    # -- filterapi.Action ------------------------------------------------------------------------

    @property
    def primary(self) -> GateConnection:
        """The connection that announced it."""
        return self._primary

    @property
    def is_client_expected(self) -> bool:
        """Whether the client is to come; else the server is."""
        return self.dialled_side is Side.SERVER

    @property
    def remote(self) -> SocketAddress:
        """Who came.

        Raises:
            BadContext: Nobody has yet.
        """
        if self._remote is None:
            raise BadContext("the expected peer has not come yet")
        return self._remote

    @property
    def target(self) -> SocketAddress:
        """Where the gate dials when the peer has come."""
        return self._target

    @property
    def is_pending(self) -> bool:
        """Whether it can still be used."""
        return not self._is_over

    def cancel(self) -> None:
        """Withdraw it; harmless afterwards."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            if self._listener is not None:
                self._listener.close()
            self._primary.session.drop_expected(self)
            self._primary.drop_expected(self)

    def add_factory(
        self, factory: DataFilterFactory, position: Position, context: Any
    ) -> FactoryAction:
        """Attach a filter from ``factory`` when the connection comes."""
        action = FactoryAction(self, factory, position, context)
        self._factories.append(action)
        return action

    def has_factory(self, action: FactoryAction) -> bool:
        """Tell whether a factory will be used."""
        return not self._is_over and action in self._factories

    def drop_factory(self, action: FactoryAction) -> None:
        """Forget a factory."""
        if action in self._factories:
            self._factories.remove(action)

    # -- for the connection that fulfils it ------------------------------------------------------

    def on_fulfilled(self, connection: GateConnection) -> None:
        """Take the connection that came: while it is busy, its primary is not idle."""
        self._connection = connection
        self._primary.add_expected(self)

    def on_ended(self) -> None:
        """Take its end: its primary may be idle from now on."""
        self._connection = None
        self._primary.drop_expected(self)
        self._primary.last_active = self._service.port.now

    def last_active(self) -> float:
        """Return when the connection that came last moved a byte; 0 without one."""
        if self._connection is None:
            return 0.0
        self._connection.due()  # which looks
        return self._connection.last_active

    def attach_filters(self, connection: GateConnection) -> None:
        """Make and attach the filters that were set for it."""
        for action in self._factories:
            data_filter = action.factory(connection)
            connection.attach_data_filter(data_filter, action.position, action.context)

    def opening_event(self, connection: GateConnection) -> Event:
        """Return the event that opens the connection that fulfils it."""
        if self.dial_later or self.dialled_side is Side.SERVER:
            return ConnectRequested(connection, connection.server_address, is_secondary=True)
        return ConnectionAccepted(connection, self.remote)

    def on_established(self, connection: GateConnection) -> None:
        """Tell the session filter that expected it, and nobody else."""
        session_filter, context = self._told
        if session_filter is not None:
            event = ConnectionEstablished(connection, context)
            tell_one(self._service, connection, session_filter, event, connection.on_filter_failure)
            event.close()

    # -- private -------------------------------------------------------------------------------

    def _on_accepted(self, raw: RawSocket) -> None:
        try:
            remote = SocketAddress.from_kernel(raw.getpeername())
        except OSError:
            raw.close()
            return
        if self._is_over or not self._peers.is_included(remote):
            self._service.on_unexpected_peer(self._primary, remote, self.address)
            self._service.port.backend.abort(raw)
            return
        self._remote = remote
        self.cancel()
        self._service.begin_expected(self, raw)

    def _on_turn(self) -> None:
        if not self._is_over:
            self.cancel()
            self._service.begin_expected(self, None)

    def _on_timeout(self) -> None:
        self.cancel()


def _listen(service: FirewallService, local: SocketAddress, ports: range | None) -> Listener:
    """Listen on the address by which the gate is known to that side.

    Raises:
        LimitExceeded: No port of ``ports`` is free.
        TransportError: Listening failed otherwise.
    """
    if ports is None:
        return service.port.listen(local.with_port(0), backlog=_BACKLOG)
    for port in service.rotate_ports(ports):
        try:
            return service.port.listen(local.with_port(port), backlog=_BACKLOG)
        except TransportError as error:
            if error.error != errno.EADDRINUSE:
                raise
    raise LimitExceeded("passive_ports", len(ports))
