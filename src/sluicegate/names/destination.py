"""What a lookup ends in: the one object that policy judged and the connector dials, or a refusal.

The resolver makes them; a judge is what policy gives it. The invariant: a destination is immutable
and holds every address it was judged by, so that nothing between judgement and dial asks again
(rebinding has no moment to happen in).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from sluicegate.address import SocketAddress
from sluicegate.verdict import Deny

from .address_class import AddressJudgement
from .host import CanonicalHost
from .literals import address_text

__all__ = [
    "Destination",
    "DestinationJudge",
    "JudgedAddress",
    "LookupReason",
    "Unresolved",
    "deny_unless_public",
]


class LookupReason(enum.StrEnum):
    """Why a host became no destination; goes into records as it is."""

    NAME_DENIED = "name-denied"
    SPECIAL_NAME = "name-special"
    """The name means something outside DNS, or leads to a metadata service."""

    ALIAS_DENIED = "alias-denied"
    ADDRESS_DENIED = "address-denied"
    """Every address was refused."""

    ADDRESSES_MIXED = "addresses-mixed"
    """Some addresses were refused and some not, and the gate is to refuse then."""

    NO_SUCH_NAME = "dns-no-such-name"
    NO_ADDRESS = "dns-no-address"
    ALIAS_LOOP = "dns-alias-loop"
    ALIAS_INVALID = "dns-alias-invalid"
    TOO_MANY_RECORDS = "dns-too-many-records"
    MALFORMED = "dns-malformed"
    SERVER_FAILED = "dns-server-failed"
    SERVERS_SILENT = "dns-servers-silent"
    SERVERS_UNREACHABLE = "dns-servers-unreachable"
    NO_SERVERS = "dns-no-servers"
    TOO_MANY_LOOKUPS = "dns-too-many-lookups"
    CLOSED = "dns-resolver-closed"


class DestinationJudge(Protocol):
    """What policy says of a destination; pure, asked in this order, None is consent.

    The resolver asks ``judge_name`` before anything else: a name that is refused causes no query.
    """

    def judge_name(self, host: CanonicalHost, port: int) -> Deny | None:
        """Say whether a client may name this host (or address) and port."""
        ...

    def judge_alias(self, host: CanonicalHost, alias: CanonicalHost, port: int) -> Deny | None:
        """Say whether ``host`` may be an alias of ``alias``; asked for every link of a chain.

        Content networks make aliases of names that no rule lists, so this is the place for names
        that are refused, rather than for those that are allowed.
        """
        ...

    def judge_address(
        self, host: CanonicalHost, judgement: AddressJudgement, port: int
    ) -> Deny | None:
        """Say whether ``host`` may have this address; asked again before each dial of it.

        A rule that names addresses is held against ``judgement.meant``, not the address alone.
        """
        ...


def deny_unless_public(judgement: AddressJudgement) -> Deny | None:
    """Refuse what is not public: the answer of a judge that has no rule about addresses."""
    if judgement.is_public:
        return None
    return Deny(f"{address_text(judgement.address)} is {judgement.address_class}: {judgement.why}")


@dataclass(frozen=True, slots=True)
class JudgedAddress:
    """One address of a destination with what was found and decided."""

    judgement: AddressJudgement
    denial: Deny | None = None
    """Why it may not be dialled; None when it may."""

    def socket_address(self, port: int) -> SocketAddress:
        """Return what a socket dials."""
        return SocketAddress(address_text(self.judgement.address), port)


@dataclass(frozen=True, slots=True)
class Destination:
    """A judged destination; made by the resolver, dialled as it is."""

    host: CanonicalHost
    port: int
    addresses: tuple[JudgedAddress, ...]
    """Every address, in the servers' order, the refused ones included."""

    aliases: tuple[CanonicalHost, ...] = ()
    """The names that the host is an alias of, each judged."""

    expires_at_s: float | None = None
    """When it may no longer be dialled, on the resolver's monotonic clock; None for an address."""

    @property
    def dialable(self) -> tuple[JudgedAddress, ...]:
        """The addresses that may be dialled; at least one."""
        return tuple(one for one in self.addresses if one.denial is None)

    @property
    def found(self) -> tuple[str, ...]:
        """What was found for a name, as records write it; nothing for an address."""
        return _texts_of(self.host, self.addresses)

    def is_expired(self, now_s: float) -> bool:
        """Tell whether it has to be resolved and judged anew before a dial."""
        return self.expires_at_s is not None and now_s >= self.expires_at_s


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A host that became no destination, and why: nothing is dialled."""

    host: CanonicalHost
    port: int
    reason: LookupReason
    detail: str
    """For people: the judge's reason, the server's answer."""

    addresses: tuple[JudgedAddress, ...] = ()
    """What was found before it was refused, for the record."""

    aliases: tuple[CanonicalHost, ...] = ()

    @property
    def found(self) -> tuple[str, ...]:
        """What was found for a name, as records write it; nothing for an address."""
        return _texts_of(self.host, self.addresses)


def _texts_of(host: CanonicalHost, addresses: tuple[JudgedAddress, ...]) -> tuple[str, ...]:
    if host.is_address:
        return ()
    return tuple([str(one.judgement.address) for one in addresses])
