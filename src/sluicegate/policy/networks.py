"""Networks as tables: which of many hold an address.

``rule_index`` keeps the rules of a listener by network in a ``NetworkTable``: ranges of addresses,
found by one binary search. Each condition keeps its own networks in a ``NetworkSet``: a hash per
length of prefix. The invariant: the cost of a question does not grow with the number of networks
but by its logarithm; what is kept grows by at most 33 (or 129) for each of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from sluicegate.address import IpAddress, IpNetwork

__all__ = ["NO_NETWORKS", "NetworkSet", "NetworkTable"]

ValueT = TypeVar("ValueT")


class NetworkTable(Generic[ValueT]):
    """Values by network; one network may have several."""

    __slots__ = ("_narrow", "_wide")

    def __init__(self, entries: Iterable[tuple[IpNetwork, ValueT]]) -> None:
        by_version: dict[int, list[tuple[int, int, ValueT]]] = {4: [], 6: []}
        for network, value in entries:
            start, end = int(network.network_address), int(network.broadcast_address)
            by_version[network.version].append((start, end, value))
        starts, values = _flatten(by_version[4])
        # Side by side: what a search looks at is in few lines of the processor's cache.
        self._narrow = (array("Q", starts), values)
        self._wide = _flatten(by_version[6])

    def find(self, address: IpAddress) -> Sequence[ValueT]:
        """Return the values of all networks that hold an address, the widest first."""
        return self.find_number(address.version, int(address))

    def find_number(self, version: int, number: int) -> Sequence[ValueT]:
        """Return the values of all networks that hold an address, given as a number."""
        starts, values = self._narrow if version == 4 else self._wide  # noqa: PLR2004 - of IP
        return values[bisect_right(starts, number)]


def _flatten(
    entries: list[tuple[int, int, ValueT]],
) -> tuple[list[int], list[tuple[ValueT, ...]]]:
    """Return where ranges begin, and before the first and from each on, the values there.

    Two networks are apart, or one is in the other: so the open ones are a stack.
    """
    starts: list[int] = []
    values: list[tuple[ValueT, ...]] = [()]

    def begin(start: int, found: tuple[ValueT, ...]) -> None:
        if starts and starts[-1] == start:
            values[-1] = found
        else:
            starts.append(start)
            values.append(found)

    around: list[tuple[int, tuple[ValueT, ...]]] = []
    for start, end, value in sorted(entries, key=lambda entry: (entry[0], -entry[1])):
        while around and around[-1][0] < start:
            ended, _ = around.pop()
            begin(ended + 1, around[-1][1] if around else ())
        around.append((end, (*(around[-1][1] if around else ()), value)))
        begin(start, around[-1][1])
    while around:
        ended, _ = around.pop()
        begin(ended + 1, around[-1][1] if around else ())
    return starts, values


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
