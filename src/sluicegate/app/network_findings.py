"""What is wrong with network rules on this machine: addresses it has not, rights it has not.

``load`` asks. The invariant: a rule that cannot work here is said to be so before a client waits
for it; and a reload never puts rules in force whose right was given up at the start.
"""

from __future__ import annotations

from typing import Final

from sluicegate.documents import Findings
from sluicegate.errors import ConfigError
from sluicegate.policy import ParsedPolicy, PolicySnapshot

from .interfaces import interface_addresses
from .privileges import NET_ADMIN, has_capability

__all__ = ["NO_RIGHT_TO_ROUTE", "check_network_rules", "lacks_right_to_route"]

NO_RIGHT_TO_ROUTE: Final = (
    'network rules with relation = "route" need CAP_NET_ADMIN, which the gate has not: what they '
    "are about is refused (start the gate as root with a user, or see docs: keep-client-addresses)"
)


def lacks_right_to_route(policy: PolicySnapshot) -> bool:
    """Tell whether a policy has rules that this process cannot follow."""
    return policy.network_relations.has_routes and not has_capability(NET_ADMIN)


def check_network_rules(
    parsed: ParsedPolicy,
    snapshot: PolicySnapshot,
    before: PolicySnapshot | None,
    findings: Findings,
) -> None:
    """Find what cannot work.

    Args:
        parsed: Where the rules stand.
        snapshot: What is to be put in force.
        before: What is in force in this process; None at a start, and for ``check``.
        findings: Where it goes.
    """
    rules = parsed.policy.network_rules
    if any(rule.address is not None for rule in rules):
        _check_addresses(parsed, findings)
    had_routes = before is None or before.network_relations.has_routes
    if not had_routes and lacks_right_to_route(snapshot):
        findings.refuse(
            "[[network_rule]]",
            'relation = "route" is new: the right that it needs (CAP_NET_ADMIN) was given up '
            "at the start, where no rule needed it",
            "restart the gate (sluicegate stop, then start it, or: systemctl restart)",
        )


def _check_addresses(parsed: ParsedPolicy, findings: Findings) -> None:
    try:
        own = interface_addresses()
    except ConfigError as error:
        findings.errors.append(error)
        return
    for rule, place in zip(parsed.policy.network_rules, parsed.network_rules_at, strict=True):
        if rule.address is not None and rule.address not in own:
            place.warn(
                ("address",),
                f"this machine does not have {rule.address}: what the rule is about cannot be "
                "dialled",
                "add the address to an interface, or name one of: "
                + ", ".join(str(one) for one in own[:8]),
            )
