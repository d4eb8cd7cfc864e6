"""ServerIdentity: who a server is, as its TLS has shown it and as we have verified that.

``server_stream`` makes one of each handshake; leaves are minted, pools kept and records written by
it. The invariant: two identities are equal only if everything that a client could tell apart about
the two servers is equal: the host, every certificate, and what is wrong with them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from .server_fault import ServerFault

__all__ = ["ServerFailure", "ServerIdentity", "ServerName", "ServerProof"]


@dataclass(frozen=True, slots=True)
class ServerName:
    """Who a server has to be."""

    host: str
    """The canonical name, or the address, that was judged."""
    port: int
    is_address: bool = False


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """One server, after the handshake with it."""

    host: str
    """The canonical name, or the address, that was judged, asked for, and verified."""
    port: int
    chain: tuple[bytes, ...]
    """Certificates as DER, its own first: as verified, up to the authority; as it showed them where
    ``fault`` is not None."""
    key_type: str
    """Of its own key: ``ec-secp256r1``, ``rsa-2048``, ``ed25519``."""
    not_before: float
    not_after: float
    """When its own certificate is valid; seconds since the epoch."""
    names: tuple[str, ...]
    """DNS names and addresses that its certificate is for, as they are written there."""
    issuer: str
    """Who signed its certificate, for people."""
    version: str
    """``TLSv1.3``."""
    cipher: str
    """``TLS_AES_128_GCM_SHA256``."""
    alpn: str = ""
    """What it chose of the protocols offered; empty: none."""
    wants_certificate: bool = False
    """It asked for a client's certificate, and got none."""
    fault: ServerFault | None = None
    """What is wrong; None: verified."""
    fault_detail: str = ""
    fingerprint: bytes = field(init=False, repr=False, compare=False)
    """A SHA-256 over the whole chain."""

    def __post_init__(self) -> None:
        """Digest the chain once: connections that share a server ask for it each time."""
        digest = hashlib.sha256()
        for one in self.chain:
            digest.update(len(one).to_bytes(4, "big"))
            digest.update(one)
        object.__setattr__(self, "fingerprint", digest.digest())

    @property
    def is_verified(self) -> bool:
        """Whether it is who it should be."""
        return self.fault is None

    @property
    def verification(self) -> str:
        """Return ``verified``, or the code of what is wrong."""
        return "verified" if self.fault is None else self.fault.code


@dataclass(frozen=True, slots=True)
class ServerProof:
    """What the handshake of a connection that is open has proved."""

    identity: ServerIdentity
    """Verified."""
    offered: tuple[str, ...]
    """What it could choose from by ALPN."""
    good_until: float
    """When it has to be verified anew; seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ServerFailure:
    """A handshake with a server that came to nothing."""

    fault: ServerFault
    detail: str = ""
    """What OpenSSL says, or the server."""
    identity: ServerIdentity | None = None
    """Who it seems to be: None where it showed no certificate that can be read."""

    @property
    def reason(self) -> str:
        """Return what records say: the code, and what is known beyond."""
        return f"{self.fault.code}: {self.detail}" if self.detail else self.fault.code
