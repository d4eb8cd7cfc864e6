"""The cache of peers of one UDP connection: whom its client may send to, and hear from.

``udp_connection`` asks it for each datagram that is not plain. The invariant: nobody is in it whom
the connection has not sent to, so what comes from anybody else is not delivered.
"""

from __future__ import annotations

import enum

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, Side

__all__ = ["GateUdpPeer", "PeerCache", "PeerState"]


class PeerState(enum.Enum):
    """What was decided of a peer."""

    ASKING = "asking"
    ADMITTED = "admitted"
    DENIED = "denied"


class GateUdpPeer:
    """One peer; satisfies ``filterapi.UdpPeer``."""

    __slots__ = ("address", "awaiting", "is_event_open", "last_active", "reason", "state")

    def __init__(self, address: SocketAddress, now: float) -> None:
        self.address = address
        self.state = PeerState.ASKING
        self.reason = ""
        #: Why it is denied.
        self.last_active = now
        self.awaiting: list[tuple[Side, bytes]] = []
        #: Datagrams that wait for the verdict.
        self.is_event_open = False

    @property
    def is_denied(self) -> bool:
        """Whether its datagrams are discarded."""
        return self.state is PeerState.DENIED

    def deny(self, reason: str) -> None:
        """As ``filterapi.UdpPeer.deny``."""
        if not self.is_event_open:
            raise BadContext("a peer is denied while its UdpDestination is being handled")
        self.reason = reason
        self.state = PeerState.DENIED


class PeerCache:
    """The peers of one connection, bounded, each forgotten when it was silent for long."""

    __slots__ = ("_idle_s", "_peers", "_peers_max")

    def __init__(self, peers_max: int, idle_s: float) -> None:
        self._peers: dict[SocketAddress, GateUdpPeer] = {}
        self._peers_max = peers_max
        self._idle_s = idle_s

    def __len__(self) -> int:
        return len(self._peers)

    def find(self, address: SocketAddress) -> GateUdpPeer | None:
        """Return a peer that is known."""
        return self._peers.get(address)

    def add(self, address: SocketAddress, now: float) -> GateUdpPeer | None:
        """Take a new peer in; None when there is no room for one."""
        if len(self._peers) >= self._peers_max:
            return None
        peer = self._peers[address] = GateUdpPeer(address, now)
        return peer

    def due(self) -> float | None:
        """Return when the first peer is to be forgotten; None without peers."""
        if not self._peers:
            return None
        return min(peer.last_active for peer in self._peers.values()) + self._idle_s

    def expire(self, now: float) -> list[GateUdpPeer]:
        """Forget those that were silent too long, and return them."""
        gone = [
            peer
            for peer in self._peers.values()
            if peer.last_active + self._idle_s <= now and peer.state is not PeerState.ASKING
        ]
        for peer in gone:
            del self._peers[peer.address]
        return gone

    def keep(self, addresses: set[SocketAddress]) -> list[GateUdpPeer]:
        """Forget all but these, and return those that are gone."""
        gone = [peer for peer in self._peers.values() if peer.address not in addresses]
        for peer in gone:
            del self._peers[peer.address]
        return gone

    def clear(self) -> None:
        """Forget all of them: the connection ends."""
        self._peers.clear()
