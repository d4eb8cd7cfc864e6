"""The policy as an operator means it: publications in order, nothing else allowed.

``parse`` makes it from ``policy.toml``, ``snapshot`` compiles it. The invariant: every value here
is checked and canonical, so two texts that mean the same compile to the same hash.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate.address import IpNetwork, SocketAddress

__all__ = ["Policy", "Publication", "RuleSettings", "SendProxyProtocol"]

RuleSettings = Mapping[str, Mapping[str, object]]
"""Per filter name, the settings of one rule."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All rules, in the order in which they are tried; what none of them names is refused."""

    publications: tuple[Publication, ...] = ()
