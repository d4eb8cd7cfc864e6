"""Socket addresses and address filters as values.

Events, policy, records and the port all speak of ``SocketAddress``; it is made from what the
kernel or an operator's file says, never from client text by a resolver. The invariant: the object
that policy judged is the object that is dialled, so an address is immutable and carries its own
packed kernel form.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Final

from typing_extensions import override

__all__ = ["NOWHERE", "AddressFilter", "IpAddress", "IpNetwork", "SocketAddress"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_INET: Final = int(socket.AF_INET)
_INET6: Final = int(socket.AF_INET6)
_SIZE_4: Final = 16
"""Bytes of a ``sockaddr_in``."""
_SIZE_6: Final = 28
"""Bytes of a ``sockaddr_in6``."""


class SocketAddress:
    """An IP address and a port, hashable and immutable by convention.

    A plain slotted class: a frozen dataclass costs 2 µs to make, and the gate makes one per
    connection.
    """

    __slots__ = ("_ip", "host", "port", "scope", "text")

    def __init__(self, host: str, port: int, scope: int = 0) -> None:
        self.host = host
        #: Textual IP address without brackets or zone; IPv4-mapped addresses are unwrapped.
        self.port = port
        self.scope = scope
        #: IPv6 scope id, 0 for none.
        self._ip: IpAddress | None = None
        self.text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        #: What ``str`` gives; made once, because every connection's records name it several times.

    @classmethod
    def from_kernel(cls, name: tuple[object, ...]) -> SocketAddress:
        """Make one from what ``getpeername``, ``getsockname`` or ``accept`` returned."""
        host, port = str(name[0]), name[1]
        if len(name) == 2:  # noqa: PLR2004 - sockaddr_in: nothing to unwrap
            return cls(host, port)  # type: ignore[arg-type]  # a number, says the kernel
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        if "%" in host:
            host = host.partition("%")[0]
        scope = int(str(name[3])) if len(name) > 3 else 0  # noqa: PLR2004 - sockaddr_in6
        return cls(host, int(str(port)), scope)

    @classmethod
    def from_packed(cls, name: bytes) -> SocketAddress:
        """Make one from the kernel's ``sockaddr_in`` or ``sockaddr_in6``.

        Raises:
            ValueError: It is neither.
        """
        family = int.from_bytes(name[:2], sys.byteorder)
        port = int.from_bytes(name[2:4], "big")
        if family == socket.AF_INET and len(name) >= _SIZE_4:
            return cls(socket.inet_ntop(socket.AF_INET, name[4:8]), port)
        if family == socket.AF_INET6 and len(name) >= _SIZE_6:
            scope = int.from_bytes(name[24:28], sys.byteorder)
            return cls(socket.inet_ntop(socket.AF_INET6, name[8:24]), port, scope)
        raise ValueError(f"{name.hex()} is not the address of an IP socket")

    @classmethod
    def parse(cls, text: str) -> SocketAddress:
        """Read ``192.0.2.1:21`` or ``[2001:db8::1]:21`` (operators' files, never client text).

        Raises:
            ValueError: The text is not an address literal with a port.
        """
        host, colon, port_text = text.rpartition(":")
        if not colon or not port_text.isascii() or not port_text.isdigit():
            raise ValueError(f"{text!r} is not ADDRESS:PORT")
        if host.startswith("[") and host.endswith("]"):
            ip: IpAddress = ipaddress.IPv6Address(host[1:-1])
        else:
            ip = ipaddress.IPv4Address(host)
        port = int(port_text)
        if port > 65535:  # noqa: PLR2004 - 16 bits
            raise ValueError(f"port {port} is above 65535")
        return cls(str(ip), port)

    @property
    def ip(self) -> IpAddress:
        """The address as an ``ipaddress`` object, made once."""
        if self._ip is None:
            self._ip = ipaddress.ip_address(self.host)
        return self._ip

    @property
    def family(self) -> int:
        """``socket.AF_INET`` or ``socket.AF_INET6``."""
        return _INET6 if ":" in self.host else _INET

    def to_kernel(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return the tuple that socket calls take."""
        if ":" in self.host:
            return (self.host, self.port, 0, self.scope)
        return (self.host, self.port)

    def packed(self) -> bytes:
        """Return the kernel's ``sockaddr_in`` or ``sockaddr_in6``."""
        if ":" in self.host:
            return struct.pack(
                "=HHI16sI",
                socket.AF_INET6,
                socket.htons(self.port),
                0,
                socket.inet_pton(socket.AF_INET6, self.host),
                self.scope,
            )
        return struct.pack(
            "=HH4s8x", socket.AF_INET, socket.htons(self.port), socket.inet_aton(self.host)
        )

    def with_port(self, port: int) -> SocketAddress:
        """Return the same host with another port."""
        return SocketAddress(self.host, port, self.scope)

    @override
    def __str__(self) -> str:
        """Format as ``host:port`` with brackets around IPv6."""
        return self.text

    @override
    def __repr__(self) -> str:
        return f"SocketAddress({self!s})"

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SocketAddress):
            return NotImplemented
        return (self.host, self.port, self.scope) == (other.host, other.port, other.scope)

    @override
    def __hash__(self) -> int:
        return hash((self.host, self.port))


