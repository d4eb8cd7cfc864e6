"""Values of ``policy.toml`` and its neighbours: networks, addresses and names, read exactly.

``parse``, ``parse_rules`` and ``app/config`` check with them. The invariant: a value with bits that
mean nothing, or with a plainer form, is refused with the form that is right, never corrected.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

from pydantic import StringConstraints

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.documents import Wrong

__all__ = ["ADDRESS_CURE", "Name", "parse_address", "parse_network"]


def parse_network(text: object) -> IpNetwork:
    """Read ``10.0.0.0/8``, ``2001:db8::/32`` or one address.

    Raises:
        Wrong: It is neither, or it has bits set behind its prefix.
    """
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be a network in quotes", _NETWORK_CURE)
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is not a network", _network_cure(text)) from None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id is not None:
            raise Wrong(f"is {text!r}, which has a zone", "write it without %")
        if network.prefixlen >= _MAPPED.prefixlen and network.subnet_of(_MAPPED):
            raise Wrong(
                f"is {text!r}, an IPv4 network in IPv6 form", "write the IPv4 network itself"
            )
    return network


def _network_cure(text: str) -> str:
    try:
        return f"the network is {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return _NETWORK_CURE


def parse_address(text: object) -> SocketAddress:
    """Read ``192.0.2.10:21`` or ``[2001:db8::10]:21``.

    Raises:
        Wrong: It is neither, or the same address has a plainer form.
    """
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be an address in quotes", ADDRESS_CURE)
    try:
        address = SocketAddress.parse(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is not ADDRESS:PORT", ADDRESS_CURE) from None
    if isinstance(address.ip, ipaddress.IPv6Address) and (
        address.ip.ipv4_mapped is not None or address.ip.scope_id is not None
    ):
        raise Wrong(f"is {text!r}, which has a zone or an IPv4 address inside", ADDRESS_CURE)
    return address


_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NETWORK_CURE: Final = 'for example "10.0.0.0/8", "2001:db8::/32" or "192.0.2.7"'
ADDRESS_CURE: Final = 'for example "192.0.2.10:21" or "[2001:db8::10]:21"; names are not resolved'


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A name that appears in records, tables and other files."""
