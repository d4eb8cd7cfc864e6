"""Why a server's TLS is not believed: one code per cause, and which of OpenSSL's it stands for.

``server_verification`` finds them, records and pages show their codes. The invariant: whatever
OpenSSL finds wrong has a fault here; what it may find one day that nobody knows yet is
``UNVERIFIED``, and none of them is ever "no fault".
"""

from __future__ import annotations

import enum
from typing import Final

from OpenSSL.SSL import X509VerificationCodes as Codes

__all__ = ["ServerFault", "fault_of"]


class ServerFault(enum.Enum):
    """A cause: its code, and the hint for people."""

    # The certificate and what leads to an authority (RFC 5280 section 6).
    EXPIRED = "server-certificate-expired", "its certificate, or an issuer's, has expired"
    NOT_YET_VALID = (
        "server-certificate-not-yet",
        "its certificate, or an issuer's, is not yet valid",
    )
    WRONG_HOST = "server-certificate-wrong-host", "its certificate is for other names"
    SELF_SIGNED = "server-certificate-self-signed", "its certificate is signed by nobody but itself"
    UNTRUSTED = "server-certificate-untrusted", "no known authority stands behind its certificate"
    NOT_AN_ISSUER = "server-certificate-issuer", "an issuer in its chain may not issue certificates"
    PATH_LENGTH = "server-certificate-path-length", "its chain is longer than an issuer may have it"
    NOT_PERMITTED = (
        "server-certificate-constraints",
        "its names are not those its issuer may certify",
    )
    PURPOSE = "server-certificate-purpose", "its certificate is not for servers"
    SIGNATURE = "server-certificate-signature", "a signature in its chain is wrong"
    WEAK_KEY = "server-certificate-weak-key", "a key in its chain is too short"
    WEAK_SIGNATURE = (
        "server-certificate-weak-signature",
        "a signature in its chain is by a weak hash",
    )
    UNREADABLE = "server-certificate-unreadable", "a certificate in its chain is not well-formed"
    NONE_SHOWN = "server-certificate-none", "it showed no certificate"

    # Revocation (RFC 5280 section 6.3, RFC 6960, RFC 7633).
    REVOKED = "server-certificate-revoked", "its certificate, or an issuer's, was revoked"
    REVOCATION_UNKNOWN = "server-revocation-unknown", "no valid list says whether it was revoked"
    STAPLE_MISSING = "server-staple-missing", "its certificate demands a stapled answer, none came"
    STAPLE_INVALID = "server-staple-invalid", "the stapled answer is none about its certificate"
    STAPLE_STALE = "server-staple-stale", "the stapled answer is not of these days"

    # The handshake.
    WANTS_CERTIFICATE = "server-wants-certificate", "it wants a client's certificate, there is none"
    TLS_VERSION = "server-tls-version", "it speaks no version of TLS that is new enough"
    NO_PROTOCOL = "server-tls-protocol", "it speaks no protocol that it was offered (ALPN)"
    TLS_ALERT = "server-tls-alert", "it refused the handshake"
    TLS_FAILED = "server-tls-failed", "the handshake failed"
    TLS_CUT_OFF = "server-tls-cut-off", "it ended the connection in the handshake"
    UNVERIFIED = "server-certificate-unverified", "its certificate could not be verified"

    def __init__(self, code: str, hint: str) -> None:
        self.code = code
        self.hint = hint

    @property
    def is_verdict(self) -> bool:
        """Whether it is we who do not take the server, and not the handshake that failed."""
        return self not in _FAILED


def fault_of(code: int) -> ServerFault:
    """Return what a code of OpenSSL's verification means (``X509_V_ERR_…``); 0 has no meaning."""
    assert code != Codes.OK, "that is no error"
    return _FAULTS.get(code, ServerFault.UNVERIFIED)


_FAILED: Final = frozenset(
    {
        ServerFault.WANTS_CERTIFICATE,
        ServerFault.NO_PROTOCOL,
        ServerFault.TLS_ALERT,
        ServerFault.TLS_FAILED,
        ServerFault.TLS_CUT_OFF,
    }
)

_EE_KEY_TOO_SMALL: Final = 66
_CA_KEY_TOO_SMALL: Final = 67
_CA_MD_TOO_WEAK: Final = 68
_UNSUPPORTED_SIGNATURE_ALGORITHM: Final = 76
_SIGNATURE_ALGORITHM_MISMATCH: Final = 77
_SIGNATURE_ALGORITHM_INCONSISTENCY: Final = 78
_EC_KEY_EXPLICIT_PARAMETERS: Final = 94
# ``x509_vfy.h`` has them; pyOpenSSL has no names for them.

