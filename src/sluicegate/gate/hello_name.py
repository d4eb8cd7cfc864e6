"""Whether the name in a ClientHello leads to the address that its client named.

``hello_check`` makes one for a client that came to the gate with an address in its hand: the rules
have to allow the name as well, and the gate's own resolver has to find the address for it. The
invariant: a name that is not allowed is not looked up, and what was found is judged by the policy
in force when the hello goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.names import CanonicalHost, Destination, Unresolved
from sluicegate.policy import Rule
from sluicegate.policy.tls_check import (
    SNI_ELSEWHERE,
    SNI_NOT_ALLOWED,
    HelloFacts,
    TlsCheck,
    judge_hello,
)
from sluicegate.policy.tls_opening import TlsMode

from .asker import Asker
from .readmission import lacking

if TYPE_CHECKING:
    from sluicegate.policy import DestinationDecision

    from .connection import GateConnection

__all__ = ["HelloName"]


class HelloName:
    """The name in one hello, and what became of it."""

    __slots__ = ("_connection", "_facts", "_found", "_host", "_refusal")

    def __init__(self, connection: GateConnection, host: CanonicalHost, facts: HelloFacts) -> None:
        self._connection = connection
        self._host = host
        self._facts = facts
        self._found: Destination | Unresolved | None = None
        self._refusal = ""
        #: Why it is not even looked up.

    def begin(self) -> None:
        """Decide on the name, and look it up if it is allowed."""
        connection = self._connection
        service, session = connection.firewall, connection.session
        decision = self._decide()
        self._refusal = self._object_to(decision)
        if self._refusal:
            return
        resolver = service.entries.resolver
        self._found = resolver.resolve_now(self._host, connection.named_port, decision)
        if self._found is not None:
            return
        if session.lookups >= service.limits.lookups_per_client_max:
            self._refusal = f"{SNI_ELSEWHERE}: limit lookups_per_client_max"
            return
        session.lookups += 1
        service.spawn(self._look_up(decision))

    async def _look_up(self, decision: DestinationDecision) -> None:
        connection = self._connection
        resolver = connection.firewall.entries.resolver
        try:
            self._found = await resolver.resolve(self._host, connection.named_port, decision)
        finally:
            connection.session.lookups -= 1
            if self._found is None:
                self._refusal = f"{SNI_ELSEWHERE}: the lookup failed"

    @property
    def is_known(self) -> bool:
        """Whether nothing is on its way any more."""
        return bool(self._refusal) or self._found is not None

    def refusal(self) -> str:
        """Say why the hello may not go on, as rules are now; empty if it may."""
        if self._refusal:
            return self._refusal
        decision, found, connection = self._decide(), self._found, self._connection
        objection = self._object_to(decision)
        if objection:
            return objection
        if found is None or isinstance(found, Unresolved):
            why = "" if found is None else f": {self._host} {found.reason}"
            return f"{SNI_ELSEWHERE}{why}"
        address = connection.server_address.ip
        if not any(one.judgement.address == address for one in found.dialable):
            return f"{SNI_ELSEWHERE}: {self._host}"
        port = connection.named_port
        judgement = connection.firewall.entries.resolver.classifier.classify(address)
        denial = decision.judge_address(self._host, judgement, port)
        for alias in found.aliases:
            denial = denial or decision.judge_alias(self._host, alias, port)
        return "" if denial is None else f"{SNI_NOT_ALLOWED}: {denial.reason}"

    def _decide(self) -> DestinationDecision:
        connection = self._connection
        asker = Asker(
            connection.listener_name, connection.client_address, connection.session.rules_user
        )
        return connection.firewall.entries.decide_on(asker, self._host, connection.named_port)

    def _object_to(self, decision: DestinationDecision) -> str:
        """Say what is wrong with the name itself: no rule allows it, or one wants more."""
        connection, rule = self._connection, decision.rule
        if not decision.is_allowed or rule is None:
            return f"{SNI_NOT_ALLOWED}: {self._host} {decision.reason}"
        assert isinstance(rule, Rule), "publications are for other listeners"
        wanted = lacking(connection.plan, connection.firewall.plan_of(rule))
        if wanted:
            return f"{SNI_NOT_ALLOWED}: {self._host}, by rule {rule.name}: {wanted}"
        check, port = rule.tls, connection.named_port
        wanted_mode, mode = _mode(check, self._host, port), self._mode_here()
        if wanted_mode is not mode:
            named = f"{self._host}, by rule {rule.name}"
            return f"{SNI_NOT_ALLOWED}: {named}: its TLS is for {wanted_mode}, here it is {mode}"
        if check is not None and check.covers(port):
            return judge_hello(check, self._facts, self._host).reason
        return ""

    def _mode_here(self) -> TlsMode:
        """Return what becomes of TLS with the host by the rule that its connection came by."""
        connection = self._connection
        return _mode(connection.plan.tls, self._host, connection.named_port)


def _mode(check: TlsCheck | None, host: CanonicalHost, port: int) -> TlsMode:
    return TlsMode.SPLICE if check is None else check.mode_for(host, port)