NOWHERE: Final = SocketAddress("0.0.0.0", 0)  # noqa: S104 - it is never bound or dialled
"""Of a server while none is known; compared by identity. Records and people read nothing."""
NOWHERE.text = ""


class AddressFilter:
    """A set of IP ranges: who may use a bound or expected connection.

    ``AddressFilter.everybody()`` admits all, a fresh ``AddressFilter()`` nobody.
    """

    __slots__ = ("_excluded", "_filters", "_filters_excluded", "_included")

    def __init__(
        self, included: Iterable[IpNetwork] = (), excluded: Iterable[IpNetwork] = ()
    ) -> None:
        self._included = list(included)
        self._excluded = list(excluded)
        self._filters: list[AddressFilter] = []
        self._filters_excluded: list[AddressFilter] = []

    @classmethod
    def everybody(cls) -> AddressFilter:
        """Admit every address."""
        return cls([ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0")])

    @classmethod
    def only(cls, *hosts: str) -> AddressFilter:
        """Admit exactly these addresses."""
        return cls([ipaddress.ip_network(host) for host in hosts])

    def include(self, network: IpNetwork) -> None:
        """Admit a range."""
        self._included.append(network)

    def exclude(self, network: IpNetwork) -> None:
        """Refuse a range, also where it is included."""
        self._excluded.append(network)

    def is_included(self, address: SocketAddress) -> bool:
        """Tell whether an address is admitted."""
        ip = address.ip
        if any(ip in net for net in self._excluded):
            return False
        if any(one.is_included(address) for one in self._filters_excluded):
            return False
        return any(ip in net for net in self._included) or any(
            one.is_included(address) for one in self._filters
        )

    def include_filter(self, other: AddressFilter) -> None:
        """Admit everybody whom another filter admits, as it is now."""
        self._filters.append(other.clone())

    def exclude_filter(self, other: AddressFilter) -> None:
        """Refuse everybody whom another filter admits, as it is now."""
        self._filters_excluded.append(other.clone())

    def is_same_as(self, other: AddressFilter) -> bool:
        """Tell whether both were made of the same ranges, in any order."""
        return self.ranges() == other.ranges()

    def parts(
        self,
    ) -> tuple[list[IpNetwork], list[IpNetwork], list[AddressFilter], list[AddressFilter]]:
        """Return copies of what it was made of: ranges, then filters; included, then excluded."""
        filters = [one.clone() for one in self._filters]
        return (
            [*self._included],
            [*self._excluded],
            filters,
            [one.clone() for one in self._filters_excluded],
        )

    def ranges(self) -> tuple[frozenset[object], ...]:
        """Return what it was made of: included and excluded networks, then filters."""
        return (
            frozenset(self._included),
            frozenset(self._excluded),
            frozenset(one.ranges() for one in self._filters),
            frozenset(one.ranges() for one in self._filters_excluded),
        )

    def clone(self) -> AddressFilter:
        """Return an independent copy."""
        copy = AddressFilter(self._included, self._excluded)
        copy._filters = list(self._filters)
        copy._filters_excluded = list(self._filters_excluded)
        return copy
