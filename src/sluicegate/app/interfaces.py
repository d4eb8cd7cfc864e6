"""The addresses of this machine's interfaces, asked of the kernel by netlink (rtnetlink(7)).

``load`` asks at start and at every reload; policy keeps clients of proxy listeners from dialling
them. The invariant: the kernel's answer is whole or there is an error: an address that was left out
would be one that clients may reach.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from sluicegate.address import IpAddress
from sluicegate.errors import ConfigError

__all__ = ["interface_addresses", "parse_addresses"]


def interface_addresses() -> tuple[IpAddress, ...]:
    """Return every address of every interface, in the kernel's order.

    Raises:
        ConfigError: The kernel does not say.
    """
    try:
        with socket.socket(  # noqa: TID251 - netlink, before there is a port
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE
        ) as link:
            link.settimeout(_TIMEOUT_S)
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            body = struct.pack("=BBBBI", socket.AF_UNSPEC, 0, 0, 0, 0)
            head = struct.pack("=IHHII", _HEAD + len(body), _RTM_GETADDR, flags, 1, 0)
            link.sendto(head + body, (0, 0))
            found: list[IpAddress] = []
            while True:
                addresses, is_done = parse_addresses(link.recv(_REPLY_BYTES_MAX))
                found += addresses
                if is_done:
                    return tuple(dict.fromkeys(found))
    except OSError as error:
        raise ConfigError(
            "interfaces",
            f"the kernel does not tell its addresses: {error.strerror or error}",
            "a proxy listener needs AF_NETLINK (RestrictAddressFamilies= in its unit)",
        ) from error


def parse_addresses(data: bytes) -> tuple[list[IpAddress], bool]:
    """Read one datagram of the answer: its addresses, and whether it is the last.

    Raises:
        OSError: The kernel answered with an error.
    """
    found: list[IpAddress] = []
    at = 0
    while at + _HEAD <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind == _NLMSG_DONE:
            return found, True
        if kind == _NLMSG_ERROR:
            error = -struct.unpack_from("=i", data, at + _HEAD)[0]
            raise OSError(error, os.strerror(error))
        if kind == _RTM_NEWADDR:
            found += _of_message(data[at + _HEAD : at + length])
        at += max(_HEAD, (length + 3) & ~3)
    return found, False


def _of_message(message: bytes) -> Iterator[IpAddress]:
    """Yield the addresses of one message: the local one, and of a tunnel's other end none."""
    attributes = dict(_attributes(message[_IFADDRMSG:]))
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed is not None:
        yield ipaddress.ip_address(packed)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE_HEAD <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind, data[at + _ATTRIBUTE_HEAD : at + length]
        at += max(_ATTRIBUTE_HEAD, (length + 3) & ~3)


_NETLINK_ROUTE: Final = 0
_NLM_F_REQUEST: Final = 0x001
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_HEAD: Final = 16
_IFADDRMSG: Final = 8
_ATTRIBUTE_HEAD: Final = 4
_TIMEOUT_S: Final = 5.0
_REPLY_BYTES_MAX: Final = 1 << 16
