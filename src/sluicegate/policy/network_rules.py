"""Relations of networks: whether a server sees its client's address, or the gate's.

The gate asks ``find_relation`` with the address that is about to be dialled. The invariant: where
relations are written at all, a pair that none of them names has none, and is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpAddress, IpNetwork

from .networks import NetworkSet

__all__ = ["NO_NETWORK_RULE", "NetworkRelation", "NetworkRelations", "NetworkRule"]

NO_NETWORK_RULE: Final = "no-network-rule"
"""Network rules are written, and none names the client's network and the server's."""


class NetworkRelation(enum.StrEnum):
    """What becomes of the client's address."""

    NAT = "nat"
    """The server sees an address of the gate."""
    ROUTE = "route"
    """The server sees the client's address."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkRule:
    """One ``[[network_rule]]``."""

    name: str
    sources: tuple[IpNetwork, ...]
    """Networks of clients (``from``)."""
    targets: tuple[IpNetwork, ...]
    """Networks of servers (``to``)."""
    relation: NetworkRelation
    address: IpAddress | None = None
    """Of ``nat``: what servers see; None: what the system chooses."""
    owner: str = ""
    comment: str = ""


class NetworkRelations:
    """The network rules of a policy, compiled; the first that names both ends decides."""

    __slots__ = ("_compiled", "rules")

    def __init__(self, rules: Sequence[NetworkRule]) -> None:
        self.rules = tuple(rules)
        self._compiled = tuple(
            (rule, NetworkSet(rule.sources), NetworkSet(rule.targets)) for rule in rules
        )

    @property
    def are_written(self) -> bool:
        """Whether there are any; without, every server sees the gate's address."""
        return bool(self.rules)

    @property
    def has_routes(self) -> bool:
        """Whether some server is to see its client's address, which needs ``CAP_NET_ADMIN``."""
        return any(rule.relation is NetworkRelation.ROUTE for rule in self.rules)

    def find(self, client: IpAddress, server: IpAddress) -> NetworkRule | None:
        """Return the first rule about a client and the address that is dialled for it."""
        for rule, sources, targets in self._compiled:
            if sources.covers(client) and targets.covers(server):
                return rule
        return None
