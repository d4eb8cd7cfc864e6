"""Secondary connections: what a protocol announced and the gate therefore expects.

A session filter asks for one (``allow_future_connect``, ``bind_for_client``); the gate listens on
an address of its own, for one peer, for one use unless more are allowed, and for one minute without
a use. ``binds`` asks filters before a bind. The invariant: only the expected peer gets in, the
judged address is the dialled one, and a listening socket never outlives its action.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import BadContext, LimitExceeded, Side, TransportError
from sluicegate.filterapi import (
    CallbackDataFilter,
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectRequested,
    DataFilter,
    DataFilterFactory,
    Emulate,
    Event,
    Position,
    SessionFilter,
)
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.policy.protocols import Direction
from sluicegate.port import Listener, Timer
from sluicegate.port.backend import RawSocket

from .announced import check_announced
from .binds import Arriving, BindState
from .dispatch import tell_one
from .emulation import begin_emulation
from .factories import ExpectedFactory
from .network_source import is_unrelated

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["ONCE", "ExpectedConnection", "Told", "Use", "is_named", "listen_for"]

Told = tuple[SessionFilter | None, Any]
"""Who is told that the connection came up, and the object handed back then."""

_BACKLOG = 8
"""More than one peer may knock; only the expected one gets in."""


@dataclass(frozen=True, slots=True)
class Use:
    """How an expectation may be used."""

    allow_multiple: bool = False
    """More than once: it ends with its primary, or when nothing came for ``timeout_s``."""
    timeout_s: float | None = None
    """How long it waits for the next peer; None: ``expected_connection_timeout_s``."""


ONCE: Final = Use()


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
        use: Use = ONCE,
        dial_later: bool = False,
    ) -> None:
        self.dialled_side = dialled_side
        #: Which side the gate dials when the peer has come.
        self.dial_later = dial_later
        #: Whether the server is dialled only when a data filter asks for it.
        self.address = listener.local_address() if listener else primary.client_side_address
        self.bind: BindState | None = None
        #: What a bind has beside; None for what is no bind.
        self.on_over: Callable[[ExpectedConnection], None] | None = None
        #: Told when it can be used no more.
        self.on_done: Callable[[], None] | None = None
        #: Told once, later, that nothing is left of it: neither it nor what came can be used.
        self._service = service
        self._primary = primary
        self._listener = listener
        self._target = target
        self._peers = peers
        self._admitted: list[AddressFilter] = []
        #: Who was let in retroactively.
        self._told = told
        self._use = use
        self._factories: list[ExpectedFactory] = []
        self._remote: SocketAddress | None = None
        self._connections: set[GateConnection] = set()
        self._is_over = False
        self._timer: Timer | None = None
        self._set_timer()
        primary.add_dependent(self)

    @classmethod
    def from_client(
        cls,
        service: FirewallService,
        primary: GateConnection,
        target: SocketAddress,
        ports: range | None,
        told: Told,
        *,
        use: Use = ONCE,
        dial_later: bool = False,
    ) -> ExpectedConnection:
        """Expect the client; the server at ``target`` is dialled."""
        listener = listen_for(service, primary.client_side_address, ports)
        peers = AddressFilter.only(primary.client_address.host)
        expected = cls(
            service, primary, listener, dialled_side=Side.SERVER, target=target, peers=peers,
            told=told, use=use, dial_later=dial_later,
        )  # fmt: skip
        expected.begin_accepting()
        return expected

    @classmethod
    def to_client(
        cls, service: FirewallService, primary: GateConnection, client: SocketAddress, told: Told
    ) -> ExpectedConnection:
        """Expect nobody: dial ``client`` on the next turn, and the server when asked for."""
        expected = cls(
            service, primary, None,
            dialled_side=Side.CLIENT, target=client, peers=AddressFilter(), told=told,
            dial_later=True,
        )  # fmt: skip
        service.port.post(expected.begin_dialling)
        return expected

    @classmethod
    def from_server(
        cls,
        service: FirewallService,
        primary: GateConnection,
        client: SocketAddress,
        peers: AddressFilter,
        told: Told,
        *,
        use: Use = ONCE,
    ) -> ExpectedConnection:
        """Expect one of ``peers``, once ``binds`` has bound it; ``client`` is dialled."""
        return cls(
            service, primary, None, dialled_side=Side.CLIENT, target=client, peers=peers,
            told=told, use=use,
        )  # fmt: skip

    def listen(self, listener: Listener) -> None:
        """Take the socket on which the peer is expected."""
        self._listener = listener
        self.address = listener.local_address()

    def stop_listening(self) -> None:
        """Give the socket up: a filter emulates the bind."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def begin_accepting(self) -> None:
        """Let the expected peer in."""
        if self._listener is not None and not self._is_over:
            self._listener.accept_into(self._on_accepted)

    def begin_dialling(self) -> None:
        """Dial the client now: nobody is expected."""
        if not self._is_over:
            self.cancel()
            self._service.admission.begin_expected(self, None)

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
    def has_come(self) -> bool:
        """Whether somebody has."""
        return self._remote is not None

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
            if self._timer is not None:
                self._timer.cancel()
            if self._listener is not None:
                self._listener.close()
            self._primary.session.drop_expected(self)
            self._primary.drop_dependent(self)
            if self.on_over is not None:
                self.on_over(self)
            if self.on_done is not None:
                # Not before the connection that uses it up is there.
                self._service.port.post(self._check_done)

    def add_factory(
        self, factory: DataFilterFactory, position: Position, context: Any
    ) -> ExpectedFactory:
        """Attach a filter from ``factory`` when the connection comes."""
        action = ExpectedFactory(self, factory, position, context)
        self._factories.append(action)
        return action

    def has_factory(self, action: ExpectedFactory) -> bool:
        """Tell whether a factory will be used."""
        return not self._is_over and action in self._factories

    def drop_factory(self, action: ExpectedFactory) -> None:
        """Forget a factory."""
        if action in self._factories:
            self._factories.remove(action)

    # -- filterapi.Bind --------------------------------------------------------------------------

    @property
    def peers(self) -> AddressFilter:
        """A copy of who may connect."""
        return self._peers.clone()

    def set_peers(self, peers: AddressFilter) -> None:
        """As ``filterapi.Bind.set_peers``."""
        self._peers = peers.clone()

    def admit_peers(self, peers: AddressFilter) -> bool:
        """Let these peers in, too; False when all of them were admitted already."""
        if self._peers.is_same_as(peers) or any(one.is_same_as(peers) for one in self._admitted):
            return False
        self._admitted.append(peers.clone())
        joined = self._peers.clone()
        joined.include_filter(peers)
        self._peers = joined
        return True

    def set_client_address(self, client: SocketAddress) -> None:
        """As ``filterapi.Bind.set_client_address``."""
        self._bind()
        self._primary.session.check_own_address(client)
        check_announced(self._primary, Direction.INBOUND, [client])
        self._target = client

    def set_socket_name(self, address: SocketAddress) -> None:
        """As ``filterapi.Bind.set_socket_name``."""
        if not self._bind().is_asking:
            raise BadContext("the address was told already: name it while the bind is judged")
        self.address = address

    def emulate_connection(
        self,
        data_filter: DataFilter | CallbackDataFilter,
        remote: SocketAddress,
        local: SocketAddress | None = None,
        context: Any = None,
    ) -> GateConnection:
        """As ``filterapi.Bind.emulate_connection``."""
        state = self.check_emulated()
        state.arriving = Arriving(Emulate(data_filter, context), local or self.address)
        self._remote = remote
        self._note_use()
        try:
            connection = self._service.admission.begin_expected(self, None)
        finally:
            state.arriving = None
        if connection is None:
            data_filter.detach()
            raise TransportError(errno.ECONNREFUSED, Side.CLIENT, "a limit refuses a connection")
        return connection

    def check_emulated(self) -> BindState:
        """Raise ``BadContext`` unless a filter emulates the bind and it is not over."""
        if self._is_over or not self._bind().is_emulated:
            raise BadContext("the bind is over, or no filter emulates it")
        return self._bind()

    def _bind(self) -> BindState:
        if self.bind is None:
            raise BadContext("this action is not a bind")
        return self.bind

    # -- for the connection that fulfils it ------------------------------------------------------

    def use(self, remote: SocketAddress) -> None:
        """Take that the expected peer has come by another way than the listening socket."""
        self._remote = remote
        self._note_use()

    def on_fulfilled(self, connection: GateConnection) -> None:
        """Take the connection that came: while it is busy, its primary is not idle."""
        self._connections.add(connection)
        self._primary.add_dependent(self)

    def on_ended(self, connection: GateConnection) -> None:
        """Take its end: its primary may be idle from now on."""
        self._connections.discard(connection)
        if self._is_over and not self._connections:
            self._primary.drop_dependent(self)
            # They know the expectation, and whoever made it: no circle is left to the collector.
            self._factories.clear()
            self._check_done()
        self._primary.last_active = self._service.port.now

    def last_active(self) -> float:
        """Return when the connection that came last moved a byte; 0 without one."""
        for connection in self._connections:
            connection.due()  # which looks
        return max((one.last_active for one in self._connections), default=0.0)

    def attach_filters(self, connection: GateConnection) -> None:
        """Make and attach the filters that were set for it."""
        for action in self._factories:
            data_filter = action.factory(connection)
            connection.attach_data_filter(data_filter, action.position, action.context)
        if self.bind is not None and self.bind.arriving is not None:
            begin_emulation(connection, self.bind.arriving.emulation)

    def opening_event(self, connection: GateConnection) -> Event:
        """Return the event that opens the connection that fulfils it."""
        if self.dial_later or self.dialled_side is Side.SERVER:
            return ConnectRequested(connection, connection.server_address, is_secondary=True)
        arriving = self.bind.arriving if self.bind is not None else None
        local = self.address if arriving is None else arriving.local
        return ConnectionAccepted(connection, self.remote, local=local)

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
        is_ready = self._target.port != 0
        if self._is_over or not is_ready or not self._peers.is_included(remote):
            self._service.on_unexpected_peer(self._primary, remote, self.address)
            self._service.port.backend.abort(raw)
            return
        if not self.is_client_expected and not self._is_related(remote):
            self._service.port.backend.abort(raw)
            return
        self._remote = remote
        self.take_peer(raw)

    def _is_related(self, server: SocketAddress) -> bool:
        """Tell whether a server may reach the client, as one that is dialled; record it if not."""
        service, primary = self._service, self._primary
        relations, client = service.policy.network_relations, primary.client_address
        if not is_unrelated(relations, client, server):
            return True
        service.records.refusal(
            primary.listener_name,
            server,
            NO_NETWORK_RULE,
            rule=primary.rule,
            policy=service.policy.hash,
        )
        return False

    def take_peer(self, raw: RawSocket) -> None:
        """Begin the connection that the peer came for."""
        self._note_use()
        self._service.admission.begin_expected(self, raw)

    def _note_use(self) -> None:
        """End after one use, or wait as long again for the next."""
        if self._use.allow_multiple:
            self._set_timer()
        else:
            self.cancel()

    def _check_done(self) -> None:
        if self.on_done is not None and self._is_over and not self._connections:
            done, self.on_done = self.on_done, None
            done()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wanted_s = self._use.timeout_s
        timeout_s = self._service.limits.expected_connection_timeout_s
        self._timer = self._service.port.call_after(
            timeout_s if wanted_s is None else wanted_s, self.cancel
        )


def listen_for(service: FirewallService, local: SocketAddress, ports: range | None) -> Listener:
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


def is_named(address: SocketAddress, name: SocketAddress) -> bool:
    """Tell whether an address is meant by a name whose host may be unspecified."""
    return address.port == name.port and (name.ip.is_unspecified or address.ip == name.ip)
