"""KnownDestinations: what was decided and found for a client's request, for the next one like it.

Clients ask for the same few destinations again and again; ``entry`` looks here before it decides
and resolves. The invariant: everything kept is what deciding, looking up and judging would give
now: it is forgotten whole when policy, users, resolver, listeners or addresses change, and each
destination when its answer expires.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.filterapi import User
from sluicegate.limits import ENTRY_KNOWN_MAX
from sluicegate.names import CanonicalHost, Destination
from sluicegate.policy import DestinationDecision
from sluicegate.protocols.entry import HostKind

if TYPE_CHECKING:
    from .registry import RulePlan

__all__ = ["DecisionKey", "KnownDestination", "KnownDestinations", "RequestKey"]

DecisionKey: TypeAlias = tuple[str, str, User | None, str, int, str]
"""Listener, client, user, canonical host, port and protocol."""

RequestKey: TypeAlias = tuple[str, str, User | None, HostKind, bytes, int]
"""All that a decision depends on: listener, client, user, and the host and port as they came.

The user with the groups that the last password brought: a directory may say others next time.
"""


@dataclass(frozen=True, slots=True)
class KnownDestination:
    """One request's outcome, up to the dial."""

    host: CanonicalHost
    decision: DestinationDecision
    plan: RulePlan
    destination: Destination
    address: SocketAddress
    """The first that may be dialled."""
    is_only_address: bool
    """Whether no other one may be."""
    asked: str
    """What was asked for, as records say it."""
    found: tuple[str, ...]
    """The addresses of a name, as records say them."""


class KnownDestinations:
    """The outcomes of one worker's requests."""

    __slots__ = ("_decided", "_known", "epoch")

    def __init__(self) -> None:
        self._known: dict[RequestKey, KnownDestination] = {}
        self._decided: dict[DecisionKey, DestinationDecision] = {}
        self.epoch = 0
        #: What was judged under another one has to be judged again.

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: RequestKey, now: float) -> KnownDestination | None:
        """Return what is known of a request; None when it has to be decided."""
        known = self._known.get(key)
        if known is None or not known.destination.is_expired(now):
            return known
        del self._known[key]
        return None

    def keep(self, key: RequestKey, known: KnownDestination) -> None:
        """Keep an outcome; when there is no room, begin anew: the frequent ones are soon back."""
        if len(self._known) >= ENTRY_KNOWN_MAX:
            self._known.clear()
        self._known[key] = known

    def decide_once(
        self, key: DecisionKey, decide: Callable[[], DestinationDecision]
    ) -> DestinationDecision:
        """Decide, unless that was decided since something changed.

        After a change whatever is open asks again, and much of it asks the same.
        """
        decision = self._decided.get(key)
        if decision is None:
            if len(self._decided) >= ENTRY_KNOWN_MAX:
                self._decided.clear()
            decision = self._decided[key] = decide()
        return decision

    def forget(self) -> None:
        """Begin anew: something changed that decisions depend on."""
        self.epoch += 1
        self._known.clear()
        self._decided.clear()
