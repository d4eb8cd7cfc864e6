"""ServerTlsSettings: how servers are verified, and what is said to them.

``app`` makes them of ``sluicegate.toml``, ``server_context`` puts them into OpenSSL's form. The
invariant: there is no setting by which a server is believed that nobody vouches for, or one that
speaks less than TLS 1.2.
"""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass, field

__all__ = ["MinimumKey", "Revocation", "ServerTlsSettings", "Stapling"]


class MinimumKey(enum.StrEnum):
    """The shortest keys that are believed in a chain.

    They are OpenSSL's security levels 2 and 3, which also say that no signature in a chain may be
    by MD5 or SHA-1.
    """

    RSA_2048 = "rsa-2048"
    """RSA with 2048 bits, curves with 224: 112 bits of security."""
    RSA_3072 = "rsa-3072"
    """RSA with 3072 bits, curves with 256: 128 bits of security."""


class Revocation(enum.StrEnum):
    """What lists of revoked certificates are asked about."""

    OFF = "off"
    KNOWN = "known"
    """Certificates of issuers of whom there is a list, which has to be valid."""
    REQUIRED = "required"
    """All certificates: an issuer without a valid list is not believed."""


class Stapling(enum.StrEnum):
    """When a server has to staple an answer of its authority to its certificate (OCSP)."""

    DEMANDED = "demanded"
    """When its certificate demands it (RFC 7633); one that is stapled unasked has to be good."""
    REQUIRED = "required"
    """Always."""


@dataclass(frozen=True, slots=True)
class ServerTlsSettings:
    """How servers are verified, and what is said to them; certificates, keys and lists as PEM."""

    authorities: str
    """Who vouches for servers; nobody else does."""
    revocation: Revocation = Revocation.OFF
    revocations: str = ""
    """Lists of revoked certificates."""
    stapling: Stapling = Stapling.DEMANDED
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    minimum_key: MinimumKey = MinimumKey.RSA_2048
    certificate: str = ""
    """Ours, for servers that want one, and what leads from it to an authority; empty: none."""
    key: str = field(default="", repr=False)
    are_shared: bool = True
    """Whether connections of one client whose TLS is opened may use the same ones to servers."""
