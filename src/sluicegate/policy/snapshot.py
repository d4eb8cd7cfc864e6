"""The policy in force: compiled for decisions, immutable, named by its hash.

``app`` compiles one per reload, the gate swaps it whole. The invariant: the hash covers all that
can change a decision or what a filter does, and nothing else, so equal hashes decide alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from sluicegate.address import SocketAddress

from .canonical import canonical
from .compiled_rule import Shows
from .conditions import ConditionPool
from .flood import CompiledFlood
from .model import Policy
from .network_rules import NetworkRelations
from .publications import CompiledPublication, Ranges
from .rule_index import RuleIndex
from .rules import Publication

__all__ = ["PolicySnapshot"]


class PolicySnapshot:
    """One compiled policy; lives until the next reload has replaced it everywhere.

    Args:
        policy: What the operator wrote.
        shows: Per installed filter, what it will ask about again: rules whose conditions a
            connection does not show may rely on that.
    """

    __slots__ = (
        "_compiled",
        "_index_of_others",
        "_indexes",
        "_ranges",
        "flood",
        "hash",
        "network_relations",
        "policy",
        "publications_by_listener",
    )

    def __init__(self, policy: Policy, shows: Shows | None = None) -> None:
        self.policy = policy
        self.hash = hashlib.sha256(canonical(policy)).hexdigest()
        #: SHA-256 of the canonical form, hexadecimal.
        self.flood = CompiledFlood(policy.flood)
        self.network_relations = NetworkRelations(policy.network_rules)
        compiled: dict[str, list[CompiledPublication]] = {}
        for publication in policy.publications:
            of_listener = compiled.setdefault(publication.listener, [])
            of_listener.append(CompiledPublication(publication))
        self._compiled = {name: tuple(found) for name, found in compiled.items()}
        self.publications_by_listener: Mapping[str, tuple[Publication, ...]] = MappingProxyType(
            {
                name: enabled
                for name, found in compiled.items()
                if (enabled := tuple(_enabled(found)))
            }
        )
        #: Those that are enabled, in policy order.
        self._ranges = {
            name: (Ranges(found, 4), Ranges(found, 6)) for name, found in compiled.items()
        }
        pool = ConditionPool()
        written = [
            *(one.listeners for one in policy.rules),
            *(one.listeners for one in policy.learn),
        ]
        named = {name for listeners in written for name in listeners or ()}
        self._indexes = {name: _index(policy, name, shows, pool) for name in sorted(named)}
        self._index_of_others = _index(policy, None, shows, pool)

    def rules_of(self, listener: str) -> RuleIndex | None:
        """Return the rules about what clients of a proxy listener name; None: there are none."""
        return self._indexes.get(listener, self._index_of_others)

    def find(self, listener: str, client: SocketAddress) -> tuple[CompiledPublication, ...]:
        """Return the publications of a listener that may be for a client, in order."""
        ranges = self._ranges.get(listener)
        if ranges is None:
            return ()
        packed = client.packed()
        if ":" in client.host:
            return ranges[1].find(packed[8:24])
        return ranges[0].find(packed[4:8])

    def compiled_publications(self, listener: str) -> tuple[CompiledPublication, ...]:
        """Return all publications of a listener, in order, those that are not enabled too."""
        return self._compiled.get(listener, ())

    def next_change(self, now: float) -> float:
        """Return the next instant at which a decision may change by itself.

        Until then whatever was decided at ``now`` would be decided again; infinity: for ever.
        """
        return min(self._changes(now), default=math.inf)

    def unreachable(self) -> Iterable[Publication]:
        """Return the publications that never match, because earlier ones cover their clients."""
        for name, (narrow, wide) in self._ranges.items():
            reached = narrow.reached() | wide.reached()
            for publication in self.publications_by_listener.get(name, ()):
                if publication.name not in reached:
                    yield publication

    def _changes(self, now: float) -> Iterator[float]:
        for one in self.policy.planned_rules:
            if one.is_enabled:
                if one.expires is not None and one.expires > now:
                    yield one.expires
                if one.schedule is not None:
                    yield one.schedule.until(now)


def _enabled(compiled: Iterable[CompiledPublication]) -> Iterator[Publication]:
    return (one.publication for one in compiled if one.publication.is_enabled)


def _index(
    policy: Policy, listener: str | None, shows: Shows | None, pool: ConditionPool
) -> RuleIndex | None:
    """Compile the rules of a listener; None stands for those that no rule names."""
    rules = [one for one in policy.rules if one.listeners is None or listener in one.listeners]
    learn = [one for one in policy.learn if one.listeners is None or listener in one.listeners]
    if not learn and not any(one.is_enabled for one in rules):
        return None
    return RuleIndex(rules, learn, shows, pool)
