"""Which DNS servers to ask: ``nameserver`` lines of resolv.conf, when the operator names none.

``app`` reads the file and hands the text over. Search lists and ``ndots`` are left out on purpose:
a name that was judged is not completed to another one. The invariant: a line that is not understood
is an error at start, never a server less.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.errors import ConfigError

from .literals import address_text, parse_ipv4, parse_ipv6

__all__ = ["parse_nameservers"]

DNS_PORT: Final = 53
NAMESERVERS_MAX: Final = 3  # MAXNS of <resolv.h>


def parse_nameservers(
    text: str,
    where: str = "/etc/resolv.conf",
    interface_index: Callable[[str], int] = socket.if_nametoindex,
) -> tuple[SocketAddress, ...]:
    """Return the servers that resolv.conf(5) names: the first three, or the local machine's.

    Raises:
        ConfigError: A ``nameserver`` line has no address, or names an interface that is not there.
    """
    found: list[SocketAddress] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0] != "nameserver" or len(found) == NAMESERVERS_MAX:
            continue
        literal, _, zone = (words[1] if len(words) > 1 else "").partition("%")
        address = parse_ipv4(literal) or parse_ipv6(literal)
        if address is None:
            raise ConfigError(f"{where}:{number}", f"{line!r} has no address", "nameserver ADDRESS")
        try:
            scope = interface_index(zone) if zone else 0
        except OSError as error:
            raise ConfigError(f"{where}:{number}", f"there is no interface {zone!r}") from error
        found.append(SocketAddress(address_text(address), DNS_PORT, scope))
    return tuple(found) or (SocketAddress("127.0.0.1", DNS_PORT),)
