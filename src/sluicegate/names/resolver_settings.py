"""ResolverSettings: what an operator chooses about lookups.

Configurations have it; ``resolver`` goes by it. The invariant: nothing is loaded for it that reads
packets, so whoever only reads a configuration does without.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.address import SocketAddress

from .record_type import RecordType
from .special_names import NameClass

__all__ = ["ResolverSettings"]


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """What an operator chooses about lookups."""

    servers: tuple[SocketAddress, ...]
    """Asked in this order; the next when one fails."""

    use_mixed_answers: bool = False
    """When some addresses of a name are refused: use the others, instead of refusing the name."""

    mix_case: bool = True
    """Ask with random letter case; a server that folds it is asked over TCP."""

    permitted_names: frozenset[NameClass] = frozenset()
    """Classes of special names that are looked up nevertheless (``.local`` on some networks)."""

    record_types: tuple[RecordType, ...] = (RecordType.AAAA, RecordType.A)
    """What is asked for; without AAAA where there is no IPv6."""
