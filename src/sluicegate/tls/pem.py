"""Certificates, keys and lists, from PEM into OpenSSL's contexts.

The contexts of both roles are made with it. The invariant: what cannot be read is told as the field
of the settings that it came from; nothing of a text is skipped.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from sluicegate.errors import ConfigError

__all__ = ["judge_chains", "load_own", "read_certificates", "read_revocations", "trust"]


def load_own(context: SSL.Context, certificate: str, key: str) -> None:
    """Let a context show our certificate, and what leads from it to an authority.

    Raises:
        ConfigError: They cannot be used; ``where`` is ``certificate`` or ``key``.
    """
    own, *issuers = read_certificates(certificate, "certificate")
    try:
        private = load_pem_private_key(key.encode("utf-8"), None)
    except TypeError:
        raise ConfigError("key", "is encrypted", "openssl pkey -in KEY -out PLAIN") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("key", "has no private key that can be read", _PEM_CURE) from error
    if not isinstance(private, _SIGNERS):
        raise ConfigError("key", "is of a kind that TLS has no use for", "an ECDSA or RSA key")
    try:
        context.use_certificate(own)
        for one in issuers:
            context.add_extra_chain_cert(one)
    except SSL.Error as error:
        raise ConfigError("certificate", f"cannot be used: {_words(error)}") from error
    try:
        context.use_privatekey(private)
        context.check_privatekey()
    except SSL.Error as error:
        raise ConfigError("key", "is another certificate's") from error


def read_certificates(text: str, where: str) -> list[x509.Certificate]:
    """Return all certificates of a text, at least one.

    Raises:
        ConfigError: There is none, or one that cannot be read.
    """
    try:
        found = x509.load_pem_x509_certificates(text.encode("utf-8"))
    except ValueError as error:
        raise ConfigError(where, "has no certificate that can be read", _PEM_CURE) from error
    if not found:
        raise ConfigError(where, "has no certificate that can be read", _PEM_CURE)
    return found


def read_revocations(text: str, where: str) -> list[x509.CertificateRevocationList]:
    """Return all lists of a text, at least one.

    Raises:
        ConfigError: There is none, or one that cannot be read.
    """
    pieces = text.split(_CRL_BEGIN)[1:]
    try:
        found = [x509.load_pem_x509_crl((_CRL_BEGIN + one).encode("utf-8")) for one in pieces]
    except ValueError as error:
        raise ConfigError(where, "has no list that can be read", _CRL_CURE) from error
    if not found:
        raise ConfigError(where, "has no list that can be read", _CRL_CURE)
    return found


def trust(context: SSL.Context, authorities: str, where: str) -> None:
    """Let a context believe the authorities of a text, and no others.

    OpenSSL reads them: a system's bundle has roots that ``cryptography`` will refuse one day.

    Raises:
        ConfigError: There is none, or one that cannot be read.
    """
    descriptor = os.memfd_create("authorities", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, authorities.encode("utf-8"))
        context.load_verify_locations(f"/proc/self/fd/{descriptor}")
    except SSL.Error as error:
        raise ConfigError(where, "has no certificate that can be read", _PEM_CURE) from error
    finally:
        os.close(descriptor)


def judge_chains(
    context: SSL.Context, revocations: list[x509.CertificateRevocationList], flags: int
) -> None:
    """Let a context judge chains with lists, and with OpenSSL's ``flags``."""
    store = context.get_cert_store()
    assert store is not None, "a context has a store"
    for revoked in revocations:
        store.add_crl(revoked)
    store.set_flags(flags)


def _words(error: SSL.Error) -> str:
    return str(error.args[0][0][2]) if error.args and error.args[0] else "refused by OpenSSL"


_SIGNERS: Final = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    dsa.DSAPrivateKey,
)
_PEM_CURE: Final = "PEM: -----BEGIN …-----"
_CRL_CURE: Final = "PEM: -----BEGIN X509 CRL-----; one list of each authority"
_CRL_BEGIN: Final = "-----BEGIN X509 CRL-----"
