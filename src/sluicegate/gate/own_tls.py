"""OwnTls: the TLS that a client of a published server speaks with the gate, and what it is for.

``published_handshake`` makes one when the handshake is done; it stays with the connection. The
invariant: who was asked for in the hello is who is asked for inside: a request for another host is
no request of this connection (RFC 9110 section 7.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.names import CanonicalHost, HostRefused
from sluicegate.policy.tls_opening import OpeningReason
from sluicegate.protocols.entry import Destination
from sluicegate.protocols.http1 import Authority, Request, TargetForm

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluicegate.audit import ConnectionRecord
    from sluicegate.tls import TlsContext

__all__ = ["OwnTls"]


@dataclass(frozen=True, slots=True)
class OwnTls:
    """One connection's."""

    sni: str
    """The name in the client's hello, as it wrote it; empty: none."""
    host: CanonicalHost | None
    """The same, canonical; None: none was there that could be taken."""
    context: TlsContext
    """Whose certificates are shown."""
    place: int
    """Of the one that was."""
    version: str
    cipher: str
    protocol: str
    """Agreed on by ALPN; empty: none."""

    def describe(self, record: ConnectionRecord) -> None:
        """Say in a record what the client spoke."""
        record.sni = self.sni
        record.tls = "own"
        record.tls_client = f"{self.version} {self.cipher}"

    def objection_to(
        self, request: Request, host_of: Callable[[Destination], CanonicalHost]
    ) -> tuple[int, str] | None:
        """Say why a request does not fit, as a status and a reason; None if it does.

        A client that named no server, or none that is known, was let in by a default certificate:
        without a name of its own it may ask for what that certificate is for.
        """
        target, authority = request.target, request.authority
        if target.form is TargetForm.ABSOLUTE and target.scheme != b"https":
            return 421, OpeningReason.OTHER_SCHEME
        if authority is None:
            return None  # who judges every request refuses it
        try:
            is_meant = self._is_meant(authority, host_of)
        except HostRefused as refused:
            return 400, refused.reason
        return None if is_meant else (421, f"{OpeningReason.OTHER_HOST}: {authority}")

    def _is_meant(
        self, authority: Authority, host_of: Callable[[Destination], CanonicalHost]
    ) -> bool:
        # Ports are mapped on the way to a published server: only the host is compared.
        port = authority.port or _HTTPS_PORT
        host = host_of(Destination(authority.kind, authority.host, port))
        if self.host is not None:
            return host.text == self.host.text
        return self.context.names.covers(self.place, host)


_HTTPS_PORT = 443
