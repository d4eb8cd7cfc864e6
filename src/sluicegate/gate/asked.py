"""What filters ask of a connection that it answers from what it is, without doing anything.

``GateConnection`` is one. The invariant: nothing here changes the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.filterapi import TransferOffer
    from sluicegate.names import CanonicalHost
    from sluicegate.port.given_away import GivenAway
    from sluicegate.verdict import Deny

    from .attached import Attached
    from .opened_tls import OpenedTls
    from .own_tls import OwnTls
    from .registry import RulePlan
    from .secondary import ExpectedConnection
    from .service import FirewallService
    from .session import GateSession

__all__ = ["AskedConnection"]


class AskedConnection:
    """The questions of ``filterapi.Connection`` that need no more than attributes."""

    __slots__ = ()

    has_datagrams = False
    opened: OpenedTls | None = None
    """What is known of its TLS, where its rule wants that opened or verified."""
    own_tls: OwnTls | None = None
    """What is known of the TLS that its client speaks with a publishing listener."""
    entry_protocol: ClassVar[str] = "tcp"
    """What its client asked for, as rules name it."""
    found: tuple[str, ...] = ()
    """The addresses of the name that its client asked for, as records write them."""

    if TYPE_CHECKING:
        id: str
        session: GateSession
        server_address: SocketAddress
        plan: RulePlan
        expected: ExpectedConnection | None
        _attached: list[Attached] | None
        _service: FirewallService

    @property
    def rule(self) -> str:
        """Name of the rule that admitted it."""
        return self.plan.rule.name

    def take_server_given(self) -> GivenAway | None:
        """Return the server's socket as it was left when both sides were opened, if they were."""
        return None

    @property
    def _announces_client(self) -> bool:
        """Whether the server is told who the client is, in front of its bytes."""
        return self.plan.rule.send_proxy_protocol is not None

    @property
    def is_opened(self) -> bool:
        """Whether what passes is what was inside TLS."""
        return False

    @property
    def _bytes_objection(self) -> str:
        """Why it may not even be dialled: what its filters are for is not in its bytes."""
        return self.plan.bytes_blocked

    @property
    def _must_be_seen(self) -> bool:
        """Whether nothing may pass that no filter sees."""
        return self.plan.must_inspect

    @property
    def named_host(self) -> CanonicalHost | None:
        """What its client named, canonical; None: nothing, it is published."""
        return None

    @property
    def named_port(self) -> int:
        """The port that its client named, or that is published."""
        return self.server_address.port

    def judge_target(self, address: SocketAddress) -> Deny | None:
        """Say why its rule does not let it lead to an address; a published one has no such rule."""
        del address
        return None

    def objection_to(self, offer: TransferOffer) -> str:
        """Say why policy refuses an object that it carries; empty if it does not."""
        del offer
        return ""

    @property
    def is_secondary(self) -> bool:
        """Whether another connection announced it."""
        return self.expected is not None

    @property
    def firewall(self) -> FirewallService:
        """The running service."""
        return self._service

    def note(self, by: object, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """As ``filterapi.Connection.note``."""
        kind = type(by)
        name: str = getattr(kind, "name", "") or kind.__name__
        for item in self._attached or ():
            if item.filter is by:
                name = item.name
        self._service.note(name, message, {"connection": self.id, **(facts or {})})

    def filter_names(self) -> tuple[str, ...]:
        """Return the names of the data filters that were attached, client to server."""
        attached = self._attached
        return tuple([item.name for item in attached]) if attached is not None else ()
