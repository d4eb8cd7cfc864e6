"""ServerContext: what handshakes with servers go by; made once for each set of settings.

``app`` makes one to check what an operator wrote, ``gate`` keeps those in force. The invariant: TLS
1.2 or newer, forward secrecy, no renegotiation, no compression, no early data; nobody vouches for a
server but the authorities of these settings; a session that is resumed was verified by this very
context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from OpenSSL import SSL, crypto

from sluicegate.clock import SystemClock

from .engine import prepare
from .key_log import KeyLog
from .pem import judge_chains, load_own, read_revocations, trust
from .record_connection import RecordConnection
from .server_engine import ServerEngine
from .server_identity import ServerName
from .server_sessions import ServerSessions
from .server_settings import MinimumKey, Revocation, ServerTlsSettings
from .server_verification import ServerVerification

__all__ = ["ServerContext"]

_WALL: Final = SystemClock().wall


class ServerContext:
    """One set of settings, in OpenSSL's form."""

    __slots__ = ("_context", "_wall", "sessions", "settings")

    def __init__(
        self,
        settings: ServerTlsSettings,
        key_log: KeyLog | None = None,
        wall: Callable[[], float] = _WALL,
    ) -> None:
        """Make it.

        Args:
            settings: How servers are verified.
            key_log: Who is told the keys of all connections.
            wall: The machine's clock, by which OpenSSL judges chains, too.

        Raises:
            ConfigError: Something in the settings cannot be used; ``where`` names the field.
        """
        self.settings = settings
        self.sessions = ServerSessions()
        self._wall = wall
        self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        prepare(context, _LEVELS[settings.minimum_key])
        context.set_min_proto_version(settings.minimum)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify(SSL.VERIFY_PEER, _on_certificate)
        context.set_ocsp_client_callback(_on_staple)
        _load_authorities(context, settings)
        if settings.certificate:
            load_own(context, settings.certificate, settings.key)
        else:
            context.set_info_callback(_on_step)
        if key_log is not None:
            key_log.watch(context)

    def engine(
        self,
        server: ServerName,
        protocols: tuple[str, ...] = (),
        *,
        accepts_unverified: bool = False,
    ) -> ServerEngine:
        """Return one connection's TLS.

        Args:
            server: Who it has to be.
            protocols: Offered by ALPN, the preferred one first.
            accepts_unverified: Whether the handshake goes on with whoever it is, and tells.
        """
        now = self._wall()
        connection = RecordConnection(self._context)
        verification = ServerVerification(self.settings, server, now, accepts=accepts_unverified)
        connection.set_app_data(verification)
        connection.set_connect_state()
        connection.request_ocsp()
        if not server.is_address:  # RFC 6066 section 3
            connection.set_tlsext_host_name(server.host.encode("ascii"))
        if protocols:
            connection.set_alpn_protos([one.encode("ascii") for one in protocols])
        key = server, protocols
        offered = self.sessions.take(key, now)
        if offered is not None:
            connection.set_session(offered.session)
        return ServerEngine(connection, verification, self.sessions, key, offered)


def _verification_of(connection: SSL.Connection) -> ServerVerification:
    verification = connection.get_app_data()
    assert isinstance(verification, ServerVerification), "the context's own connections"
    return verification


def _on_certificate(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, is_good: int
) -> bool:
    verification = _verification_of(connection)
    return verification.on_certificate(certificate, error, depth, is_good=bool(is_good))


def _on_staple(connection: SSL.Connection, answer: bytes, _nothing: object) -> bool:
    verification = _verification_of(connection)
    return verification.on_staple(answer, connection.get_verified_chain())


def _on_step(connection: SSL.Connection, where: int, _result: int) -> None:
    """Take a step of a handshake: OpenSSL says nothing else of a wish for our certificate."""
    if where == SSL.SSL_CB_CONNECT_LOOP and connection.get_state_string() == _READS_WISH:
        _verification_of(connection).wants_certificate = True


def _load_authorities(context: SSL.Context, settings: ServerTlsSettings) -> None:
    # Whoever is named as an authority is one, also if somebody else vouches for it: that is what
    # makes a single issuer, or a server's own certificate, something to rely on.
    trust(context, settings.authorities, "authorities")
    if settings.revocation is Revocation.OFF:
        judge_chains(context, [], crypto.X509StoreFlags.PARTIAL_CHAIN)
    else:
        judge_chains(context, read_revocations(settings.revocations, "crl"), _WITH_LISTS)


_WITH_LISTS: Final = (
    crypto.X509StoreFlags.PARTIAL_CHAIN
    | crypto.X509StoreFlags.CRL_CHECK
    | crypto.X509StoreFlags.CRL_CHECK_ALL
)
_LEVELS: Final = {MinimumKey.RSA_2048: 2, MinimumKey.RSA_3072: 3}
_READS_WISH: Final = b"SSLv3/TLS read server certificate request"
