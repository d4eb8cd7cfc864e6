"""What the kernel says of interfaces and addresses: messages of rtnetlink, read.

``gate/network_watch`` hands it what its socket received. The invariant: whatever the bytes are,
reading them ends, and what cannot be read is skipped by the length that its header gives.
(linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h; netlink(7), rtnetlink(7).)
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpAddress

__all__ = [
    "RTM_GETADDR",
    "RTM_GETLINK",
    "AddressMessage",
    "DumpDone",
    "LinkMessage",
    "NetlinkFailure",
    "NetlinkMessage",
    "dump_request",
    "read_messages",
]

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ERROR: Final = struct.Struct("=i")

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300
_IFLA_IFNAME: Final = 3
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFF_UP: Final = 0x1
_ATTRIBUTE_KIND: Final = 0x3FFF
"""Without the flags for nested attributes and byte order."""


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """An interface is there, or is gone."""

    index: int
    name: str
    is_up: bool
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class AddressMessage:
    """An interface has an address, or has it no more."""

    index: int
    address: IpAddress
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class DumpDone:
    """A list that was asked for is complete."""


@dataclass(frozen=True, slots=True)
class NetlinkFailure:
    """A request failed: ``error`` is an errno."""

    error: int


NetlinkMessage = LinkMessage | AddressMessage | DumpDone | NetlinkFailure


def dump_request(kind: int, sequence: int) -> bytes:
    """Ask for every interface (``RTM_GETLINK``) or address (``RTM_GETADDR``)."""
    length = _HEADER.size + 1
    header = _HEADER.pack(length, kind, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, 0)
    # struct rtgenmsg: any address family.
    return header + b"\0"


def read_messages(data: bytes) -> Iterator[NetlinkMessage]:
    """Yield what one datagram says that is of interest."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        body = data[offset + _HEADER.size : offset + length]
        message = _read_message(kind, body)
        if message is not None:
            yield message
        offset += _aligned(length)


def _read_message(kind: int, body: bytes) -> NetlinkMessage | None:
    if kind == _NLMSG_DONE:
        return DumpDone()
    if kind == _NLMSG_ERROR and len(body) >= _ERROR.size:
        (error,) = _ERROR.unpack_from(body)
        # 0 acknowledges, which nobody asked for.
        return NetlinkFailure(-error) if error else None
    if kind in {_RTM_NEWLINK, _RTM_DELLINK} and len(body) >= _LINK.size:
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = dict(_attributes(body[_LINK.size :])).get(_IFLA_IFNAME, b"")
        text = name.rstrip(b"\0").decode("ascii", "replace")
        return LinkMessage(index, text, bool(flags & _IFF_UP), is_gone=kind == _RTM_DELLINK)
    if kind in {_RTM_NEWADDR, _RTM_DELADDR} and len(body) >= _ADDRESS.size:
        *_, index = _ADDRESS.unpack_from(body)
        found = dict(_attributes(body[_ADDRESS.size :]))
        # On a point-to-point interface the address is the peer's, and the local one ours.
        packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b""
        if len(packed) in {4, 16}:
            address = ipaddress.ip_address(packed)
            return AddressMessage(index, address, is_gone=kind == _RTM_DELADDR)
    return None


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            return
        yield kind & _ATTRIBUTE_KIND, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def _aligned(length: int) -> int:
    """Round up to the boundary of 4 bytes on which messages and attributes begin."""
    return (length + 3) & ~3
