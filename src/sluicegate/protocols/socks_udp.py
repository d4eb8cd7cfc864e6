r"""The datagrams of a SOCKS 5 UDP association: their header, and who may send them (RFC 1928, 7).

The gate's relay calls it once per datagram. The invariant: only the client that asked for the
association reaches anybody through it, and a datagram is one whole datagram: fragments are refused.

>>> header = encode_socks_udp_header(SocketAddress("192.0.2.7", 53))
>>> print(decode_socks_datagram(header + b"answer").destination)
192.0.2.7:53
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.protocols.entry import Destination
from sluicegate.protocols.socks import decode_socks5_address, encode_socks5_address

__all__ = [
    "SOCKS_UDP_HEADER_BYTES_MAX",
    "SocksDatagram",
    "SocksUdpClient",
    "decode_socks_datagram",
    "encode_socks_udp_header",
]

SOCKS_UDP_HEADER_BYTES_MAX: Final = 262
"""Reserved (2), fragment (1), type (1), a name of 255 with its length (256), port (2)."""


@dataclass(frozen=True, slots=True)
class SocksDatagram:
    """What a client's datagram says of itself; the payload stays where it is."""

    destination: Destination
    payload_at: int
    #: Where the payload begins in the datagram.


def decode_socks_datagram(datagram: bytes | bytearray | memoryview) -> SocksDatagram:
    """Read the header of a datagram from the client.

    Raises:
        ProtocolError: It is cut short or malformed, names port 0, or is a fragment. Drop the
            datagram; the association goes on (an answer would only help a forger).
    """
    if len(datagram) < _ADDRESS_AT:
        raise ProtocolError("a SOCKS datagram is shorter than its header", Side.CLIENT)
    if datagram[0] or datagram[1]:
        raise ProtocolError("a SOCKS datagram's reserved bytes are not 0", Side.CLIENT)
    if datagram[2]:
        raise ProtocolError("a SOCKS datagram is a fragment", Side.CLIENT)
    decoded = decode_socks5_address(datagram, _ADDRESS_AT)
    if decoded is None:
        raise ProtocolError("a SOCKS datagram is shorter than its header", Side.CLIENT)
    destination, end = decoded
    if destination.port == 0:
        raise ProtocolError("a SOCKS datagram names port 0", Side.CLIENT)
    return SocksDatagram(destination, end)


def encode_socks_udp_header(source: SocketAddress) -> bytes:
    """Return the header for a datagram to the client: who sent the payload behind it."""
    return _WHOLE + encode_socks5_address(source)


class SocksUdpClient:
    """Who may send through one association, and where answers go; lives as long as it.

    The address is the control connection's: what the client announced cannot move it elsewhere, so
    no announcement makes the gate send to a stranger. The port is the announced one, or that of the
    first datagram: afterwards nobody else on the client's host can take the association over.
    """

    __slots__ = ("_ip", "address")

    def __init__(self, control_peer: IpAddress, announced: Destination) -> None:
        self._ip = control_peer
        self.address: SocketAddress | None = None
        #: Where answers go; None until the client's port is known.
        if announced.port:
            self.address = SocketAddress(str(control_peer), announced.port)

    def admits(self, sender: SocketAddress) -> bool:
        """Tell whether a datagram is the client's; the first one settles its port."""
        if sender.ip != self._ip:
            return False
        if self.address is None:
            self.address = sender
        return sender.port == self.address.port


_ADDRESS_AT: Final = 3
_WHOLE: Final = bytes(3)
