"""Where the datagrams of one SOCKS UDP association may go: each destination is judged first.

``udp_association`` hands it the client's datagrams with what their headers name. The invariant: a
datagram leads to a connection only by a decision of the policy in force, on the canonical host and
on the address that was found for it; a destination that is being looked up delays no other one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.errors import LimitExceeded, TransportError
from sluicegate.filterapi import Outcome
from sluicegate.names import (
    CanonicalHost,
    Destination,
    HostRefused,
    Unresolved,
)
from sluicegate.names.eyeballs import interleave
from sluicegate.policy.learn import LEARNING
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.port.backend import Source

from .entry_connection import REFUSALS
from .lookups import Addresses, Lookup, tell_of_lookup
from .network_source import NoSource, find_source
from .readmission import Readmission
from .revocation import REVOKED

if TYPE_CHECKING:
    from sluicegate.policy import DestinationDecision
    from sluicegate.protocols.entry import Destination as NamedDestination

    from .registry import RulePlan
    from .service import FirewallService
    from .udp_associated import AssociatedConnection
    from .udp_association import UdpAssociation

__all__ = ["UdpDestinations"]


class _Route:
    """A destination that was judged, and the connection that serves it."""

    __slots__ = ("address", "connection", "destination", "epoch")

    def __init__(
        self,
        connection: AssociatedConnection,
        destination: Destination,
        address: SocketAddress,
        epoch: int,
    ) -> None:
        self.connection = connection
        self.destination = destination
        self.address = address
        self.epoch = epoch


class _Question:
    """A destination that is being judged, and the datagrams that wait for it."""

    __slots__ = ("connection", "decision", "epoch", "host", "key", "named", "plan", "waiting")

    def __init__(
        self,
        key: bytes,
        named: NamedDestination,
        host: CanonicalHost,
        decision: DestinationDecision,
        plan: RulePlan,
        epoch: int,
    ) -> None:
        self.key = key
        self.named = named
        self.host = host
        self.decision = decision
        self.plan = plan
        self.epoch = epoch
        #: Of what the decision depends on.
        self.connection: AssociatedConnection | None = None
        #: Whose filters are told of the lookup.
        self.waiting: list[bytes] = []

    @property
    def asked(self) -> str:
        """What the client asks for, canonical."""
        return f"{self.host}:{self.named.port}"


class UdpDestinations:
    """The destinations of one association."""

    __slots__ = ("_association", "_questions", "_recorded", "_routes", "_service", "_waiting")

    def __init__(self, service: FirewallService, association: UdpAssociation) -> None:
        self._service = service
        self._association = association
        self._routes: dict[bytes, _Route] = {}
        #: By the header's own bytes: datagrams that follow need no second look.
        self._questions: dict[bytes, _Question] = {}
        self._waiting = 0
        #: Datagrams that wait for a lookup, of all questions.
        self._recorded: set[tuple[str, str]] = set()
        #: Refusals that there is a record of.

    def take(self, key: bytes, named: NamedDestination, payload: bytes) -> None:
        """Send a datagram of the client where it is to go, if that may be.

        Args:
            key: The destination as it stands in the header.
            named: The same, read.
            payload: What is behind the header.
        """
        service = self._service
        route = self._routes.get(key)
        if (
            route is not None
            and route.epoch == service.entries.known.epoch
            and not route.destination.is_expired(service.port.now)
        ):
            route.connection.on_client_datagram(payload, route.address)
            return
        question = self._questions.get(key)
        if question is None:
            question = self._decide(key, named)
            if question is None:
                return
            question.waiting.append(payload)
            self._waiting += 1
            self._begin(question)
        elif self._waiting < service.limits.udp_awaiting_max:
            question.waiting.append(payload)
            self._waiting += 1
        else:
            self._association.drop("awaiting")

    def _decide(self, key: bytes, named: NamedDestination) -> _Question | None:
        """Decide by the host as it was named; None when it is refused."""
        association, desk = self._association, self._service.entries
        if self._waiting >= self._service.limits.udp_awaiting_max:
            association.drop("awaiting")
            return None
        try:
            host = desk.host_of(named)
        except HostRefused as refused:
            self._refuse(str(named), refused.reason)
            return None
        decision = desk.decide_on(association.asker, host, named.port, "udp")
        rule = decision.rule
        if rule is None or not decision.is_allowed:
            name = "" if rule is None else rule.name
            self._refuse(f"{host}:{named.port}", decision.reason, rule=name)
            return None
        if not self._service.flood.admit_destination(association.flood, association.client_address):
            association.drop("denied")
            return None
        plan = self._service.plan_of(rule)
        return _Question(key, named, host, decision, plan, desk.known.epoch)

    # -- looking up ----------------------------------------------------------------------------

    def _begin(self, question: _Question) -> None:
        self._questions[question.key] = question
        plan, session = question.plan, self._association.session
        if question.host.is_address or (plan.is_plain and session.is_plain):
            self._find(question, None)
            return
        # Its filters are told of the lookup, so its connection has to be there.
        question.connection = self._association.connection_under(plan, question.asked, None)
        if question.connection is None:
            self._give_up(question, "denied")
        else:
            self._tell(question, None, lambda given: self._find(question, given))

    def _tell(
        self,
        question: _Question,
        addresses: Addresses | None,
        go_on: Callable[[Addresses | None], None],
    ) -> None:
        connection = question.connection
        assert connection is not None, "filters are told of a connection's lookups"

        def on_denied(reason: str) -> None:
            self._refuse(question.asked, reason, rule=question.plan.rule.name, count=0)
            self._give_up(question, "denied")

        lookup = Lookup(connection, question.host.text, on_denied)
        tell_of_lookup(self._service, lookup, addresses, go_on)

    def _find(self, question: _Question, given: Addresses | None) -> None:
        """Look the host up, unless a filter gave its addresses."""
        service, session = self._service, self._association.session
        resolver, port = service.entries.resolver, question.named.port
        if given is not None:
            self._on_found(
                question, resolver.judge_given(question.host, port, question.decision, given)
            )
            return
        found = resolver.resolve_now(question.host, port, question.decision)
        if found is not None:
            self._on_found(question, found)
            return
        bound = service.limits.lookups_per_client_max
        if session.lookups >= bound:
            limit = LimitExceeded("lookups_per_client_max", bound)
            service.note_limit(limit, self._association.client_address, self._association.id)
            self._give_up(question, "unresolved")
            return
        session.lookups += 1
        service.spawn(self._look_up(question))

    async def _look_up(self, question: _Question) -> None:
        resolver = self._service.entries.resolver
        try:
            found = await resolver.resolve(question.host, question.named.port, question.decision)
        finally:
            self._association.session.lookups -= 1
        self._on_found(question, found)

    def _on_found(self, question: _Question, found: Destination | Unresolved) -> None:
        if self._questions.get(question.key) is not question:
            # Its connection or the association has ended meanwhile.
            return
        is_refused = isinstance(found, Unresolved) and found.reason in REFUSALS
        if is_refused or question.connection is None:
            self._on_resolved(question, found)
            return
        addresses: Addresses = ()
        if isinstance(found, Destination):
            addresses = tuple(one.judgement.address for one in found.dialable)
        resolver = self._service.entries.resolver

        def go_on(given: Addresses | None) -> None:
            result = found
            if given is not None:
                result = resolver.judge_given(
                    question.host, question.named.port, question.decision, given
                )
            self._on_resolved(question, result)

        self._tell(question, addresses, go_on)

    def _on_resolved(self, question: _Question, found: Destination | Unresolved) -> None:
        if self._questions.get(question.key) is not question:
            return
        if isinstance(found, Unresolved):
            detail = f"{found.reason}: {found.detail}" if found.detail else str(found.reason)
            self._refuse(
                question.asked, detail, rule=question.plan.rule.name, count=0, found=found.found
            )
            self._give_up(question, "denied" if found.reason in REFUSALS else "unresolved")
            return
        waiting = self._forget_question(question)
        if question.epoch != self._service.entries.known.epoch:
            # What the decision depended on has changed: judge all of it again.
            for payload in waiting:
                self.take(question.key, question.named, payload)
            return
        association = self._association
        address = self._choose(question, found)
        source = self._source_for(address)
        if isinstance(source, NoSource):
            self._refuse(
                question.asked, source.reason, rule=question.plan.rule.name, count=len(waiting)
            )
            return
        connection = association.connection_under(
            question.plan, question.asked, address, found.found
        )
        if connection is None:
            association.drop("denied", len(waiting))
            return
        if question.decision.reason == LEARNING:
            self._note_learned(question, connection, found)
        if len(self._routes) >= self._service.limits.udp_peers_max:
            # Those that are in use are soon judged again.
            self._routes.clear()
        self._routes[question.key] = _Route(connection, found, address, question.epoch)
        for payload in waiting:
            connection.on_client_datagram(payload, address)

    def _choose(self, question: _Question, found: Destination) -> SocketAddress:
        """Choose among several addresses: the one in use, else the first that has a route."""
        candidates = [one.socket_address(found.port) for one in interleave(found.dialable)]
        if self._service.policy.network_relations.rules:
            related = [one for one in candidates if not isinstance(self._source_for(one), NoSource)]
            candidates = related or candidates
        before = self._routes.get(question.key)
        if before is not None and before.address in candidates:
            return before.address
        if len({one.family for one in candidates}) > 1:
            for address in candidates:
                try:
                    # Connecting sends nothing: it only asks the kernel for the way.
                    self._service.port.create_datagram_raw(connect=address).close()
                except TransportError:
                    continue
                return address
        return candidates[0]

    def _source_for(self, server: SocketAddress) -> Source | NoSource | None:
        relations = self._service.policy.network_relations
        return find_source(relations, self._association.client_address, server)

    # -- another policy ------------------------------------------------------------------------

    def judge_anew(self) -> None:
        """Judge every destination in use again; what is refused is not heard any more either."""
        association, desk = self._association, self._service.entries
        left: dict[AssociatedConnection, dict[SocketAddress, RulePlan]] = {}
        refusals: dict[AssociatedConnection, str] = {}
        for key, route in list(self._routes.items()):
            found = self._judge_route(route)
            if found.plan is None:
                del self._routes[key]
                refusals[route.connection] = found.why
            else:
                route.epoch = desk.known.epoch
                left.setdefault(route.connection, {})[route.address] = found.plan
        for connection in list(association.connections.values()):
            plans = left.get(connection, {})
            if plans:
                connection.keep_peers(set(plans))
                association.go_on_by(connection, list(plans.values()))
            else:
                reason = refusals.get(connection, "nothing that it was let send to is known")
                connection.end_with(Outcome.REFUSED, f"{REVOKED}{reason}")

    def _judge_route(self, route: _Route) -> Readmission:
        desk, found = self._service.entries, route.destination
        host, port = found.host, found.port
        decision = desk.decide_on(self._association.asker, host, port, "udp")
        rule = decision.rule
        if not decision.is_allowed or rule is None:
            return Readmission(None, decision.reason, rule)
        judgement = desk.resolver.classifier.classify(route.address.ip)
        denials = [decision.judge_alias(host, one, port) for one in found.aliases]
        denials.append(decision.judge_address(host, judgement, port))
        denial = next((one for one in denials if one is not None), None)
        if denial is not None:
            return Readmission(None, denial.reason)
        if isinstance(self._source_for(route.address), NoSource):
            return Readmission(None, NO_NETWORK_RULE)
        return Readmission(self._service.plan_of(rule))

    # -- refusing and forgetting ---------------------------------------------------------------

    def _note_learned(
        self, question: _Question, connection: AssociatedConnection, found: Destination
    ) -> None:
        """Record a destination that no rule speaks of; the first of a connection is in its own."""
        asked = question.asked
        if connection.asked != asked and (asked, LEARNING) not in self._recorded:
            if len(self._recorded) >= self._service.limits.udp_peers_max:
                # To record one twice is better than not at all: this is to be learned from.
                self._recorded.clear()
            self._recorded.add((asked, LEARNING))
            self._service.udp.record_learned(connection, asked, found.found)

    def _refuse(
        self,
        target: str,
        reason: str,
        *,
        rule: str = "",
        count: int = 1,
        found: tuple[str, ...] = (),
    ) -> None:
        """Count a datagram to a refused destination; as many as peers may be had are recorded."""
        association = self._association
        if count:
            association.drop("denied", count)
        recorded_max = self._service.limits.udp_peers_max
        if (target, reason) in self._recorded or len(self._recorded) >= recorded_max:
            return
        self._recorded.add((target, reason))
        self._service.udp.record_destination_refused(association, target, reason, rule, found)

    def _give_up(self, question: _Question, reason: str) -> None:
        if self._questions.get(question.key) is question:
            self._association.drop(reason, len(self._forget_question(question)))

    def _forget_question(self, question: _Question) -> list[bytes]:
        del self._questions[question.key]
        waiting, question.waiting = question.waiting, []
        self._waiting -= len(waiting)
        return waiting

    def forget(self, connection: AssociatedConnection) -> None:
        """Forget what leads to a connection, which has ended."""
        for key in [key for key, it in self._routes.items() if it.connection is connection]:
            del self._routes[key]
        for question in [one for one in self._questions.values() if one.connection is connection]:
            self._give_up(question, "denied")

    def clear(self) -> None:
        """Forget everything: the association ends."""
        self._routes.clear()
        for question in list(self._questions.values()):
            self._give_up(question, "unresolved")
