"""The decision on a destination that a client named: which rule, and may it be dialled.

An entry calls ``decide_destination`` with what was asked, before anything is looked up; the
decision is then the resolver's judge for everything that comes back, and the connector's before
each dial. The invariant: the first rule that matches the host as it was named decides; an address
that is not public is dialled only if that very rule names its network.

What a rule's ``to`` means:

- A name matches the name that the client wrote. A network matches an address that the client wrote.
- A rule that refuses also matches by what a name leads to: its networks every address, its names
  every alias. So an address that one rule refuses is not reached under another name by a later one.
- A rule that allows names leads to public addresses, and to those of networks in the same ``to``.
- ``*`` is every name, and every public address.
- ``to_except`` takes away from all of these.

Some addresses need more than a network around them: a cloud's metadata service and the gate's own
addresses are dialled only where a rule names exactly that address; the gate's own listeners, and
addresses that mean nobody or everybody, never.

What a connection does not show (methods, paths, content types) is asked about again by whoever sees
it: by the asker, or by filters of the rule. Until then a rule that allows matches only if somebody
will ask, and a rule that refuses and may match refuses unless somebody will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sluicegate.address import IpAddress
from sluicegate.names import (
    AddressClass,
    AddressJudgement,
    CanonicalHost,
    classify,
    deny_unless_public,
)
from sluicegate.verdict import Deny

from .compiled_rule import LACKS, MATCHES, NEEDS_USER, CompiledRule
from .learn import LEARNING
from .request import DestinationRequest, Identity, Level, Question, numbers_of
from .rule_index import InOrder, RuleIndex
from .rules import Rule, RuleAction

__all__ = [
    "ALLOWED_BY_RULE",
    "CANNOT_BE_JUDGED",
    "DENIED_BY_RULE",
    "NO_RULE",
    "USER_NEEDED",
    "DestinationDecision",
    "decide_association",
    "decide_destination",
    "find_refuser",
]

ALLOWED_BY_RULE: Final = "allowed-by-rule"
"""A rule allows it."""

DENIED_BY_RULE: Final = "denied-by-rule"
"""A rule denies it."""

NO_RULE: Final = "no-rule"
"""No rule speaks of it."""

USER_NEEDED: Final = "user-needed"
"""Rules speak of it, for users; this client has not proved to be one."""

CANNOT_BE_JUDGED: Final = "cannot-be-judged"
"""A rule that refuses may speak of it, by what this connection does not show."""

IsOwnListener = Callable[[IpAddress, int], bool]
"""Whether the gate itself listens on an address and port."""


class DestinationDecision:
    """The answer to one request; satisfies ``names.DestinationJudge`` for its host."""

    __slots__ = (
        "_compiled",
        "_index",
        "_is_own_listener",
        "_question",
        "_request",
        "_resets",
        "asks_again",
        "is_allowed",
        "reason",
    )

    def __init__(
        self,
        index: RuleIndex,
        request: DestinationRequest,
        question: Question,
        choice: Choice,
        is_own_listener: IsOwnListener,
    ) -> None:
        self.is_allowed = choice.is_allowed
        self.reason = choice.reason
        #: A reason code for the record.
        self.asks_again = _LEVELS[choice.asks_again]
        #: What has to be asked about again when it shows itself: the answer is only half of one.
        self._index = index
        self._request = request
        self._question = question
        self._compiled = choice.compiled
        self._is_own_listener = is_own_listener
        self._resets = False

    @property
    def rule(self) -> Rule | None:
        """The rule that decided; None when none did. Learning has a rule of its own."""
        return None if self._compiled is None else self._compiled.rule

    @property
    def action(self) -> RuleAction:
        """What is to be done: what the rule says, or, where none allows it, to deny.

        Once an alias or an address was refused by a rule that resets, it is to reset.
        """
        if self._resets:
            return RuleAction.RESET
        if self._compiled is None or self.reason == CANNOT_BE_JUDGED:
            return RuleAction.DENY
        return self._compiled.rule.action

    # -- names.DestinationJudge ------------------------------------------------------------------

    def judge_name(self, host: CanonicalHost, port: int) -> Deny | None:
        """Say whether the host may be looked up: the one that was decided on, if it is allowed."""
        request = self._request
        if self.is_allowed and host == request.host and port == request.port:
            return None
        return Deny(self.reason)

    def judge_alias(self, host: CanonicalHost, alias: CanonicalHost, port: int) -> Deny | None:
        """Refuse a name that an earlier rule refuses, also as an alias."""
        del host, port
        compiled = self._compiled
        if compiled is None or not self.is_allowed:
            return Deny(self.reason)
        if compiled.to.excepts_name(alias.text):
            return Deny(f"rule {compiled.rule.name} excepts {alias}")
        question, name = self._question, alias.text
        found = self._index.about_name(name, question)
        return self._refused_before(found, lambda one: one.refuses_alias(question, name))

    def judge_address(
        self, host: CanonicalHost, judgement: AddressJudgement, port: int
    ) -> Deny | None:
        """Say whether an address that the host has may be dialled."""
        del host
        compiled = self._compiled
        if compiled is None or not self.is_allowed:
            return Deny(self.reason)
        denial = _denied_for_what_it_is(compiled, judgement)
        if denial is not None:
            return denial
        if self._is_own_listener(judgement.address, port) or any(
            self._is_own_listener(found.address, port) for found in judgement.embedded
        ):
            return Deny(f"{judgement.address} port {port} is a listener of the gate itself")
        meant = numbers_of(judgement)
        if compiled.to.excepts(meant):
            return Deny(f"rule {compiled.rule.name} excepts {judgement.address}")
        question = self._question
        found = self._index.about_addresses(meant, "", question)
        return self._refused_before(found, lambda one: one.refuses_address(question, meant))

    def _refused_before(
        self, found: Iterable[InOrder], weigh: Callable[[CompiledRule], int]
    ) -> Deny | None:
        """Return the denial of a rule that stands before the one that decided."""
        compiled = self._compiled
        assert compiled is not None, "only what is allowed is judged further"
        foreseen = compiled.foresees(self._question) | self._question.asks_again
        for rules in found:
            for one in rules:
                if one.order >= compiled.order:
                    break
                if not one.is_refusal:
                    continue
                weight = weigh(one)
                if weight == MATCHES or (weight > MATCHES and weight & ~foreseen):
                    if one.rule.action is RuleAction.RESET:
                        self._resets = True
                    return Deny(f"rule {one.rule.name} denies it")
        return None


class Choice:
    """Which rule decides, found by weighing rules in any order that keeps each list's own."""

    __slots__ = (
        "_maybe_refused",
        "_question",
        "_user_allowed",
        "_user_refused",
        "asks_again",
        "compiled",
        "is_allowed",
        "reason",
    )

    def __init__(self, question: Question) -> None:
        self.compiled: CompiledRule | None = None
        #: The first rule that is known to match; nothing behind it counts.
        self.is_allowed = False
        self.reason = NO_RULE
        self.asks_again = 0
        self._question = question
        self._user_allowed: CompiledRule | None = None
        #: The first rule that would let a user in, while nobody knows who asks.
        self._user_refused: CompiledRule | None = None
        #: The first that would refuse one.
        self._maybe_refused: list[tuple[CompiledRule, int]] = []

    def weigh(self, one: CompiledRule) -> bool:
        """Weigh a rule that stands before the one so far; tell whether it is the one, so far."""
        question = self._question
        weight = one.weigh(question)
        if weight == LACKS:
            return False
        if weight == MATCHES:
            self.compiled, self.asks_again = one, 0
            return True
        if weight == NEEDS_USER:
            self._note_user(one)
        elif one.is_refusal:
            self._maybe_refused.append((one, weight))
        elif not weight & ~(one.foresees(question) | question.asks_again):
            self.compiled, self.asks_again = one, weight
            return True
        return False

    def _note_user(self, one: CompiledRule) -> None:
        if one.is_refusal:
            first = self._user_refused
            if first is None or one.order < first.order:
                self._user_refused = one
        else:
            first = self._user_allowed
            if first is None or one.order < first.order:
                self._user_allowed = one

    def finish(self, learning: Iterable[CompiledRule]) -> None:
        """Make the answer of what was weighed."""
        question, compiled, reason = self._question, self.compiled, ALLOWED_BY_RULE
        if compiled is None:
            compiled, reason = self._learned(learning), LEARNING
        if compiled is None:
            self.reason = NO_RULE if self._user_allowed is None else USER_NEEDED
            return
        if compiled.is_refusal:
            is_open = self._user_allowed is not None and self._user_allowed.order < compiled.order
            self.reason = USER_NEEDED if is_open else DENIED_BY_RULE
            return
        if self._user_refused is not None and self._user_refused.order < compiled.order:
            # Who may be refused has to say who it is: nobody gets past a rule by not saying it.
            self.compiled, self.reason, self.asks_again = self._user_refused, USER_NEEDED, 0
            return
        foreseen = compiled.foresees(question) | question.asks_again
        before = sorted(
            ((one.order, one, weight) for one, weight in self._maybe_refused),
            key=lambda found: found[0],
        )
        for order, one, weight in before:
            if order < compiled.order:
                if weight & ~foreseen:
                    self.compiled, self.reason = one, CANNOT_BE_JUDGED
                    self.asks_again = 0
                    return
                self.asks_again |= weight
        self.compiled, self.is_allowed, self.reason = compiled, True, reason

    def _learned(self, learning: Iterable[CompiledRule]) -> CompiledRule | None:
        question = self._question
        return next((one for one in learning if one.weigh(question) == MATCHES), None)