_FAULTS: Final[dict[int, ServerFault]] = {
    number: fault
    for fault, numbers in {
        ServerFault.EXPIRED: (Codes.ERR_CERT_HAS_EXPIRED,),
        ServerFault.NOT_YET_VALID: (Codes.ERR_CERT_NOT_YET_VALID,),
        ServerFault.WRONG_HOST: (Codes.ERR_HOSTNAME_MISMATCH, Codes.ERR_IP_ADDRESS_MISMATCH),
        ServerFault.SELF_SIGNED: (Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,),
        ServerFault.UNTRUSTED: (
            Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
            Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
            Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
            Codes.ERR_CERT_UNTRUSTED,
            Codes.ERR_CERT_REJECTED,
            Codes.ERR_SUBJECT_ISSUER_MISMATCH,
            Codes.ERR_AKID_SKID_MISMATCH,
            Codes.ERR_AKID_ISSUER_SERIAL_MISMATCH,
        ),
        ServerFault.NOT_AN_ISSUER: (
            Codes.ERR_INVALID_CA,
            Codes.ERR_INVALID_NON_CA,
            Codes.ERR_KEYUSAGE_NO_CERTSIGN,
        ),
        ServerFault.PATH_LENGTH: (
            Codes.ERR_PATH_LENGTH_EXCEEDED,
            Codes.ERR_PROXY_PATH_LENGTH_EXCEEDED,
            Codes.ERR_CERT_CHAIN_TOO_LONG,
        ),
        ServerFault.NOT_PERMITTED: (
            Codes.ERR_PERMITTED_VIOLATION,
            Codes.ERR_EXCLUDED_VIOLATION,
            Codes.ERR_SUBTREE_MINMAX,
            Codes.ERR_UNSUPPORTED_CONSTRAINT_TYPE,
            Codes.ERR_UNSUPPORTED_CONSTRAINT_SYNTAX,
            Codes.ERR_UNSUPPORTED_NAME_SYNTAX,
        ),
        ServerFault.PURPOSE: (
            Codes.ERR_INVALID_PURPOSE,
            Codes.ERR_KEYUSAGE_NO_DIGITAL_SIGNATURE,
            Codes.ERR_PROXY_CERTIFICATES_NOT_ALLOWED,
        ),
        ServerFault.SIGNATURE: (
            Codes.ERR_CERT_SIGNATURE_FAILURE,
            Codes.ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE,
            Codes.ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY,
            _SIGNATURE_ALGORITHM_MISMATCH,
            _SIGNATURE_ALGORITHM_INCONSISTENCY,
        ),
        ServerFault.WEAK_KEY: (_EE_KEY_TOO_SMALL, _CA_KEY_TOO_SMALL, _EC_KEY_EXPLICIT_PARAMETERS),
        ServerFault.WEAK_SIGNATURE: (_CA_MD_TOO_WEAK, _UNSUPPORTED_SIGNATURE_ALGORITHM),
        ServerFault.UNREADABLE: (
            Codes.ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD,
            Codes.ERR_ERROR_IN_CERT_NOT_AFTER_FIELD,
            Codes.ERR_UNHANDLED_CRITICAL_EXTENSION,
            Codes.ERR_INVALID_EXTENSION,
            Codes.ERR_INVALID_POLICY_EXTENSION,
        ),
        ServerFault.REVOKED: (Codes.ERR_CERT_REVOKED,),
        ServerFault.REVOCATION_UNKNOWN: (
            Codes.ERR_UNABLE_TO_GET_CRL,
            Codes.ERR_UNABLE_TO_GET_CRL_ISSUER,
            Codes.ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE,
            Codes.ERR_CRL_SIGNATURE_FAILURE,
            Codes.ERR_CRL_NOT_YET_VALID,
            Codes.ERR_CRL_HAS_EXPIRED,
            Codes.ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD,
            Codes.ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD,
            Codes.ERR_KEYUSAGE_NO_CRL_SIGN,
            Codes.ERR_UNHANDLED_CRITICAL_CRL_EXTENSION,
            Codes.ERR_DIFFERENT_CRL_SCOPE,
            Codes.ERR_CRL_PATH_VALIDATION_ERROR,
        ),
    }.items()
    for number in numbers
}
