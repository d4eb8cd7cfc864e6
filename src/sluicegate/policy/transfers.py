"""The decision on one transfer: does what the policy says of its connection hold for the object?

The gate asks when a transfer's metadata is there, with what was asked for the connection and the
rule that admitted it. The invariant: the whole policy is asked again, so a rule about content types
decides in its place among the others; what passes has gone through the filters of the rule that
allows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .destinations import DestinationDecision, decide_destination
from .request import DestinationRequest, TransferPart
from .rule_index import RuleIndex
from .rules import Rule

__all__ = ["OTHER_FILTERS", "TransferDecision", "decide_transfer"]

OTHER_FILTERS: Final = "needs-other-filters"
"""A rule allows the object, with other filters than those that its connection went through."""


class TransferDecision:
    """The answer about one object."""

    __slots__ = ("action", "is_allowed", "reason", "rule")

    def __init__(self, *, is_allowed: bool, decision: DestinationDecision, reason: str) -> None:
        self.is_allowed = is_allowed
        self.rule = decision.rule
        #: The rule that decided; None when none did.
        self.action = decision.action
        self.reason = reason


def decide_transfer(
    index: RuleIndex | None,
    request: DestinationRequest,
    transfer: TransferPart,
    admitted: Rule,
    now: float,
) -> TransferDecision:
    """Decide whether an object may pass.

    Args:
        index: The rules of the listener.
        request: What the connection, or the HTTP request, was decided by.
        transfer: What is known of the object.
        admitted: The rule whose filters the connection goes through.
        now: Seconds since the epoch (UTC).
    """
    decision = decide_destination(index, replace(request, transfer=transfer), now)
    rule = decision.rule
    if not decision.is_allowed or rule is None:
        return TransferDecision(is_allowed=False, decision=decision, reason=decision.reason)
    if (rule.filters, rule.settings) == (admitted.filters, admitted.settings):
        return TransferDecision(is_allowed=True, decision=decision, reason=decision.reason)
    return TransferDecision(is_allowed=False, decision=decision, reason=OTHER_FILTERS)
