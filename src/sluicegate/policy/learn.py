"""Learning: for a bounded time, what no rule speaks of passes for chosen clients, on the record.

``destinations`` asks when no rule matched. The invariant: an entry only turns the silence of the
rules into a yes; it never turns a no of a rule, or of a judgement of addresses, into one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sluicegate.address import IpNetwork

from .rules import Rule, RuleAction, Targets

__all__ = ["LEARNING", "LearnEntry"]

LEARNING: Final = "learning"
"""No rule speaks of it, and it passes to be learned from."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnEntry:
    """One ``[[learn]]``."""

    name: str
    clients: tuple[IpNetwork, ...]
    until: float
    """Seconds since the epoch (UTC); from then on it does nothing."""
    listeners: tuple[str, ...] | None = None
    """None: every proxy listener."""
    owner: str = ""
    comment: str = ""
    rule: Rule = field(init=False)
    """What passes by it, as a rule: connections are planned and recorded under its name."""

    def __post_init__(self) -> None:
        """Make the rule: no rule of an operator can have its name."""
        rule = Rule(
            name=f"learn:{self.name}",
            action=RuleAction.ALLOW,
            listeners=self.listeners,
            clients=self.clients,
            to=Targets(is_everything=True),
            expires=self.until,
            owner=self.owner,
            comment=self.comment,
        )
        object.__setattr__(self, "rule", rule)
