"""EntryDesk: where clients say where they want to go, and are told whether they may.

One per service; proxy listeners hand it their clients, handshakes their requests. It knows the
resolver, the users and what the gate itself listens on. The invariant: nothing is looked up or
dialled for a request that the policy has not allowed by its canonical host, and every client ends
in one decision.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.audit import DecisionRecord
from sluicegate.errors import LimitExceeded, TransportError, errno_name
from sluicegate.filterapi import NetworkChange, User
from sluicegate.identity import Authenticator, KnownUser, Users
from sluicegate.limits import ENTRY_KNOWN_MAX
from sluicegate.names import (
    AddressClassifier,
    CanonicalHost,
    HostReason,
    HostRefused,
    canonical_host,
)
from sluicegate.names.exchange import Exchange
from sluicegate.names.resolver import Resolver
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.policy import (
    DestinationDecision,
    DestinationRequest,
    Rule,
    RuleAction,
    decide_association,
    decide_destination,
)
from sluicegate.policy.decision import CLIENT_NOT_LISTED
from sluicegate.policy.destinations import DENIED_BY_RULE, NO_RULE, USER_NEEDED, find_refuser
from sluicegate.port.backend import RawSocket
from sluicegate.protocols.entry import Destination, HostKind
from sluicegate.protocols.socks import SocksCommand
from sluicegate.protocols.tls_hello import KnownHellos
from sluicegate.tls import ClientCertificates, TlsLayer

from .asker import Asker
from .clear_connection import ClearConnection
from .directory_service import DirectoryService
from .entry_answers import EntryAnswer
from .entry_connection import EntryConnection
from .entry_dialogue import EntryRequest
from .entry_handshake import EntryHandshake
from .entry_tls import CERTIFICATE_GROUPS_SCHEME, TlsEntryHandshake
from .foreseen import Foreseen, ForeseenConnection
from .known_destinations import KnownDestinations
from .known_openings import KnownOpenings
from .opening_connection import OpeningConnection, may_open
from .own_contexts import OwnContexts
from .own_listeners import OwnListeners
from .password_throttle import PasswordThrottle
from .published_tls import PublishedTls
from .read_connection import may_read_clear
from .session import session_key
from .settings import ListenerSettings, ServiceSettings
from .socks_bind import BindConnection
from .udp_association import UdpAssociation

if TYPE_CHECKING:
    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .registry import RulePlan
    from .service import FirewallService

__all__ = ["EntryDesk"]

CLIENT_ANNOUNCED: Final = "client-announced-by-a-peer"
"""The client came through a peer that speaks the PROXY protocol, which carries no datagrams."""

COMMAND_NOT_SUPPORTED: Final = "command-not-supported"
"""The client asks for something that no part of the gate serves."""


class EntryDesk:
    """What proxy listeners of one service share."""

    def __init__(self, service: FirewallService, exchange: Exchange) -> None:
        self.service = service
        self.port = service.port
        self.resolver = Resolver(
            ResolverSettings(()),
            service.clock,
            service.limits,
            exchange=exchange,
            on_asked=service.records.lookup,
        )
        self.throttle = PasswordThrottle(service.limits, service.clock)
        self.directory = DirectoryService(service, exchange)
        limits = service.limits
        self.tls = TlsLayer(service.port, limits.interactive_buffers_max, limits.bulk_buffers_max)
        self._contexts: OwnContexts[str] = OwnContexts()
        #: Of listeners whose clients speak TLS.
        self.published = PublishedTls(service)
        #: Clients of published servers who do.
        self._authenticator: Authenticator | None = None
        self._handshakes: dict[EntryHandshake, None] = {}
        self._own_listeners = OwnListeners()
        self._classifier = AddressClassifier()
        self.openings = KnownOpenings()
        self.hellos = KnownHellos()
        self.known = KnownDestinations()
        self.foreseen = Foreseen()
        self._heard: set[tuple[str, str]] = set()
        #: Clients that some rule of a listener names, as far as they came.
        self._settings: ServiceSettings | None = None
        #: In force.
        self._commands: dict[SocksCommand, Callable[[EntryHandshake, EntryRequest], None]] = {
            SocksCommand.CONNECT: self._connect,
            SocksCommand.BIND: self._bind,
            SocksCommand.UDP_ASSOCIATE: self._associate,
        }
        #: Who serves what clients ask for; the rest is refused.

    # -- settings ------------------------------------------------------------------------------

    @property
    def authenticator(self) -> Authenticator:
        """Who verifies passwords."""
        assert self._authenticator is not None, "settings are applied before clients come"
        return self._authenticator

    def apply(self, settings: ServiceSettings) -> None:
        """Put users, resolver and the gate's own addresses in force for what comes from now on."""
        if self._authenticator is None:
            service = self.service
            self._authenticator = Authenticator(
                settings.users, service.port.run_blocking, service.clock
            )
        else:
            self._authenticator.replace_users(settings.users)
        self.directory.apply(settings.directory, settings.resolver)
        self._authenticator.directory = self.directory.directory
        if self._settings is not None:
            self._note_users(self._settings.users, settings)
        self.service.records.apply(settings.recorded)
        if settings.resolver != self.resolver.settings:
            self.resolver.settings = settings.resolver
            self.resolver.forget()
        self._settings = settings
        self._apply_tls(settings)
        self.note_network()

    def _note_users(self, before: Users, settings: ServiceSettings) -> None:
        """Take that users have come, gone, or changed their groups, also those who are there."""
        users = settings.users
        with_groups = {
            one.name
            for one in settings.listeners
            if one.entry is not None
            and one.entry.tls is not None
            and one.entry.tls.has_groups_in_certificate
        }
        for one in settings.listeners:
            if one.tls is not None and one.tls.client_certificates is not ClientCertificates.OFF:
                with_groups.add(one.name)

        def as_it_is_now(user: User | None, listeners: Iterable[str]) -> User | None:
            if user is None:
                return None
            if user.scheme == CERTIFICATE_GROUPS_SCHEME:
                # Whoever is called so in the file is somebody else.
                return None if with_groups.isdisjoint(listeners) else user
            name = user.name.encode()
            known = users.find(name)
            if before.find(name) is not None:
                return None if known is None else User(known.name, known.groups, user.scheme)
            # Of the directory: whoever has got a namesake in the file has to say which one it is.
            return user if known is None and self.directory.directory is not None else None

        for handshake in self._handshakes:
            handshake.user = as_it_is_now(handshake.user, [handshake.listener_name])
        for session in self.service.known_sessions:
            session.rules_user = as_it_is_now(session.user, session.listeners)

    def _apply_tls(self, settings: ServiceSettings) -> None:
        """Use what is in the files now for handshakes that begin from now on."""
        key_log = self.service.server_tls.key_log
        entries = ((one.name, one.entry) for one in settings.listeners if one.entry is not None)
        wanted = ((name, entry.tls) for name, entry in entries if entry.tls is not None)
        self._contexts.apply(wanted, key_log)
        self.published.apply(settings, key_log)

    def on_network_changed(self, _change: NetworkChange) -> None:
        """Take that addresses have come or gone; dials are judged again, so it counts at once."""
        self.note_network()

    def note_network(self) -> None:
        """Take what is the machine's own now: as it is watched, or else as it was at the start."""
        settings = self._settings
        if settings is not None:
            own = self.service.network.addresses or settings.own_addresses
            self._classifier = AddressClassifier(own, settings.nat64_prefixes)
            self.resolver.classifier = self._classifier
        self._heard.clear()
        self.known.forget()

    def note_listeners(self, addresses: list[SocketAddress]) -> None:
        """Take note of where the gate itself listens."""
        self._own_listeners = OwnListeners(addresses)
        self.known.forget()

    def is_own_listener(self, address: IpAddress, port: int) -> bool:
        """Tell whether a dial to an address and port would reach the gate itself."""
        return self._own_listeners.has(address, port, self._classifier)

    # -- clients -------------------------------------------------------------------------------

    def admit(
        self,
        listener: ListenerSettings,
        raw: RawSocket,
        client: SocketAddress,
        flood: FloodClient,
        announced: Announced | None,
    ) -> bool:
        """Listen to a new client; False when it was turned away unheard."""
        entry, service = listener.entry, self.service
        assert entry is not None, "only proxy listeners bring their clients here"
        name = listener.name
        reason = self._obstacle(name, client)
        if reason:
            service.refuse_client(name, raw, client, reason, announced)
            return False
        context = self._contexts.find(name)
        if context is None:
            handshake = EntryHandshake(self, name, entry, raw, client, flood)
        else:
            stream = self.tls.accept(raw, context)
            handshake = TlsEntryHandshake(self, name, entry, stream, client, flood)
        handshake.announced = announced
        self.begin(handshake)
        return True

    def begin(self, handshake: EntryHandshake) -> None:
        """Take note of a handshake until it has ended, or its connection goes on."""
        self._handshakes[handshake] = None

    def _obstacle(self, listener_name: str, client: SocketAddress) -> str:
        """Return why a client is not heard; empty if it is."""
        service, limits = self.service, self.service.limits
        if not service.recorder.is_accepting:
            return "records cannot be written"
        if (listener_name, client.host) not in self._heard:
            index = service.policy.rules_of(listener_name)
            if index is None:
                return NO_RULE
            if not index.clients.covers(client.ip):
                return CLIENT_NOT_LISTED
            if len(self._heard) >= ENTRY_KNOWN_MAX:
                self._heard.clear()
            self._heard.add((listener_name, client.host))
        if self.handshake_count < limits.handshakes_max:
            return ""
        bound = LimitExceeded("handshakes_max", limits.handshakes_max)
        self.on_limit(bound, client)
        return f"limit {bound.limit}"

    def forget(self, handshake: EntryHandshake) -> None:
        """Take a handshake off the table: it has ended, or its connection goes on."""
        if handshake in self._handshakes:
            del self._handshakes[handshake]
            if not handshake.is_handed_over:
                self.service.flood.end_connection(handshake.flood, is_half_open=True)
            elif not handshake.stays_half_open:
                self.service.flood.end_half_open(handshake.flood)

    def on_limit(self, error: LimitExceeded, client: SocketAddress) -> None:
        """Record that a client reached a limit."""
        self.service.note_limit(error, client)

    async def close(self) -> None:
        """End every client that has no connection yet, and every lookup."""
        self.published.close()
        for handshake in list(self._handshakes):
            handshake.turn_away("service stopping")
            handshake.close(abortive=True)
        await self.directory.close()
        await self.resolver.close()

    async def close_layers(self) -> None:
        """End the TLS of connections that are over, and wait for their sockets."""
        await self.tls.close()

    @property
    def handshake_count(self) -> int:
        """Clients that have no connection yet."""
        return len(self._handshakes) + self.published.count

    # -- requests ------------------------------------------------------------------------------

    @staticmethod
    def view_of(user: KnownUser) -> User:
        """Return what filters see of a user."""
        return _view_of(user)

    def decide(self, handshake: EntryHandshake, request: EntryRequest) -> None:
        """Take a client's request."""
        if handshake.user is not None:
            self.service.note_user(handshake.client, handshake.user)
        serve = self._commands.get(request.command)
        if serve is None:
            self._refuse(
                handshake, EntryAnswer.COMMAND_NOT_SUPPORTED, COMMAND_NOT_SUPPORTED, request
            )
        else:
            serve(handshake, request)

    def _connect(self, handshake: EntryHandshake, request: EntryRequest) -> None:
        """Serve CONNECT: decide by the canonical host, then let a connection go on."""
        service, wanted, client = self.service, request.destination, handshake.client
        if wanted.port in self.foreseen.by_port and self._admit_foreseen(handshake, request):
            return
        name, kind = handshake.listener_name, wanted.kind
        key = (name, client.host, handshake.user, kind, wanted.host, wanted.port)
        known = self.known.find(key, self.port.now)
        if known is None:
            judged = self._judge(handshake, request)
            if judged is None:
                return
            host, decision, plan = judged
            asked = ""
        else:
            host, decision, plan, asked = known.host, known.decision, known.plan, known.asked
        session = service.session_of(client, handshake.user)
        bound = service.limit_reached()
        if bound is not None:
            self.on_limit(bound, handshake.client)
            reason, name = f"limit {bound.limit}", plan.rule.name
            self._refuse(handshake, EntryAnswer.GATE_BUSY, reason, request, rule=name)
            return
        made = EntryConnection
        if may_open(plan, wanted.port):
            made = OpeningConnection
        elif plan.bytes_blocked and may_read_clear(plan, wanted.port):
            made = ClearConnection
        connection = made(service, session, plan, handshake, host, wanted.port, asked=asked)
        handshake.connection = connection
        if known is not None and plan.is_plain_for_bytes and session.is_plain:
            connection.open_known(known)
        else:
            connection.open_with(decision, key)

    def _admit_foreseen(self, handshake: EntryHandshake, request: EntryRequest) -> bool:
        """Let a client come that a filter expects; False when this is nobody of the kind."""
        service, wanted = self.service, request.destination
        try:
            host = self.host_of(wanted)
        except HostRefused:
            return False
        key = session_key(handshake.client, handshake.user)
        expected = self.foreseen.find(key, host, wanted.port)
        if expected is None:
            return False
        bound = service.limit_reached()
        if bound is not None:
            self.on_limit(bound, handshake.client)
            reason, name = f"limit {bound.limit}", expected.primary.rule
            self._refuse(handshake, EntryAnswer.GATE_BUSY, reason, request, rule=name)
            return True
        connection = ForeseenConnection(service, expected, handshake, host)
        handshake.connection = connection
        connection.open_expected()
        return True

    def _bind(self, handshake: EntryHandshake, request: EntryRequest) -> None:
        """Serve BIND: decide on the peer that the client announces, then listen for it."""
        judged = self._judge(handshake, request, "bind")
        if judged is None:
            return
        host, decision, plan = judged
        service = self.service
        session = service.session_of(handshake.client, handshake.user)
        bound = service.limit_reached()
        if bound is not None:
            self.on_limit(bound, handshake.client)
            reason, name = f"limit {bound.limit}", plan.rule.name
            self._refuse(handshake, EntryAnswer.GATE_BUSY, reason, request, rule=name)
            return
        connection = BindConnection(
            service, session, plan, handshake, host, request.destination.port
        )
        handshake.connection = connection
        connection.open_with(decision, None)

    def _associate(self, handshake: EntryHandshake, request: EntryRequest) -> None:
        """Serve UDP ASSOCIATE: where each datagram may go is decided when it comes."""
        service = self.service
        user = handshake.user
        rule, reason = self.decide_association(handshake.asker)
        if rule is None:
            self._refuse_association(handshake, reason, request)
            return
        if handshake.announced is not None:
            # Datagrams do not come by way of the peer that announced the client, so where this
            # client would reach the gate is not known.
            answer = EntryAnswer.COMMAND_NOT_SUPPORTED
            self._refuse(handshake, answer, CLIENT_ANNOUNCED, request, rule=rule.name)
            return
        session = service.session_of(handshake.client, user)
        bound = service.limit_reached() or service.udp.limit_reached()
        if bound is not None:
            self.on_limit(bound, handshake.client)
            limit = f"limit {bound.limit}"
            self._refuse(handshake, EntryAnswer.GATE_BUSY, limit, request, rule=rule.name)
            return
        if not service.udp.make_room(handshake.flood, handshake.client):
            limit = "limit udp_sessions_max"
            self._refuse(handshake, EntryAnswer.GATE_BUSY, limit, request, rule=rule.name)
            return
        here = SocketAddress.from_kernel(handshake.raw.getsockname())
        try:
            raw = service.port.bind_datagram_raw(here.with_port(0))
        except TransportError as error:
            failed = f"bind: {errno_name(error.error)}"
            self._refuse(handshake, EntryAnswer.GATE_FAILED, failed, request, rule=rule.name)
            return
        UdpAssociation(
            service, session, service.plan_of(rule), handshake, raw, request.destination
        ).begin()

    def _refuse_association(
        self, handshake: EntryHandshake, reason: str, request: EntryRequest
    ) -> None:
        """Refuse datagrams that no rule allows, as the rule says that refuses all of them."""
        asker = handshake.asker
        index = self.service.policy.rules_of(asker.listener_name)
        rule = find_refuser(index, asker.client.ip, asker.user, self.service.port.wall)
        if rule is None:
            self._refuse(handshake, EntryAnswer.NOT_ALLOWED, reason, request)
        else:
            answer = None if rule.action is RuleAction.RESET else EntryAnswer.NOT_ALLOWED
            self._refuse(handshake, answer, DENIED_BY_RULE, request, rule=rule.name)

    def _judge(
        self, handshake: EntryHandshake, request: EntryRequest, protocol: str = "tcp"
    ) -> tuple[CanonicalHost, DestinationDecision, RulePlan] | None:
        """Decide on a request; None when it was refused."""
        try:
            host = self.host_of(request.destination)
        except HostRefused as refused:
            self._refuse(handshake, EntryAnswer.MALFORMED, refused.reason, request)
            return None
        decision = self.decide_on(handshake.asker, host, request.destination.port, protocol)
        rule = decision.rule
        if decision.is_allowed and rule is not None:
            return host, decision, self.service.plan_of(rule)
        answer = EntryAnswer.NOT_ALLOWED
        if decision.reason == USER_NEEDED and handshake.entry.asks_for_passwords:
            answer = EntryAnswer.CREDENTIALS_NEEDED
        name = "" if rule is None else rule.name
        self._refuse(
            handshake,
            None if decision.action is RuleAction.RESET else answer,
            decision.reason,
            request,
            rule=name,
            target=f"{host}:{request.destination.port}",
        )
        return None

    def host_of(self, destination: Destination) -> CanonicalHost:
        """Return the one reading of the host that a client named.

        Raises:
            HostRefused: It has none.
        """
        address = destination.address
        if address is not None:
            return CanonicalHost.from_address(address)
        host = canonical_host(
            destination.host, allow_underscore=self.service.policy.policy.allows_underscores
        )
        if destination.kind is HostKind.BRACKETED and ":" not in host.text:
            raise HostRefused(HostReason.BRACKETS, "brackets are for IPv6 addresses")
        return host

    def decide_on(
        self, asker: Asker, host: CanonicalHost, port: int, protocol: str = "tcp"
    ) -> DestinationDecision:
        """Decide whether a client may reach a host; the decision judges what is found for it."""
        return decide_destination(
            self.service.policy.rules_of(asker.listener_name),
            DestinationRequest(asker.client.ip, host, port, asker.user, protocol, is_tunnel=True),
            self.service.port.wall,
            self.is_own_listener,
        )

    def decide_again(
        self, asker: Asker, host: CanonicalHost, port: int, protocol: str
    ) -> DestinationDecision:
        """As ``decide_on``, about what was let in before."""
        client = asker.client.host
        return self.known.decide_once(
            (asker.listener_name, client, asker.user, host.text, port, protocol),
            lambda: self.decide_on(asker, host, port, protocol),
        )

    def decide_association(self, asker: Asker) -> tuple[Rule | None, str]:
        """Say by which rule a client may send datagrams at all, and why if by none."""
        index = self.service.policy.rules_of(asker.listener_name)
        return decide_association(index, asker.client.ip, asker.user, self.service.port.wall)

    def _refuse(
        self,
        handshake: EntryHandshake,
        answer: EntryAnswer | None,
        reason: str,
        request: EntryRequest,
        *,
        rule: str = "",
        target: str = "",
    ) -> None:
        """Refuse a request that has no connection; its target is in the client's words if none.

        Without an answer its connection is aborted.
        """
        protocol, transport = _ASKED_FOR[request.command]
        target = _ASSOCIATE if transport else target or str(request.destination)
        self.record_refusal(
            handshake, reason, target=target, rule=rule, protocol=protocol, transport=transport
        )
        if answer is None:
            handshake.reset()
        else:
            handshake.refuse(answer)

    def record_refusal(
        self,
        handshake: EntryHandshake,
        reason: str,
        *,
        target: str = "",
        rule: str = "",
        protocol: str = "",
        transport: str = "",
    ) -> None:
        """Record a client that was refused before it had a connection."""
        service = self.service
        service.denied += 1
        if not service.flood.note_denied(handshake.client):
            return
        record = DecisionRecord(
            time=service.port.wall,
            connection=handshake.id,
            session="",
            client=str(handshake.client),
            listener=handshake.listener_name,
            verdict="denied",
            reason=reason,
            policy=service.policy.hash,
            rule=rule,
            target=target,
            protocol=protocol,
            transport=transport,
        )
        if handshake.is_understood:
            record.entry = handshake.mode.value
        if handshake.user is not None:
            record.user = handshake.user.name
        if handshake.announced is not None:
            record.peer = str(handshake.announced.peer)
        service.recorder.write(record)


_ASSOCIATE: Final = UdpAssociation.asked

_ASKED_FOR: Final = {
    SocksCommand.CONNECT: ("", ""),
    SocksCommand.BIND: ("bind", ""),
    SocksCommand.UDP_ASSOCIATE: ("", "udp"),
}
"""Protocol and transport of a command, as records have them."""


@functools.lru_cache(maxsize=1024)
def _view_of(user: KnownUser) -> User:
    return User(user.name, user.groups, "password")
