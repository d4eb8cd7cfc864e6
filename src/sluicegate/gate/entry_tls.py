"""TlsEntryHandshake: a client of a proxy listener that speaks TLS, and whom its certificate names.

``entry`` makes one in the place of a plain handshake; inside TLS, everything is as without. The
invariant: not a byte of the client's protocol is read before its TLS handshake is done and, if it
showed a certificate, before it is known who that is.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from cryptography import x509
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.documents import Wrong
from sluicegate.errors import DirectoryFailed, LimitExceeded, errno_name
from sluicegate.filterapi import User
from sluicegate.identity import check_user_name
from sluicegate.tls import HTTP2, CertificateRefused, ClientNames, TlsSettings, groups_of

from .entry_answers import EntryAnswer
from .entry_dialogue import Authenticate, EntryRequest, Step
from .entry_handshake import EntryHandshake, HandshakeEnd
from .settings import EntrySettings

if TYPE_CHECKING:
    from sluicegate.tls import TlsStream

    from .entry import EntryDesk
    from .flood_count import FloodClient

__all__ = ["CERTIFICATE_GROUPS_SCHEME", "CERTIFICATE_SCHEME", "TlsEntryHandshake"]

CERTIFICATE_SCHEME: Final = "certificate"
"""What vouches for a user who showed one, and has the groups of the users file or the directory."""

CERTIFICATE_GROUPS_SCHEME: Final = "certificate-groups"
"""The same, where the groups stand in the certificate, too: a namesake is somebody else."""


class TlsEntryHandshake(EntryHandshake):
    """One client before its tunnel, inside TLS."""

    __slots__ = ("_refusal", "_settings", "_stream")

    def __init__(
        self,
        desk: EntryDesk,
        listener_name: str,
        entry: EntrySettings,
        stream: TlsStream,
        client: SocketAddress,
        flood: FloodClient,
    ) -> None:
        super().__init__(desk, listener_name, entry, stream.socket, client, flood)
        assert entry.tls is not None, "only listeners with TLS have such clients"
        self._settings: TlsSettings = entry.tls
        self._stream = stream
        self._refusal = ""
        #: Why nobody comes by the certificate that was shown; told in answer to the request.
        stream.on_established = self._on_established

    @property
    @override
    def refusal(self) -> str:
        return self._refusal

    @property
    @override
    def speaks_http2(self) -> bool:
        return self._stream.alpn == HTTP2

    @override
    def words_for(self, error: int) -> str:
        return f"{HandshakeEnd.TLS_FAILED}: {self._stream.failure or errno_name(error)}"

    def _on_established(self) -> None:
        try:
            certificate = self._stream.peer_certificate()
            if certificate is None:
                return  # none was asked for, or none is needed
            self._ask_for_no_password()
            name, groups = self._read_certificate(certificate)
        except ValueError:
            self._ask_for_no_password()
            self._refusal = f"{HandshakeEnd.CERTIFICATE_REFUSED}: it cannot be read"
            return
        except CertificateRefused as refused:
            self._refusal = f"{HandshakeEnd.CERTIFICATE_REFUSED}: {refused.cause}"
            return
        if self._settings.has_groups_in_certificate:
            self.user = User(name, groups, CERTIFICATE_GROUPS_SCHEME)
            return
        self.wait()
        self._desk.service.spawn(self._find(name))

    def _ask_for_no_password(self) -> None:
        """Take that a certificate says who it is: a password that is sent is not looked at."""
        self.entry = dataclasses.replace(self.entry, authenticate=Authenticate.OFF)
        name = f"{self.listener_name} by certificate"  # no listener is called so
        self._opening = self._desk.openings.beginning(name, self.entry)

    def _read_certificate(self, certificate: x509.Certificate) -> tuple[str, tuple[str, ...]]:
        """Return the user's name and groups of a certificate that was verified.

        Raises:
            CertificateRefused: It names nobody who could be a user.
        """
        names: ClientNames = self._settings.client_names
        if certificate.not_valid_after_utc.timestamp() <= self._port.wall:
            # A session that is resumed brings a certificate along that OpenSSL looked at long ago.
            raise CertificateRefused("it has expired")
        name = names.user_of(certificate)
        groups = groups_of(certificate) if self._settings.has_groups_in_certificate else ()
        try:
            for one in (name, *groups):
                check_user_name(one)
        except Wrong as error:
            raise CertificateRefused(error.cause) from error
        return name, groups

    async def _find(self, name: str) -> None:
        """Go on as the user of this name, if there is one."""
        try:
            found = await self._desk.authenticator.find(name.encode("ascii"))
        except DirectoryFailed as error:
            self._refusal = f"{HandshakeEnd.DIRECTORY_FAILED}: {error.cause}"
        except LimitExceeded as error:
            self._desk.on_limit(error, self.client)
            self._refusal = f"limit {error.limit}"
        else:
            if found is None:
                self._refusal = f"{HandshakeEnd.CERTIFICATE_REFUSED}: there is no user {name}"
            else:
                self.user = User(found.name, found.groups, CERTIFICATE_SCHEME)
        self.go_on()

    @override
    def take_step(self, step: Step) -> None:
        """As for everybody; a request by a certificate that names nobody is refused."""
        if self._refusal and isinstance(step, EntryRequest):
            self._desk.record_refusal(self, self._refusal, target=str(step.destination))
            self.refuse(EntryAnswer.NOT_ALLOWED)
        else:
            super().take_step(step)
