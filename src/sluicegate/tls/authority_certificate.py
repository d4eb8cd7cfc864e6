"""Certificates of authorities: made for ``sluicegate ca``, and vouched for by their predecessors.

``app.authority_store`` keeps them. No I/O but that of a token's key. The invariant: an authority
signs leaves and one successor, nothing below that; what clients check strictly is there (RFC 5280
section 4.2.1).
"""

from __future__ import annotations

import datetime as dt
import secrets

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from sluicegate.access_limits import LEAF_BACKDATE_S, LEAF_SERIAL_BITS

from .authority import SigningKey, hash_for, key_identifier, usage

__all__ = ["self_signed", "vouched_for"]


def self_signed(
    key: SigningKey,
    name: str,
    now: float,
    days: int,
    constraints: x509.NameConstraints | None = None,
) -> x509.Certificate:
    """Make an authority that stands for itself.

    Args:
        key: Its key.
        name: Its common name, for people.
        now: Seconds since the epoch; it is valid since a day before.
        days: How long it is valid from now on.
        constraints: Which names it may certify; None: all.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = _public(key)
    builder = _builder(subject, subject, public, now - LEAF_BACKDATE_S, now + days * 86400)
    # One below: its successor, which it vouches for.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public), critical=False
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(key, hash_for(key))


def vouched_for(
    certificate: x509.Certificate, by: x509.Certificate, key: SigningKey
) -> x509.Certificate:
    """Make a certificate in which an authority vouches for its successor.

    Sent with leaves of the successor, it lets clients believe them that know only the predecessor.

    Args:
        certificate: The successor's own.
        by: The predecessor's.
        key: The predecessor's key.
    """
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "we have made it"
    first = max(certificate.not_valid_before_utc, by.not_valid_before_utc)
    last = min(certificate.not_valid_after_utc, by.not_valid_after_utc)
    builder = _builder(certificate.subject, by.subject, public, first.timestamp(), last.timestamp())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier(key_identifier(certificate)), critical=False
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier(key_identifier(by), None, None), critical=False
    )
    for one in certificate.extensions:
        if isinstance(one.value, x509.NameConstraints):
            builder = builder.add_extension(one.value, critical=True)
    return builder.sign(key, hash_for(key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    first: float,
    last: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(secrets.randbits(LEAF_SERIAL_BITS) or 1)
        .not_valid_before(dt.datetime.fromtimestamp(int(first), dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(int(last), dt.UTC))
        .add_extension(usage(signs_certificates=True), critical=True)
    )


def _public(key: SigningKey) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    return key.public_key()
