"""TlsContext: what a listener's handshakes go by; made once, used by all of them.

``app`` makes one to check what an operator wrote, ``gate`` keeps one for each listener. Making one
costs three handshakes, so it is never done for a client. The invariant: TLS 1.2 or newer, no
renegotiation, no compression, no early data; and a client's certificate is taken only if OpenSSL
has verified it against the listener's own authorities.
"""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass, field

from OpenSSL import SSL, crypto

from .client_names import ClientNames
from .engine import TlsEngine, note_fault, prepare
from .key_log import KeyLog
from .pem import judge_chains, load_own, read_revocations, trust
from .record_connection import RecordConnection

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
    """One listener's settings, in OpenSSL's form; an ``EngineSource``."""

    __slots__ = ("_context", "settings")

    def __init__(self, settings: TlsSettings, key_log: KeyLog | None = None) -> None:
        """Make it; ``key_log`` is told the keys of all connections.

        Raises:
            ConfigError: Something in the settings cannot be used; ``where`` names the field.
        """
        self.settings = settings
        self._context = context = SSL.Context(SSL.TLS_SERVER_METHOD)
        prepare(context)
        context.set_min_proto_version(settings.minimum)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        # Sessions are in tickets that clients keep, and good for this listener only.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"sluicegate")
        offered = tuple(one.encode("ascii") for one in settings.protocols)
        context.set_alpn_select_callback(
            lambda _, wanted: next(
                (one for one in offered if one in wanted), SSL.NO_OVERLAPPING_PROTOCOLS
            )
        )
        load_own(context, settings.certificate, settings.key)
        if settings.client_certificates is not ClientCertificates.OFF:
            _load_client_authorities(context, settings)
        if key_log is not None:
            key_log.watch(context)

    def engine(self) -> TlsEngine:
        """Return one connection's TLS."""
        connection = RecordConnection(self._context)
        connection.set_accept_state()
        return TlsEngine(connection)


def _load_client_authorities(context: SSL.Context, settings: TlsSettings) -> None:
    is_required = settings.client_certificates is ClientCertificates.REQUIRED
    needed = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if is_required else 0
    context.set_verify(SSL.VERIFY_PEER | needed, note_fault)
    trust(context, settings.client_authorities, "client_ca")
    if settings.revocations:
        revocations = read_revocations(settings.revocations, "client_crl")
        judge_chains(context, revocations, crypto.X509StoreFlags.CRL_CHECK)
