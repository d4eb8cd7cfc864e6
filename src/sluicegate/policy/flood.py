"""Flood limits: how much one client address may ask of the gate, and who may ask for more.

``parse`` reads the table ``[flood]`` with it, ``snapshot`` compiles it, ``gate/flood`` counts. The
invariant: every client has exactly one set of bounds, those of the first exception that names it or
else the general ones, and a bound that is left out never means that there is none.

Names and defaults are the model product's (flood mitigation settings of TMG).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from sluicegate.address import IpAddress, IpNetwork
from sluicegate.documents import Model

from .networks import NetworkTable
from .parse_values import NetworkEntry
from .place import Place

__all__ = [
    "FLOOD_COUNT_MAX",
    "CompiledFlood",
    "FloodBounds",
    "FloodException",
    "FloodLimits",
    "FloodTable",
    "to_flood_limits",
]

FLOOD_COUNT_MAX: Final = 1_000_000
"""The largest bound that can be set: one worker accepts less in a minute, and the memory that
workers share has 20 bits for each count."""


@dataclass(frozen=True, slots=True)
class FloodBounds:
    """What one client address may do."""

    connects_per_minute: int = 600
    """New TCP connections, and new destinations of datagrams by SOCKS, each of which may be a name
    to be looked up."""
    connections_max: int = 160
    """TCP connections at once, from the first packet to the last."""
    half_open_max: int = 80
    """Of those, the ones whose server is not there yet: the client has not said where it wants to
    go, or the server is looked up or dialled."""
    requests_per_minute: int = 600
    """HTTP requests."""
    udp_sessions_max: int = 160
    """UDP connections at once; the longest silent one is ended for a new one."""
    denied_per_minute: int = 600
    """Refusals that are recorded one by one; beyond them an alert, and a count."""


@dataclass(frozen=True, slots=True)
class FloodException:
    """Clients with bounds of their own; None: they are not counted."""

    clients: tuple[IpNetwork, ...]
    bounds: FloodBounds | None


@dataclass(frozen=True, slots=True)
class FloodLimits:
    """The table ``[flood]``."""

    enabled: bool = True
    bounds: FloodBounds = FloodBounds()
    rule_udp_sessions_per_minute: int = 1000
    """New UDP connections under one rule, of all clients together; more are dropped."""
    exceptions: tuple[FloodException, ...] = ()
    """In order; the first that names a client is the one."""
    ipv6_prefix: int = 64
    """IPv6 addresses that are alike in so many bits are one client: whoever has one address of a
    /64 has all of them (RFC 6177, RFC 7934)."""

    def canonical(self) -> dict[str, object]:
        """Return what the hash of a policy covers."""
        if not self.enabled:
            return {"enabled": False}
        return {
            **dataclasses.asdict(self.bounds),
            "rule_udp_sessions_per_minute": self.rule_udp_sessions_per_minute,
            "ipv6_prefix": self.ipv6_prefix,
            "exceptions": [
                {
                    "clients": sorted(str(network) for network in one.clients),
                    "bounds": None if one.bounds is None else dataclasses.asdict(one.bounds),
                }
                for one in self.exceptions
            ],
        }


class CompiledFlood:
    """The flood limits in force; what is asked costs the same however many exceptions there are."""

    __slots__ = ("_exceptions", "_narrow", "_table", "has_narrow_networks", "limits")

    def __init__(self, limits: FloodLimits) -> None:
        self.limits = limits
        self._exceptions = limits.exceptions
        self._table = NetworkTable(
            (network, order)
            for order, one in enumerate(limits.exceptions)
            for network in one.clients
        )
        narrow = [
            (network, (order, str(network)))
            for order, one in enumerate(limits.exceptions)
            for network in one.clients
            if network.version == _IPV6 and network.prefixlen > limits.ipv6_prefix
        ]
        self.has_narrow_networks = bool(narrow)
        #: Whether an exception names less than clients are told apart by.
        self._narrow = NetworkTable(narrow)

    def bounds_of(self, client: IpAddress) -> FloodBounds | None:
        """Return what a client may do; None when it is not counted."""
        if not self.limits.enabled:
            return None
        order = self._order_of(client)
        return self.limits.bounds if order is None else self._exceptions[order].bounds

    def narrow_network_of(self, client: IpAddress) -> str:
        """Return the network by which an exception names less than ``ipv6_prefix`` tells apart.

        Its addresses are a client of their own; else their bounds would be their neighbors'.
        Empty when there is none.
        """
        found = self._narrow.find(client)
        if not found:
            return ""
        order, network = min(found)
        return network if order == self._order_of(client) else ""

    def _order_of(self, client: IpAddress) -> int | None:
        orders = self._table.find(client)
        return min(orders) if orders else None


# -- the document ----------------------------------------------------------------------------------

_IPV6: Final = 6
_Count = Annotated[int, Field(ge=1, le=FLOOD_COUNT_MAX)]


class _BoundsTable(Model, arbitrary_types_allowed=True, use_attribute_docstrings=True):
    """What ``[flood]`` and its exceptions have in common; None: left out."""

    enabled: bool = True
    """Whether its clients are counted at all."""
    connects_per_minute: _Count | None = None
    """New TCP connections of one client address."""
    connections_max: _Count | None = None
    """TCP connections of one client address at once."""
    half_open_max: _Count | None = None
    """Of those, the ones whose server is not there yet."""
    requests_per_minute: _Count | None = None
    """HTTP requests of one client address."""
    udp_sessions_max: _Count | None = None
    """UDP connections of one client address; the longest silent one makes room."""
    denied_per_minute: _Count | None = None
    """Refusals that are recorded one by one; beyond them an alert, and a count."""

    def bounds(self, otherwise: FloodBounds) -> FloodBounds:
        """Return the bounds, with those of ``otherwise`` where one is left out."""
        written = {
            field.name: value
            for field in dataclasses.fields(FloodBounds)
            if (value := getattr(self, field.name)) is not None
        }
        return dataclasses.replace(otherwise, **written)


class _ExceptionTable(_BoundsTable):
    """One ``[[flood.exception]]`` table."""

    clients: Annotated[tuple[NetworkEntry, ...], Field(min_length=1)] = Field(
        examples=[["192.0.2.0/24"]]
    )
    """Networks, addresses, and ``@names`` of them."""
    owner: str = ""
    """For people."""
    comment: str = ""
    """For people."""


NetworksOf = Callable[[tuple[IpNetwork | str, ...], Place, str], tuple[IpNetwork, ...]]
"""Resolve a list of networks and ``@names``; what is wrong goes into the findings of the place."""


class FloodTable(_BoundsTable):
    """``[flood]``."""

    rule_udp_sessions_per_minute: _Count = 1000
    """New UDP connections under one rule, of all clients together."""
    ipv6_prefix: Literal[48, 56, 64, 128] = 64
    """How many bits of an IPv6 address are one client."""
    exception: tuple[_ExceptionTable, ...] = ()
    """Clients with bounds of their own; the first that names one counts."""


def to_flood_limits(table: FloodTable, place: Place, networks_of: NetworksOf) -> FloodLimits:
    """Make the flood limits of a checked table, and say which bounds have no effect.

    Args:
        table: The table.
        place: Where it stands.
        networks_of: Returns the networks of a list in which objects may be named.
    """
    bounds = table.bounds(FloodBounds())
    _check(table, bounds, (), place)
    exceptions: list[FloodException] = []
    for index, one in enumerate(table.exception):
        own = one.bounds(bounds)
        _check(one, own, ("exception", index), place)
        at = Place(place.document, (*place.at, "exception", index), place.findings)
        clients = networks_of(one.clients, at, "clients")
        exceptions.append(FloodException(clients, own if one.enabled else None))
    return FloodLimits(
        table.enabled,
        bounds,
        table.rule_udp_sessions_per_minute,
        tuple(exceptions),
        table.ipv6_prefix,
    )


def _check(
    table: _BoundsTable, bounds: FloodBounds, at: tuple[str | int, ...], place: Place
) -> None:
    """Refuse what cannot come about: more half-open connections than connections."""
    if table.half_open_max is not None and bounds.half_open_max > bounds.connections_max:
        place.refuse(
            (*at, "half_open_max"),
            f"is {bounds.half_open_max}, above connections_max, which is {bounds.connections_max}",
            'raise "connections_max" or lower this',
        )
