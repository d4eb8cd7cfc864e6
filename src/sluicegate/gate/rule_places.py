"""RulePlaces: how many connections each rule has open that bounds them, over all workers of a gate.

``revocation`` has one per service; connections take a place when they come up by a rule with
``connections_max``, and leave it when they end. Other workers are told through the census. The
invariant: no more connections of a rule are open than its bound, on all workers together, but for
those that another policy has let go on by it.

Each worker writes that it has one more before it reads what the others have, so two that take the
last place at the same instant may both be refused, and never both have it. Nothing is locked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sluicegate.errors import LimitExceeded
from sluicegate.policy import AnyRule, FloodBounds

from .flood_count import Elsewhere, FloodClient

__all__ = ["RulePlaces"]


class RulePlaces:
    """The places of all rules, as one worker takes them."""

    __slots__ = ("_counts", "_elsewhere", "_now", "rule_of")

    def __init__(self, elsewhere: Elsewhere | None, now: Callable[[], float]) -> None:
        """Make it.

        Args:
            elsewhere: The other workers; None: there are none.
            now: Tells the monotonic time.
        """
        self.rule_of: dict[str, str] = {}
        #: By the identifier of a connection.
        self._counts: dict[str, FloodClient] = {}
        #: By the name of a rule that has a connection open here; counted as a client is.
        self._elsewhere = elsewhere
        self._now = now

    def take(self, rule: AnyRule, identifier: str) -> LimitExceeded | None:
        """Count a new connection of a rule; return the limit that it would pass."""
        bound = rule.limits.connections_max
        if bound is None:
            return None
        self._enter(rule.name, identifier)
        if self._is_within(self._counts[rule.name], bound):
            return None
        self.leave(identifier)
        return LimitExceeded(f"rule {rule.name} connections_max", bound)

    def leave(self, identifier: str) -> None:
        """Count a connection no more, if it was counted."""
        name = self.rule_of.pop(identifier, None)
        if name is None:
            return
        counted = self._counts[name]
        counted.connections -= 1
        if not counted.connections:
            del self._counts[name]
        if self._elsewhere is None or counted.cell < 0:
            return
        if counted.connections:
            self._elsewhere.write_open(counted)
        else:
            self._elsewhere.release(counted)

    def move(self, identifier: str, rule: AnyRule) -> None:
        """Count a connection that goes on by another rule as that one's, whatever its bound."""
        self.leave(identifier)
        if rule.limits.connections_max is not None:
            self._enter(rule.name, identifier)
            if self._elsewhere is not None:
                self._elsewhere.exchange(self._counts[rule.name], self._now())

    def _enter(self, name: str, identifier: str) -> None:
        counted = self._counts.get(name)
        if counted is None:
            counted = self._counts[name] = FloodClient(f"places {name}", _SHOWN, None)
        counted.connections += 1
        self.rule_of[identifier] = name

    def _is_within(self, counted: FloodClient, bound: int) -> bool:
        """Tell the others what is open here by a rule, and whether that is still within a bound."""
        elsewhere = self._elsewhere
        if elsewhere is None:
            return counted.connections <= bound
        others = elsewhere.exchange(counted, self._now())
        if others is None:
            # The census has no room for it: each worker has its share, and none if that is none.
            return counted.connections <= bound // elsewhere.workers
        return counted.connections + others.connections <= bound


_SHOWN: Final = FloodBounds(*[0] * 6)
"""Of a client with these everything is told to other workers, and not only what is much of it."""
