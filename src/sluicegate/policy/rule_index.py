"""The rules of one proxy listener, compiled: which of them speak of a host, without trying all.

``snapshot`` makes one per listener, ``destinations`` asks it. The invariant: what it returns is in
the operator's order, and a rule that speaks of a host is never left out: the first that matches in
it is the first that matches at all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from sluicegate.address import IpAddress
from sluicegate.names import CanonicalHost

from .networks import NetworkSet, NetworkTable
from .rules import ANY_USER, GROUP_PREFIX, Rule

__all__ = ["CompiledRule", "Identity", "RuleIndex"]


class Identity(Protocol):
    """A user who proved to be one (``identity.User``, ``filterapi.User``)."""

    @property
    def name(self) -> str:
        """As the users file writes it."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the user is in."""
        ...


class CompiledRule:
    """One rule, ready for questions; lives as long as its snapshot."""

    __slots__ = ("_protocols", "_users", "clients", "is_deny", "networks", "order", "rule")

    def __init__(self, order: int, rule: Rule) -> None:
        self.order = order
        #: Its place among the rules of its listener.
        self.rule = rule
        self.is_deny = rule.action.is_refusal
        self.clients = NetworkSet(rule.clients)
        self.networks = NetworkSet(rule.to.networks)
        self._protocols = rule.protocols
        self._users = None if rule.users is None else frozenset(rule.users)

    def has_protocol(self, protocol: str, port: int) -> bool:
        """Tell whether it speaks of a protocol to a port."""
        if not self._protocols:
            return True
        return any(pattern.matches(protocol, port) for pattern in self._protocols)

    def speaks_protocol(self, protocol: str) -> bool:
        """Tell whether it names a protocol, to whatever port."""
        return any(pattern.protocol == protocol for pattern in self._protocols)

    def has_user(self, user: Identity | None) -> bool:
        """Tell whether it speaks of a user, or of somebody who proved nothing."""
        users = self._users
        if users is None:
            return True
        if user is None:
            return False
        return (
            user.name in users
            or ANY_USER in users
            or any(GROUP_PREFIX + group in users for group in user.groups)
        )

    @property
    def needs_user(self) -> bool:
        """Whether it speaks only of those who proved who they are."""
        return self._users is not None


class RuleIndex:
    """All rules of one listener, by what they lead to."""

    __slots__ = ("_below", "_everywhere", "_exact", "_networks", "clients", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(CompiledRule(order, rule) for order, rule in enumerate(rules))
        self.clients = NetworkSet(network for rule in rules for network in rule.clients)
        #: Whoever some rule names; nobody else is even heard.
        self._everywhere = [one.order for one in self.rules if one.rule.to.is_everything]
        self._exact: dict[str, list[int]] = {}
        self._below: dict[str, list[int]] = {}
        for one in self.rules:
            for pattern in one.rule.to.hosts:
                table = self._below if pattern.is_wildcard else self._exact
                orders = table.setdefault(pattern.host.text, [])
                if one.order not in orders[-1:]:
                    orders.append(one.order)
        self._networks = NetworkTable(
            (network, one.order) for one in self.rules for network in one.rule.to.networks
        )

    def about_name(self, host: CanonicalHost) -> Iterator[CompiledRule]:
        """Yield the rules that lead to a name, in order."""
        found = [self._everywhere] if self._everywhere else []
        exact = self._exact.get(host.text)
        if exact is not None:
            found.append(exact)
        if self._below:
            found += self._below_of(host.text)
        return self._in_order(found)

    def about_addresses(self, addresses: Iterable[IpAddress]) -> Iterator[CompiledRule]:
        """Yield the rules that lead to one of these addresses, by network or as to everything."""
        found = [self._everywhere] if self._everywhere else []
        for address in addresses:
            found += self._networks.find(address)
        return self._in_order(found)

    def _below_of(self, text: str) -> Iterator[list[int]]:
        start = text.find(".") + 1
        while start:
            orders = self._below.get(text[start:])
            if orders is not None:
                yield orders
            start = text.find(".", start) + 1

    def _in_order(self, found: list[list[int]]) -> Iterator[CompiledRule]:
        orders = found[0] if len(found) == 1 else heapq.merge(*found)
        rules = self.rules
        return (rules[order] for order in orders)
