"""What the settings of the bundled filters have in common: networks, ports, and a strict base.

``ftp_access`` and ``exe_block`` declare their ``Settings`` with it. The invariant: what an operator
writes is taken literally or refused with what would be right, never corrected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, PlainValidator

from sluicegate.address import IpNetwork
from sluicegate.filterapi import SocketAddress

__all__ = ["FilterSettings", "Ipv4Host", "Network", "PortRange", "is_among"]


class FilterSettings(BaseModel):
    """Base of the bundled filters' settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _parse_network(value: object) -> IpNetwork:
    try:
        network = ipaddress.ip_network(str(value))
    except ValueError:
        raise ValueError('a network such as "10.0.0.0/8" or "2001:db8::/32"') from None
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and (first.ipv4_mapped or first.scope_id):
        # It would never match: clients' addresses are unwrapped, and have no zone.
        raise ValueError("a network without a zone, and an IPv4 network in its own form")
    return network


def _parse_ipv4_host(value: object) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(str(value))
    except ValueError:
        raise ValueError('an IPv4 address such as "192.0.2.1"; names are not resolved') from None


def _parse_ports(value: object) -> range:
    match = _PORTS.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        first, last = int(match[1]), int(match[2])
        if _PORT_MIN <= first <= last <= _PORT_MAX:
            return range(first, last + 1)
    raise ValueError('a range of ports such as "50000-50100", none below 1024')


Network = Annotated[IpNetwork, PlainValidator(_parse_network)]
"""An exact network, IPv4 or IPv6."""

Ipv4Host = Annotated[ipaddress.IPv4Address, PlainValidator(_parse_ipv4_host)]
"""One IPv4 address."""

PortRange = Annotated[range, PlainValidator(_parse_ports)]
"""``"50000-50100"``, both ends included."""


def is_among(address: SocketAddress, networks: Iterable[IpNetwork]) -> bool:
    """Tell whether an address lies in one of the networks."""
    return any(address.ip in network for network in networks)


_PORTS: Final = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_PORT_MIN: Final = 1024
_PORT_MAX: Final = 65535
