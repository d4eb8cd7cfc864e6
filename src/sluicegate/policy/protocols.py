"""Protocols as rules name them: ports, direction, secondary connections, and the filters bound.

``parse_objects`` makes definitions of ``[objects.protocols]``, rules hold the patterns of those
they name. The invariant: a definition only gives ports a name; what a client is judged by are the
transport protocol and the port that it asked for.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from typing_extensions import override

__all__ = [
    "PREDEFINED_PROTOCOLS",
    "Direction",
    "ProtocolDefinition",
    "ProtocolPattern",
    "Secondary",
    "SecondaryPattern",
    "may_bring_about",
]


class Direction(enum.StrEnum):
    """Who opens a connection, seen from the client side."""

    OUTBOUND = "outbound"
    """The client does."""
    INBOUND = "inbound"
    """The server does, or, of a primary connection, whoever uses what is published."""


@dataclass(frozen=True, slots=True)
class ProtocolPattern:
    """A protocol and its ports: ``tcp:443``, ``tcp:8000-8999``, or ``tcp`` for all of them."""

    protocol: str
    first: int = 0
    last: int = 65535

    def matches(self, protocol: str, port: int) -> bool:
        """Tell whether a protocol to a port is meant."""
        return protocol == self.protocol and self.first <= port <= self.last

    def covers(self, other: ProtocolPattern) -> bool:
        """Tell whether everything that another one means is meant."""
        return (
            self.protocol == other.protocol
            and self.first <= other.first
            and other.last <= self.last
        )

    @override
    def __str__(self) -> str:
        if (self.first, self.last) == (0, 65535):
            return self.protocol
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.protocol}:{ports}"


@dataclass(frozen=True, slots=True)
class SecondaryPattern:
    """Connections that one of the protocol's connections may bring about.

    The port is where the other one is expected: the server's of an outbound one, the client's of
    an inbound one.
    """

    ports: ProtocolPattern
    direction: Direction

    @override
    def __str__(self) -> str:
        return f"{self.ports} {self.direction}"


Secondary: TypeAlias = tuple[SecondaryPattern, ...] | None
"""What the definitions that a rule names list together; None: it names none, and nothing is said of
secondary connections."""


def may_bring_about(
    secondary: Secondary, direction: Direction, port: int, protocol: str = "tcp"
) -> bool:
    """Tell whether a connection may bring about another one.

    Args:
        secondary: What the protocols of its rule list.
        direction: Who opens the other one.
        port: Where that one is expected: at the server if the client opens it, else at the client.
        protocol: Its transport protocol.
    """
    return secondary is None or any(
        one.direction is direction and one.ports.matches(protocol, port) for one in secondary
    )


@dataclass(frozen=True, slots=True)
class ProtocolDefinition:
    """What ``@name`` among the protocols of a rule stands for."""

    name: str
    ports: tuple[ProtocolPattern, ...]
    direction: Direction = Direction.OUTBOUND
    secondary: tuple[SecondaryPattern, ...] = ()
    filters: tuple[str, ...] = ()
    """Bound: rules that name the protocol run them, before their own."""


def _tcp(name: str, *ports: int) -> ProtocolDefinition:
    return ProtocolDefinition(name, tuple(ProtocolPattern("tcp", port, port) for port in ports))


def _udp(name: str, port: int) -> ProtocolDefinition:
    return ProtocolDefinition(name, (ProtocolPattern("udp", port, port),))


def _both(name: str, port: int) -> ProtocolDefinition:
    return ProtocolDefinition(
        name, tuple(ProtocolPattern(protocol, port, port) for protocol in ("tcp", "udp"))
    )


_DATA: Final = ProtocolPattern("tcp", 1024)

PREDEFINED_PROTOCOLS: Final[Mapping[str, ProtocolDefinition]] = MappingProxyType(
    {
        one.name: one
        for one in (
            _both("dns", 53),
            ProtocolDefinition(
                "ftp",
                (ProtocolPattern("tcp", 21, 21),),
                secondary=(
                    SecondaryPattern(_DATA, Direction.OUTBOUND),
                    SecondaryPattern(_DATA, Direction.INBOUND),
                ),
            ),
            _tcp("ftps", 990),
            _tcp("git", 9418),
            _tcp("http", 80),
            _tcp("https", 443),
            _tcp("imap", 143),
            _tcp("imaps", 993),
            _both("kerberos", 88),
            _tcp("ldap", 389),
            _tcp("ldaps", 636),
            _tcp("mysql", 3306),
            _udp("ntp", 123),
            _tcp("pop3", 110),
            _tcp("pop3s", 995),
            _tcp("postgresql", 5432),
            _udp("quic", 443),
            _both("rdp", 3389),
            _tcp("smtp", 25),
            _tcp("smtps", 465),
            _tcp("ssh", 22),
            _tcp("submission", 587),
            _udp("syslog", 514),
            _tcp("telnet", 23),
            _udp("tftp", 69),
            _tcp("whois", 43),
        )
    }
)
"""Registered ports (IANA) under the names that operators use; a definition of a file's own under
one of these names takes its place. They bind no filters: a rule says what it runs."""
