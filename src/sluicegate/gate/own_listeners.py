"""OwnListeners: would a dial reach the gate itself?

``entry`` keeps one for its clients, ``app.inquiry`` makes one of a configuration. The invariant: a
listener on a wildcard address is on every address of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.names import AddressClass, AddressClassifier

__all__ = ["OwnListeners"]


class OwnListeners:
    """Where one gate listens; immutable, replaced when that changes."""

    __slots__ = ("_hosts_by_port",)

    def __init__(self, addresses: Iterable[SocketAddress] = ()) -> None:
        ports: dict[int, tuple[str, ...]] = {}
        for address in addresses:
            ports[address.port] = (*ports.get(address.port, ()), address.host)
        self._hosts_by_port = ports

    def has(self, address: IpAddress, port: int, classifier: AddressClassifier) -> bool:
        """Tell whether a dial to an address and port would reach one of them.

        Args:
            address: That is to be dialled.
            port: Of it.
            classifier: Knows the machine's own addresses.
        """
        hosts = self._hosts_by_port.get(port)
        if hosts is None:
            return False
        if str(address) in hosts:
            return True
        if not any(host in _WILDCARDS for host in hosts):
            return False
        return classifier.classify(address).address_class in _OWN_CLASSES


_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what a listener may be bound to
_OWN_CLASSES: Final = frozenset({AddressClass.OWN, AddressClass.LOOPBACK, AddressClass.UNSPECIFIED})
