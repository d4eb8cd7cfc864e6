"""Who may reach what: parsed, compiled, decided, without I/O. This file only re-exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .decision import Decision, decide
    from .delivery import DeliveryChoice, DeliveryMethod, HeldSettings
    from .destinations import DestinationDecision, decide_association, decide_destination
    from .explain import (
        DestinationExplanation,
        Lack,
        PublicationExplanation,
        RuleTrace,
        explain_destination,
        explain_publication,
    )
    from .flood import CompiledFlood, FloodBounds, FloodException, FloodLimits
    from .learn import LearnEntry
    from .model import Policy
    from .network_rules import NetworkRelation, NetworkRule
    from .parse import ParsedPolicy, parse_policy
    from .paths import PathRefused, canonical_path
    from .place import Place
    from .request import DestinationRequest, HttpPart, Level, TransferPart
    from .review import review_policy
    from .rules import (
        ANY_USER,
        GROUP_PREFIX,
        AnyRule,
        Publication,
        Rule,
        RuleAction,
        RuleLimits,
        SendProxyProtocol,
        Targets,
    )
    from .schema import policy_schema
    from .snapshot import PolicySnapshot
    from .sources import find_includes, find_lists
    from .system import SystemPolicy, SystemPurpose, SystemRule
    from .texts import PolicyText, PolicyTexts
    from .transfers import TransferDecision, decide_transfer
else:
    __getattr__ = front(
        __name__,
        decision=("Decision", "decide"),
        delivery=("DeliveryChoice", "DeliveryMethod", "HeldSettings"),
        destinations=("DestinationDecision", "decide_association", "decide_destination"),
        explain=(
            "DestinationExplanation",
            "Lack",
            "PublicationExplanation",
            "RuleTrace",
            "explain_destination",
            "explain_publication",
        ),
        flood=("CompiledFlood", "FloodBounds", "FloodException", "FloodLimits"),
        learn=("LearnEntry",),
        model=("Policy",),
        network_rules=("NetworkRelation", "NetworkRule"),
        parse=("ParsedPolicy", "parse_policy"),
        paths=("PathRefused", "canonical_path"),
        place=("Place",),
        request=("DestinationRequest", "HttpPart", "Level", "TransferPart"),
        review=("review_policy",),
        rules=(
            "ANY_USER",
            "GROUP_PREFIX",
            "AnyRule",
            "Publication",
            "Rule",
            "RuleAction",
            "RuleLimits",
            "SendProxyProtocol",
            "Targets",
        ),
        schema=("policy_schema",),
        snapshot=("PolicySnapshot",),
        sources=("find_includes", "find_lists"),
        system=("SystemPolicy", "SystemPurpose", "SystemRule"),
        texts=("PolicyText", "PolicyTexts"),
        transfers=("TransferDecision", "decide_transfer"),
    )

__all__ = [
    "ANY_USER",
    "GROUP_PREFIX",
    "AnyRule",
    "CompiledFlood",
    "Decision",
    "DeliveryChoice",
    "DeliveryMethod",
    "DestinationDecision",
    "DestinationExplanation",
    "DestinationRequest",
    "FloodBounds",
    "FloodException",
    "FloodLimits",
    "HeldSettings",
    "HttpPart",
    "Lack",
    "LearnEntry",
    "Level",
    "NetworkRelation",
    "NetworkRule",
    "ParsedPolicy",
    "PathRefused",
    "Place",
    "Policy",
    "PolicySnapshot",
    "PolicyText",
    "PolicyTexts",
    "Publication",
    "PublicationExplanation",
    "Rule",
    "RuleAction",
    "RuleLimits",
    "RuleTrace",
    "SendProxyProtocol",
    "SystemPolicy",
    "SystemPurpose",
    "SystemRule",
    "Targets",
    "TransferDecision",
    "TransferPart",
    "canonical_path",
    "decide",
    "decide_association",
    "decide_destination",
    "decide_transfer",
    "explain_destination",
    "explain_publication",
    "find_includes",
    "find_lists",
    "parse_policy",
    "policy_schema",
    "review_policy",
]
