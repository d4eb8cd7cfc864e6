"""Rules as an operator means them: publications, and rules about named destinations.

``parse_rules`` makes them with every ``@name`` replaced by what it stands for; the gate plans and
records by them. The invariant: every value here is checked and canonical, so two texts that mean
the same compile to the same hash; what is for people (``owner``, ``comment``, ``written``) decides
nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, TypeAlias

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.names import CanonicalHost, HostPattern

from .content_types import ContentTypes
from .delivery import NO_HELD_SETTINGS, HeldSettings
from .paths import PathPattern, UrlPattern
from .protocols import ProtocolPattern, Secondary
from .schedule import Schedule
from .tls_check import TlsCheck

__all__ = [
    "ANY_USER",
    "GROUP_PREFIX",
    "NOWHERE",
    "NO_RULE_LIMITS",
    "AnyRule",
    "Publication",
    "Rule",
    "RuleAction",
    "RuleLimits",
    "RuleSettings",
    "SendProxyProtocol",
    "Targets",
    "Written",
]

RuleSettings = Mapping[str, Mapping[str, object]]
"""Per filter name, the settings of one rule."""

Written = Mapping[str, tuple[str, ...]]
"""What an operator wrote for a key, with its ``@names``; for explanations."""

ANY_USER: Final = "*"
"""Among the users of a rule: whoever proved to be one."""

GROUP_PREFIX: Final = "group:"
"""Before the name of a group among the users of a rule."""


class SendProxyProtocol(enum.StrEnum):
    """The version of the header by which a server is told who the client is."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """Bounds of what one rule's connections may take; None: only the gate's own limits."""

    connections_max: int | None = None
    """Open at once."""
    bytes_max: int | None = None
    """Of one connection, both directions together."""
    duration_s: float | None = None
    """Of one connection, from its first byte."""
    idle_timeout_s: float | None = None
    """Without a byte in either direction; a lower one of the gate still counts."""

    window_bytes_min: int | None = None
    """What a body of HTTP has to move within each ``web_window_s``; in place of the gate's own."""

    url_bytes_max: int | None = None
    """Of one request of HTTP: scheme, host, path and query."""
    head_bytes_max: int | None = None
    """Of one request of HTTP: method, URL and fields, as HTTP/1 writes them."""
    request_bytes_max: int | None = None
    """Of the body of one request of HTTP."""
    response_bytes_max: int | None = None
    """Of the body of one response of HTTP."""
    response_timeout_s: float | None = None
    """A server of HTTP that is to answer and says nothing; in place of the gate's own."""

    @property
    def bounds_requests(self) -> bool:
        """Whether it has a bound that a request's head is held to."""
        bounds = (self.url_bytes_max, self.head_bytes_max, self.request_bytes_max)
        return any(bound is not None for bound in bounds)

    @property
    def counts_bodies(self) -> bool:
        """Whether the bytes of each exchange of HTTP have to be counted."""
        bounds = (self.bytes_max, self.request_bytes_max, self.response_bytes_max)
        return any(bound is not None for bound in bounds)

    def canonical(self) -> list[object]:
        """Return it for the hash of a policy."""
        found: list[object] = [
            self.connections_max,
            self.bytes_max,
            self.duration_s,
            self.idle_timeout_s,
        ]
        if self.window_bytes_min is not None:
            found.append(self.window_bytes_min)
        named = {
            "url_bytes_max": self.url_bytes_max,
            "head_bytes_max": self.head_bytes_max,
            "request_bytes_max": self.request_bytes_max,
            "response_bytes_max": self.response_bytes_max,
            "response_timeout_s": self.response_timeout_s,
        }
        found += [[name, value] for name, value in named.items() if value is not None]
        return found


NO_RULE_LIMITS: Final = RuleLimits()


def _nothing() -> Mapping[str, Mapping[str, object]]:
    return MappingProxyType({})


