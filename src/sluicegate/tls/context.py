"""TlsContext: what a listener's handshakes go by; made once, used by all of them.

``app`` makes one to check what an operator wrote, ``gate`` keeps one for each listener. Making one
costs three handshakes, so it is never done for a client. The invariant: TLS 1.2 or newer, no
renegotiation, no compression, no early data; and a client's certificate is taken only if OpenSSL
has verified it against the listener's own authorities.
"""

from __future__ import annotations

import contextlib
import enum
import os
import ssl
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from sluicegate.errors import ConfigError

from .client_names import ClientNames

__all__ = ["ClientCertificates", "TlsContext", "TlsSettings"]


class ClientCertificates(enum.StrEnum):
    """Whether clients show certificates of their own."""

    OFF = "off"
    OPTIONAL = "optional"
    """Who shows one is let in only if it is good; who shows none is nobody."""
    REQUIRED = "required"
    """Who shows none is refused in the handshake."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS of one listener; certificates, keys and lists as PEM."""

    certificate: str
    """Ours, and what leads from it to an authority that clients know."""
    key: str = field(repr=False)
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    client_certificates: ClientCertificates = ClientCertificates.OFF
    client_authorities: str = ""
    """Who vouches for clients; no other authority does."""
    revocations: str = ""
    """Lists of revoked certificates, one of each authority; empty: none is asked."""
    client_names: ClientNames = field(default_factory=ClientNames)
    has_groups_in_certificate: bool = False
    """Whether the certificate says the groups (OU), and is enough; else its user must be known."""
    protocols: tuple[str, ...] = ("http/1.1",)
    """Offered by ALPN."""


class TlsContext:
    """One listener's settings, in OpenSSL's form."""

    __slots__ = ("settings", "ssl_context")

    def __init__(self, settings: TlsSettings) -> None:
        """Make it.

        Raises:
            ConfigError: Something in the settings cannot be used; ``where`` names the field.
        """
        self.settings = settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = settings.minimum
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        # Python sets it: a stream that somebody cut off would look like one that its peer ended.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        context.num_tickets = 1
        context.set_alpn_protocols(list(settings.protocols))
        _load_own(context, settings)
        if settings.client_certificates is not ClientCertificates.OFF:
            _load_client_authorities(context, settings)
        self.ssl_context = context

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return one connection's TLS."""
        return self.ssl_context.wrap_bio(incoming, outgoing, server_side=True)


def _load_own(context: ssl.SSLContext, settings: TlsSettings) -> None:
    with _as_file(settings.certificate) as certificate, _as_file(settings.key) as key:
        try:
            context.load_cert_chain(certificate, key, _refuse_password)
        except _KeyIsEncryptedError:
            raise ConfigError("key", "is encrypted", "openssl pkey -in KEY -out PLAIN") from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError("key", "is another certificate's") from error
            where, what = "certificate", "certificate"
            if "-----BEGIN CERTIFICATE-----" in settings.certificate:
                where, what = "key", "private key"
            raise ConfigError(where, f"has no {what} that can be read", _PEM_CURE) from error


def _load_client_authorities(context: ssl.SSLContext, settings: TlsSettings) -> None:
    is_required = settings.client_certificates is ClientCertificates.REQUIRED
    context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(cadata=settings.client_authorities)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("client_ca", "has no certificate that can be read", _PEM_CURE) from error
    if not settings.revocations:
        return
    with _as_file(settings.revocations) as lists:
        try:
            context.load_verify_locations(cafile=lists)
        except ssl.SSLError as error:
            raise ConfigError("client_crl", "has no list that can be read", _CRL_CURE) from error
    if not context.cert_store_stats()["crl"]:
        raise ConfigError("client_crl", "has no list that can be read", _CRL_CURE)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


@contextlib.contextmanager
def _as_file(text: str) -> Generator[str]:
    """Give OpenSSL a text as a file that is on no disk, and that nobody else can open."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode("utf-8"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class _KeyIsEncryptedError(Exception):
    """OpenSSL asks for a password, which is asked of nobody."""


def _refuse_password() -> str:
    raise _KeyIsEncryptedError


_PEM_CURE: Final = "PEM: -----BEGIN …-----"
_CRL_CURE: Final = "PEM: -----BEGIN X509 CRL-----; one list of each authority"
