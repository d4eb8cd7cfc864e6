"""Happy Eyeballs (RFC 8305): the order in which the addresses of one destination are raced.

The gate's race itself is ``gate/dial_race``, by callbacks. The invariant: every address keeps its
judgement, and its place among those of its family.
"""

from __future__ import annotations

from collections.abc import Iterable

from .destination import JudgedAddress

__all__ = ["interleave"]


def interleave(addresses: Iterable[JudgedAddress]) -> list[JudgedAddress]:
    """Order addresses for a race: one family after the other in turn, IPv6 first (section 4).

    Within a family the servers' order stays: they rotate addresses to share load.
    """
    families: dict[int, list[JudgedAddress]] = {6: [], 4: []}
    for one in addresses:
        families[one.judgement.address.version].append(one)
    ordered: list[JudgedAddress] = []
    for rank in range(max(map(len, families.values()))):
        ordered += [family[rank] for family in families.values() if rank < len(family)]
    return ordered
