"""OfflineGate: as much of a gate as answers questions, made of an operator's files.

``explain``, ``why`` and ``simulate`` ask it. It decides with the functions that the gate decides
with, on the same settings; it listens to nobody and dials nothing. The invariant: nothing is looked
up for a name that the policy refuses, and nothing at all unless ``find`` is called.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.app.load import Loaded
from sluicegate.clock import SystemClock
from sluicegate.filterapi import User
from sluicegate.gate.own_listeners import OwnListeners
from sluicegate.names import AddressClassifier, Destination, Unresolved
from sluicegate.names.resolver import Resolver
from sluicegate.policy import (
    AnyRule,
    DestinationDecision,
    DestinationExplanation,
    DestinationRequest,
    Level,
    NetworkRule,
    PublicationExplanation,
    decide,
    decide_association,
    decide_destination,
    explain_destination,
    explain_publication,
)
from sluicegate.policy.decision import CLIENT_NOT_LISTED
from sluicegate.policy.destinations import NO_RULE
from sluicegate.policy.network_rules import NO_NETWORK_RULE

from .asked import Asked

__all__ = ["Decided", "OfflineGate"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a gate with these files answers."""

    is_allowed: bool
    reason: str
    rule: AnyRule | None = None
    """That decided; None when none did."""
    destination: DestinationDecision | None = None
    """Judges what a name leads to."""
    found: Destination | Unresolved | None = None
    """What the host led to; None: nothing was looked up."""


class OfflineGate:
    """Answers what a gate with some files would.

    Args:
        loaded: The files.
    """

    def __init__(self, loaded: Loaded) -> None:
        settings = loaded.settings
        self.loaded = loaded
        self.policy = settings.policy
        self.entries = {one.name: one.entry for one in settings.listeners}
        #: Per listener, what it takes from clients that name destinations; None: it publishes.
        own = [one.address for one in settings.listeners]
        self._own = OwnListeners([*own, *settings.own_services])
        self._classifier = AddressClassifier(settings.own_addresses, settings.nat64_prefixes)
        self._resolver = Resolver(
            settings.resolver, SystemClock(), settings.limits, classifier=self._classifier
        )
        self.has_groups = any(
            user.startswith("group:")
            for rule in settings.policy.policy.rules
            for user in rule.users or ()
        )
        #: Whether it matters to any rule which groups a user is in.

    def find_user(self, name: str) -> User | None:
        """Return a user of the users file; None: it has no such user."""
        known = self.loaded.settings.users.find(name.encode("utf-8", "surrogateescape"))
        return None if known is None else User(known.name, known.groups, "password")

    def is_proxy(self, listener: str) -> bool:
        """Tell whether clients of a listener name their destinations."""
        return self.entries.get(listener) is not None

    def hears(self, listener: str, client: SocketAddress) -> bool:
        """Tell whether a proxy listener hears what a client wants: some rule names the client."""
        index = self.policy.rules_of(listener)
        return index is not None and index.clients.covers(client.ip)

    def decide(self, asked: Asked) -> Decided:
        """Decide as a gate would, with what is known of the addresses."""
        if not self.is_proxy(asked.listener):
            decision = decide(self.policy, asked.listener, asked.client, asked.at)
            return self._of_publication(
                asked, decision.allowed, decision.reason, decision.publication
            )
        index = self.policy.rules_of(asked.listener)
        if index is None:
            return Decided(False, NO_RULE)
        if not self.hears(asked.listener, asked.client):
            return Decided(False, CLIENT_NOT_LISTED)
        if asked.protocol == "associate":
            rule, reason = decide_association(index, asked.client.ip, asked.user, asked.at)
            return Decided(rule is not None, reason, rule)
        decided = decide_destination(index, _request_of(asked), asked.at, self._is_own)
        return self._judge(asked, decided)

    def explain(
        self, asked: Asked
    ) -> tuple[Decided, DestinationExplanation | PublicationExplanation]:
        """Decide as ``decide`` does, by weighing every rule, and say why."""
        if not self.is_proxy(asked.listener):
            told = explain_publication(self.policy, asked.listener, asked.client, asked.at)
            answer = told.decision
            decided = self._of_publication(asked, answer.allowed, answer.reason, answer.publication)
            return decided, told
        index = self.policy.rules_of(asked.listener)
        explained = explain_destination(index, _request_of(asked), asked.at, self._is_own)
        if index is not None and not index.clients.covers(asked.client.ip):
            return Decided(False, CLIENT_NOT_LISTED), explained
        return self._judge(asked, explained.decision), explained

    async def find(self, asked: Asked, decided: Decided) -> Decided:
        """Look the destination up with the gate's own resolver, and judge what is found.

        A name that is refused is not looked up.
        """
        if asked.host is None or decided.destination is None or not decided.is_allowed:
            return decided
        try:
            found = await self._resolver.resolve(asked.host, asked.port, decided.destination)
        finally:
            await self._resolver.close()
        return self._with_found(asked, decided.destination, found)

    def find_relation(self, asked: Asked, server: IpAddress) -> NetworkRule | None:
        """Return the network rule about a client and an address that would be dialled for it."""
        return self.policy.network_relations.find(asked.client.ip, server)

    # -- private -------------------------------------------------------------------------------

    def _is_own(self, address: IpAddress, port: int) -> bool:
        return self._own.has(address, port, self._classifier)

    def _of_publication(
        self, asked: Asked, allowed: bool, reason: str, publication: AnyRule | None
    ) -> Decided:
        server = getattr(publication, "server", None)
        if allowed and server is not None and not self._is_related(asked, server.ip):
            return Decided(False, NO_NETWORK_RULE, publication)
        return Decided(allowed, reason, publication)

    def _judge(self, asked: Asked, decision: DestinationDecision) -> Decided:
        """Judge the address that was named, or those that were found for the name."""
        if asked.host is None or not decision.is_allowed or asked.protocol == "associate":
            return Decided(decision.is_allowed, decision.reason, decision.rule, decision)
        found: Destination | Unresolved | None = None
        if asked.host.is_address:
            found = self._resolver.resolve_now(asked.host, asked.port, decision)
        elif asked.addresses is not None:
            found = self._resolver.judge_given(asked.host, asked.port, decision, asked.addresses)
        return self._with_found(asked, decision, found)

    def _with_found(
        self, asked: Asked, decision: DestinationDecision, found: Destination | Unresolved | None
    ) -> Decided:
        rule = decision.rule
        if isinstance(found, Unresolved):
            reason = f"{found.reason}: {found.detail}" if found.detail else str(found.reason)
            return Decided(False, reason, rule, decision, found)
        if found is not None and not any(
            self._is_related(asked, one.judgement.address) for one in found.dialable
        ):
            return Decided(False, NO_NETWORK_RULE, rule, decision, found)
        return Decided(True, decision.reason, rule, decision, found)

    def _is_related(self, asked: Asked, server: IpAddress) -> bool:
        relations = self.policy.network_relations
        return not relations.are_written or relations.find(asked.client.ip, server) is not None


def _request_of(asked: Asked) -> DestinationRequest:
    assert asked.host is not None, "clients of a proxy name a destination"
    return DestinationRequest(
        asked.client.ip,
        asked.host,
        asked.port,
        asked.user,
        asked.protocol,
        asked.http,
        asked.transfer,
        # As a gate does, which asks about the object when the answer comes.
        Level.TRANSFER if asked.is_web_request else Level.NONE,
        is_tunnel=not (asked.is_web_request or asked.http or asked.transfer),
    )
