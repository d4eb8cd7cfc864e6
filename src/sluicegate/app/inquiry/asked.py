"""Asked: what somebody wanted of a gate, as a command line or a record tells it.

``explain`` makes one of its options, ``replay`` one of each record; ``offline_gate`` answers. The
invariant: the host is canonical, so what is answered is what a gate would have been asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.filterapi import User
from sluicegate.names import CanonicalHost
from sluicegate.policy import HttpPart, TransferPart

__all__ = ["Asked", "Protocol"]

Protocol: TypeAlias = Literal["tcp", "udp", "bind", "associate"]
"""What is wanted: a connection, datagrams to one destination, a peer's connection, or leave to send
datagrams at all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One wish of one client."""

    listener: str
    client: SocketAddress
    at: float
    """When, in seconds since the epoch (UTC)."""
    host: CanonicalHost | None = None
    """None: the client named no destination, as at a listener that publishes."""
    port: int = 0
    protocol: Protocol = "tcp"
    user: User | None = None
    addresses: tuple[IpAddress, ...] | None = None
    """What was found for the name; None: that is not known."""
    http: HttpPart | None = None
    transfer: TransferPart | None = None
    is_web_request: bool = False
    """It is an HTTP request in the open, which the gate judges by itself; ``http`` is then None
    only where its path has no reading."""
    sni: str | None = None
    """The name in a ClientHello on the connection; empty: it has none; None: that is not asked."""

    @property
    def target(self) -> str:
        """The destination as records write it."""
        return "" if self.host is None else f"{self.host}:{self.port}"
