"""The policy as an operator means it: publications and rules in order, nothing else allowed.

``parse`` makes it from ``policy.toml``, ``snapshot`` compiles it. The invariant: every value here
is checked and canonical, so two texts that mean the same compile to the same hash.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from typing_extensions import override

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.names import HostPattern

from .flood import FloodLimits

__all__ = [
    "ANY_USER",
    "GROUP_PREFIX",
    "AnyRule",
    "Policy",
    "ProtocolPattern",
    "Publication",
    "Rule",
    "RuleAction",
    "RuleSettings",
    "SendProxyProtocol",
    "Targets",
]

RuleSettings = Mapping[str, Mapping[str, object]]
"""Per filter name, the settings of one rule."""

ANY_USER = "*"
"""Among the users of a rule: whoever proved to be one."""

GROUP_PREFIX = "group:"
"""Before the name of a group among the users of a rule."""


class SendProxyProtocol(enum.StrEnum):
    """The version of the header by which a server is told who the client is."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """One rule: clients in ``clients`` that reach ``listener`` are relayed to ``server``."""

    name: str
    listener: str
    server: SocketAddress
    clients: tuple[IpNetwork, ...]
    filters: tuple[str, ...] = ()
    """Names of the installed filters that this rule's connections go through."""
    settings: RuleSettings = field(default_factory=lambda: MappingProxyType({}))
    owner: str = ""
    comment: str = ""
    send_proxy_protocol: SendProxyProtocol | None = None
    """Sent before the client's first byte, on the published connection itself only."""


class RuleAction(enum.StrEnum):
    """What becomes of what a rule matches."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class ProtocolPattern:
    """A protocol and its ports: ``tcp:443``, ``tcp:8000-8999``, or ``tcp`` for all of them."""

    protocol: str
    first: int = 0
    last: int = 65535

    def matches(self, protocol: str, port: int) -> bool:
        """Tell whether a protocol to a port is meant."""
        return protocol == self.protocol and self.first <= port <= self.last

    @override
    def __str__(self) -> str:
        if (self.first, self.last) == (0, 65535):
            return self.protocol
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.protocol}:{ports}"


@dataclass(frozen=True, slots=True)
class Targets:
    """Where a rule leads: hosts by name, and networks."""

    is_everything: bool = False
    """``*``: of a rule that allows, every name and every public address; of one that denies, all
    there is."""
    hosts: tuple[HostPattern, ...] = ()
    """Names only; an address is a network of one."""
    networks: tuple[IpNetwork, ...] = ()

    def texts(self) -> list[str]:
        """Return it as an operator writes it, sorted."""
        everything = ["*"] if self.is_everything else []
        return sorted([*everything, *map(str, self.hosts), *map(str, self.networks)])


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule about destinations that clients name on a proxy listener."""

    name: str
    action: RuleAction
    listener: str
    clients: tuple[IpNetwork, ...]
    to: Targets
    protocols: tuple[ProtocolPattern, ...] = ()
    """None: of a rule that denies, every protocol and port."""
    users: tuple[str, ...] | None = None
    """Names, ``group:NAME``, or ``*`` for any; None: everybody, whether they proved it or not."""
    filters: tuple[str, ...] = ()
    """Names of the installed filters that this rule's connections go through."""
    settings: RuleSettings = field(default_factory=lambda: MappingProxyType({}))
    owner: str = ""
    comment: str = ""

    send_proxy_protocol: ClassVar[None] = None
    """A server that clients name is told nothing of them; only publications send it."""


AnyRule: TypeAlias = Publication | Rule


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All rules, in the order in which they are tried; what none of them names is refused."""

    publications: tuple[Publication, ...] = ()
    rules: tuple[Rule, ...] = ()
    allows_underscores: bool = False
    """Whether names that clients and rules write may have underscores."""
    flood: FloodLimits = field(default_factory=FloodLimits)
    """What one client address may ask of the gate."""

    @property
    def all_rules(self) -> tuple[AnyRule, ...]:
        """Publications and rules: their names are one space."""
        return (*self.publications, *self.rules)
