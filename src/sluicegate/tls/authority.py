"""Authority: a certificate that may sign leaves, and whatever signs with its key.

The signer process has two of them, ``sluicegate ca`` makes them. No I/O of its own: a key of a
token does its own. The invariant: what is signed is what ``leaf`` allows, whoever asks: one host,
no authority, a validity within the authority's own and ``LEAF_LIFETIME_S_MAX``, a name within its
constraints, a fresh random serial.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sluicegate.access_limits import LEAF_LIFETIME_S_MAX, LEAF_SERIAL_BITS

from .leaf import LeafFacts, name_of
from .leaf_fault import LeafFault, LeafRefused
from .leaf_source import Leaf
from .name_constraints import is_permitted

__all__ = [
    "Authority",
    "AuthorityUnusable",
    "SigningKey",
    "check_authority",
    "hash_for",
    "key_identifier",
    "usage",
]

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


class AuthorityUnusable(Exception):
    """A certificate and a key that cannot sign leaves together."""


class Authority:
    """One authority, for as long as its process lives."""

    def __init__(self, chain: Sequence[x509.Certificate], key: SigningKey) -> None:
        """Put certificate and key together.

        Args:
            chain: Its own certificate, and what is sent to clients with each leaf.
            key: Its private key, or what signs in its place.

        Raises:
            AuthorityUnusable: They are not each other's, or it is no authority.
        """
        self.certificate = chain[0]
        check_authority(self.certificate, key.public_key())
        #: Not what begins a chain: whoever trusts a root has it.
        self.above = tuple(
            one.public_bytes(serialization.Encoding.DER)
            for one in chain
            if one.issuer != one.subject
        )
        self.name = name_for_people(self.certificate)
        self._key = key
        self._issuer_identifier = x509.AuthorityKeyIdentifier(
            key_identifier(self.certificate), None, None
        )
        self._first = int(self.certificate.not_valid_before_utc.timestamp())
        self._last = int(self.certificate.not_valid_after_utc.timestamp())

    def sign(self, facts: LeafFacts, now: float) -> Leaf:
        """Make a leaf.

        Args:
            facts: What it says, as a worker wants it.
            now: Seconds since the epoch.

        Raises:
            LeafRefused: It is none that this authority signs.
        """
        name = self._name(facts.host)
        first, last = self._validity(facts, now)
        try:
            public_key = serialization.load_der_public_key(facts.public_key)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise LeafRefused(LeafFault.SIGNER_FAILED, "the key cannot be read") from error
        if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise LeafRefused(LeafFault.SIGNER_FAILED, "a key of an unknown kind")
        serial = secrets.randbits(LEAF_SERIAL_BITS) or 1
        subject = _subject(facts.host, name)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.certificate.subject)
            .subject_name(subject)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(dt.datetime.fromtimestamp(first, dt.UTC))
            .not_valid_after(dt.datetime.fromtimestamp(last, dt.UTC))
            .add_extension(_NO_AUTHORITY, critical=True)
            .add_extension(_usage_of(public_key), critical=True)
            .add_extension(_FOR_SERVERS, critical=False)
            # RFC 5280 section 4.2.1.6: critical where there is no subject.
            .add_extension(x509.SubjectAlternativeName([name]), critical=not subject.rdns)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._issuer_identifier, critical=False)
        )
        signed = builder.sign(self._key, hash_for(self._key))
        return Leaf(
            facts.host,
            signed.public_bytes(serialization.Encoding.DER),
            self.above,
            serial,
            self.name,
            first,
            last,
            facts.is_trusted,
        )

    def _name(self, host: str) -> x509.GeneralName:
        try:
            name = name_of(host)
        except ValueError as error:
            raise LeafRefused(LeafFault.NAME, str(error)) from error
        if not is_permitted(name, self.certificate):
            raise LeafRefused(LeafFault.NOT_PERMITTED, f"{host} by {self.name}")
        return name

    def _validity(self, facts: LeafFacts, now: float) -> tuple[int, int]:
        if not self._first <= now <= self._last:
            raise LeafRefused(LeafFault.AUTHORITY_EXPIRED, self.name)
        first, last = max(facts.not_before, self._first), min(facts.not_after, self._last)
        if not first <= now <= last or last - first >= LEAF_LIFETIME_S_MAX:
            raise LeafRefused(LeafFault.VALIDITY, f"{first} to {last}")
        return first, last


def check_authority(certificate: x509.Certificate, public_key: object) -> None:
    """Check that a certificate is an authority's, and that a key is its own.

    Raises:
        AuthorityUnusable: It is not.
    """
    own = certificate.public_key()
    if not isinstance(own, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise AuthorityUnusable("its key is neither EC nor RSA: clients do not know it")
    if isinstance(own, rsa.RSAPublicKey) and own.key_size < _RSA_BITS_MIN:
        raise AuthorityUnusable(f"its RSA key has {own.key_size} bits: clients want 2048")
    if own != public_key:
        raise AuthorityUnusable("the key is another certificate's")
    basic = extension_of(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise AuthorityUnusable("it is no authority (basicConstraints CA:TRUE is missing)")
    allowed = extension_of(certificate, x509.KeyUsage)
    if allowed is not None and not allowed.key_cert_sign:
        raise AuthorityUnusable("it may not sign certificates (keyUsage keyCertSign is missing)")


def key_identifier(certificate: x509.Certificate) -> bytes:
    """Return the identifier of an authority's key: as its certificate says, else a digest."""
    own = extension_of(certificate, x509.SubjectKeyIdentifier)
    if own is None:
        own = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return own.digest


def hash_for(key: SigningKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that goes with a signing key."""
    is_large = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > _P256_BITS
    return hashes.SHA384() if is_large else hashes.SHA256()


def usage(*, signs_certificates: bool = False, encrypts_keys: bool = False) -> x509.KeyUsage:
    """Return what a key may be used for: an authority's, or a server's."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=encrypts_keys,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def name_for_people(certificate: x509.Certificate) -> str:
    """Return the common name of a certificate's subject, or the whole subject."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = found[0].value if found else certificate.subject.rfc4514_string()
    return text if isinstance(text, str) else certificate.subject.rfc4514_string()


_RSA_BITS_MIN: Final = 2048
_P256_BITS: Final = 256
_COMMON_NAME_CHARACTERS_MAX: Final = 64
"""Of a common name (RFC 5280, ub-common-name)."""
_NO_AUTHORITY: Final = x509.BasicConstraints(ca=False, path_length=None)
_FOR_SERVERS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_OF_EC: Final = usage()
_OF_RSA: Final = usage(encrypts_keys=True)


def _usage_of(public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> x509.KeyUsage:
    return _OF_RSA if isinstance(public_key, rsa.RSAPublicKey) else _OF_EC


def _subject(host: str, name: x509.GeneralName) -> x509.Name:
    """Return the name once more, for tools that show subjects.

    An address is none: OpenSSL would hold it against constraints on names.
    """
    if isinstance(name, x509.IPAddress) or len(host) > _COMMON_NAME_CHARACTERS_MAX:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])


def extension_of(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    """Return an extension; None when there is none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension) as error:
        raise AuthorityUnusable(f"its extensions cannot be read: {error}") from error