def _unwritten() -> Written:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """One rule: clients in ``clients`` that reach ``listener`` are relayed to ``server``."""

    name: str
    listener: str
    server: SocketAddress
    clients: tuple[IpNetwork, ...]
    filters: tuple[str, ...] = ()
    """Names of the installed filters that this rule's connections go through, bound ones first."""
    settings: RuleSettings = field(default_factory=_nothing)
    owner: str = ""
    comment: str = ""
    send_proxy_protocol: SendProxyProtocol | None = None
    """Sent before the client's first byte, on the published connection itself only."""
    is_http: bool = False
    """Whether the server speaks HTTP, so that each request is one of its own."""
    server_tls: CanonicalHost | None = None
    """Who the server has to be, inside TLS; None: it is spoken to in the open."""
    upgrades: tuple[str, ...] = ()
    """Protocols, in lower case, that requests may switch to: what follows 101 is read by nobody."""
    clients_except: tuple[IpNetwork, ...] = ()
    protocol: str = ""
    """The definition that is published, if one is named."""
    bound_filters: tuple[str, ...] = ()
    """Those of ``filters`` that the protocol brought."""
    secondary: Secondary = None
    """Secondary connections of the protocol; None: none is named."""
    schedule: Schedule | None = None
    expires: float | None = None
    """Seconds since the epoch (UTC); from then on it does not match."""
    is_enabled: bool = True
    limits: RuleLimits = NO_RULE_LIMITS
    held: HeldSettings = NO_HELD_SETTINGS
    written: Written = field(default_factory=_unwritten)
    tls: TlsCheck | None = None
    """What is wanted of the ClientHello; None: it is not looked at."""


class RuleAction(enum.StrEnum):
    """What becomes of what a rule matches."""

    ALLOW = "allow"
    DENY = "deny"
    """Refused in the words of the client's protocol."""
    RESET = "reset"
    """The client's connection is aborted without an answer."""
    INSPECT = "inspect"
    """Allowed, and the content has to be seen by the rule's filters."""

    @property
    def is_refusal(self) -> bool:
        """Whether nothing passes by it."""
        return self in {RuleAction.DENY, RuleAction.RESET}


@dataclass(frozen=True, slots=True)
class Targets:
    """Where a rule leads: hosts by name, networks, and URLs."""

    is_everything: bool = False
    """``*``: of a rule that allows, every name and every public address; of one that denies, all
    there is."""
    hosts: tuple[HostPattern, ...] = ()
    """Names only; an address is a network of one."""
    networks: tuple[IpNetwork, ...] = ()
    urls: tuple[UrlPattern, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it leads nowhere."""
        return not (self.is_everything or self.hosts or self.networks or self.urls)

    def texts(self) -> list[str]:
        """Return it as an operator writes it, sorted."""
        everything = ["*"] if self.is_everything else []
        return sorted(
            {*everything, *map(str, self.hosts), *map(str, self.networks), *map(str, self.urls)}
        )


NOWHERE: Final = Targets()


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule about destinations that clients name on proxy listeners."""

    name: str
    action: RuleAction
    listeners: tuple[str, ...] | None
    """None: every proxy listener."""
    clients: tuple[IpNetwork, ...]
    to: Targets
    protocols: tuple[ProtocolPattern, ...] = ()
    """None: every protocol and port."""
    users: tuple[str, ...] | None = None
    """Names, ``group:NAME``, or ``*`` for any; None: everybody, whether they proved it or not."""
    filters: tuple[str, ...] = ()
    """Names of the installed filters that this rule's connections go through, bound ones first."""
    settings: RuleSettings = field(default_factory=_nothing)
    owner: str = ""
    comment: str = ""
    clients_except: tuple[IpNetwork, ...] = ()
    to_except: Targets = NOWHERE
    protocols_except: tuple[ProtocolPattern, ...] = ()
    bound_filters: tuple[str, ...] = ()
    """Those of ``filters`` that the protocols brought."""
    secondary: Secondary = None
    """Secondary connections of the protocols that are named; None: it names none by ``@``."""
    schedule: Schedule | None = None
    methods: tuple[str, ...] = ()
    """Of HTTP requests; none: all of them."""
    paths: tuple[PathPattern, ...] = ()
    """Of HTTP requests; none: all of them."""
    content_types: ContentTypes | None = None
    """Of transfers."""
    upgrades: tuple[str, ...] = ()
    """Protocols, in lower case, that requests may switch to: what follows 101 is read by nobody."""
    limits: RuleLimits = NO_RULE_LIMITS
    held: HeldSettings = NO_HELD_SETTINGS
    expires: float | None = None
    """Seconds since the epoch (UTC); from then on it does not match."""
    is_enabled: bool = True
    written: Written = field(default_factory=_unwritten)
    tls: TlsCheck | None = None
    """What is wanted of the ClientHello on connections to its ports; None: it is not looked at."""

    send_proxy_protocol: ClassVar[None] = None
    """A server that clients name is told nothing of them; only publications send it."""

    @property
    def looks_at_requests(self) -> bool:
        """Whether it has conditions that only an HTTP request shows."""
        urls = (*self.to.urls, *self.to_except.urls)
        return bool(self.methods or self.paths) or any(not url.is_whole_site for url in urls)


AnyRule: TypeAlias = Publication | Rule
