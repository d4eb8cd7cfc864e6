"""Objections of policy to objects: the rules are asked again when a transfer says what it is.

An ``EntryConnection`` asks for each object that is held on it, before its first byte is kept. The
invariant: an object passes only if the policy in force lets it, by a rule with the filters that its
connection goes through; what says nothing of its type is of none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sluicegate.filterapi import TransferOffer
from sluicegate.policy import DestinationRequest, Rule, TransferPart, decide_transfer
from sluicegate.policy.transfers import JudgeFound

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["objection_of", "shown_by"]


def objection_of(
    service: FirewallService,
    listener_name: str,
    request: DestinationRequest,
    offer: TransferOffer,
    admitted: Rule,
    judge_found: JudgeFound,
) -> str:
    """Return why an object is refused; empty if it is not.

    Args:
        service: Whose policy counts.
        listener_name: Whose rules.
        request: What the connection was decided by.
        offer: What is known of the object.
        admitted: The rule whose filters the connection goes through.
        judge_found: Judges what the connection leads to.
    """
    index = service.policy.rules_of(listener_name)
    part, now = shown_by(offer), service.port.wall
    decision = decide_transfer(index, request, part, admitted, now, judge_found)
    if decision.is_allowed:
        return ""
    rule = decision.rule
    return decision.reason if rule is None else f"{decision.reason} ({rule.name})"


def shown_by(offer: TransferOffer) -> TransferPart:
    """Return what rules about content see of an object.

    Dots and spaces behind a name do not hide its extension, nor does a stream (``:``) or a version
    (``;``): Windows and VMS drop them when they open the file.
    """
    essence = offer.content_type.partition(";")[0].strip().lower()
    found = _EXTENSION.search(offer.name)
    return TransferPart(essence, found[1].lower() if found is not None else "")


_EXTENSION: Final = re.compile(r"(\.[^./\\:; ]+)[. ]*(?:[:;][^/\\]*)?$")
