"""Readmission: by which rule something open would be let in now, and whether it may go on.

``revocation`` asks after every change of policy or of time, for what is open and for what is on its
way. The invariant: nothing goes on by a rule that it would not come in by, and nothing goes on
without a filter that its rule wants.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.policy import AnyRule, Publication, decide
from sluicegate.policy.destinations import ALLOWED_BY_RULE
from sluicegate.policy.learn import LEARNING
from sluicegate.policy.network_rules import NO_NETWORK_RULE

from .network_source import is_unrelated
from .registry import Installed, RulePlan

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = [
    "Readmission",
    "carried",
    "lacking",
    "readmit_client",
    "readmit_stream",
    "reason_of",
    "refused_plan",
]


@dataclass(frozen=True, slots=True)
class Readmission:
    """An answer."""

    plan: RulePlan | None
    """What runs for the rule that lets it in now; None: none does."""
    reason: str = ""
    """Why none does: a reason code of the policy, or what is wrong in words."""
    rule: AnyRule | None = None
    """The rule that refuses it, if one does."""

    @property
    def why(self) -> str:
        """The reason, with the rule."""
        return self.reason if self.rule is None else f"{self.reason} ({self.rule.name})"


def readmit_stream(service: FirewallService, connection: GateConnection) -> Readmission:
    """Judge a connection of a publishing listener, or one that another connection announced."""
    expected = connection.expected
    if expected is None:
        return readmit_client(
            service, connection.listener_name, connection.client_address, connection.plan
        )
    # It came by its primary's rule, and goes by it, also when its primary has ended before.
    primary = expected.primary
    found = primary.judge_anew()
    if found.plan is None:
        return found
    client, server = connection.client_address, connection.server_address
    if is_unrelated(service.policy.network_relations, client, server):
        return Readmission(None, NO_NETWORK_RULE)
    denial = primary.judge_target(connection.server_address)
    return found if denial is None else Readmission(None, denial.reason)


def readmit_client(
    service: FirewallService, listener: str, client: SocketAddress, plan: RulePlan
) -> Readmission:
    """Judge a client of a publishing listener, by what the listener publishes now."""
    decision = decide(service.policy, listener, client, service.port.wall)
    publication = decision.publication
    if publication is None:
        return Readmission(None, decision.reason)
    if is_unrelated(service.policy.network_relations, client, publication.server):
        return Readmission(None, NO_NETWORK_RULE, publication)
    before = plan.rule
    if isinstance(before, Publication) and before.server != publication.server:
        # What it leads to is published no more, at least not here and to this client.
        return Readmission(None, f"it leads to {publication.server} now", publication)
    if isinstance(before, Publication) and before.is_http != publication.is_http:
        return Readmission(None, "its bytes are read in another way now", publication)
    if isinstance(before, Publication) and before.server_tls != publication.server_tls:
        return Readmission(None, "its server is spoken to in another way now", publication)
    return Readmission(service.plan_of(publication))


def lacking(before: RulePlan, after: RulePlan) -> str:
    """Say what a rule wants that what runs for a connection has not; empty if nothing.

    Args:
        before: What runs for the connection.
        after: What runs for new connections of the rule that lets it in now.
    """
    if after.blocked:
        return after.blocked
    if after.must_inspect and not before.must_inspect:
        return "its content has to be inspected now"
    if after.counts_bodies and not before.counts_bodies:
        return "its bytes are to be counted now"
    for name in after.names:
        if name not in before.names:
            return f"the filter {name} is wanted now"
        if before.settings.get(name, {}) != after.settings.get(name, {}):
            return f"the filter {name} has other settings now"
    return ""


def carried(before: RulePlan, after: RulePlan) -> RulePlan:
    """Return what goes on for a connection that another rule lets in: the same, in its name.

    The filters that run are those that the connection came by: of these, a reload may have
    installed others under the same names, or the rule may not want them all any more.
    """
    same = zip(_installed(before), _installed(after), strict=False)
    if before.names == after.names and all(one is other for one, other in same):
        return after
    return dataclasses.replace(before, rule=after.rule, policy_hash=after.policy_hash)


def reason_of(plan: RulePlan) -> str:
    """Return the reason code of what a rule of a proxy lets in, or learning does."""
    return LEARNING if plan.rule.name.startswith(LEARNED_BY) else ALLOWED_BY_RULE


def refused_plan(before: RulePlan, rule: AnyRule | None, policy_hash: str) -> RulePlan:
    """Return what ran for a connection that a policy refuses before it was let in by another one.

    Its decision is then recorded as the policy's that refuses it.
    """
    return dataclasses.replace(before, rule=rule or _NO_RULE, policy_hash=policy_hash)


def _installed(plan: RulePlan) -> list[Installed]:
    found = [step.installed for step in plan.events]
    found += [step.installed for step in plan.connection]
    found += [step.installed for step in plan.content]
    return [*found, *(step.installed for step in plan.web)]


LEARNED_BY: Final = "learn:"
"""Before the name of an entry, in the name of the rule that stands for it."""

_NO_RULE: Final = Publication("", "", SocketAddress("0.0.0.0", 0), ())  # noqa: S104 - it leads nowhere
"""Stands for the rule where none decided."""
