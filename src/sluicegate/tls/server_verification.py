"""ServerVerification: what one handshake with a server proves about it.

OpenSSL's callbacks (``server_context``) tell it of each certificate of the chain, of a stapled
answer, and of a wish for our certificate; ``server_engine`` asks at the end. The invariant: without
a fault there was a chain to an authority of the settings, its first certificate was for this very
server, and a stapled answer, where there has to be one, says that it is good. A fault is found in
the handshake, so that a server that is refused is told so by an alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL, crypto

from sluicegate.protocols.text import printable

from .engine import CODE_WORDS
from .server_fault import ServerFault, fault_of
from .server_identity import ServerIdentity, ServerName
from .server_names import is_for, names_of
from .server_settings import Revocation, ServerTlsSettings, Stapling
from .staple import demands_staple, read_staple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ServerVerification"]


class ServerVerification:
    """The proof of one handshake; it is the ``app_data`` of its connection."""

    __slots__ = (
        "_is_named",
        "_seen",
        "_settings",
        "accepts_unverified",
        "detail",
        "fault",
        "good_until",
        "now",
        "server",
        "wants_certificate",
    )

    def __init__(
        self, settings: ServerTlsSettings, server: ServerName, now: float, *, accepts: bool
    ) -> None:
        self.server = server
        self.accepts_unverified = accepts
        #: Whether the handshake is to go on all the same, so that it can be told who that is.
        self.now = now
        #: Seconds since the epoch: OpenSSL looks at the machine's clock, too.
        self.fault: ServerFault | None = None
        self.detail = ""
        self.good_until = float("inf")
        self.wants_certificate = False
        self._settings = settings
        self._is_named = False
        #: Whether the first certificate's names were looked at.
        self._seen: dict[int, crypto.X509] = {}
        #: Certificates that OpenSSL has asked about, by their depth.

    # -- OpenSSL's questions -------------------------------------------------------------------

    def on_certificate(
        self, certificate: crypto.X509, error: int, depth: int, *, is_good: bool
    ) -> bool:
        """Take what OpenSSL finds about a certificate; False ends the handshake."""
        self._seen[depth] = certificate
        if is_good:
            if depth == 0:
                self._check_leaf(certificate)
        elif not (error == _NO_LIST and self._settings.revocation is Revocation.KNOWN):
            words = CODE_WORDS.get(error, str(error))
            self.note(fault_of(error), words if depth == 0 else f"{words}, {depth} above its own")
        return self.fault is None or self.accepts_unverified

    def on_staple(self, answer: bytes, chain: Sequence[crypto.X509] | None) -> bool:
        """Take what the server stapled, which may be nothing; False ends the handshake."""
        if self._seen and self.fault is None:
            self._judge_staple(answer, chain or ())
        return self.fault is None or self.accepts_unverified

    @property
    def is_shown(self) -> bool:
        """Whether the server has shown certificates: it shows none when a session is resumed."""
        return bool(self._seen)

    # -- judging -------------------------------------------------------------------------------

    def note(self, fault: ServerFault, detail: str) -> None:
        """Note what is wrong; the first stays, but nothing hides that a certificate was revoked."""
        if self.fault is None or fault is ServerFault.REVOKED:
            self.fault, self.detail = fault, detail

    def _check_leaf(self, certificate: crypto.X509) -> None:
        self._is_named = True
        try:
            leaf = certificate.to_cryptography()
            if not is_for(leaf, self.server):
                names = ", ".join(names_of(leaf)[:_NAMES_SHOWN]) or "none"
                self.note(ServerFault.WRONG_HOST, f"it has the names {_said(names)}")
        except ValueError as error:
            self.note(ServerFault.UNREADABLE, _said(str(error)))

    def _judge_staple(self, answer: bytes, chain: Sequence[crypto.X509]) -> None:
        """Judge a stapled answer, once the chain was verified."""
        try:
            leaf = self._seen[0].to_cryptography()
            is_needed = self._settings.stapling is Stapling.REQUIRED or demands_staple(leaf)
            if not answer or len(chain) < _LEAF_AND_ISSUER:
                # Nobody answers for a certificate that is an authority itself.
                if is_needed:
                    self.note(ServerFault.STAPLE_MISSING, "")
                return
            staple = read_staple(answer, leaf, chain[1].to_cryptography(), self.now)
        except ValueError as error:
            self.note(ServerFault.UNREADABLE, _said(str(error)))
            return
        if staple.fault is None:
            self.good_until = min(self.good_until, staple.until)
        elif staple.fault is not ServerFault.STAPLE_MISSING or is_needed:
            self.note(staple.fault, staple.detail)

    # -- the end -------------------------------------------------------------------------------

    def identity(self, connection: SSL.Connection) -> ServerIdentity | None:
        """Return who the server is; None where its certificate cannot be read.

        Args:
            connection: Its handshake is done, or has failed.
        """
        if not self._is_named and 0 in self._seen:
            self._check_leaf(self._seen[0])
        try:
            return self._read_identity(self._chain(connection), connection)
        except (ValueError, UnsupportedAlgorithm) as error:
            self.note(ServerFault.UNREADABLE, _said(str(error)))
            return None

    def _chain(self, connection: SSL.Connection) -> list[x509.Certificate]:
        """Return the chain: as verified, else as shown, else as far as OpenSSL looked at it."""
        if self.fault is None:
            found = connection.get_verified_chain(as_cryptography=True)
        else:
            found = connection.get_peer_cert_chain(as_cryptography=True)
        if found:
            return found
        chain: list[x509.Certificate] = []
        while len(chain) in self._seen:
            chain.append(self._seen[len(chain)].to_cryptography())
        return chain

    def _read_identity(
        self, chain: list[x509.Certificate], connection: SSL.Connection
    ) -> ServerIdentity | None:
        if not chain:
            return None
        leaf = chain[0]
        ends = min(one.not_valid_after_utc.timestamp() for one in chain)
        self.good_until = min(self.good_until, ends)
        return ServerIdentity(
            host=self.server.host,
            port=self.server.port,
            chain=tuple(one.public_bytes(_DER) for one in chain),
            key_type=_key_type(leaf),
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            names=names_of(leaf),
            issuer=_said(leaf.issuer.rfc4514_string()),
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            alpn=connection.get_alpn_proto_negotiated().decode("ascii", "replace"),
            wants_certificate=self.wants_certificate,
            fault=self.fault,
            fault_detail=self.detail,
        )


def _said(text: str) -> str:
    """Make something that a certificate says fit for a record."""
    return printable(text.encode("utf-8", "replace"))[:_SAID_CHARACTERS]


def _key_type(leaf: x509.Certificate) -> str:
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ec-{key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lower()


_DER: Final = serialization.Encoding.DER
_NO_LIST: Final = SSL.X509VerificationCodes.ERR_UNABLE_TO_GET_CRL
_LEAF_AND_ISSUER: Final = 2
_NAMES_SHOWN: Final = 4
_SAID_CHARACTERS: Final = 256