def decide_destination(
    index: RuleIndex | None,
    request: DestinationRequest,
    now: float,
    is_own_listener: IsOwnListener = lambda _address, _port: False,
) -> DestinationDecision:
    """Decide whether a client may name a destination; the first matching rule wins.

    Args:
        index: The rules of the listener that the client came to; None: it has none.
        request: What is asked, with what is known of it.
        now: Seconds since the epoch (UTC).
        is_own_listener: Kept for judging addresses.
    """
    if index is None:
        index = _NO_RULES
    question = Question(request, now)
    choice = Choice(question)
    for rules in index.about_host(request.host, question):
        for one in rules:
            best = choice.compiled
            if (best is not None and one.order >= best.order) or choice.weigh(one):
                break
    choice.finish(index.learning)
    return DestinationDecision(index, request, question, choice, is_own_listener)


def decide_association(
    index: RuleIndex | None, client: IpAddress, user: Identity | None, now: float
) -> tuple[Rule | None, str]:
    """Say by which rule a client may send datagrams at all, and why if by none.

    Where they may go is decided for each of them; this only turns away whom no rule allows any.
    """
    if index is None:
        return None, NO_RULE
    question = Question(DestinationRequest(client, _NOWHERE, 0, user, "udp"), now)
    best: CompiledRule | None = None
    needs_user = False
    for rules in index.about_datagrams(question):
        for one in rules:
            if best is not None and one.order >= best.order:
                break
            weight = one.weigh_without_destination(question)
            needs_user = needs_user or weight == NEEDS_USER
            if weight == MATCHES:
                best = one
                break
    if best is not None:
        return best.rule, ALLOWED_BY_RULE
    for one in index.learning:
        if one.weigh_without_destination(question) == MATCHES:
            return one.rule, LEARNING
    return None, USER_NEEDED if needs_user and user is None else NO_RULE


