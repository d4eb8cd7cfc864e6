"""One rule, ready for questions: which conditions it has, and what it makes of a question.

``rule_index`` compiles all rules of a listener, ``destinations`` weighs those that the index finds,
``explain`` all of them. The invariant: conditions that a connection shows are asked first, users
last, so that who could come by proving who he is, is told from who could not.

An index that finds a rule by its clients or by where it leads has answered that condition: what it
returns is a short form of the rule, which does not ask again. Only the whole form explains itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .conditions import (
    ENABLED,
    Condition,
    ConditionPool,
    ContentTypesCondition,
    ExpiryCondition,
    MethodsCondition,
    PathsCondition,
    ScheduleCondition,
    UsersCondition,
)
from .protocols import ProtocolPattern
from .request import Level, Number, Question
from .rules import Rule
from .tls_opening import TlsMode

__all__ = ["LACKS", "MATCHES", "NEEDS_USER", "CompiledRule", "Shows"]

Shows = Mapping[str, Level]
"""Per installed filter, what it will ask about again."""

MATCHES: Final = 0
"""Everything that the rule says holds. A number above are the levels that are not known yet."""

LACKS: Final = -1
"""Something that the rule says does not hold."""

NEEDS_USER: Final = -2
"""Everything holds but that the client has not proved who it is."""


class CompiledRule:
    """One rule, ready for questions; lives as long as its snapshot."""

    __slots__ = (
        "_clients",
        "_conditions",
        "_foreseen",
        "_later",
        "_opening",
        "_users",
        "is_refusal",
        "order",
        "rule",
        "to",
    )

    def __init__(self, order: int, rule: Rule, pool: ConditionPool, shows: Shows) -> None:
        self.order = order
        #: Its place among the rules of its listener.
        self.rule = rule
        self.is_refusal = rule.action.is_refusal
        self.to = pool.targets(rule)
        self._foreseen = 0
        #: Levels that its filters ask about again.
        for name in rule.filters:
            self._foreseen |= shows.get(name, 0)
        opens = rule.tls is not None and rule.tls.opening.mode is TlsMode.INSPECT
        self._opening = rule.tls if opens else None
        conditions: list[Condition] = [] if rule.is_enabled else [ENABLED]
        self._clients = pool.clients(rule.clients, rule.clients_except)
        conditions.append(self._clients)
        protocols = pool.protocols(rule)
        if protocols is not None:
            conditions.append(protocols)
        later: list[Condition] = []
        (later if rule.to.urls or rule.to_except.urls else conditions).append(self.to)
        if rule.expires is not None:
            conditions.append(ExpiryCondition(rule.expires))
        if rule.schedule is not None:
            conditions.append(ScheduleCondition(rule.schedule))
        if rule.methods:
            later.append(MethodsCondition(rule.methods))
        if rule.paths:
            later.append(PathsCondition(rule.paths, is_refusal=rule.action.is_refusal))
        if rule.content_types is not None:
            later.append(ContentTypesCondition(rule.content_types))
        self._conditions = pool.together(conditions)
        self._later = pool.together(later)
        self._users = None if rule.users is None else UsersCondition(rule.users)

    def found_by_client(self, pool: ConditionPool) -> CompiledRule:
        """Return its form for those who found it by looking for the client among its clients."""
        return self if self.rule.clients_except else self._without(self._clients, pool)

    def found_by_place(self, pool: ConditionPool) -> CompiledRule:
        """Return its form for those who found it by a name or network of its ``to``."""
        # (With URLs, ``to`` is asked later, and is not among what is left out.)
        return self._without(self.to, pool) if self.rule.to_except.is_empty else self

    def _without(self, shown: Condition, pool: ConditionPool) -> CompiledRule:
        short = copy.copy(self)
        short._conditions = pool.together(  # noqa: SLF001 - of the same class
            condition for condition in self._conditions if condition is not shown
        )
        return short

    def weigh(self, question: Question) -> int:
        """Return ``MATCHES``, ``LACKS``, ``NEEDS_USER``, or the levels that are not known."""
        for condition in self._conditions:
            if not condition.holds(question):
                return LACKS
        unknown = MATCHES
        for condition in self._later:
            found = condition.holds(question)
            if found is None:
                unknown |= condition.level
            elif not found:
                return LACKS
        if self._users is not None and not self._users.holds(question):
            return NEEDS_USER if question.user is None else LACKS
        return unknown

    def foresees(self, question: Question) -> int:
        """Return the levels that will be asked about again: by filters, or inside opened TLS."""
        tls = self._opening
        if (
            tls is None
            or not question.is_tunnel
            or tls.mode_for(question.named, question.port) is not TlsMode.INSPECT
        ):
            return self._foreseen
        return self._foreseen | _INSIDE

    def lacking(self, question: Question) -> Iterator[tuple[Condition, bool]]:
        """Yield each condition that does not hold, and whether that is only not known yet."""
        users = () if self._users is None else (self._users,)
        for condition in (*self._conditions, *self._later, *users):
            found = condition.holds(question)
            if not found:
                yield condition, found is None

    def refuses_alias(self, question: Question, name: str) -> int:
        """Weigh a rule that refuses, for another name of what was asked for."""
        return self._weigh_other(question) if self.to.names_alias(name) else LACKS

    def refuses_address(self, question: Question, addresses: Iterable[Number]) -> int:
        """Weigh a rule that refuses, for an address of what was asked for."""
        return self._weigh_other(question) if self.to.names_address(addresses) else LACKS

    def speaks(self, protocol: str) -> bool:
        """Tell whether it names a transport protocol, to whatever port."""
        patterns = self.rule.protocols
        return any(one.protocol == protocol for one in patterns) if patterns else True

    @property
    def refuses_all_datagrams(self) -> bool:
        """Whether it refuses datagrams whatever their destination."""
        rule = self.rule
        return (
            self.is_refusal
            and rule.to.is_everything
            and rule.to_except.is_empty
            and not (self._later or rule.protocols_except)
            and (not rule.protocols or ProtocolPattern("udp") in rule.protocols)
        )

    def weigh_without_destination(self, question: Question) -> int:
        """Weigh all that it says of who asks, and when."""
        for condition in self._conditions:
            if condition.key in _ABOUT_CLIENTS and not condition.holds(question):
                return LACKS
        if self._users is not None and not self._users.holds(question):
            return NEEDS_USER if question.user is None and not self.is_refusal else LACKS
        return MATCHES

    def _weigh_other(self, question: Question) -> int:
        """Weigh everything but ``to``."""
        unknown = MATCHES
        for condition in (*self._conditions, *self._later):
            if condition is self.to:
                continue
            found = condition.holds(question)
            if found is None:
                unknown |= condition.level
            elif not found:
                return LACKS
        if self._users is not None and not self._users.holds(question):
            # Whoever did not say who it is may be the one that is meant.
            return unknown if question.user is None else LACKS
        return unknown


_INSIDE: Final = int(Level.REQUEST | Level.TRANSFER)
"""What the gate asks about itself where it reads HTTP."""

_ABOUT_CLIENTS: Final = frozenset({"enabled", "clients", "expires", "schedule"})
