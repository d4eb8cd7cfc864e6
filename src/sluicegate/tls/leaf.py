"""What a leaf says: the certificate that a client sees in the place of the server's own.

``leaf_source`` asks for one by the facts here, ``authority`` signs exactly these. No I/O. The
invariant: a leaf is for the one host that the client asked for and that was judged, for no
wildcard, and for no longer than the server's own certificate or ``LEAF_LIFETIME_S_MAX``; nothing
else of the server's certificate is copied, its revocation lists and responders least of all.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from sluicegate.access_limits import (
    LEAF_BACKDATE_S,
    LEAF_LIFETIME_S_MAX,
    LEAF_UNTRUSTED_LIFETIME_S,
)

from .server_identity import ServerIdentity

__all__ = ["LeafFacts", "LeafKeyKind", "key_kind_of", "name_of", "validity_of"]


class LeafKeyKind(enum.StrEnum):
    """The key of a leaf."""

    EC = "ec"
    """ECDSA with P-256, which every client knows; also where the server has Ed25519 or another
    curve."""
    RSA = "rsa"
    """RSA with 2048 bits: a server that has one may have clients that know nothing else."""


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What is to be certified."""

    host: str
    """A canonical name or address."""
    public_key: bytes
    """DER SubjectPublicKeyInfo of the worker's key."""
    not_before: int
    not_after: int
    """The first and the last second; since the epoch."""
    is_trusted: bool
    """Whether the server was verified. Else the untrusted authority signs."""


def key_kind_of(identity: ServerIdentity) -> LeafKeyKind:
    """Return what kind of key a leaf has that mirrors this server."""
    return LeafKeyKind.RSA if identity.key_type.startswith("rsa") else LeafKeyKind.EC


def validity_of(identity: ServerIdentity, now: float) -> tuple[int, int]:
    """Return the first and the last second of a leaf that is made now.

    Both ends count (RFC 5280 section 4.1.2.5).
    """
    first = int(now) - LEAF_BACKDATE_S
    if not identity.is_verified:
        return first, int(now) + LEAF_UNTRUSTED_LIFETIME_S
    first = max(first, int(identity.not_before))
    return first, min(int(identity.not_after), first + LEAF_LIFETIME_S_MAX - 1)


def name_of(host: str) -> x509.GeneralName:
    """Return a host as an alternative name.

    Raises:
        ValueError: It is no name of one host: empty, with a wildcard, or not ASCII.
    """
    if "%" not in host:  # a zone is this machine's business
        try:
            return x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            pass
    if not host or not set(host) <= _OF_NAMES:
        raise ValueError(f"no leaf can be made for {host!r}")
    return x509.DNSName(host)


_OF_NAMES: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
"""What a canonical name consists of; a wildcard is none."""
