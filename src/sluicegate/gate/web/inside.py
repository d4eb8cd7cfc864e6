"""Inside: what a client's tunnel is for that is read, and which requests fit it.

``desk`` makes one with the web connection. The invariant: a request inside goes to the host that
the connection was opened for, on its port, by ``https`` where its TLS was opened and by ``http``
where it is in the clear, or nowhere: whoever was judged once is the only one that can be asked (RFC
9110 section 7.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sluicegate.gate.readmission import Readmission
from sluicegate.names import CanonicalHost, HostRefused
from sluicegate.policy.tls_check import judge_not_tls
from sluicegate.policy.tls_opening import OpeningReason, TlsMode
from sluicegate.protocols.entry import Destination
from sluicegate.protocols.http1 import Authority, Request, TargetForm

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluicegate.gate.asker import Asker
    from sluicegate.gate.opened_tls import OpenedTls
    from sluicegate.gate.service import FirewallService
    from sluicegate.tls import ServerIdentity

    from .origin_pool import PoolKey

__all__ = ["Inside"]


@dataclass(slots=True)
class Inside:
    """What one connection is for; nobody changes it (frozen, it would take twice as long)."""

    named: CanonicalHost
    """What the client asked the gate for: a name, or an address."""
    host: CanonicalHost
    """Who the server is: that name, or the one in the client's hello, which leads there."""
    port: int
    opened: OpenedTls | None
    """What is known of its TLS; None: it is in the clear."""
    pool_key: PoolKey | None
    """Of connections to the server; None: whatever requests without a tunnel would use."""
    is_shared: bool = False
    """Whether other connections of the same client may use those."""
    refusal: str = ""
    """Why every request is refused, by a page: the server is not who it should be."""

    @property
    def is_secure(self) -> bool:
        """Whether it is what was inside TLS."""
        return self.opened is not None

    @property
    def is_unverified(self) -> bool:
        """Whether its server is not who it should be, and is shown all the same."""
        identity = None if self.opened is None else self.opened.identity
        return identity is not None and not identity.is_verified

    def takes(self, identity: ServerIdentity) -> bool:
        """Tell whether a further connection leads to whom the client takes its server for.

        Args:
            identity: Who is there; not verified only where the first one was not, either.
        """
        before = None if self.opened is None else self.opened.identity
        return identity.is_verified or (
            before is not None and identity.fingerprint == before.fingerprint
        )

    def objection_to(
        self, request: Request, host_of: Callable[[Destination], CanonicalHost]
    ) -> tuple[int, str] | None:
        """Say why a request does not fit, as a status and a reason; None if it does."""
        if self.refusal:
            return 502, self.refusal
        form = request.target.form
        if form is TargetForm.AUTHORITY:
            return 405, OpeningReason.CONNECT
        if form is TargetForm.ABSOLUTE and request.target.scheme != _SCHEMES[self.is_secure]:
            return 421, OpeningReason.OTHER_SCHEME
        authority = request.authority
        if authority is None:
            return None  # who judges every request refuses it
        try:
            is_meant = self._is_meant(authority, host_of)
        except HostRefused as refused:
            return 400, refused.reason
        return None if is_meant else (421, f"{OpeningReason.OTHER_HOST}: {authority}")

    def judge_anew(self, service: FirewallService, asker: Asker) -> Readmission | None:
        """Say why its tunnel would not be read now as it is; None if it would."""
        decision = service.entries.decide_again(asker, self.named, self.port, "tcp")
        rule = decision.rule
        if not decision.is_allowed or rule is None:
            return Readmission(None, decision.reason, rule)
        check, opened = rule.tls, self.opened
        if opened is None:
            is_refused = check is not None and check.covers(self.port)
            objection = judge_not_tls(check).reason if is_refused and check is not None else ""
            return Readmission(None, objection, rule) if objection else None
        mode = TlsMode.SPLICE
        if check is not None:
            mode = check.mode_for(self.host, self.port)
        if mode is opened.mode:
            return None
        return Readmission(None, OpeningReason.MODE_CHANGED, rule)

    def _is_meant(
        self, authority: Authority, host_of: Callable[[Destination], CanonicalHost]
    ) -> bool:
        port = authority.port or _PORTS[self.is_secure]
        if authority.host == self.host.text.encode() and self.host.address is None:
            return port == self.port  # the canonical form of a canonical name is itself
        host = host_of(Destination(authority.kind, authority.host, port))
        return port == self.port and host.text == self.host.text


_SCHEMES: Final = (b"http", b"https")
_PORTS: Final = (80, 443)
"""In the clear, and inside TLS."""
