"""The decision on one transfer: does what the policy says of its connection hold for the object?

The gate asks when a transfer's metadata is there, with what was asked for the connection and the
rule that admitted it. The invariant: the whole policy is asked again, also about what the host's
name led to, so a rule about content types decides in its place among the others; what passes has
gone through the filters of the rule that allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from sluicegate.verdict import Deny

from .destinations import DestinationDecision, decide_destination
from .request import DestinationRequest, TransferPart
from .rule_index import RuleIndex
from .rules import Rule, RuleAction

__all__ = ["OTHER_FILTERS", "JudgeFound", "TransferDecision", "decide_transfer"]

JudgeFound: TypeAlias = Callable[[DestinationDecision], Deny | None]
"""Holds what was found for the host, its aliases and the address in use, against a decision."""

OTHER_FILTERS: Final = "needs-other-filters"
"""A rule allows the object, with other filters than those that its connection went through."""


class TransferDecision:
    """The answer about one object."""

    __slots__ = ("action", "is_allowed", "reason", "rule")

    def __init__(
        self, *, is_allowed: bool, rule: Rule | None, action: RuleAction, reason: str
    ) -> None:
        self.is_allowed = is_allowed
        self.rule = rule
        #: The rule that decided; None when none did, or when ``reason`` names it.
        self.action = action
        self.reason = reason


def decide_transfer(
    index: RuleIndex | None,
    request: DestinationRequest,
    transfer: TransferPart,
    admitted: Rule,
    now: float,
    judge_found: JudgeFound = lambda _decision: None,
) -> TransferDecision:
    """Decide whether an object may pass.

    Args:
        index: The rules of the listener.
        request: What the connection, or the HTTP request, was decided by.
        transfer: What is known of the object.
        admitted: The rule whose filters the connection goes through.
        now: Seconds since the epoch (UTC).
        judge_found: Judges what the connection leads to: rules that refuse hold for that too.
    """
    decision = decide_destination(index, replace(request, transfer=transfer), now)
    rule, action, reason = decision.rule, decision.action, decision.reason
    is_allowed = decision.is_allowed and rule is not None
    if is_allowed and rule is not None:
        denial = judge_found(decision)
        if denial is not None:
            is_allowed, rule, action, reason = False, None, RuleAction.DENY, denial.reason
        elif (rule.filters, rule.settings) != (admitted.filters, admitted.settings):
            is_allowed, reason = False, OTHER_FILTERS
    return TransferDecision(is_allowed=is_allowed, rule=rule, action=action, reason=reason)
