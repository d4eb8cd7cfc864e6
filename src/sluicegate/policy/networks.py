"""Networks as tables of prefixes: which of many hold an address, by one look-up per length.

``rule_index`` keeps the rules of a listener by network in one, and each rule its own networks in
another. The invariant: the cost of a question depends on how many lengths of prefix there are, at
most 33 and 129, and never on how many networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from sluicegate.address import IpAddress, IpNetwork

__all__ = ["NetworkSet", "NetworkTable"]

ValueT = TypeVar("ValueT")


class NetworkTable(Generic[ValueT]):
    """Values by network; one network may have several."""

    __slots__ = ("_tables",)

    def __init__(self, entries: Iterable[tuple[IpNetwork, ValueT]]) -> None:
        tables: dict[int, dict[int, dict[int, list[ValueT]]]] = {4: {}, 6: {}}
        for network, value in entries:
            shift = network.max_prefixlen - network.prefixlen
            prefix = int(network.network_address) >> shift
            values = tables[network.version].setdefault(shift, {}).setdefault(prefix, [])
            values.append(value)
        self._tables = {version: tuple(found.items()) for version, found in tables.items()}

    def find(self, address: IpAddress) -> Iterator[list[ValueT]]:
        """Yield the values of each network that holds an address, in no order."""
        number = int(address)
        for shift, prefixes in self._tables[address.version]:
            values = prefixes.get(number >> shift)
            if values is not None:
                yield values


class NetworkSet:
    """Networks; asked whether one of them holds an address."""

    __slots__ = ("_tables",)

    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        tables: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            prefixes = tables[network.version].setdefault(shift, set())
            prefixes.add(int(network.network_address) >> shift)
        self._tables = {version: tuple(found.items()) for version, found in tables.items()}

    def covers(self, address: IpAddress) -> bool:
        """Tell whether a network holds an address."""
        number = int(address)
        return any(number >> shift in prefixes for shift, prefixes in self._tables[address.version])

    def names(self, address: IpAddress) -> bool:
        """Tell whether exactly this address is named, and not only a network around it."""
        return any(
            not shift and int(address) in prefixes
            for shift, prefixes in self._tables[address.version]
        )
