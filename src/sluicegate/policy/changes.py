"""Changes: what distinguishes one policy from another, by the names of its rules.

``app`` records it with every reload that puts another policy in force. The invariant: what can
change a decision is named, and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from .canonical import canonical_rules, canonical_tables
from .model import Policy

__all__ = ["PolicyChanges", "compare_policies"]


@dataclass(frozen=True, slots=True)
class PolicyChanges:
    """Names of rules and publications, in the order of the policy that has them."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Something else stands in them now; ``[flood]`` stands for that table, and so on."""
    moved: tuple[str, ...] = ()
    """They stand behind one that they stood before, or were moved in front of others: the first
    that matches decides, so that may mean something."""


def compare_policies(before: Policy, after: Policy) -> PolicyChanges:
    """Compare two policies rule by rule; owners and comments decide nothing."""
    old, new = canonical_rules(before), canonical_rules(after)
    tables = canonical_tables(before), canonical_tables(after)
    stayed = [name for name in new if name in old]
    return PolicyChanges(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=(
            *(name for name in stayed if old[name] != new[name]),
            *(f"[{name}]" for name, table in tables[0].items() if table != tables[1][name]),
        ),
        moved=_moved([name for name in old if name in new], stayed),
    )


def _moved(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """Return the fewest names that must have moved: all but a longest common order."""
    place = {name: index for index, name in enumerate(before)}
    # Patience: the ends of the best runs so far, and for each name the one before it in its run.
    ends: list[int] = []
    names: list[str] = []
    previous: dict[str, str] = {}
    for name in after:
        at = bisect_left(ends, place[name])
        if at:
            previous[name] = names[at - 1]
        ends[at : at + 1] = [place[name]]
        names[at : at + 1] = [name]
    kept: set[str] = set()
    last = names[-1] if names else None
    while last is not None:
        kept.add(last)
        last = previous.get(last)
    return tuple(name for name in after if name not in kept)
