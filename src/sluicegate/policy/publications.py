"""Publications, compiled: by ranges of clients, with what else each of them says.

``snapshot`` makes one table per listener and address family, ``decide`` asks it. The clients of a
listener's publications are flattened into disjoint ranges: the first bytes of each range in order,
and beside each the publications that may decide there, up to the first that always does. A decision
is then one binary search, whatever the number of rules. The invariant: what stands beside a range
is in the operator's order. Addresses are compared as bytes in network order.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sluicegate.address import IpNetwork, SocketAddress

from .networks import NetworkSet
from .rules import Publication

__all__ = ["CompiledPublication", "Ranges"]


class CompiledPublication:
    """One publication, ready for questions."""

    __slots__ = ("_clients", "_except", "is_unconditional", "publication")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self._clients = NetworkSet(publication.clients)
        self._except = NetworkSet(publication.clients_except)
        self.is_unconditional = (
            publication.is_enabled
            and not publication.clients_except
            and publication.schedule is None
            and publication.expires is None
        )
        #: Whether it matches whomever its clients name, at any time.

    def covers(self, client: SocketAddress) -> bool:
        """Tell whether it is about a client at all."""
        one = self.publication
        return one.is_enabled and self._clients.covers(client.ip) and not self._excepts(client)

    def is_in_time(self, now: float) -> bool:
        """Tell whether it matches at an instant."""
        one = self.publication
        if one.expires is not None and now >= one.expires:
            return False
        return one.schedule is None or one.schedule.is_active(now)

    def lacking(self, client: SocketAddress, now: float) -> Iterator[tuple[str, str]]:
        """Yield the key of each condition that does not hold, with what is missing."""
        one = self.publication
        if not one.is_enabled:
            yield "enabled", "it is not enabled"
        if not self._clients.covers(client.ip):
            yield "clients", "the client is none of its clients"
        elif self._excepts(client):
            yield "clients_except", "the client is one of clients_except"
        if one.expires is not None and now >= one.expires:
            yield "expires", "it has expired"
        if one.schedule is not None and not one.schedule.is_active(now):
            yield "schedule", f"its schedule {one.schedule.name!r} is not active then"

    def _excepts(self, client: SocketAddress) -> bool:
        return bool(self.publication.clients_except) and self._except.covers(client.ip)


class Ranges:
    """The clients of one listener in one address family: who may get which publications."""

    __slots__ = ("_candidates", "_starts", "_width")

    def __init__(self, publications: Sequence[CompiledPublication], version: int) -> None:
        self._width = _WIDTHS[version]
        covering = [
            (network, order)
            for order, one in enumerate(publications)
            for network in one.publication.clients
            if network.version == version and one.publication.is_enabled
        ]
        self._starts: list[bytes] = []
        self._candidates: list[tuple[CompiledPublication, ...]] = []
        known: dict[tuple[int, ...], tuple[CompiledPublication, ...]] = {}
        for start, orders in _flatten(covering, [one.is_unconditional for one in publications]):
            if start < 1 << (self._width * 8):
                self._starts.append(start.to_bytes(self._width, "big"))
                candidates = known.setdefault(orders, tuple(publications[one] for one in orders))
                self._candidates.append(candidates)

    def find(self, address: bytes) -> tuple[CompiledPublication, ...]:
        """Return the publications that may cover a packed address, in order."""
        index = bisect_right(self._starts, address) - 1
        return self._candidates[index] if index >= 0 else ()

    def reached(self) -> set[str]:
        """Return the names of the publications that some address may get."""
        return {one.publication.name for found in self._candidates for one in found}


_WIDTHS: Final = {4: 4, 6: 16}


def _flatten(
    covering: list[tuple[IpNetwork, int]], unconditional: Sequence[bool]
) -> Iterable[tuple[int, tuple[int, ...]]]:
    """Yield the start of each range and the places of the publications that may decide in it."""
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for network, order in covering:
        starts.setdefault(int(network.network_address), []).append(order)
        ends.setdefault(int(network.broadcast_address) + 1, []).append(order)
    active: list[int] = []
    previous: tuple[int, ...] = ()
    for border in sorted({*starts, *ends}):
        for order in ends.get(border, ()):
            active.remove(order)
        for order in starts.get(border, ()):
            insort(active, order)
        candidates = _until_certain(active, unconditional)
        if candidates != previous:
            yield border, candidates
            previous = candidates


def _until_certain(active: Sequence[int], unconditional: Sequence[bool]) -> tuple[int, ...]:
    found: list[int] = []
    for order in active:
        if order not in found[-1:]:
            found.append(order)
        if unconditional[order]:
            break
    return tuple(found)
