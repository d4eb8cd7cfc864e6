"""ServerTls: TLS towards servers, for everybody in the gate who dials one.

``service`` has one. The invariant: there is no connection to a TLS server but by a context of the
settings in force; where there are none, because no authority is known, there is no connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sluicegate.names import CanonicalHost
from sluicegate.port.layer import driver_of
from sluicegate.tls import (
    KeyLog,
    ServerContext,
    ServerFailure,
    ServerFault,
    ServerIdentity,
    ServerName,
)

from .internal_error import internal_error
from .known_protocols import KnownProtocols
from .known_validations import KnownValidations

if TYPE_CHECKING:
    from sluicegate.port.backend import RawSocket
    from sluicegate.tls import ServerStream, ServerTlsSettings

    from .own_certificate import OwnCertificate
    from .service import FirewallService
    from .settings import ServiceSettings

__all__ = ["NO_AUTHORITIES", "ServerHandshake", "ServerTls"]

NO_AUTHORITIES: Final = "server-no-authorities"
"""Nobody is known who could vouch for servers: the system has no bundle of authorities."""

Done = Callable[["ServerStream | None", "ServerIdentity | ServerFailure"], None]


class ServerHandshake:
    """One handshake; it is told how it ends unless it is stopped before."""

    __slots__ = ("_done", "_epoch", "_server_tls", "_stream")

    def __init__(self, server_tls: ServerTls, stream: ServerStream, done: Done) -> None:
        self._server_tls, self._epoch = server_tls, server_tls.epoch
        self._stream: ServerStream | None = stream
        self._done = done
        stream.on_outcome = self._on_outcome

    def stop(self) -> None:
        """Give up, and tell nobody."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.on_outcome = None
            stream.abort(stream.socket)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        stream = self._stream
        if stream is not None:
            self.stop()
            self._done(None, ServerFailure(ServerFault.TLS_CUT_OFF, internal_error(error)))

    def _on_outcome(self, outcome: ServerIdentity | ServerFailure) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if self._epoch != self._server_tls.epoch and isinstance(outcome, ServerIdentity):
            # What it was verified by is in force no more.
            outcome = ServerFailure(
                ServerFault.TLS_CUT_OFF, "a reload has changed what is believed"
            )
        if isinstance(outcome, ServerFailure):
            # It is closed once the alert, which says why, has been taken.
            stream.release(abortive=False)
            self._done(None, outcome)
            return
        try:
            self._done(stream, outcome)
        except BaseException:
            stream.release_unused()
            raise


class ServerTls:
    """The contexts of one worker."""

    def __init__(self, service: FirewallService) -> None:
        self.key_log: KeyLog | None = None
        #: Who is told the keys of all connections, by an operator's switch.
        self.epoch = 0
        #: Counts changes of the settings by which servers are verified.
        self.validations = KnownValidations()
        self.protocols = KnownProtocols()
        self._service = service
        self._settings: ServerTlsSettings | None = None
        self._own: tuple[OwnCertificate, ...] = ()
        self._contexts: dict[OwnCertificate | None, ServerContext] = {}

    def apply(self, settings: ServiceSettings) -> None:
        """Put settings in force for handshakes that begin from now on.

        Sessions that were kept are forgotten with the settings by which they were verified.

        Raises:
            ConfigError: The log of keys cannot be written any more.
        """
        log = self.key_log
        if settings.key_log != (log.path if log is not None else ""):
            self.key_log = KeyLog(settings.key_log) if settings.key_log else None
            self._contexts.clear()
            self._service.leaves.log_keys(self.key_log)
            if log is not None:
                log.close()
        if settings.server_tls != self._settings:
            self._contexts.clear()
        if (settings.server_tls, settings.own_certificates) != (self._settings, self._own):
            self.epoch += 1
        self._settings, self._own = settings.server_tls, settings.own_certificates
        for own in [one for one in self._contexts if one is not None and one not in self._own]:
            del self._contexts[own]

    @property
    def are_shared(self) -> bool:
        """Whether connections of one client may use the same connections to servers."""
        return self._settings is not None and self._settings.are_shared

    def close(self) -> None:
        """Close the log of keys: no connection is left."""
        if self.key_log is not None:
            self.key_log.close()
            self.key_log = None

    def context_for(self, host: CanonicalHost) -> ServerContext | None:
        """Return what a server is verified by; None where nobody could vouch for it."""
        settings = self._settings
        if settings is None:
            return None
        own = next((one for one in self._own if any(p.matches(host) for p in one.to)), None)
        context = self._contexts.get(own)
        if context is None:
            if own is not None:
                settings = own.added_to(settings)
            # Settings were tried when they were loaded, so this does not fail.
            context = self._contexts[own] = ServerContext(settings, self.key_log)
        return context

    def begin(
        self,
        raw: RawSocket,
        host: CanonicalHost,
        port: int,
        done: Done,
        *,
        protocols: tuple[str, ...] = ("http/1.1",),
        accepts_unverified: bool = False,
    ) -> ServerHandshake | None:
        """Begin TLS on a connected socket, which belongs to the handshake from now on.

        Args:
            raw: Connected to an address that was judged.
            host: Who it has to be: the name or address that was judged.
            port: The one that was judged.
            done: Told, later, with the stream and who it is, or with why there is none.
            protocols: Offered by ALPN, the preferred one first.
            accepts_unverified: As ``TlsLayer.connect``.

        Returns:
            The handshake; None, and the socket is closed, where nobody can vouch for servers.
        """
        context = self.context_for(host)
        if context is None:
            driver_of(raw, self._service.port.backend).abort(raw)
            return None
        server = ServerName(host.text, port, is_address=host.is_address)
        stream = self._service.entries.tls.connect(
            raw, context, server, protocols=protocols, accepts_unverified=accepts_unverified
        )
        return ServerHandshake(self, stream, done)
