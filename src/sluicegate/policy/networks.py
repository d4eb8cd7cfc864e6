"""Networks as tables of prefixes: which of many hold an address, by one look-up per length.

``rule_index`` keeps the rules of a listener by network in one, and each condition its own networks
in another. The invariant: the cost of a question depends on how many lengths of prefix there are,
at most 33 and 129, and never on how many networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from sluicegate.address import IpAddress, IpNetwork

__all__ = ["NO_NETWORKS", "NetworkSet", "NetworkTable"]

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

    def find(self, address: IpAddress) -> list[ValueT]:
        """Return the values of all networks that hold an address, in no order."""
        return self.find_number(address.version, int(address))

    def find_number(self, version: int, number: int) -> list[ValueT]:
        """Return the values of all networks that hold an address, given as a number."""
        found: list[ValueT] = []
        for shift, prefixes in self._tables[version]:
            values = prefixes.get(number >> shift)
            if values is not None:
                found += values
        return found


class NetworkSet:
    """Networks; asked whether one of them holds an address."""

    __slots__ = ("_narrow", "_wide")

    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        tables: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            prefixes = tables[network.version].setdefault(shift, set())
            prefixes.add(int(network.network_address) >> shift)
        self._narrow = tuple(tables[4].items())
        self._wide = tuple(tables[6].items())

    def covers(self, address: IpAddress) -> bool:
        """Tell whether a network holds an address."""
        return self.has(address.version, int(address))

    def has(self, version: int, number: int) -> bool:
        """Tell whether a network holds an address, given as a number."""
        tables = self._narrow if version == 4 else self._wide  # noqa: PLR2004 - of IP
        for shift, prefixes in tables:  # noqa: SIM110 - any() takes twice as long
            if number >> shift in prefixes:
                return True
        return False

    def names(self, address: IpAddress) -> bool:
        """Tell whether exactly this address is named, and not only a network around it."""
        return any(
            not shift and int(address) in prefixes for shift, prefixes in self._of(address.version)
        )

    def covers_network(self, network: IpNetwork) -> bool:
        """Tell whether one network holds all of another one."""
        number = int(network.network_address)
        narrowest = network.max_prefixlen - network.prefixlen
        return any(
            shift >= narrowest and number >> shift in prefixes
            for shift, prefixes in self._of(network.version)
        )

    def _of(self, version: int) -> tuple[tuple[int, set[int]], ...]:
        return self._narrow if version == 4 else self._wide  # noqa: PLR2004 - of IP


NO_NETWORKS = NetworkSet(())
