"""ServerEngine: the client's role of TLS, towards a server that has to prove who it is.

``server_context`` makes one for each connection, ``server_stream`` moves its bytes. The invariant:
the handshake has an outcome once: who the server is, or why it is not believed; a session that was
resumed is the one that was offered, and has the identity that was verified then.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from sluicegate.access_limits import TLS_SERVER_SESSION_S_MAX

from .engine import TlsBroken, TlsEngine
from .server_fault import ServerFault
from .server_identity import ServerFailure, ServerIdentity, ServerProof
from .server_sessions import KeptSession, ServerSessions

if TYPE_CHECKING:
    from .record_connection import RecordConnection
    from .server_sessions import SessionKey
    from .server_verification import ServerVerification

__all__ = ["ServerEngine"]


class ServerEngine(TlsEngine):
    """One connection to a server."""

    __slots__ = ("_identity", "_key", "_offered", "_sessions", "_verification", "is_resumed")

    def __init__(
        self,
        connection: RecordConnection,
        verification: ServerVerification,
        sessions: ServerSessions,
        key: SessionKey,
        offered: KeptSession | None,
    ) -> None:
        super().__init__(connection)
        self.is_resumed = False
        self._verification = verification
        self._sessions = sessions
        self._key = key
        self._offered = offered
        self._identity: ServerIdentity | None = None
        #: Once it was verified.

    def outcome(self) -> ServerIdentity | ServerFailure:
        """Return what the handshake, which is done, has proved."""
        verification, offered = self._verification, self._offered
        if not verification.is_shown:
            if offered is None:
                return ServerFailure(ServerFault.NONE_SHOWN)
            self.is_resumed = True
            identity: ServerIdentity | None = dataclasses.replace(
                offered.identity, version=self.version, cipher=self.cipher, alpn=self.alpn
            )
        else:
            identity = verification.identity(self._connection)
        fault = verification.fault
        if identity is None or (fault is not None and not verification.accepts_unverified):
            return ServerFailure(fault or ServerFault.UNREADABLE, verification.detail, identity)
        self._identity = identity
        return identity

    def failure(self, broken: TlsBroken) -> ServerFailure:
        """Return what the end of a handshake that failed means."""
        verification = self._verification
        if verification.fault is not None:
            # What is found of it while it is read, too, is told with it.
            identity = verification.identity(self._connection)
            return ServerFailure(verification.fault, verification.detail, identity)
        if broken.alert:
            if verification.wants_certificate and broken.alert in _ABOUT_CERTIFICATES:
                return ServerFailure(ServerFault.WANTS_CERTIFICATE, broken.alert)
            if broken.alert == "protocol version":
                return ServerFailure(ServerFault.TLS_VERSION, broken.words)
            if broken.alert == "no application protocol":
                return ServerFailure(ServerFault.NO_PROTOCOL)
            return ServerFailure(ServerFault.TLS_ALERT, broken.alert)
        if broken.is_cut_off:
            return ServerFailure(ServerFault.TLS_CUT_OFF)
        is_old = broken.words == "unsupported protocol"
        fault = ServerFault.TLS_VERSION if is_old else ServerFault.TLS_FAILED
        return ServerFailure(fault, broken.words)

    @property
    def proof(self) -> ServerProof | None:
        """What the handshake has proved; None where the server was not verified."""
        identity = self._identity
        if identity is None or not identity.is_verified:
            return None
        verified_at, until = self._verified
        until = min(until, verified_at + TLS_SERVER_SESSION_S_MAX)
        return ServerProof(identity, self._key[1], until)

    @property
    def _verified(self) -> tuple[float, float]:
        """When its chain was verified, and until when that holds."""
        offered, verification = self._offered, self._verification
        if self.is_resumed and offered is not None:
            return offered.verified_at, offered.good_until
        return verification.now, verification.good_until

    def keep_session(self) -> None:
        """Keep what a later handshake may be shortened by, if the server was verified."""
        identity = self._identity
        if identity is None or not identity.is_verified:
            return
        session = self._connection.get_session()
        if session is None:
            return
        verified_at, until = self._verified
        self._sessions.keep(self._key, KeptSession(session, identity, verified_at, until))


_ABOUT_CERTIFICATES: Final = frozenset(
    {
        "certificate required",
        "handshake failure",
        "bad certificate",
        "certificate unknown",
        "unknown ca",
        "access denied",
    }
)
"""Alerts of servers that get no certificate of ours (RFC 8446 section 4.4.2.4, and what TLS 1.2
has for it)."""
