"""Admission: the beginning of every connection whose server is known when its first peer comes.

Listeners bring it new clients, expectations the peers that they were for; ``entry`` is its twin for
clients who name their server. The invariant: whoever comes is admitted by the policy in force and
within the limits, or turned away and recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.policy import Publication, decide
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.port.backend import RawSocket

from .connection import GateConnection
from .network_source import is_unrelated
from .published_connection import PublishedConnection

if TYPE_CHECKING:
    from sluicegate.filterapi import User

    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .published_handshake import PublishedHandshake
    from .secondary import ExpectedConnection
    from .service import FirewallService
    from .settings import ListenerSettings

__all__ = ["Admission"]


class Admission:
    """Admits the clients and the expected peers of one service."""

    __slots__ = ("_service",)

    def __init__(self, service: FirewallService) -> None:
        self._service = service

    def admit(
        self,
        listener: ListenerSettings,
        raw: RawSocket,
        client: SocketAddress,
        flood: FloodClient,
        announced: Announced | None = None,
    ) -> bool:
        """Decide on a new client and begin its connection; False when it was refused.

        Args:
            listener: Where it came to.
            raw: Its socket.
            client: Its address.
            flood: What it does; the connection has been counted.
            announced: What a peer said of it.
        """
        service, listener_name = self._service, listener.name
        policy = service.policy
        if not service.recorder.is_accepting:
            # It cannot even be recorded that it was refused; the writer has said why.
            service.turn_away(raw)
            return False
        session = service.find_session(client)
        known = session.plans.get(listener_name) if session is not None else None
        epoch = service.revocation.epoch
        if known is not None and known[0] == epoch:
            plan = known[1]
        else:
            decision = decide(policy, listener_name, client, service.port.wall)
            if decision.publication is None:
                service.refuse_client(listener_name, raw, client, decision.reason, announced)
                return False
            server = decision.publication.server
            if is_unrelated(policy.network_relations, client, server):
                rule = decision.publication.name
                service.refuse_client(listener_name, raw, client, NO_NETWORK_RULE, announced, rule)
                return False
            plan = service.plan_of(decision.publication)
            session = service.session_of(client, None) if session is None else session
            session.plans[listener_name] = (epoch, plan)
        assert session is not None, "a plan is known by its session"
        bound = service.limit_reached()
        if bound is None:
            if listener.tls is not None:
                tls = service.entries.published
                return tls.begin(listener, raw, client, flood, plan, announced)
            assert isinstance(plan.rule, Publication), "rules are for proxy listeners"
            if plan.rule.is_http:
                service.web.admit_published(
                    listener_name, raw, client, session, flood, plan, announced=announced
                )
                return True
            kind = GateConnection if plan.rule.server_tls is None else PublishedConnection
            connection = kind(
                service, session, plan, listener_name, client, plan.rule.server, flood=flood
            )
            connection.announced = announced
            connection.is_half_open = True
            connection.begin(raw, None)
            return True
        service.note_limit(bound, client)
        rule = plan.rule.name
        service.refuse_client(listener_name, raw, client, f"limit {bound.limit}", announced, rule)
        return False

    def go_on_inside(self, handshake: PublishedHandshake, user: User | None) -> None:
        """Begin the connection of a client whose TLS with the gate is there."""
        service, plan, client = self._service, handshake.plan, handshake.client
        name, own_tls = handshake.listener_name, handshake.own_tls
        assert isinstance(plan.rule, Publication), "rules are for proxy listeners"
        session = service.session_of(client, user)
        if user is not None:
            service.note_user(client, user)
            session.listeners[name] = None
        raw, flood, announced = handshake.stream.socket, handshake.flood, handshake.announced
        if plan.rule.is_http:
            service.web.admit_published(
                name,
                raw,
                client,
                session,
                flood,
                plan,
                announced=announced,
                own_tls=own_tls,
                identifier=handshake.id,
            )
            return
        connection = PublishedConnection(
            service,
            session,
            plan,
            name,
            client,
            plan.rule.server,
            flood=flood,
            identifier=handshake.id,
            own_tls=own_tls,
        )
        connection.announced = announced
        connection.is_half_open = True
        connection.begin(raw, None)

    def begin_expected(
        self, expected: ExpectedConnection, raw: RawSocket | None
    ) -> GateConnection | None:
        """Begin the secondary connection that an expectation was for, with the peer that came.

        None when a limit refused it.
        """
        service, primary = self._service, expected.primary
        bound = service.limit_reached()
        if bound is None and service.recorder.is_accepting:
            bound = service.flood.admit_announced(primary.flood)
        if bound is not None or not service.recorder.is_accepting:
            if bound is not None:
                peer = expected.target if raw is None else expected.remote
                service.note_limit(bound, primary.client_address)
                reason = f"limit {bound.limit}"
                service.records.refusal(
                    primary.listener_name,
                    peer,
                    reason,
                    rule=primary.rule,
                    policy=service.policy.hash,
                )
            if raw is not None:
                service.turn_away(raw)
            return None
        connection = GateConnection(
            service,
            primary.session,
            primary.plan,
            primary.listener_name,
            primary.client_address,
            primary.server_address,
            flood=primary.flood,
        )
        connection.expected = expected
        expected.on_fulfilled(connection)
        if expected.is_client_expected:
            connection.server_address = expected.target
            connection.client_address = expected.remote
            connection.begin(raw, None)
        else:
            connection.client_address = expected.target
            if expected.has_come:
                connection.server_address = expected.remote
            else:
                # Which port of the server is not known before it is dialled.
                connection.server_address = primary.server_address.with_port(0)
            connection.begin(None, raw)
        return connection
