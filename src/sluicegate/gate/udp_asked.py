"""What filters ask of a UDP connection and it has no need to think about.

``udp_connection`` adds the rest of ``filterapi.Connection``. The invariant: what makes no sense
for datagrams says so, and does nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, Side
from sluicegate.filterapi import AnyDataFilter, OpenTransfer, Outcome, TransferOffer
from sluicegate.policy.decision import PUBLISHED

from .internal_error import internal_error
from .readmission import Readmission, readmit_client
from .registry import RulePlan

if TYPE_CHECKING:
    from sluicegate.port.backend import RawSocket

    from .service import FirewallService
    from .session import GateSession
    from .udp_association import UdpAssociation
    from .udp_listener import UdpListener
    from .udp_peers import PeerCache

__all__ = ["AskedUdpConnection"]


class AskedUdpConnection:
    """The questions of ``filterapi.Connection`` that need no more than attributes."""

    __slots__ = ()

    if TYPE_CHECKING:
        id: str
        plan: RulePlan
        judged: int
        client_address: SocketAddress
        listener: UdpListener | UdpAssociation
        server_raw: RawSocket | None
        session: GateSession
        started: float
        last_active: float
        is_plain: bool
        _peers: PeerCache
        _service: FirewallService

        def _end(
            self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None
        ) -> None: ...

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._end(Outcome.FAILED, internal_error(error))

    def on_detach_error(self, name: str, error: BaseException) -> None:
        """Record a filter that failed while it was being detached."""
        self._service.on_connection_filter_error(self, name, error)

    @property
    def listener_name(self) -> str:
        """The listener it came to."""
        return self.listener.name

    @property
    def server_side_address(self) -> SocketAddress:
        """The gate's own address towards the server.

        Raises:
            BadContext: There is no socket towards it yet.
        """
        if self.server_raw is None or self.server_raw.fileno() < 0:
            raise BadContext("the server side is not open")
        return SocketAddress.from_kernel(self.server_raw.getsockname())

    @property
    def _is_told_of(self) -> bool:
        """Whether any filter is told of events about it."""
        return bool(self.plan.events) or not self.session.is_plain

    @property
    def peer_count(self) -> int:
        """Peers that it knows now."""
        return len(self._peers)

    has_datagrams = True

    asked = ""
    """What a client of a proxy listener asked for."""
    found: tuple[str, ...] = ()
    """The addresses of the name that it asked for, as records write them."""

    @property
    def primary_id(self) -> str:
        """The association that it belongs to, of a client of a proxy listener."""
        return ""

    @property
    def allowed_by(self) -> str:
        """The reason code with which it is let in."""
        return PUBLISHED

    def judge_anew(self) -> Readmission:
        """Say by which rule it would be let in now."""
        return readmit_client(self._service, self.listener_name, self.client_address, self.plan)

    def on_readmitted(self) -> None:
        """As ``revocation.Judged``; nothing hangs on it."""

    @property
    def rule(self) -> str:
        """Name of the rule that admitted it."""
        return self.plan.rule.name

    @property
    def firewall(self) -> FirewallService:
        """The running service."""
        return self._service

    def note(self, by: object, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """As ``filterapi.Connection.note``."""
        kind = type(by)
        name: str = getattr(kind, "name", "") or kind.__name__
        self._service.note(name, message, {"connection": self.id, **(facts or {})})

    @property
    def is_secondary(self) -> bool:
        """Whether another connection announced it; no UDP connection is, here."""
        return False

    @property
    def is_emulated(self) -> bool:
        """Whether a filter is its server: never, for datagrams."""
        return False

    def hand_over(
        self, data_filter: AnyDataFilter, successor: AnyDataFilter, context: Any = None
    ) -> None:
        """As ``filterapi.Connection.hand_over``; a filter of datagrams has nothing to hand over."""
        del data_filter, successor, context
        raise BadContext("a filter of datagrams leaves, and another is attached")

    def dial_server(self, address: SocketAddress) -> None:
        """As ``filterapi.Connection.dial_server``; nothing is dialled for datagrams."""
        del address
        raise BadContext("nothing is dialled for datagrams")

    def count_sent(self, count: int) -> None:
        """As ``filterapi.Connection.count_sent``; datagrams are not emulated."""
        del count
        raise BadContext("datagrams are not emulated")

    def open_transfer(self, offer: TransferOffer) -> OpenTransfer:
        """As ``filterapi.Connection.open_transfer``; an object moves in a stream."""
        del offer
        raise BadContext("no transfer is opened for datagrams")

    def due(self) -> float:
        """Return when it ends, or forgets a peer, if nothing happens (``timers.Expiring``)."""
        limits = self._service.limits
        due = min(
            self.last_active + limits.udp_idle_timeout_s, self.started + limits.connection_total_s
        )
        if self.plan.deadlines is not None:
            due = min(due, self.plan.deadlines.due_for(self))
        if self.is_plain and not self._is_told_of:
            return due
        peers_due = self._peers.due()
        if peers_due is None:
            return due
        if self.is_plain:
            peers_due = max(peers_due, self.last_active + limits.udp_peer_idle_s)
        return min(due, peers_due)
