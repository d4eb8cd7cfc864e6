"""The policy in force: compiled for decisions, immutable, named by its hash.

``app`` compiles one per reload, the gate swaps it whole. The invariant: the hash covers all that
can change a decision or what a filter does, and nothing else, so equal hashes decide alike.

The clients of a listener's publications are flattened into disjoint ranges: the first bytes of each
range in order, and beside each the first publication that covers it. A decision is then one binary
search, whatever the number of rules. Addresses are compared as bytes in network order.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sluicegate.address import IpNetwork, SocketAddress

from .canonical import canonical
from .flood import CompiledFlood
from .model import Policy
from .rule_index import RuleIndex
from .rules import Publication

__all__ = ["PolicySnapshot", "Ranges"]


class Ranges:
    """The clients of one listener in one address family: who gets which publication."""

    __slots__ = ("_publications", "_starts", "_width")

    def __init__(self, publications: Sequence[Publication], version: int) -> None:
        self._width = _WIDTHS[version]
        covering = [
            (network, order)
            for order, publication in enumerate(publications)
            for network in publication.clients
            if network.version == version
        ]
        self._starts: list[bytes] = []
        self._publications: list[Publication | None] = []
        for start, order in _flatten(covering):
            if start < 1 << (self._width * 8):
                self._starts.append(start.to_bytes(self._width, "big"))
                self._publications.append(None if order is None else publications[order])

    def find(self, address: bytes) -> Publication | None:
        """Return the first publication that covers a packed address."""
        index = bisect_right(self._starts, address) - 1
        return self._publications[index] if index >= 0 else None

    def winners(self) -> set[str]:
        """Return the names of the publications that some address gets."""
        return {found.name for found in self._publications if found is not None}


class PolicySnapshot:
    """One compiled policy; lives until the next reload has replaced it everywhere."""

    __slots__ = (
        "_index_of_others",
        "_indexes",
        "_ranges",
        "flood",
        "hash",
        "policy",
        "publications_by_listener",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.hash = hashlib.sha256(canonical(policy)).hexdigest()
        #: SHA-256 of the canonical form, hexadecimal.
        self.flood = CompiledFlood(policy.flood)
        by_listener: dict[str, list[Publication]] = {}
        for publication in policy.publications:
            by_listener.setdefault(publication.listener, []).append(publication)
        self.publications_by_listener: Mapping[str, tuple[Publication, ...]] = MappingProxyType(
            {name: tuple(found) for name, found in by_listener.items()}
        )
        #: In policy order.
        named = {name for rule in policy.rules for name in rule.listeners or ()}
        self._indexes = {name: self._index(name) for name in named}
        self._index_of_others = self._index(None)
        self._ranges = {
            name: (Ranges(found, 4), Ranges(found, 6)) for name, found in by_listener.items()
        }

    def rules_of(self, listener: str) -> RuleIndex | None:
        """Return the rules about what clients of a proxy listener name; None: there are none."""
        return self._indexes.get(listener, self._index_of_others)

    def _index(self, listener: str | None) -> RuleIndex | None:
        """Compile the rules of a listener; None stands for those that no rule names."""
        rules = [
            rule
            for rule in self.policy.rules
            if rule.is_enabled and (rule.listeners is None or listener in rule.listeners)
        ]
        return RuleIndex(rules) if rules else None

    def find(self, listener: str, client: SocketAddress) -> Publication | None:
        """Return the first publication of a listener that names the client."""
        ranges = self._ranges.get(listener)
        if ranges is None:
            return None
        packed = client.packed()
        if ":" in client.host:
            return ranges[1].find(packed[8:24])
        return ranges[0].find(packed[4:8])

    def unreachable(self) -> Iterable[Publication]:
        """Return the publications that never match, because earlier ones cover their clients."""
        for name, (narrow, wide) in self._ranges.items():
            winners = narrow.winners() | wide.winners()
            for publication in self.publications_by_listener[name]:
                if publication.name not in winners:
                    yield publication


_WIDTHS: Final = {4: 4, 6: 16}


def _flatten(covering: list[tuple[IpNetwork, int]]) -> Iterable[tuple[int, int | None]]:
    """Yield the start of each range and the order of the rule that wins in it, None for none."""
    networks = sorted(
        (int(network.network_address), int(network.broadcast_address) + 1, order)
        for network, order in covering
    )
    borders = sorted({border for start, end, _ in networks for border in (start, end)})
    active: list[tuple[int, int]] = []  # a heap of (order, end)
    following = 0
    previous: int | None = None
    for border in borders:
        while following < len(networks) and networks[following][0] == border:
            start, end, order = networks[following]
            assert start == border, "networks are taken in the order of their starts"
            heapq.heappush(active, (order, end))
            following += 1
        while active and active[0][1] <= border:
            heapq.heappop(active)
        winner = active[0][0] if active else None
        if winner != previous:
            yield border, winner
            previous = winner
