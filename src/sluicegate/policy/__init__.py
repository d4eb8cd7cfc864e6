"""Who may reach what: parsed, compiled, decided, without I/O. This file only re-exports."""

from .decide import Decision, decide
from .destinations import (
    DestinationDecision,
    DestinationRequest,
    decide_association,
    decide_destination,
)
from .model import AnyRule, Policy, Publication, Rule, SendProxyProtocol
from .parse import parse_policy
from .snapshot import PolicySnapshot

__all__ = [
    "AnyRule",
    "Decision",
    "DestinationDecision",
    "DestinationRequest",
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
