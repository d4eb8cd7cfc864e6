"""UdpPeer: one remote peer of a UDP connection, as filters see it.

``UdpDestination`` brings it. The invariant: a peer is denied or admitted while its event is being
handled, and the answer holds until the connection forgets the peer.
"""

from __future__ import annotations

from typing import Protocol

from sluicegate.address import SocketAddress

__all__ = ["UdpPeer"]


class UdpPeer(Protocol):
    """One entry of a UDP connection's cache of peers."""

    @property
    def address(self) -> SocketAddress:
        """The peer's address; forged with ease, so never a proof of anything."""
        ...

    @property
    def is_denied(self) -> bool:
        """Whether its datagrams are discarded, and counted, both ways."""
        ...

    def deny(self, reason: str) -> None:
        """Discard its datagrams until the connection forgets it; as answering ``Deny(reason)``.

        Raises:
            BadContext: Its ``UdpDestination`` is not being handled.
        """
        ...
