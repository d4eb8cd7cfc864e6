"""A client of a proxy listener: what it says before its tunnel, in each way of asking.

``playbook`` uses it for connections, binds and associations that a client asks the gate for by
name. The invariant: it is written from the RFCs and not from the gate's own parsers.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final

from sluicegate.address import SocketAddress

from .peers import PeerStream

__all__ = ["WAYS", "Answer", "Ask", "ask", "read_socks5_reply", "where"]

WAYS: Final = ("socks5", "socks4", "http-connect")
"""How a client may ask for a connection."""


class Ask(enum.IntEnum):
    """What a SOCKS client asks for (RFC 1928 section 4)."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


Answer = tuple[str, SocketAddress | None]
"""``granted``, or how the proxy refused; and the address that it told."""


async def ask(
    stream: PeerStream, host: str, port: int, by: str = "socks5", what: Ask = Ask.CONNECT
) -> Answer:
    """Ask a proxy for something, and return its answer.

    Args:
        stream: To the proxy.
        host: A name or an address.
        port: Which port there.
        by: One of ``WAYS``; what is not a connection is asked for by SOCKS 5.
        what: What for.

    Raises:
        OSError: The proxy broke the connection off.
    """
    if by == "socks4":
        return await _ask_socks4(stream, host, port)
    if by == "http-connect":
        return await _ask_http_connect(stream, host, port)
    await stream.send_all(b"\5\1\0")
    if await stream.receive_exactly(2) != b"\5\0":
        return "refused: no way of authentication", None
    await stream.send_all(bytes([5, what, 0]) + where(host, port))
    return await read_socks5_reply(stream)


async def read_socks5_reply(stream: PeerStream) -> Answer:
    """Read one reply of SOCKS 5 (RFC 1928 section 6)."""
    head = await stream.receive_exactly(4)
    if len(head) < 4:  # noqa: PLR2004 - version, reply, reserved, type
        return "refused: the proxy ended the stream", None
    packed = await stream.receive_exactly(4 if head[3] == 1 else 16)
    port = int.from_bytes(await stream.receive_exactly(2), "big")
    address = SocketAddress(str(ipaddress.ip_address(packed)), port)
    return (f"refused: reply {head[1]}" if head[1] else "granted"), address


def where(host: str, port: int) -> bytes:
    """Encode a destination: an address, or a name (RFC 1928 section 5)."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.encode()
        return bytes([3, len(name)]) + name + port.to_bytes(2, "big")
    kind = 1 if address.version == 4 else 4  # noqa: PLR2004 - the version of IP, RFC 1928
    return bytes([kind]) + address.packed + port.to_bytes(2, "big")


async def _ask_socks4(stream: PeerStream, host: str, port: int) -> Answer:
    try:
        place = ipaddress.IPv4Address(host).packed + b"me\0"
    except ValueError:
        place = b"\0\0\0\1me\0" + host.encode() + b"\0"  # 4a
    await stream.send_all(b"\4\1" + port.to_bytes(2, "big") + place)
    reply = await stream.receive_exactly(8)
    is_granted = reply[1:2] == b"\x5a"
    return ("granted" if is_granted else f"refused: reply {reply[1:2].hex()}"), None


async def _ask_http_connect(stream: PeerStream, host: str, port: int) -> Answer:
    target = f"[{host}]:{port}" if ":" in host.strip("[]") else f"{host}:{port}"
    await stream.send_all(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = await stream.receive_until(b"\r\n\r\n")
    status = head.split(b" ")[1].decode() if head else "none"
    return ("granted" if status == "200" else f"refused: status {status}"), None
