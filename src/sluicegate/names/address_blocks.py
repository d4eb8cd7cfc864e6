"""The table of address blocks: what each is for, whether it is public, and who says so.

``classify.py`` looks addresses up in it; nobody else. It is drawn from the IANA registries of
special-purpose addresses (RFC 6890) and from the documents named in each row, because the
answers of ``ipaddress`` changed between releases of Python. The invariant: the row with the longest
prefix decides, every address has a row, and IPv6 is public only inside what IANA allocates.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpAddress, IpNetwork

__all__ = ["AddressClass", "Block", "block_of"]


class AddressClass(enum.StrEnum):
    """What an address is for; only ``PUBLIC`` is public."""

    PUBLIC = "public"
    OWN = "own"
    """The gate's own: its interfaces and listeners, which may not be reached through it."""

    METADATA = "metadata"
    """A cloud's metadata or credential service."""

    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SHARED = "shared"
    """Behind a provider's NAT (RFC 6598)."""

    LINK_LOCAL = "link-local"
    SITE_LOCAL = "site-local"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    DOCUMENTATION = "documentation"
    BENCHMARKING = "benchmarking"
    PROTOCOL = "protocol-assignment"
    """Reserved for protocols, anycast services and tunnels."""

    SEGMENT_ROUTING = "segment-routing"
    DISCARD = "discard"
    RESERVED = "reserved"
    MAPPED = "ipv4-mapped"
    COMPATIBLE = "ipv4-compatible"
    TRANSLATED = "ipv4-translated"
    NAT64_LOCAL = "nat64-local"
    SIX_TO_FOUR = "6to4"
    TEREDO = "teredo"
    ISATAP = "isatap"


@dataclass(frozen=True, slots=True)
class Block:
    """One row: a block of addresses, its class, and where that is written."""

    network: IpNetwork
    address_class: AddressClass
    source: str
    why: str
    """Both in words, for records: written once, not for each address."""


_C: Final = AddressClass

