"""The certificates of the demonstration's TLS servers: a good one, and some that are not.

``live`` writes them beside the servers' files. The invariant: their authority's key is never
written, and is forgotten with the demonstration.
"""

from __future__ import annotations

import pathlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sluicegate.tls.authority import Authority
from sluicegate.tls.authority_certificate import self_signed
from sluicegate.tls.leaf import LeafFacts

__all__ = ["SERVERS_AUTHORITY", "TLS_SERVERS", "write_certificates"]

TLS_SERVERS: Final = ("tls", "own", "expired", "other")
"""One that is opened, one that is passed on, one whose certificate has expired, and one whose
certificate is another host's."""

SERVERS_AUTHORITY: Final = "servers.pem"
"""The file with the authority that vouches for them."""


def write_certificates(folder: pathlib.Path, now: float) -> None:
    """Write the authority's certificate, and of each server a file with certificate and key.

    Args:
        folder: Where to.
        now: Seconds since the epoch.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    before = now - _AGO_S
    authority = Authority([self_signed(key, "the servers' authority", before, _DAYS)], key)
    pem = authority.certificate.public_bytes(serialization.Encoding.PEM)
    (folder / SERVERS_AUTHORITY).write_bytes(pem)
    for name in TLS_SERVERS:
        host = "other.example" if name == "other" else "127.0.0.1"
        begins = before if name == "expired" else now
        path = folder / f"{name}.pem"
        path.touch(0o600)
        path.write_bytes(_certificate(authority, host, begins))


def _certificate(authority: Authority, host: str, now: float) -> bytes:
    """Return a certificate of ten days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    first = int(now) - _BACKDATE_S
    facts = LeafFacts(host, public, first, first + _LEAF_S, is_trusted=True)
    signed = x509.load_der_x509_certificate(authority.sign(facts, now).certificate)
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


_AGO_S: Final = 40 * 86400
_DAYS: Final = 400
_BACKDATE_S: Final = 3600
_LEAF_S: Final = 10 * 86400