def find_refuser(
    index: RuleIndex | None, client: IpAddress, user: Identity | None, now: float
) -> Rule | None:
    """Return the first rule that refuses a client every datagram, wherever it would go.

    Of a client whom no rule allows datagrams, it says how the association is refused.
    """
    if index is None:
        return None
    question = Question(DestinationRequest(client, _NOWHERE, 0, user, "udp"), now)
    for one in index.datagram_refusers:
        if one.weigh_without_destination(question) == MATCHES:
            return one.rule
    return None


def _denied_for_what_it_is(compiled: CompiledRule, judgement: AddressJudgement) -> Deny | None:
    """Refuse an address that is not public, unless the rule names it as much as it must be."""
    if judgement.is_public:
        return None
    if judgement.address_class in _NEVER:
        return deny_unless_public(judgement)
    networks = compiled.to.networks
    is_named = networks.names if judgement.address_class in _BY_ADDRESS_ONLY else networks.covers
    # Also what is inside: to allow a translator's prefix is not to allow what is behind it.
    inside = [
        found.address for found in judgement.embedded if not classify(found.address).is_public
    ]
    if is_named(judgement.address) and all(map(is_named, inside)):
        return None
    return deny_unless_public(judgement)


_BY_ADDRESS_ONLY: Final = frozenset({AddressClass.METADATA, AddressClass.OWN})
"""Naming a network around these is not enough: 169.254.0.0/16 has one, 10.0.0.0/8 may."""

_NEVER: Final = frozenset(
    {
        AddressClass.UNSPECIFIED,
        AddressClass.MULTICAST,
        AddressClass.BROADCAST,
        AddressClass.RESERVED,
        AddressClass.DISCARD,
        AddressClass.MAPPED,
        AddressClass.COMPATIBLE,
        AddressClass.TRANSLATED,
    }
)
"""What no server has as its address, or what the kernel would dial as another one."""

_LEVELS: Final = tuple(map(Level, range(4)))
"""Made once: looking one up takes a tenth of the time."""

_NO_RULES: Final = RuleIndex(())
_NOWHERE: Final = CanonicalHost("")
