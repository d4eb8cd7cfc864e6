"""The rules of one proxy listener, compiled: which of them may speak of a host, without trying all.

``snapshot`` makes one per listener, ``destinations`` asks it. Rules are found by what they lead to:
exact names and suffixes by hash, networks by prefix, each distinct ``to`` once however many rules
share it. Where many rules lead to the same place, as those to ``*`` do, they are found by their
clients. The invariant: a rule that speaks of a host is never left out of what is returned, and each
list is in the operator's order; that a rule is returned means that what it was found by holds (the
client, the name, the address), and nothing else: only weighing it says whether it matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from sluicegate.address import IpNetwork
from sluicegate.names import CanonicalHost

from .compiled_rule import CompiledRule, Shows
from .conditions import ConditionPool
from .learn import LearnEntry
from .networks import NetworkSet, NetworkTable
from .request import Number, Question
from .rules import Rule, Targets

__all__ = ["InOrder", "RuleIndex"]

InOrder: TypeAlias = tuple[CompiledRule, ...]
"""Rules in the operator's order. The rules themselves and not their places: with ten thousand, what
a decision costs is how many objects it touches that no decision before it has touched."""


class RuleIndex:
    """All rules of one listener, by what they lead to."""

    __slots__ = (
        "_below",
        "_everywhere",
        "_exact",
        "_networks",
        "_of_datagrams",
        "clients",
        "datagram_refusers",
        "learning",
        "rules",
    )

    def __init__(
        self,
        rules: Sequence[Rule],
        learn: Sequence[LearnEntry] = (),
        shows: Shows | None = None,
        pool: ConditionPool | None = None,
    ) -> None:
        pool = pool or ConditionPool()
        shows = shows or {}
        self.rules = tuple(
            CompiledRule(order, rule, pool, shows) for order, rule in enumerate(rules)
        )
        #: All of them, in order; those that are not enabled match nothing, and are not indexed.
        self.learning = tuple(
            CompiledRule(len(rules) + place, entry.rule, pool, shows)
            for place, entry in enumerate(learn)
        )
        #: What passes when no rule speaks of it.
        enabled = [one for one in self.rules if one.rule.is_enabled]
        lists = {id(one.rule.clients): one.rule.clients for one in (*enabled, *self.learning)}
        self.clients = NetworkSet(network for clients in lists.values() for network in clients)
        #: Whoever some rule names; nobody else is even heard.
        groups = _Groups(enabled, pool)
        self._everywhere = groups.everywhere()
        self._exact, self._below = groups.names()
        self._networks = groups.networks()
        datagrams = [one for one in enabled if not one.is_refusal and one.speaks("udp")]
        self._of_datagrams = _bucket(datagrams, pool)
        self.datagram_refusers = [one for one in enabled if one.refuses_all_datagrams]

    def about_name(self, name: str, question: Question) -> list[InOrder]:
        """Return the rules that may lead to a name."""
        found: list[InOrder] = []
        if self._everywhere is not None:
            _collect(self._everywhere, question, found)
        bucket = self._exact.get(name)
        if bucket is not None:
            _collect(bucket, question, found)
        below = self._below
        if below:
            start = name.find(".") + 1
            while start:
                bucket = below.get(name[start:])
                if bucket is not None:
                    _collect(bucket, question, found)
                start = name.find(".", start) + 1
        return found

    def about_addresses(
        self, addresses: Iterable[Number], name: str, question: Question
    ) -> list[InOrder]:
        """Return the rules that may lead to one of these addresses.

        Args:
            addresses: All that one address means, first itself.
            name: Its text, by which URLs name it.
            question: Who asks.
        """
        found: list[InOrder] = []
        if self._everywhere is not None:
            _collect(self._everywhere, question, found)
        written, *inside = addresses
        for bucket in self._networks.find_number(*written):
            _collect(bucket, question, found)
        if inside:
            self._collect_inside(inside, question, found)
        bucket_of_url = self._exact.get(name)
        if bucket_of_url is not None:
            _collect(bucket_of_url, question, found)
        return found

    def about_host(self, host: CanonicalHost, question: Question) -> list[InOrder]:
        """Return the rules that may lead to what a client named."""
        if question.judgement is None:
            return self.about_name(host.text, question)
        return self.about_addresses(question.meant, host.text, question)

    def about_datagrams(self, question: Question) -> list[InOrder]:
        """Return the rules that may let a client send datagrams."""
        found: list[InOrder] = []
        _collect(self._of_datagrams, question, found)
        return found

    def _collect_inside(
        self, addresses: Iterable[Number], question: Question, found: list[InOrder]
    ) -> None:
        """Add the rules about what an address holds: those that allow it do not mean that."""
        inside: list[InOrder] = []
        for version, number in addresses:
            for bucket in self._networks.find_number(version, number):
                _collect(bucket, question, inside)
        found += [tuple(self.rules[one.order] for one in rules) for rules in inside]


_Bucket: TypeAlias = InOrder | NetworkTable[InOrder]
"""Rules that lead to one place: a few, to be tried one by one, or many, by their clients."""


def _collect(bucket: _Bucket, question: Question, found: list[InOrder]) -> None:
    """Add those of a bucket that may be about a question."""
    if isinstance(bucket, tuple):
        found.append(bucket)
    else:
        found += bucket.find_number(question.client_version, question.client)


def _in_order(rules: Iterable[CompiledRule]) -> InOrder:
    return tuple(sorted(rules, key=lambda one: one.order))


def _bucket(rules: Sequence[CompiledRule], pool: ConditionPool) -> _Bucket:
    if len(rules) <= _TRIED_MAX:
        return _in_order(rules)
    by_clients: dict[int, tuple[tuple[IpNetwork, ...], list[CompiledRule]]] = {}
    for one in rules:
        clients = one.rule.clients
        of_clients = by_clients.setdefault(id(clients), (clients, []))[1]
        of_clients.append(one.found_by_client(pool))
    return _table_of(list(by_clients.values()), _in_order)


class _Groups:
    """Rules by the identity of their ``to``: what many rules share is looked at once."""

    def __init__(self, rules: Sequence[CompiledRule], pool: ConditionPool) -> None:
        self._pool = pool
        groups: dict[int, tuple[Targets, list[CompiledRule]]] = {}
        for one in rules:
            to = one.rule.to
            groups.setdefault(id(to), (to, []))[1].append(one)
        self._groups = list(groups.values())
        self._placed = [
            (to, [one.found_by_place(pool) for one in found]) for to, found in self._groups
        ]

    def everywhere(self) -> _Bucket | None:
        """Return the rules that lead to everything."""
        found = [one for to, rules in self._groups if to.is_everything for one in rules]
        return _bucket(found, self._pool) if found else None

    def names(self) -> tuple[Mapping[str, _Bucket], Mapping[str, _Bucket]]:
        """Return the rules by exact name (and the hosts of URLs), and by suffix."""
        exact: dict[str, list[int]] = {}
        below: dict[str, list[int]] = {}
        for number, (to, _) in enumerate(self._placed):
            for pattern in to.hosts:
                table = below if pattern.is_wildcard else exact
                _note(table, pattern.host.text, number)
            for url in to.urls:
                _note(exact, url.host.text, number)
        buckets: dict[tuple[int, ...], _Bucket] = {}
        return self._bucketed(exact, buckets), self._bucketed(below, buckets)

    def networks(self) -> NetworkTable[_Bucket]:
        """Return the rules by network."""
        groups = [(to.networks, rules) for to, rules in self._placed]
        return _table_of(groups, lambda rules: _bucket(rules, self._pool))

    def _bucketed(
        self, table: Mapping[str, list[int]], buckets: dict[tuple[int, ...], _Bucket]
    ) -> dict[str, _Bucket]:
        found: dict[str, _Bucket] = {}
        for name, numbers in table.items():
            key = tuple(numbers)
            bucket = buckets.get(key)
            if bucket is None:
                rules = [one for number in key for one in self._placed[number][1]]
                bucket = buckets[key] = _bucket(rules, self._pool)
            found[name] = bucket
        return found


def _note(table: dict[str, list[int]], name: str, number: int) -> None:
    numbers = table.setdefault(name, [])
    if number not in numbers[-1:]:
        numbers.append(number)


def _table_of(
    groups: Sequence[tuple[Sequence[IpNetwork], Sequence[CompiledRule]]],
    make: Callable[[Sequence[CompiledRule]], ValueT],
) -> NetworkTable[ValueT]:
    """Make a table of the rules that each network brings; networks with the same rules share it."""
    numbers: dict[IpNetwork, list[int]] = {}
    for number, (networks, _) in enumerate(groups):
        for network in networks:
            of_network = numbers.setdefault(network, [])
            if number not in of_network[-1:]:
                of_network.append(number)
    buckets: dict[tuple[int, ...], ValueT] = {}
    entries: list[tuple[IpNetwork, ValueT]] = []
    for network, found in numbers.items():
        key = tuple(found)
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = make([one for number in key for one in groups[number][1]])
        entries.append((network, bucket))
    return NetworkTable(entries)


ValueT = TypeVar("ValueT")

_TRIED_MAX: Final = 8
"""Rules that are tried one by one: about what finding them by their clients takes."""
