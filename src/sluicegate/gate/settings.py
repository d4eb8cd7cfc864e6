"""What the firewall service is told to do: immutable, replaced as a whole by a reload.

``app/build`` makes it from the operator's files, ``gate/service`` applies it. The invariant: a
``ServiceSettings`` is complete and checked, so applying one never fails half way for a reason that
could have been known before.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from typing_extensions import override

from sluicegate.address import IpAddress, IpNetwork, SocketAddress
from sluicegate.filterapi import (
    AnyDataFilter,
    ContentFilter,
    Filter,
    Firewall,
    Scanner,
    WebFilter,
)
from sluicegate.identity import DirectorySettings, Users
from sluicegate.limits import Limits
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.policy import PolicySnapshot
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.tls import ClientCertificates, ServerTlsSettings, TlsSettings

from .entry_dialogue import Authenticate
from .own_certificate import OwnCertificate
from .web.parent_proxy import ParentProxy
from .web.refusal_page import DEFAULT_PAGES, RefusalPages

__all__ = [
    "EntrySettings",
    "FilterProcess",
    "Installation",
    "InstalledFilter",
    "ListenerSettings",
    "OnFailure",
    "PerConnection",
    "PerRule",
    "Place",
    "ServiceSettings",
]


class OnFailure(enum.StrEnum):
    """What happens to traffic that needs a filter which has failed."""

    DENY = "deny"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class EntrySettings:
    """What a proxy listener takes."""

    protocols: frozenset[EntryProtocol]
    authenticate: Authenticate
    tls: TlsSettings | None = None
    """Of a listener whose clients speak TLS to it, and their protocol inside; None: in clear."""

    @property
    def asks_for_passwords(self) -> bool:
        """Whether a client may prove who it is by a password."""
        return self.authenticate is not Authenticate.OFF

    @property
    def can_authenticate(self) -> bool:
        """Whether a client may prove who it is, by a password or a certificate."""
        tls = self.tls
        has_certificates = tls is not None and tls.client_certificates is not ClientCertificates.OFF
        return self.asks_for_passwords or has_certificates


@dataclass(frozen=True, slots=True)
class Place:
    """What a socket is bound to: a protocol and an address."""

    address: SocketAddress
    is_udp: bool = False

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what ``str`` made."""
        return cls(SocketAddress.parse(text.removeprefix(_UDP)), text.startswith(_UDP))

    @override
    def __str__(self) -> str:
        """Format as the address, with ``udp:`` in front of those for datagrams."""
        return f"{_UDP if self.is_udp else ''}{self.address}"


_UDP: Final = "udp:"


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One address to listen on; several may share a name, which is what rules refer to."""

    name: str
    address: SocketAddress
    proxy_peers: tuple[IpNetwork, ...] = ()
    """Who announces clients there by the PROXY protocol; none: everybody is a client."""
    entry: EntrySettings | None = None
    """Of a proxy listener, whose clients name their destinations; None: it publishes."""
    is_udp: bool = False
    """Whether it takes datagrams."""
    tls: TlsSettings | None = None
    """Of a listener that publishes, whose clients speak TLS to it; None: in clear."""

    @property
    def place(self) -> Place:
        """What its socket is bound to."""
        return Place(self.address, self.is_udp)


@dataclass(frozen=True, slots=True)
class PerConnection:
    """An installed data or stream filter without a ``Filter`` around it.

    The service makes one with ``make`` for each connection of the publications that name it; with
    the rule's settings, if it has a model of them.
    """

    make: Callable[..., AnyDataFilter]
    rule_settings: type[object] | None = None
    """The model of a rule's settings; ``make`` takes one, else it takes nothing."""
    settings: object = None
    """``[filter.settings]``, for what a rule leaves out."""


@dataclass(frozen=True, slots=True)
class PerRule:
    """An installed web filter that is made with ``make`` for each rule that names it."""

    make: Callable[..., WebFilter]
    """Takes a rule's settings."""
    rule_settings: type[object]
    """The model of a rule's settings."""
    settings: object = None
    """``[filter.settings]``, for what a rule leaves out."""


class FilterProcess(Protocol):
    """The process of an isolated filter, as the registry keeps it."""

    @property
    def tier(self) -> str:
        """What kind of filter it runs: ``filter``, ``content``, ``stream`` …."""
        ...

    @property
    def position(self) -> str:
        """Where that filter stands in a chain; empty for kinds that do not say."""
        ...

    @property
    def cause(self) -> str:
        """Why it cannot answer now; empty while it can."""
        ...

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        ...

    @property
    def restarts(self) -> int:
        """How often it was replaced."""
        ...

    def memory_bytes(self) -> int:
        """Return its resident memory."""
        ...

    def start(self, firewall: Firewall, on_failure: Callable[[BaseException], None]) -> None:
        """Start it; failures are told, now and later."""
        ...

    def stop(self) -> None:
        """Stop the filter and end the process, soon."""
        ...

    async def wait_ended(self) -> None:
        """Wait until a stopped one is gone."""
        ...


InstalledFilter: TypeAlias = Filter | ContentFilter | WebFilter | PerRule | PerConnection


@dataclass(frozen=True, slots=True, eq=False)
class Installation:
    """One installed filter. A reload hands over the same object when nothing about it changed."""

    name: str
    filter_object: InstalledFilter
    on_failure: OnFailure
    source: str
    """Where the filter comes from, for people: ``module:Class`` or a file's path."""
    process: FilterProcess | None = None
    """Where it runs, if it is isolated; ``filter_object`` then stands for it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded beside decisions, and what became of them."""

    sessions: bool = False
    lookups: bool = False
    trace_ratio: float = 0.0
    """The share of connections whose steps are recorded (``audit.sampling``)."""
    tells_servers: bool = False
    """Whether servers are told of the trace that a request is in."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Everything the service needs to know; ``filters`` stand in the operator's order."""

    listeners: tuple[ListenerSettings, ...]
    policy: PolicySnapshot
    filters: tuple[Installation, ...]
    limits: Limits
    users: Users = field(default_factory=Users)
    """Who may prove to be one at a proxy listener."""
    directory: DirectorySettings | None = None
    """Who else may: users whom the file does not name."""
    resolver: ResolverSettings = field(default_factory=lambda: ResolverSettings(()))
    own_addresses: tuple[IpAddress, ...] = ()
    """Of every interface; what clients name is not to lead there."""
    own_services: tuple[SocketAddress, ...] = ()
    """What else the gate listens on (the console): no client is to be led there."""
    nat64_prefixes: tuple[ipaddress.IPv6Network, ...] = ()
    """Of translators on this network: what is behind them is judged."""
    scanners: Mapping[str, Scanner] = field(default_factory=lambda: MappingProxyType({}))
    """Whom content filters may ask, by name."""
    parent_proxies: tuple[ParentProxy, ...] = ()
    """Where web requests for some hosts are sent on; the first that serves a host gets them."""
    server_tls: ServerTlsSettings | None = None
    """How servers are verified that are spoken to inside TLS; None: there is no such server."""
    own_certificates: tuple[OwnCertificate, ...] = ()
    """Of the gate, for servers that want one; the first that is for a server is shown to it."""
    key_log: str = ""
    """A file for the keys of all TLS that the gate speaks; empty: none."""
    refusal_pages: RefusalPages = DEFAULT_PAGES
    """What clients of the web are told who are refused."""
    recorded: Recorded = field(default_factory=Recorded)
