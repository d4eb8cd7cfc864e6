"""What filters ask of a UDP connection and it has no need to think about.

``udp_connection`` adds the rest of ``filterapi.Connection``. The invariant: what makes no sense
for datagrams says so, and does nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext
from sluicegate.filterapi import AnyDataFilter, OpenTransfer, TransferOffer

from .registry import RulePlan

if TYPE_CHECKING:
    from .service import FirewallService
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
        listener: UdpListener | UdpAssociation
        _peers: PeerCache
        _service: FirewallService

    @property
    def listener_name(self) -> str:
        """The listener it came to."""
        return self.listener.name

    has_datagrams = True

    asked = ""
    """What a client of a proxy listener asked for."""

    @property
    def primary_id(self) -> str:
        """The association that it belongs to, of a client of a proxy listener."""
        return ""

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
