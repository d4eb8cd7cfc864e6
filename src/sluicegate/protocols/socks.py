r"""What SOCKS 4, 4a and 5 share: requests, replies, and addresses on the wire (RFC 1928).

``socks4``, ``socks5`` and ``socks_udp`` stand on it; the gate answers requests with it. The
invariant: a reply carries an address that its version can carry and that the client can use, or
zeros; never a part of one.

>>> destination = Destination(HostKind.TEXT, b"www.example.com", 443)
>>> request = SocksRequest(5, SocksCommand.CONNECT, destination)
>>> request.encode_reply(SocksReply.NOT_ALLOWED)
b'\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00'
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.protocols.entry import Destination, HostKind

__all__ = [
    "SocksCommand",
    "SocksReply",
    "SocksRequest",
    "decode_socks5_address",
    "encode_socks4_reply",
    "encode_socks5_address",
    "encode_socks5_reply",
]


class SocksCommand(enum.IntEnum):
    """What a client asks for."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3
    """SOCKS 5 only."""


class SocksReply(enum.IntEnum):
    """The outcome of a request, as SOCKS 5 says it (RFC 1928, section 6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """One request, of either version; answered with ``encode_reply``."""

    version: int
    #: 4 (also for 4a) or 5.
    command: SocksCommand
    destination: Destination
    #: Of BIND, whom the client expects; of UDP ASSOCIATE, where it will send from (often zeros).
    user_id: bytes = b""
    #: What a SOCKS 4 client calls its user: a claim, proved by nothing.

    def encode_reply(self, reply: SocksReply, bound: SocketAddress | None = None) -> bytes:
        """Return the bytes that answer this request; BIND has two successful answers.

        Args:
            reply: The outcome.
            bound: The first answer to BIND, and the answer to UDP ASSOCIATE: where others reach
                the gate. The second answer to BIND: who came. Of CONNECT clients make no use of it.

        Raises:
            ValueError: A success that promises an address has none that the client could use.
        """
        succeeded = reply is SocksReply.SUCCEEDED
        if succeeded and self.command is not SocksCommand.CONNECT:
            _check_usable(bound)
        bound = bound if succeeded else None
        if self.version == SOCKS5_VERSION:
            return encode_socks5_reply(reply, bound)
        if self.command is SocksCommand.CONNECT and bound is not None and ":" in bound.host:
            bound = None  # SOCKS 4 has no form for it, and clients ignore this field
        return encode_socks4_reply(reply, bound)

    @override
    def __str__(self) -> str:
        """Show the request for logs."""
        return f"SOCKS{self.version} {self.command.name} {self.destination}"


def encode_socks4_reply(reply: SocksReply, bound: SocketAddress | None = None) -> bytes:
    """Return a SOCKS 4 reply; every failure is 91, for the others speak of identd.

    Raises:
        ValueError: The address is not IPv4.
    """
    code = _GRANTED if reply is SocksReply.SUCCEEDED else _REJECTED
    if bound is None:
        return bytes((0, code, *_NO_PORT, *_NO_IPV4))
    port = bound.port.to_bytes(2, "big")
    return bytes((0, code)) + port + ipaddress.IPv4Address(bound.host).packed


def encode_socks5_reply(reply: SocksReply, bound: SocketAddress | None = None) -> bytes:
    """Return a SOCKS 5 reply; without an address it says 0.0.0.0:0."""
    address = (
        bytes((_IPV4, *_NO_IPV4, *_NO_PORT)) if bound is None else encode_socks5_address(bound)
    )
    return bytes((SOCKS5_VERSION, reply, 0)) + address


def encode_socks5_address(address: SocketAddress) -> bytes:
    """Return type, address and port as replies and UDP headers carry them."""
    packed = address.ip.packed
    kind = _IPV4 if len(packed) == _LENGTHS[_IPV4] else _IPV6
    return bytes((kind,)) + packed + address.port.to_bytes(2, "big")


def decode_socks5_address(
    data: bytes | bytearray | memoryview, start: int
) -> tuple[Destination, int] | None:
    """Read type, address and port at ``start``; return them with where they end.

    None means that bytes are missing.

    Raises:
        ProtocolError: The type is none of RFC 1928's, or a name is empty.
    """
    if start >= len(data):
        return None
    kind = data[start]
    begin = start + 1
    if kind == _NAME:
        if begin >= len(data):
            return None
        length = data[begin]
        begin += 1
        if length == 0:
            raise ProtocolError("a SOCKS 5 host name is empty", Side.CLIENT)
    elif kind in _LENGTHS:
        length = _LENGTHS[kind]
    else:
        raise ProtocolError("a SOCKS 5 address has an unknown type", Side.CLIENT)
    end = begin + length + 2
    if len(data) < end:
        return None
    host = bytes(data[begin : end - 2])
    port = int.from_bytes(data[end - 2 : end], "big")
    return Destination(_KINDS[kind], host, port), end


def _check_usable(bound: SocketAddress | None) -> None:
    if bound is None or bound.port == 0 or bound.ip.is_unspecified:
        raise ValueError(f"{bound} is no address that a client could send to: name a bound one")


SOCKS4_VERSION: Final = 4
SOCKS5_VERSION: Final = 5
_GRANTED: Final = 90
_REJECTED: Final = 91
_NO_PORT: Final = bytes(2)
_NO_IPV4: Final = bytes(4)
#: ATYP of RFC 1928, section 5.
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_LENGTHS: Final = {_IPV4: 4, _IPV6: 16}
_KINDS: Final = {_IPV4: HostKind.IPV4, _NAME: HostKind.TEXT, _IPV6: HostKind.IPV6}
