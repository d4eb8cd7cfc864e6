"""IPv4 addresses inside IPv6 addresses: every way in which one can be written, unwrapped.

``classify.py`` judges what is found here beside the address itself. The invariant: an IPv4 address
that some translator, tunnel or host would take out of an IPv6 address is found, whichever of them
the packet may meet.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Embedding", "EmbeddingKind", "check_nat64_prefix", "embedded_addresses"]


class EmbeddingKind(enum.StrEnum):
    """How an IPv4 address is written into an IPv6 address."""

    MAPPED = "mapped"
    COMPATIBLE = "compatible"
    TRANSLATED = "translated"
    NAT64 = "nat64"
    NAT64_LOCAL = "nat64-local"
    NAT64_NETWORK = "nat64-network"
    SIX_TO_FOUR = "6to4"
    TEREDO_SERVER = "teredo-server"
    TEREDO_CLIENT = "teredo-client"
    ISATAP = "isatap"


@dataclass(frozen=True, slots=True)
class Embedding:
    """One IPv4 address found inside an IPv6 address."""

    kind: EmbeddingKind
    address: ipaddress.IPv4Address


def embedded_addresses(
    address: ipaddress.IPv6Address, nat64_prefixes: Iterable[ipaddress.IPv6Network] = ()
) -> tuple[Embedding, ...]:
    """Find every IPv4 address that may be meant by an IPv6 address.

    Args:
        address: The address to look into.
        nat64_prefixes: The translators' own prefixes of this network (RFC 6052 section 2.2), each
            32, 40, 48, 56, 64 or 96 bits long.
    """
    number = int(address)
    networks = [prefix for prefix in nat64_prefixes if address in prefix]
    found = [
        (EmbeddingKind.NAT64_NETWORK, _nat64(number, prefix.prefixlen)) for prefix in networks
    ] or list(_by_prefix(number))
    if number >> 32 & _ISATAP_MASK == _ISATAP_IDENTIFIER:
        found.append((EmbeddingKind.ISATAP, number & _LOW_32))
    return tuple(Embedding(kind, ipaddress.IPv4Address(inner)) for kind, inner in found)


def check_nat64_prefix(prefix: ipaddress.IPv6Network) -> None:
    """Refuse a prefix of a length that RFC 6052 section 2.2 does not have.

    Raises:
        ValueError: It is none of 32, 40, 48, 56, 64 and 96 bits.
    """
    if prefix.prefixlen not in _NAT64_LENGTHS:
        raise ValueError(f"{prefix} is no NAT64 prefix: 32, 40, 48, 56, 64 or 96 bits (RFC 6052)")


def _by_prefix(number: int) -> Iterator[tuple[EmbeddingKind, int]]:
    """Find what the well-known prefixes announce."""
    if number >> 80 == _NAT64_LOCAL_PREFIX:
        # Any longer prefix may have been chosen below this one, so all readings are judged; those
        # in 0.0.0.0/8 are what a reading finds beside the address.
        for inner in dict.fromkeys(_nat64(number, length) for length in (48, 56, 64, 96)):
            if inner > _ZERO_NETWORK:
                yield EmbeddingKind.NAT64_LOCAL, inner
    elif number > 1:  # the unspecified and the loopback address have no IPv4 inside
        for kind, length, prefix, shift in _PREFIXES:
            if number >> (128 - length) == prefix:
                inner = number >> shift & _LOW_32
                # RFC 4380 section 4: the client's address is sent with every bit inverted.
                yield kind, inner ^ _LOW_32 if kind is EmbeddingKind.TEREDO_CLIENT else inner


def _nat64(number: int, length: int) -> int:
    """Take the IPv4 address that follows a prefix, around bits 64 to 71 (RFC 6052 section 2.2)."""
    if length > 64:  # noqa: PLR2004 - only 96: behind those bits
        return number & _LOW_32
    without = (number >> 64 << 56) | (number & ((1 << 56) - 1))
    return without >> (120 - length - 32) & _LOW_32


_LOW_32: Final = 0xFFFF_FFFF
_ZERO_NETWORK: Final = 0x00FF_FFFF
_NAT64_LOCAL_PREFIX: Final = 0x0064_FF9B_0001  # 64:ff9b:1::/48, RFC 8215

_PREFIXES: Final = (
    # Kind, length and value of the prefix, bits behind the IPv4 address.
    (EmbeddingKind.COMPATIBLE, 96, 0, 0),  # RFC 4291 section 2.5.5.1
    (EmbeddingKind.MAPPED, 96, 0xFFFF, 0),  # RFC 4291 section 2.5.5.2
    (EmbeddingKind.TRANSLATED, 96, 0xFFFF_0000, 0),  # RFC 2765 section 2.1
    (EmbeddingKind.NAT64, 96, 0x0064_FF9B << 64, 0),  # RFC 6052 section 2.1
    (EmbeddingKind.SIX_TO_FOUR, 16, 0x2002, 80),  # RFC 3056 section 2
    (EmbeddingKind.TEREDO_SERVER, 32, 0x2001_0000, 64),  # RFC 4380 section 4
    (EmbeddingKind.TEREDO_CLIENT, 32, 0x2001_0000, 0),
)

_NAT64_LENGTHS: Final = {32, 40, 48, 56, 64, 96}

# RFC 5214 section 6.1: ::0:5efe:a.b.c.d, or ::200:5efe:a.b.c.d with the universal bit; the group
# bit is masked too, because hosts that ignore one ignore both.
_ISATAP_MASK: Final = 0xFCFF_FFFF
_ISATAP_IDENTIFIER: Final = 0x0000_5EFE
