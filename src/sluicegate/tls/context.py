"""TlsContext: what a listener's handshakes go by; made once, used by all of them.

``app`` makes one to check what an operator wrote, ``gate`` keeps one for each listener. Making one
costs three handshakes for each certificate, so it is never done for a client. The invariant: TLS
1.2 or newer, no renegotiation, no compression, no early data; a client's certificate is taken only
if OpenSSL has verified it against the listener's own authorities; and tickets are good for one
certificate of ours: no session leads from one name to another.
"""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from OpenSSL import SSL, crypto

from sluicegate.protocols.tls_hello import SniFault

from .client_names import ClientNames
from .engine import TlsEngine, note_fault, prepare
from .key_log import KeyLog
from .named_engine import NamedEngine
from .own_names import NameRefused, OwnNames
from .pem import judge_chains, load_own, read_certificates, read_revocations, trust
from .record_connection import RecordConnection

if TYPE_CHECKING:
    from sluicegate.names import CanonicalHost

__all__ = ["ClientCertificates", "OwnPair", "TlsContext", "TlsSettings"]


class ClientCertificates(enum.StrEnum):
    """Whether clients show certificates of their own."""

    OFF = "off"
    OPTIONAL = "optional"
    """Who shows one is let in only if it is good; who shows none is nobody."""
    REQUIRED = "required"
    """Who shows none is refused in the handshake."""


@dataclass(frozen=True, slots=True)
class OwnPair:
    """A certificate of ours, with what leads from it to an authority, and its key; as PEM."""

    certificate: str
    key: str = field(repr=False)


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
    others: tuple[OwnPair, ...] = ()
    """Further certificates, for clients that ask for a name that one of them is for."""
    reads_hellos: bool = False
    """Whether the name in a client's hello chooses what it is shown."""
    needs_known_name: bool = False
    """Whether a client has to ask for a name that a certificate is for; else it is shown the first
    one."""

    @property
    def pairs(self) -> tuple[OwnPair, ...]:
        """All certificates, the first one first."""
        return (OwnPair(self.certificate, self.key), *self.others)


class TlsContext:
    """One listener's settings, in OpenSSL's form; an ``EngineSource``."""

    __slots__ = ("_contexts", "_key_log", "names", "settings")

    def __init__(
        self,
        settings: TlsSettings,
        key_log: KeyLog | None = None,
        before: TlsContext | None = None,
    ) -> None:
        """Make it.

        Args:
            settings: What it is made of.
            key_log: Is told the keys of all connections.
            before: What was in force; certificates that stay keep the keys of their tickets.

        Raises:
            ConfigError: Something in the settings cannot be used; ``where`` names the field.
        """
        self.settings = settings
        self._key_log = key_log
        known = {} if before is None else before.kept_for(settings, key_log)
        self._contexts = tuple(
            known.get(pair) or _new_context(settings, pair, key_log) for pair in settings.pairs
        )
        shown = [read_certificates(one.certificate, "certificate")[0] for one in settings.pairs]
        self.names = OwnNames(shown if settings.reads_hellos else ())
        #: What its certificates are for, where it is asked.

    def kept_for(self, settings: TlsSettings, key_log: KeyLog | None) -> dict[OwnPair, SSL.Context]:
        """Return what other settings may use on: of certificates for which nothing has changed."""
        own = self.settings
        if key_log is not self._key_log or _beside_pairs(own) != _beside_pairs(settings):
            return {}
        return dict(zip(own.pairs, self._contexts, strict=True))

    def engine(self) -> TlsEngine:
        """Return one connection's TLS."""
        if self.settings.reads_hellos:
            return NamedEngine(self)
        return TlsEngine(self.connection_at(0))

    def connection_at(self, place: int) -> RecordConnection:
        """As ``NamedSource.connection_at``."""
        connection = RecordConnection(self._contexts[place])
        connection.set_accept_state()
        return connection

    def place_for(self, named: CanonicalHost | str) -> int:
        """As ``NamedSource.place_for``."""
        found = None if isinstance(named, str) else self.names.find(named)
        if found is not None:
            return found
        if not self.settings.needs_known_name:
            return 0
        is_code = isinstance(named, str)
        raise NameRefused(named if is_code else f"{SniFault.UNKNOWN.code}: {named}")


def _beside_pairs(settings: TlsSettings) -> TlsSettings:
    """Return what a context is made of beside its own certificate."""
    return replace(
        settings, certificate="", key="", others=(), reads_hellos=False, needs_known_name=False
    )


def _new_context(settings: TlsSettings, pair: OwnPair, key_log: KeyLog | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    prepare(context)
    context.set_min_proto_version(settings.minimum)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    # Sessions are in tickets that clients keep, and good for this certificate of this listener.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"sluicegate")
    offered = tuple(one.encode("ascii") for one in settings.protocols)
    context.set_alpn_select_callback(
        lambda _, wanted: next(
            (one for one in offered if one in wanted), SSL.NO_OVERLAPPING_PROTOCOLS
        )
    )
    load_own(context, pair.certificate, pair.key)
    if settings.client_certificates is not ClientCertificates.OFF:
        _load_client_authorities(context, settings)
    if key_log is not None:
        key_log.watch(context)
    return context


def _load_client_authorities(context: SSL.Context, settings: TlsSettings) -> None:
    is_required = settings.client_certificates is ClientCertificates.REQUIRED
    needed = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if is_required else 0
    context.set_verify(SSL.VERIFY_PEER | needed, note_fault)
    trust(context, settings.client_authorities, "client_ca")
    if settings.revocations:
        revocations = read_revocations(settings.revocations, "client_crl")
        judge_chains(context, revocations, crypto.X509StoreFlags.CRL_CHECK)
