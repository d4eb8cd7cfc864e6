"""The UDP part of one worker's gate: which client may have a connection, and which ones there are.

``service`` makes one, UDP listeners ask it. The invariant: every connection it admits is in its
tables until it has ended in exactly one record, and a client that was refused is not asked about
again at once, so that a flood of refused datagrams floods neither filters nor the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord
from sluicegate.errors import LimitExceeded, errno_name
from sluicegate.filterapi import EntryMode, Outcome
from sluicegate.policy import decide
from sluicegate.policy.learn import LEARNING
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.port.backend import RawSocket

from .network_source import is_unrelated
from .registry import Installed, RulePlan
from .settings import ListenerSettings
from .showing import view_of_datagrams
from .udp_associated import AssociatedConnection
from .udp_connection import UdpConnection
from .udp_listener import UdpListener
from .views import ConnectionView

if TYPE_CHECKING:
    from .flood_count import FloodClient
    from .service import FirewallService
    from .session import GateSession
    from .udp_association import UdpAssociation
    from .udp_peers import GateUdpPeer

__all__ = ["UdpService"]

_REFUSED_S: Final = 10.0
"""A refused client is not asked about again for so long: its flood must not flood the log."""

_REFUSED_MAX: Final = 4096
"""Refused clients that are remembered; forged addresses cost no more."""


class UdpService:
    """All UDP connections of one worker."""

    __slots__ = ("_associations", "_bind", "_connections", "_of_client", "_refused", "_service")

    def __init__(
        self, service: FirewallService, bind: Callable[[SocketAddress], RawSocket]
    ) -> None:
        """Make it.

        Args:
            service: The gate.
            bind: Gives the socket of an address.
        """
        self._service = service
        self._bind = bind
        self._connections: dict[str, UdpConnection] = {}
        self._associations: dict[UdpAssociation, None] = {}
        self._of_client: dict[FloodClient, dict[UdpConnection | UdpAssociation, None]] = {}
        #: An association counts while it has no connection; then they count for it.
        self._refused: dict[tuple[UdpListener | UdpAssociation, bytes], float] = {}
        #: Until when, oldest first.

    def __len__(self) -> int:
        return len(self._connections) + len(self._associations)

    def make_listener(self, settings: ListenerSettings) -> UdpListener:
        """Bind a UDP listener.

        Raises:
            TransportError: The address cannot be bound.
        """
        return UdpListener(self._service, settings, self._bind(settings.address))

    # -- admitting -----------------------------------------------------------------------------

    def admit(self, listener: UdpListener, key: bytes, name_size: int) -> UdpConnection | None:
        """Decide on a new client and begin its connection; None when it was refused."""
        service = self._service
        now = service.port.now
        if self._is_refused(listener, key, now) or not service.recorder.is_accepting:
            service.denied += 1
            return None
        client = SocketAddress.from_packed(key[:name_size])
        decision = decide(service.policy, listener.settings.name, client, service.port.wall)
        if decision.publication is None:
            self._refuse(listener, key, client, decision.reason)
            return None
        plan = service.plan_of(decision.publication)
        relations = service.policy.network_relations
        if is_unrelated(relations, client, decision.publication.server):
            self._refuse(listener, key, client, NO_NETWORK_RULE, plan)
            return None
        bound = self.limit_reached()
        if bound is not None:
            service.note_limit(bound, client)
            self._refuse(listener, key, client, f"limit {bound.limit}", plan)
            return None
        flood = service.flood.client_of(client)
        rule = plan.rule.name
        if (
            flood is None
            or not service.flood.admit_under(rule, client)
            or not self.make_room(flood, client)
        ):
            service.denied += 1
            return None
        session = service.session_of(client, None)
        connection = UdpConnection(service, session, plan, listener, key, name_size, flood=flood)
        listener.connections[key] = connection
        self._begin(connection)
        return None if connection.is_closing else connection

    def _begin(self, connection: UdpConnection) -> None:
        session = connection.session
        self._connections[connection.id] = connection
        self._count(connection)
        session.connections += 1
        connection.begin()

    def limit_reached(self) -> LimitExceeded | None:
        """Return the limit that one more connection or association would pass."""
        bound = self._service.limits.udp_connections_max
        return LimitExceeded("udp_connections_max", bound) if len(self) >= bound else None

    def _is_refused(self, listener: UdpListener | UdpAssociation, key: bytes, now: float) -> bool:
        until = self._refused.get((listener, key))
        if until is None:
            return False
        if until > now:
            return True
        del self._refused[listener, key]
        return False

    def _refuse(
        self,
        listener: UdpListener,
        key: bytes,
        client: SocketAddress,
        reason: str,
        plan: RulePlan | None = None,
    ) -> None:
        service = self._service
        service.denied += 1
        if service.flood.note_datagram_denied(listener.settings.name, client):
            service.records.refusal(
                listener.settings.name,
                client,
                reason,
                policy=service.policy.hash,
                rule=plan.rule.name if plan is not None else "",
            )
        self._note_refused(listener, key)

    def _note_refused(self, listener: UdpListener | UdpAssociation, key: bytes) -> None:
        if len(self._refused) >= _REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[listener, key] = self._service.port.now + _REFUSED_S

    def make_room(
        self, flood: FloodClient, client: SocketAddress, sparing: UdpAssociation | None = None
    ) -> bool:
        """End the connection of a client that was silent longest, when it has as many as it may.

        False when that is on another worker.
        """
        guard = self._service.flood
        own = self._of_client.get(flood, {})
        # More than once where an association counts again, whose last connection made room.
        while not guard.has_udp_room(flood, client, sparing in own):
            others = (one for one in own if one is not sparing)
            silent = min(others, key=lambda one: one.last_active, default=None)
            if silent is None:
                return False
            silent.end_replaced()
            own = self._of_client.get(flood, {})
        return True

    # -- associations --------------------------------------------------------------------------

    def add_association(self, association: UdpAssociation) -> None:
        """Take a client's association into the tables, where there is room for it."""
        self._associations[association] = None
        association.session.connections += 1
        self.count_alone(association)
        self.record_decision(association, "allowed", association.allowed_by)

    def admit_associated(
        self,
        association: UdpAssociation,
        plan: RulePlan,
        asked: str,
        address: SocketAddress | None,
        found: tuple[str, ...],
    ) -> AssociatedConnection | None:
        """Begin the connection of an association and a rule; None when it is refused.

        Args:
            association: Whose client asks.
            plan: The rule's.
            asked: What the client asks for.
            address: Where that is, if it is known yet.
            found: The addresses of the name that is asked for.
        """
        service = self._service
        key = plan.rule.name.encode()
        if self._is_refused(association, key, service.port.now):
            return None
        bound = self.limit_reached()
        if bound is not None or not service.recorder.is_accepting:
            if bound is not None:
                service.note_limit(bound, association.client_address, association.id)
            return None
        flood, client = association.flood, association.client_address
        if not service.flood.admit_under(plan.rule.name, client) or not self.make_room(
            flood, client, sparing=association
        ):
            return None
        connection = AssociatedConnection(service, association, plan, asked, address, found)
        association.connections[key] = connection
        self._uncount(association)
        self._begin(connection)
        return None if connection.is_closing else connection

    def count_alone(self, association: UdpAssociation) -> None:
        """Count an association that has no connection among its client's."""
        if not association.connections:
            self._count(association)

    def _count(self, one: UdpConnection | UdpAssociation) -> None:
        own = self._of_client.setdefault(one.flood, {})
        if one not in own:
            own[one] = None
            self._service.flood.counts.add_udp(one.flood, 1)

    def _uncount(self, one: UdpConnection | UdpAssociation) -> None:
        own = self._of_client.get(one.flood, {})
        if one in own:
            del own[one]
            self._service.flood.counts.add_udp(one.flood, -1)
            if not own:
                del self._of_client[one.flood]

    def end_association(self, association: UdpAssociation) -> None:
        """Take an association out of the tables and record its end."""
        service, session = self._service, association.session
        del self._associations[association]
        self._uncount(association)
        session.connections -= 1
        session.last_active = service.port.now
        for key in [key for key in self._refused if key[0] is association]:
            del self._refused[key]
        self._record_end(association)
        service.on_udp_ended()

    # -- ending --------------------------------------------------------------------------------

    def end_connection(self, connection: UdpConnection) -> None:
        """Take a connection out of the tables and record its end."""
        service, session = self._service, connection.session
        del self._connections[connection.id]
        connection.listener.connections.pop(connection.key, None)
        service.revocation.places.leave(connection.id)
        self._uncount(connection)
        session.connections -= 1
        session.last_active = service.port.now
        if connection.outcome is Outcome.REFUSED:
            self._note_refused(connection.listener, connection.key)
        service.bytes_from_clients += connection.bytes_to_server
        service.bytes_from_servers += connection.bytes_to_client
        self._record_end(connection)
        service.on_udp_ended()

    def find(self, identifier: str) -> UdpConnection | UdpAssociation | None:
        """Return a connection or an association that has not ended."""
        found = self._connections.get(identifier)
        if found is not None:
            return found
        return next((one for one in self._associations if one.id == identifier), None)

    def end_session(self, session: GateSession, reason: str) -> None:
        """End every connection and association of a client."""
        for association in [one for one in self._associations if one.session is session]:
            association.refuse(reason)
        for connection in [one for one in self._connections.values() if one.session is session]:
            connection.refuse(reason)

    def end_all(self, reason: str) -> None:
        """End every connection: the service stops."""
        for association in list(self._associations):
            association.refuse(reason)
        for connection in list(self._connections.values()):
            connection.refuse(reason)

    def everything(self) -> list[UdpConnection | UdpAssociation]:
        """Return what is open; associations judge their connections themselves."""
        published = [one for one in self._connections.values() if not one.primary_id]
        return [*self._associations, *published]

    def forget_refused(self) -> None:
        """Ask about everybody again: another policy is in force."""
        self._refused.clear()

    def has(self, installed: Installed) -> bool:
        """Tell whether a filter runs for a connection that has not ended."""
        return any(one.plan.has(installed) for one in self._connections.values())

    # -- what happened -------------------------------------------------------------------------

    def on_oversized(
        self, client: SocketAddress, connection: UdpConnection | UdpAssociation | None
    ) -> None:
        """Record that a datagram did not fit (the SDK's "oversized UDP packet")."""
        bound = LimitExceeded("udp_datagram_bytes_max", self._service.limits.udp_datagram_bytes_max)
        self._service.note_limit(bound, client, connection.id if connection is not None else "")

    def note_limit(self, name: str, bound: float, connection: UdpConnection) -> None:
        """Record that a connection reached a limit."""
        limit = LimitExceeded(name, bound)
        self._service.note_limit(limit, connection.client_address, connection.id)

    def record_decision(
        self,
        connection: UdpConnection | UdpAssociation,
        verdict: Literal["allowed", "denied"],
        reason: str,
    ) -> None:
        """Record what was decided about a connection before anything was sent for it."""
        service = self._service
        if verdict == "allowed":
            service.allowed += 1
            if reason == LEARNING:
                service.records.learned[connection.rule] += 1
        else:
            service.denied += 1
        target = connection.asked or str(connection.server_address)
        self._decide(connection, verdict, reason, target, found=connection.found)

    def record_peer_denied(self, connection: UdpConnection, peer: GateUdpPeer) -> None:
        """Record that a peer's datagrams are discarded."""
        self._decide(connection, "denied", peer.reason, str(peer.address))

    def record_destination_refused(
        self,
        association: UdpAssociation,
        target: str,
        reason: str,
        rule: str,
        found: tuple[str, ...],
    ) -> None:
        """Record that an association's datagrams to a destination are discarded."""
        self._service.denied += 1
        if self._service.flood.note_denied(association.client_address):
            self._decide(association, "denied", reason, target, rule=rule, found=found)

    def record_learned(
        self, connection: AssociatedConnection, target: str, found: tuple[str, ...]
    ) -> None:
        """Record that datagrams to one more destination pass to be learned from."""
        self._decide(connection, "allowed", LEARNING, target, found=found)

    def _decide(
        self,
        connection: UdpConnection | UdpAssociation,
        verdict: Literal["allowed", "denied"],
        reason: str,
        target: str,
        *,
        rule: str | None = None,
        found: tuple[str, ...] = (),
    ) -> None:
        record = DecisionRecord(
            time=self._service.port.wall,
            connection=connection.id,
            session=connection.session.id,
            client=str(connection.client_address),
            listener=connection.listener_name,
            verdict=verdict,
            reason=reason,
            policy=connection.plan.policy_hash if rule is None else self._service.policy.hash,
            rule=connection.rule if rule is None else rule,
            target=target,
            transport="udp",
            primary=connection.primary_id,
            addresses=found,
        )
        _name_client(record, connection)
        self._service.recorder.write(record)

    def _record_end(self, connection: UdpConnection | UdpAssociation) -> None:
        port = self._service.port
        is_released = connection.outcome is Outcome.RELEASED
        record = ConnectionRecord(
            time=port.wall,
            connection=connection.id,
            session=connection.session.id,
            client=str(connection.client_address),
            listener=connection.listener_name,
            rule=connection.rule,
            server=str(connection.server_address),
            started=connection.started_wall,
            duration_s=int((port.now - connection.started) * 1e6) / 1e6,
            outcome="released" if is_released else connection.outcome.value,
            reason=connection.reason,
            bytes_to_server=connection.bytes_to_server,
            bytes_to_client=connection.bytes_to_client,
            filters=connection.filter_names(),
            transport="udp",
            datagrams_to_server=connection.datagrams_to_server,
            datagrams_to_client=connection.datagrams_to_client,
            dropped=connection.dropped,
            peers=connection.peers_known,
            primary=connection.primary_id,
        )
        _name_client(record, connection)
        if connection.error:
            record.error = errno_name(connection.error)
        if connection.error_side is not None:
            record.side = connection.error_side
        self._service.recorder.write(record)

    # -- asking --------------------------------------------------------------------------------

    @property
    def plain_count(self) -> int:
        """Connections whose datagrams pass without a look."""
        return sum(connection.is_plain for connection in self._connections.values())

    def views(self) -> Iterable[ConnectionView]:
        """Return a copy of every connection's moment, for people."""
        now = self._service.port.now
        for connection in self._connections.values():
            yield view_of_datagrams(connection, now)
        for association in self._associations:
            yield view_of_datagrams(association, now)


def _name_client(
    record: DecisionRecord | ConnectionRecord, connection: UdpConnection | UdpAssociation
) -> None:
    """Say how a client of a proxy listener came, and who it is."""
    if connection.entry_mode is not EntryMode.PUBLISHED:
        record.entry = connection.entry_mode
    if connection.session.user is not None:
        record.user = connection.session.user.name
