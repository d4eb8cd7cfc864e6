"""What a rule wants done with TLS: passed on as it is, its server verified, or opened.

``tls_tables`` makes one of what an operator writes; the gate asks ``mode_for`` for each connection,
and again when another policy is. The invariant: a host has one mode under one rule, whoever asks,
and nothing is opened that an operator has not written ``inspect`` for.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from sluicegate.names import CanonicalHost, HostPattern

__all__ = [
    "NOT_OPENED",
    "OPENING_MEANINGS",
    "ClientCertificateWish",
    "InsideAnswer",
    "OpeningReason",
    "TlsMode",
    "TlsOpening",
    "Unverified",
]


class TlsMode(enum.StrEnum):
    """What becomes of the TLS of a connection."""

    SPLICE = "splice"
    """It passes as it is, once its ClientHello was judged."""
    VALIDATE = "validate"
    """The server is verified by a handshake of the gate's own; then it passes as it is."""
    INSPECT = "inspect"
    """It is opened: the gate speaks TLS with the server, and with the client in its place."""


class Unverified(enum.StrEnum):
    """What becomes of a client whose server is not who it should be."""

    REFUSE = "refuse"
    """It is refused by an alert of TLS."""
    PAGE = "page"
    """It is refused by a page, under a certificate of the authority that nobody trusts."""
    SHOW = "show"
    """It may go on, under a certificate of the authority that nobody trusts."""


class ClientCertificateWish(enum.StrEnum):
    """What becomes of a connection whose server asks for a certificate of the client's."""

    REFUSE = "refuse"
    SPLICE = "splice"
    """It passes as it is: only the client can show its certificate."""
    IGNORE = "ignore"
    """It is opened, and the server gets none; many only ask."""


class InsideAnswer(enum.StrEnum):
    """What becomes of what is inside and is not HTTP."""

    REFUSE = "refuse"
    ALLOW = "allow"
    """It passes, through those of the rule's filters that look at bytes."""


@dataclass(frozen=True, slots=True)
class TlsOpening:
    """What one rule wants done with TLS."""

    mode: TlsMode = TlsMode.SPLICE
    splice: tuple[HostPattern, ...] = ()
    """Hosts that pass as they are, whatever the mode."""
    verify_only: tuple[HostPattern, ...] = ()
    """Hosts that are verified and not opened."""
    unverified: Unverified = Unverified.REFUSE
    client_certificates: ClientCertificateWish = ClientCertificateWish.REFUSE
    not_http: InsideAnswer = InsideAnswer.REFUSE

    def mode_for(self, host: CanonicalHost) -> TlsMode:
        """Return what becomes of the TLS with a host."""
        if not (self.splice or self.verify_only):
            return self.mode
        if self.mode is TlsMode.SPLICE or any(one.matches(host) for one in self.splice):
            return TlsMode.SPLICE
        if any(one.matches(host) for one in self.verify_only):
            return TlsMode.VALIDATE
        return self.mode

    def canonical(self) -> list[object]:
        """Return it for the hash of a policy."""
        return [
            self.mode,
            sorted(map(str, self.splice)),
            sorted(map(str, self.verify_only)),
            self.unverified,
            self.client_certificates,
            self.not_http,
        ]


NOT_OPENED: Final = TlsOpening()


class OpeningReason:
    """Reason codes of connections that are to be opened or verified, and of requests inside."""

    LATE: Final = "tls-opening-late"
    MODE_CHANGED: Final = "tls-mode-changed"
    CLIENT_REFUSES: Final = "client-refuses-certificate"
    CLIENT_FAILED: Final = "client-tls-failed"
    NOT_HTTP: Final = "inside-not-http"
    SERVER_FIRST: Final = "inside-server-first"
    UNJUDGED: Final = "inside-cannot-be-judged"
    CONNECT: Final = "inside-connect"
    OTHER_HOST: Final = "inside-other-host"
    OTHER_SCHEME: Final = "inside-other-scheme"
    OTHER_SERVER: Final = "inside-other-server"


OPENING_MEANINGS: Final = {
    OpeningReason.LATE: "both handshakes were not done in time (opening_timeout_s)",
    OpeningReason.MODE_CHANGED: "another policy treats the TLS of this host otherwise",
    OpeningReason.CLIENT_REFUSES: "the client does not take the gate's certificate: it does not "
    'know the authority, or it is pinned to the server\'s own; splice = ["NAME"] passes it on',
    OpeningReason.CLIENT_FAILED: "the client's handshake with the gate failed",
    OpeningReason.NOT_HTTP: "what is inside TLS is not HTTP, and the rule wants it to be",
    OpeningReason.SERVER_FIRST: "the server speaks first, which no server of HTTP does",
    OpeningReason.UNJUDGED: "rules want to know of requests, and what is inside TLS shows none",
    OpeningReason.CONNECT: "a tunnel is asked for inside a tunnel",
    OpeningReason.OTHER_HOST: "a request inside asks for another host than the connection is for",
    OpeningReason.OTHER_SCHEME: "a request inside asks for another scheme than https; in the "
    "clear, than http",
    OpeningReason.OTHER_SERVER: "the server shows another certificate than before, which nobody "
    "has verified either",
}
"""Every reason code of opened connections, in words."""
