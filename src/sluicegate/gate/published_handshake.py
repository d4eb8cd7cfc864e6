"""PublishedHandshake: a client of a published server in the midst of its TLS with the gate.

``published_tls`` makes one for each client that policy lets in; when the handshake is done,
``admission`` goes on inside. The invariant: nothing is dialled, and no filter is asked, before the
client's handshake is done and, if it showed a certificate, before it is known whose that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.documents import Wrong
from sluicegate.errors import errno_name
from sluicegate.filterapi import User
from sluicegate.identity import check_user_name
from sluicegate.tls import CertificateRefused, NamedEngine, groups_of

from .entry_handshake import HandshakeEnd
from .entry_tls import CERTIFICATE_GROUPS_SCHEME
from .internal_error import internal_error
from .own_tls import OwnTls

if TYPE_CHECKING:
    from cryptography import x509

    from sluicegate.address import SocketAddress
    from sluicegate.tls import ListenerStream, TlsContext

    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .published_tls import PublishedTls
    from .registry import RulePlan

__all__ = ["PublishedHandshake"]


class PublishedHandshake:
    """One client; the desk's table has it until its connection begins, or it has gone."""

    __slots__ = (
        "_desk",
        "_until",
        "announced",
        "client",
        "context",
        "flood",
        "id",
        "listener_name",
        "plan",
        "stream",
        "wheel_slot",
    )

    def __init__(
        self,
        desk: PublishedTls,
        listener_name: str,
        plan: RulePlan,
        context: TlsContext,
        stream: ListenerStream,
        *,
        client: SocketAddress,
        flood: FloodClient,
        announced: Announced | None,
    ) -> None:
        service = desk.service
        self.id = service.connection_ids.next()
        #: The connection's identifier, should there be one.
        self.listener_name = listener_name
        self.plan = plan
        #: Of the publication that lets it in.
        self.context = context
        self.stream = stream
        self.client = client
        self.flood = flood
        #: On whose account it is, as a connection that is half-open.
        self.announced = announced
        self.wheel_slot = -1
        self._desk = desk
        self._until = service.port.now + service.limits.handshake_timeout_s
        stream.on_outcome = self._on_outcome
        service.wheel.add(self, self._until)

    def _on_outcome(self) -> None:
        stream = self.stream
        if stream.is_established:
            self._go_on()
        elif not stream.error:
            self.turn_away(HandshakeEnd.LEFT)
        else:
            words = stream.failure or errno_name(stream.error)
            # What was found in the hello has a code of its own.
            is_code = words.startswith(_OF_HELLOS)
            self.turn_away(words if is_code else f"{HandshakeEnd.TLS_FAILED}: {words}")

    def _go_on(self) -> None:
        try:
            certificate = self.stream.peer_certificate()
            user = None if certificate is None else self._user_of(certificate)
        except ValueError:
            self.turn_away(f"{HandshakeEnd.CERTIFICATE_REFUSED}: it cannot be read")
        except CertificateRefused as refused:
            self.turn_away(f"{HandshakeEnd.CERTIFICATE_REFUSED}: {refused.cause}")
        else:
            self._desk.go_on(self, user)

    def _user_of(self, certificate: x509.Certificate) -> User:
        """Return whom a certificate that was verified names; its authority is enough.

        Raises:
            CertificateRefused: It names nobody who could be a user.
        """
        settings = self.context.settings
        if certificate.not_valid_after_utc.timestamp() <= self._desk.service.port.wall:
            # A session that is resumed brings a certificate along that OpenSSL looked at long ago.
            raise CertificateRefused("it has expired")
        name, groups = settings.client_names.user_of(certificate), groups_of(certificate)
        try:
            for one in (name, *groups):
                check_user_name(one)
        except Wrong as error:
            raise CertificateRefused(error.cause) from error
        return User(name, groups, CERTIFICATE_GROUPS_SCHEME)

    @property
    def own_tls(self) -> OwnTls:
        """What is known of its TLS, once the handshake is done."""
        engine = self.stream.engine
        assert isinstance(engine, NamedEngine), "hellos of published listeners are read"
        return OwnTls(
            engine.sni,
            engine.host,
            self.context,
            engine.place,
            engine.version,
            engine.cipher,
            engine.alpn,
        )

    # -- the end -------------------------------------------------------------------------------

    def turn_away(self, reason: str) -> None:
        """Refuse it, with the record of it; what TLS has to say to it has been sent."""
        desk, service = self._desk, self._desk.service
        desk.forget(self)
        service.denied += 1
        if service.recorder.is_accepting and service.flood.note_denied(self.client):
            service.records.refusal(
                self.listener_name,
                self.client,
                reason,
                rule=self.plan.rule.name,
                policy=service.policy.hash,
                peer=self.announced.peer if self.announced is not None else None,
            )
        service.flood.end_connection(self.flood, is_half_open=True)
        self.stream.release(abortive=self.stream.is_established)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        if self._desk.has(self):
            self.turn_away(internal_error(error))

    # -- deadlines -----------------------------------------------------------------------------

    def due(self) -> float:
        """Return when it must be done."""
        return self._until

    def on_expired(self) -> None:
        """Take the end of the time."""
        self.turn_away(HandshakeEnd.TIMED_OUT)


_OF_HELLOS: Final = "tls-"
