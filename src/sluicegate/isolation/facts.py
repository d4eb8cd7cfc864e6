"""Facts: what the gate and a cell tell each other of connections, objects and wishes, flat.

``messages`` carries them. The invariant: values only; what one side puts together again of them is
checked as it is made.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, ProtocolError
from sluicegate.filterapi import Connection, Direction, TransferOffer, Wants

__all__ = [
    "AddressFacts",
    "ConnectionFacts",
    "OfferFacts",
    "WantsFacts",
    "address_of",
    "facts_of",
]

AddressFacts: TypeAlias = tuple[str, int, int]
"""Host, port, scope."""


def facts_of(address: SocketAddress) -> AddressFacts:
    """Take an address apart."""
    return address.host, address.port, address.scope


def address_of(facts: AddressFacts) -> SocketAddress:
    """Put an address together again, as far as a cell told a true one.

    Raises:
        ProtocolError: It is no address.
    """
    host, port, scope = facts
    try:
        canonical = str(ipaddress.ip_address(host))
    except ValueError:
        canonical = ""
    if canonical != host or not 0 <= port <= _PORT_MAX or not 0 <= scope <= _SCOPE_MAX:
        raise ProtocolError("named what is no address")
    return SocketAddress(host, port, scope)


_PORT_MAX = 0xFFFF
_SCOPE_MAX = 0xFFFF_FFFF


def _known(address: Callable[[], SocketAddress]) -> AddressFacts | None:
    """Return an address of a side that may not be connected, or not any more."""
    try:
        return facts_of(address())
    except (BadContext, OSError):
        return None


class ConnectionFacts(msgspec.Struct, array_like=True):
    """A connection, as far as it stands still while a filter is asked about it."""

    connection: str
    session: str
    client: AddressFacts
    server: AddressFacts
    client_side: AddressFacts | None
    server_side: AddressFacts | None
    """None while that side is not connected."""
    rule: str
    is_secondary: bool
    entry_mode: str
    is_emulated: bool
    user: tuple[str, list[str], str] | None
    """Its session's: the name, the groups, the scheme."""

    @classmethod
    def of(cls, connection: Connection) -> ConnectionFacts:
        """Note what is known of a connection."""
        user = connection.session.user
        return cls(
            connection.id,
            connection.session.id,
            facts_of(connection.client_address),
            facts_of(connection.server_address),
            _known(lambda: connection.client_side_address),
            _known(lambda: connection.server_side_address),
            connection.rule,
            connection.is_secondary,
            connection.entry_mode.value,
            connection.is_emulated,
            None if user is None else (user.name, list(user.groups), user.scheme),
        )


class OfferFacts(msgspec.Struct, array_like=True):
    """``filterapi.TransferOffer``, flat."""

    name: str
    direction: str
    protocol: str
    user: str
    content_type: str
    is_text: bool
    facts: dict[str, str]
    preceding: bytes = b""
    bytes_announced: int | None = None

    @classmethod
    def of(cls, offer: TransferOffer) -> OfferFacts:
        """Take an offer apart."""
        return cls(
            offer.name,
            offer.direction.value,
            offer.protocol,
            offer.user,
            offer.content_type,
            offer.is_text,
            offer.facts,
            offer.preceding,
            offer.bytes_announced,
        )

    def offer(self) -> TransferOffer:
        """Put the offer together again.

        Raises:
            ValueError: There is no such direction.
        """
        return TransferOffer(
            name=self.name,
            direction=Direction(self.direction),
            protocol=self.protocol,
            user=self.user,
            content_type=self.content_type,
            is_text=self.is_text,
            facts=self.facts,
            preceding=self.preceding,
            bytes_announced=self.bytes_announced,
        )


class WantsFacts(msgspec.Struct, array_like=True):
    """``filterapi.Wants``, flat."""

    directions: list[str]
    protocols: list[str]
    content_types: list[str]
    bytes_max: int | None

    @classmethod
    def of(cls, wants: Wants) -> WantsFacts:
        """Take what a filter wants apart."""
        return cls(
            sorted(one.value for one in wants.directions),
            sorted(wants.protocols),
            list(wants.content_types),
            wants.bytes_max,
        )

    def wants(self) -> Wants:
        """Put it together again.

        Raises:
            ValueError: There is no such direction.
        """
        return Wants(
            directions=frozenset(Direction(one) for one in self.directions),
            protocols=frozenset(self.protocols),
            content_types=tuple(self.content_types),
            bytes_max=self.bytes_max,
        )
