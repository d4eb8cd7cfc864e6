"""What another policy says of a request that was let in before it came.

``WebConnection`` asks, between two steps of an exchange and when policy has changed. The invariant:
what was found for the host then is what is judged now; nothing is looked up again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.address import NOWHERE
from sluicegate.gate.network_source import is_unrelated
from sluicegate.gate.readmission import Readmission
from sluicegate.policy.network_rules import NO_NETWORK_RULE

from .switching import MAY_NOT_SWITCH

if TYPE_CHECKING:
    from sluicegate.policy import DestinationDecision
    from sluicegate.verdict import Deny

    from .connection import WebConnection
    from .gate_exchange import GateExchange

__all__ = ["judge_found", "judge_request"]


def judge_request(connection: WebConnection, exchange: GateExchange | None) -> Readmission:
    """Say by which rule the present request of a proxy's client would be let in now.

    Args:
        connection: Whose it is.
        exchange: The request; None: there is none, and what was in force stays so.
    """
    target = exchange.target if exchange is not None else None
    if exchange is None or target is None:
        return Readmission(connection.plan)
    found = connection.desk.targets.decide(
        connection.asker, exchange.request, target.host, target.port, is_secure=target.is_secure
    )
    if found.plan is None:
        return Readmission(None, found.decision.reason, found.decision.rule)
    denial = judge_found(connection, exchange, found.decision)
    if denial is not None:
        return Readmission(None, denial.reason)
    relations, server = connection.service.policy.network_relations, connection.server_address
    if server is not NOWHERE and is_unrelated(relations, connection.client_address, server):
        return Readmission(None, NO_NETWORK_RULE)
    found.destination, found.addresses = target.destination, target.addresses
    if not connection.may_go_on_switched(found.plan):
        return Readmission(None, MAY_NOT_SWITCH)
    exchange.target = found
    return Readmission(found.plan)


def judge_found(
    connection: WebConnection, exchange: GateExchange | None, decision: DestinationDecision
) -> Deny | None:
    """Judge what was found for the host of a request by another decision on it.

    Args:
        connection: Whose it is; it says which server was dialled.
        exchange: The request, if there is one.
        decision: The other one.
    """
    target = exchange.target if exchange is not None else None
    if target is None or target.destination is None or connection.server_address is NOWHERE:
        return None
    address = connection.server_address.ip
    if target.parent is not None:
        # It is the parent that was dialled; what was found for the host is what is judged.
        address = target.destination.dialable[0].judgement.address
    judgement = connection.service.entries.resolver.classifier.classify(address)
    for alias in target.destination.aliases:
        denial = decision.judge_alias(target.host, alias, target.port)
        if denial is not None:
            return denial
    return decision.judge_address(target.host, judgement, target.port)