_ROWS: Final[tuple[tuple[str, AddressClass, str], ...]] = (
    # IPv4: public unless a row says otherwise.
    ("0.0.0.0/0", _C.PUBLIC, "IANA IPv4 address space"),
    ("0.0.0.0/8", _C.UNSPECIFIED, "this network, RFC 791 section 3.2; Linux dials itself"),
    ("10.0.0.0/8", _C.PRIVATE, "RFC 1918"),
    ("100.64.0.0/10", _C.SHARED, "RFC 6598"),
    ("127.0.0.0/8", _C.LOOPBACK, "RFC 1122 section 3.2.1.3"),
    ("169.254.0.0/16", _C.LINK_LOCAL, "RFC 3927"),
    ("172.16.0.0/12", _C.PRIVATE, "RFC 1918"),
    ("192.0.0.0/24", _C.PROTOCOL, "IETF protocol assignments, RFC 6890"),
    ("192.0.2.0/24", _C.DOCUMENTATION, "TEST-NET-1, RFC 5737"),
    ("192.88.99.0/24", _C.PROTOCOL, "6to4 relay anycast, RFC 7526"),
    ("192.168.0.0/16", _C.PRIVATE, "RFC 1918"),
    ("198.18.0.0/15", _C.BENCHMARKING, "RFC 2544"),
    ("198.51.100.0/24", _C.DOCUMENTATION, "TEST-NET-2, RFC 5737"),
    ("203.0.113.0/24", _C.DOCUMENTATION, "TEST-NET-3, RFC 5737"),
    ("224.0.0.0/4", _C.MULTICAST, "RFC 5771"),
    ("240.0.0.0/4", _C.RESERVED, "RFC 1112 section 4"),
    ("255.255.255.255/32", _C.BROADCAST, "RFC 919 section 7"),
    # Metadata and credential services, each as its provider documents it.
    ("100.100.100.200/32", _C.METADATA, "Alibaba Cloud ECS metadata"),
    ("168.63.129.16/32", _C.METADATA, "Azure wire server; a public address otherwise"),
    ("169.254.0.23/32", _C.METADATA, "Tencent Cloud metadata"),
    ("169.254.42.42/32", _C.METADATA, "Scaleway metadata"),
    ("169.254.169.253/32", _C.METADATA, "Amazon VPC resolver"),
    ("169.254.169.254/32", _C.METADATA, "EC2, Google, Azure, Oracle, OpenStack and others"),
    ("169.254.170.2/32", _C.METADATA, "Amazon ECS task credentials"),
    ("169.254.170.23/32", _C.METADATA, "Amazon EKS pod identity"),
    ("192.0.0.192/32", _C.METADATA, "Oracle Cloud Classic metadata"),
    ("fd00:42::42/128", _C.METADATA, "Scaleway metadata"),
    ("fd00:ec2::23/128", _C.METADATA, "Amazon EKS pod identity"),
    ("fd00:ec2::253/128", _C.METADATA, "Amazon VPC resolver"),
    ("fd00:ec2::254/128", _C.METADATA, "EC2 instance metadata"),
    ("fd20:ce::254/128", _C.METADATA, "Google Compute Engine metadata"),
    # IPv6: reserved unless a row says otherwise.
    ("::/0", _C.RESERVED, "not allocated, IANA IPv6 address space"),
    ("::/96", _C.COMPATIBLE, "RFC 4291 section 2.5.5.1, deprecated"),
    ("::/128", _C.UNSPECIFIED, "RFC 4291 section 2.5.2; Linux dials itself"),
    ("::1/128", _C.LOOPBACK, "RFC 4291 section 2.5.3"),
    ("::ffff:0:0/96", _C.MAPPED, "RFC 4291 section 2.5.5.2"),
    ("::ffff:0:0:0/96", _C.TRANSLATED, "RFC 2765 section 2.1"),
    ("64:ff9b::/96", _C.PUBLIC, "NAT64, RFC 6052: as public as the IPv4 address inside"),
    ("64:ff9b:1::/48", _C.NAT64_LOCAL, "RFC 8215"),
    ("100::/64", _C.DISCARD, "RFC 6666"),
    ("100:0:0:1::/64", _C.RESERVED, "dummy prefix, RFC 9780"),
    ("2000::/3", _C.PUBLIC, "global unicast, RFC 4291 section 2.5.4"),
    ("2001::/23", _C.PROTOCOL, "IETF protocol assignments, RFC 2928"),
    ("2001::/32", _C.TEREDO, "RFC 4380"),
    ("2001:2::/48", _C.BENCHMARKING, "RFC 5180"),
    ("2001:db8::/32", _C.DOCUMENTATION, "RFC 3849"),
    ("2002::/16", _C.SIX_TO_FOUR, "RFC 3056"),
    ("3ffe::/16", _C.RESERVED, "6bone, returned by RFC 3701"),
    ("3fff::/20", _C.DOCUMENTATION, "RFC 9637"),
    ("5f00::/16", _C.SEGMENT_ROUTING, "RFC 9602"),
    ("fc00::/7", _C.PRIVATE, "unique local, RFC 4193"),
    ("fe80::/10", _C.LINK_LOCAL, "RFC 4291 section 2.5.6"),
    ("fec0::/10", _C.SITE_LOCAL, "RFC 3879, deprecated"),
    ("ff00::/8", _C.MULTICAST, "RFC 4291 section 2.7"),
)


def block_of(address: IpAddress) -> Block:
    """Return the row with the longest prefix that holds an address."""
    number = int(address)
    width = address.max_prefixlen
    for length, blocks in _BY_LENGTH[address.version]:
        found = blocks.get(number >> (width - length))
        if found is not None:
            return found
    raise AssertionError("the table has no row for everything else")


def _by_length(version: int) -> list[tuple[int, dict[int, Block]]]:
    """Group the rows of one family by length of prefix, the longest first."""
    lengths: dict[int, dict[int, Block]] = {}
    for text, address_class, source in _ROWS:
        network = ipaddress.ip_network(text)
        if network.version == version:
            length = network.prefixlen
            prefix = int(network.network_address) >> (network.max_prefixlen - length)
            lengths.setdefault(length, {})[prefix] = Block(
                network, address_class, source, f"{network}: {source}"
            )
    return sorted(lengths.items(), reverse=True)


_BY_LENGTH: Final = {version: _by_length(version) for version in (4, 6)}
