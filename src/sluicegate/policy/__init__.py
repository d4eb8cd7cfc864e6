"""Who may reach what: parsed, compiled, decided, without I/O. This file only re-exports."""

from .decide import Decision, decide
from .model import Policy, Publication, SendProxyProtocol
from .parse import parse_policy
from .snapshot import PolicySnapshot

__all__ = [
    "Decision",
    "Policy",
    "PolicySnapshot",
    "Publication",
    "SendProxyProtocol",
    "decide",
    "parse_policy",
]
