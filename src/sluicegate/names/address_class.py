"""The one classifier of addresses: what an address is for, and why it is or is not public.

The resolver judges every address with it before and at the dial; policy decides on its answer. It
looks the address up, and every IPv4 address that hides in it. The invariant: an address is public
only if it is so itself and everything embedded in it is; what is not understood is not public.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from sluicegate.address import IpAddress

from .address_blocks import AddressClass, block_of
from .embeddings import Embedding, EmbeddingKind, check_nat64_prefix, embedded_addresses
from .literals import address_text

__all__ = ["AddressClass", "AddressClassifier", "AddressJudgement", "Embedding", "classify"]


@dataclass(frozen=True, slots=True)
class AddressJudgement:
    """What one address was found to be."""

    address: IpAddress
    address_class: AddressClass
    why: str
    """For the record: the block with its source, and the embedding that led there."""

    embedded: tuple[Embedding, ...] = ()
    """Every IPv4 address inside."""

    @property
    def is_public(self) -> bool:
        """Whether the address is meant to be reached from everywhere."""
        return self.address_class is AddressClass.PUBLIC

    @property
    def meant(self) -> tuple[IpAddress, ...]:
        """The address and all that are inside: what a rule that names addresses has to look at.

        Through NAT64 ``64:ff9b::c000:201`` is ``192.0.2.1``, and a rule against the latter is
        against both.
        """
        return (self.address, *(found.address for found in self.embedded))


class AddressClassifier:
    """Judges addresses for one gate on one network; immutable, replaced when those change.

    Args:
        own: The addresses of every interface and listener of the gate, and of what it alone may
            reach (console, scanner, metrics). A listener on a wildcard address means them all.
        nat64_prefixes: Prefixes of NAT64 translators of this network.

    Raises:
        ValueError: A NAT64 prefix is of a length that RFC 6052 does not have.
    """

    __slots__ = ("_nat64_prefixes", "_own")

    def __init__(
        self,
        own: Iterable[IpAddress] = (),
        nat64_prefixes: Iterable[ipaddress.IPv6Network] = (),
    ) -> None:
        self._own = frozenset(map(_without_zone, own))
        self._nat64_prefixes = tuple(nat64_prefixes)
        for prefix in self._nat64_prefixes:
            check_nat64_prefix(prefix)

    def classify(self, address: IpAddress) -> AddressJudgement:
        """Judge one address."""
        address = _without_zone(address)
        if isinstance(address, ipaddress.IPv4Address):
            address_class, why = self._judge_plain(address)
            return AddressJudgement(address, address_class, why)
        embedded = embedded_addresses(address, self._nat64_prefixes)
        address_class, why = self._judge_whole(address, embedded)
        return AddressJudgement(address, address_class, why, embedded)

    def _judge_whole(
        self, address: ipaddress.IPv6Address, embedded: tuple[Embedding, ...]
    ) -> tuple[AddressClass, str]:
        address_class, why = self._judge_plain(address)
        if address_class in _NAMED_BEFORE_EMBEDDED:
            return address_class, why
        kinds = {found.kind for found in embedded}
        if EmbeddingKind.NAT64_NETWORK in kinds:
            # The operator says that a translator has this prefix, whatever the table says of it.
            address_class, why = AddressClass.PUBLIC, "NAT64 of this network, RFC 6052"
        for found in embedded:
            inner_class, inner_why = self._judge_plain(found.address)
            if inner_class is not AddressClass.PUBLIC:
                return inner_class, f"{found.kind} {found.address}: {inner_why}"
        if address_class is AddressClass.PUBLIC and EmbeddingKind.ISATAP in kinds:
            # An intra-site tunnel: what is behind it is not what the prefix says.
            return AddressClass.ISATAP, "RFC 5214"
        return address_class, why

    def _judge_plain(self, address: IpAddress) -> tuple[AddressClass, str]:
        if self._own and address in self._own:
            return AddressClass.OWN, f"{address_text(address)} is the gate's own"
        block = block_of(address)
        return block.address_class, block.why


def _without_zone(address: IpAddress) -> IpAddress:
    """Return the address itself: on another link it is the same to the table."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return ipaddress.IPv6Address(int(address))


_NAMED_BEFORE_EMBEDDED = frozenset({AddressClass.OWN, AddressClass.METADATA})
"""Classes of the whole address that say more than any part of it."""

_ANYWHERE = AddressClassifier()


def classify(address: IpAddress) -> AddressJudgement:
    """Judge an address as it is everywhere, without a gate's own addresses or translators."""
    return _ANYWHERE.classify(address)
