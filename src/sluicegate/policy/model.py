"""The policy as an operator means it: everything that ``policy.toml`` says, nothing else allowed.

``parse`` makes it from texts, ``snapshot`` compiles it; each kind of entry has a file of its own.
The invariant: the order of rules is the order in which they are tried, included files in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .flood import FloodLimits
from .learn import LearnEntry
from .network_rules import NetworkRule
from .rules import AnyRule, Publication, Rule
from .system import SystemPolicy

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All rules, in the order in which they are tried; what none of them names is refused."""

    publications: tuple[Publication, ...] = ()
    rules: tuple[Rule, ...] = ()
    allows_underscores: bool = False
    """Whether names that clients and rules write may have underscores."""
    flood: FloodLimits = field(default_factory=FloodLimits)
    """What one client address may ask of the gate."""
    network_rules: tuple[NetworkRule, ...] = ()
    system: SystemPolicy = field(default_factory=SystemPolicy)
    learn: tuple[LearnEntry, ...] = ()

    @property
    def all_rules(self) -> tuple[AnyRule, ...]:
        """Publications and rules: their names are one space."""
        return (*self.publications, *self.rules)

    @property
    def planned_rules(self) -> tuple[AnyRule, ...]:
        """Whatever a connection may be admitted by: rules, and what passes to be learned from."""
        return (*self.publications, *self.rules, *(entry.rule for entry in self.learn))
