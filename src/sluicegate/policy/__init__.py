"""Who may reach what: parsed, compiled, decided, without I/O. This file only re-exports."""

from .decide import Decision, decide
from .destinations import (
    DestinationDecision,
    DestinationRequest,
    decide_association,
    decide_destination,
)
from .flood import CompiledFlood, FloodBounds, FloodException, FloodLimits
from .learn import LearnEntry
from .model import Policy
from .network_rules import NetworkRelation, NetworkRule
from .parse import ParsedPolicy, parse_policy
from .place import Place
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
from .snapshot import PolicySnapshot
from .sources import PolicyText, PolicyTexts, find_includes, find_lists
from .system import SystemPolicy, SystemPurpose, SystemRule

__all__ = [
    "ANY_USER",
    "GROUP_PREFIX",
    "AnyRule",
    "CompiledFlood",
    "Decision",
    "DestinationDecision",
    "DestinationRequest",
    "FloodBounds",
    "FloodException",
    "FloodLimits",
    "LearnEntry",
    "NetworkRelation",
    "NetworkRule",
    "ParsedPolicy",
    "Place",
    "Policy",
    "PolicySnapshot",
    "PolicyText",
    "PolicyTexts",
    "Publication",
    "Rule",
    "RuleAction",
    "RuleLimits",
    "SendProxyProtocol",
    "SystemPolicy",
    "SystemPurpose",
    "SystemRule",
    "Targets",
    "decide",
    "decide_association",
    "decide_destination",
    "find_includes",
    "find_lists",
    "parse_policy",
]
