"""Keys of leaves: a worker makes them, and they never leave it.

``signed_leaves`` takes one for each leaf. The invariant: no two leaves of one worker have the same
EC key, no worker has another one's, and none is ever the authority's. RSA takes a tenth of a second
of a core, so a worker makes one key at its start and has no other.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from .leaf import LeafKeyKind

__all__ = ["LeafKeys", "LeafPrivateKey", "public_der"]

LeafPrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class LeafKeys:
    """Of one worker."""

    def __init__(self, *, has_rsa: bool) -> None:
        """Make ready.

        Args:
            has_rsa: False gives every leaf an EC key, also where the server has RSA.
        """
        self._rsa = rsa.generate_private_key(_EXPONENT, _RSA_BITS) if has_rsa else None

    def take(self, kind: LeafKeyKind) -> LeafPrivateKey:
        """Return the key for one more leaf."""
        if kind is LeafKeyKind.RSA and self._rsa is not None:
            return self._rsa
        return ec.generate_private_key(ec.SECP256R1())


def public_der(key: LeafPrivateKey) -> bytes:
    """Return what a leaf says of its key."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


_RSA_BITS: Final = 2048
_EXPONENT: Final = 65537
