"""What an authority's answer says that a server stapled to its certificate (OCSP, RFC 6960).

``server_verification`` asks with the answer and the verified chain; pyOpenSSL hands the answer over
unread. No I/O, no clock. The invariant: ``is_good`` is true only of an answer about this very
certificate, of these days, signed by its issuer or by whom the issuer lets answer for it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from sluicegate.access_limits import (
    TLS_STAPLE_AGE_S_MAX,
    TLS_STAPLE_CLOCK_S_MAX,
    TLS_STAPLE_RESPONSES_MAX,
)

from .server_fault import ServerFault

__all__ = ["Staple", "demands_staple", "read_staple"]


@dataclass(frozen=True, slots=True)
class Staple:
    """What an answer says."""

    fault: ServerFault | None
    """None: the certificate is good."""
    detail: str = ""
    until: float = 0.0
    """When a good one is of these days no more; seconds since the epoch."""


def demands_staple(leaf: x509.Certificate) -> bool:
    """Tell whether a certificate demands that its server staples an answer to it (RFC 7633).

    Raises:
        ValueError: Its extensions cannot be read.
    """
    try:
        feature = leaf.extensions.get_extension_for_class(x509.TLSFeature)
    except x509.ExtensionNotFound:
        return False
    except x509.DuplicateExtension as error:
        raise ValueError("an extension is there twice") from error
    return x509.TLSFeatureType.status_request in feature.value


def read_staple(
    encoded: bytes, leaf: x509.Certificate, issuer: x509.Certificate, now: float
) -> Staple:
    """Judge an answer about ``leaf``; ``now`` in seconds since the epoch."""
    try:
        response = ocsp.load_der_ocsp_response(encoded)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            # "Try later" says nothing about the certificate, as if nothing had come.
            said = response.response_status.name.lower().replace("_", " ")
            return Staple(ServerFault.STAPLE_MISSING, f"the responder says: {said}")
        single = _find(response, leaf, issuer)
        if single is None:
            return Staple(ServerFault.STAPLE_INVALID, "it is about another certificate")
        when = dt.datetime.fromtimestamp(now, dt.UTC)
        if not _is_signed(response, issuer, when):
            return Staple(ServerFault.STAPLE_INVALID, "nobody signed it who may")
        return _judge(single, when)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        return Staple(ServerFault.STAPLE_INVALID, f"it cannot be read: {error}")


def _find(
    response: ocsp.OCSPResponse, leaf: x509.Certificate, issuer: x509.Certificate
) -> ocsp.OCSPSingleResponse | None:
    """Return what an answer says about a certificate; others may stand in it, too."""
    for place, single in enumerate(response.responses):
        if place >= TLS_STAPLE_RESPONSES_MAX:
            raise ValueError("it is about too many certificates")
        if single.serial_number != leaf.serial_number:
            continue
        asked = (
            ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, single.hash_algorithm).build()
        )
        if (
            asked.issuer_name_hash == single.issuer_name_hash
            and asked.issuer_key_hash == single.issuer_key_hash
        ):
            return single
    return None


def _judge(single: ocsp.OCSPSingleResponse, when: dt.datetime) -> Staple:
    """Judge what a signed answer says, and whether it says it of these days."""
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        revoked = single.revocation_time_utc
        since = f"since {revoked:%Y-%m-%d}" if revoked is not None else ""
        return Staple(ServerFault.REVOKED, since)
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        return Staple(ServerFault.STAPLE_INVALID, "the responder does not know the certificate")
    said = single.this_update_utc
    until = single.next_update_utc or said + _AGE_MAX
    if said > when + _CLOCK_MAX:
        return Staple(ServerFault.STAPLE_STALE, f"it is of the future: {said:%Y-%m-%d %H:%M}")
    if until + _CLOCK_MAX < when or said + _AGE_MAX < when:
        return Staple(ServerFault.STAPLE_STALE, f"it was made on {said:%Y-%m-%d}")
    return Staple(None, until=min(until, said + _AGE_MAX).timestamp())


def _is_signed(response: ocsp.OCSPResponse, issuer: x509.Certificate, when: dt.datetime) -> bool:
    """Tell whether the issuer signed an answer, or one that it lets sign (RFC 6960 4.2.2.2)."""
    if _is_signed_by(response, issuer):
        return True
    return any(
        _may_answer(one, issuer, when) and _is_signed_by(response, one)
        for one in response.certificates[:TLS_STAPLE_RESPONSES_MAX]
    )


def _may_answer(responder: x509.Certificate, issuer: x509.Certificate, when: dt.datetime) -> bool:
    """Tell whether an issuer lets the owner of a certificate answer for it.

    Whether that certificate was revoked is not asked: it lives for days, and says so (RFC 6960
    section 4.2.2.2.1).
    """
    try:
        usage = responder.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
        responder.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    assert isinstance(usage.value, x509.ExtendedKeyUsage), "it was asked for by its identifier"
    is_current = responder.not_valid_before_utc <= when <= responder.not_valid_after_utc
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage.value and is_current


def _is_signed_by(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    """Verify the signature of an answer; one by a weak hash is none."""
    key, signature, signed = signer.public_key(), response.signature, response.tbs_response_bytes
    used = response.signature_hash_algorithm
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
        elif used is None or not isinstance(used, _HASHES):
            return False
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(used))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), used)
        else:
            return False
    except InvalidSignature:
        return False
    return True


_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_AGE_MAX: Final = dt.timedelta(seconds=TLS_STAPLE_AGE_S_MAX)
_CLOCK_MAX: Final = dt.timedelta(seconds=TLS_STAPLE_CLOCK_S_MAX)
