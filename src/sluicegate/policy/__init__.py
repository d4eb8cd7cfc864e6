"""Who may reach what: parsed, compiled, decided, without I/O. This file only re-exports."""

from .decide import Decision, decide
from .destinations import (
    DestinationDecision,
    DestinationRequest,
    decide_association,
    decide_destination,
)
from .flood import CompiledFlood, FloodBounds, FloodException, FloodLimits
from .model import AnyRule, Policy, Publication, Rule, SendProxyProtocol
from .parse import parse_policy
from .snapshot import PolicySnapshot

__all__ = [
    "AnyRule",
    "CompiledFlood",
    "Decision",
    "DestinationDecision",
    "DestinationRequest",
    "FloodBounds",
    "FloodException",
    "FloodLimits",
    "Policy",
    "PolicySnapshot",
    "Publication",
    "Rule",
    "SendProxyProtocol",
    "decide",
    "decide_association",
    "decide_destination",
    "parse_policy",
]
