"""Why: the decision on a request, with what every rule before it lacked, in an operator's words.

``cli`` and the console ask it. Nothing is decided here: rules are weighed by the very functions
that ``destinations`` and ``decide`` use, only all of them and in order, where those use an index.
The invariant: an explanation and a decision about the same question agree (a property test holds
them to it).
"""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.address import SocketAddress

from .compiled_rule import CompiledRule
from .decision import Decision, choose_publication
from .destinations import Choice, DestinationDecision, IsOwnListener
from .request import DestinationRequest, Question
from .rule_index import RuleIndex
from .rules import AnyRule
from .snapshot import PolicySnapshot

__all__ = [
    "DestinationExplanation",
    "Lack",
    "PublicationExplanation",
    "RuleTrace",
    "explain_destination",
    "explain_publication",
]


@dataclass(frozen=True, slots=True)
class Lack:
    """One condition of a rule that did not hold."""

    key: str
    """The key of the rule that says it."""
    text: str
    """What was missing, in words; of the rule, whose subject is left out."""
    is_unknown: bool = False
    """It may hold once more is seen."""


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """What one rule made of a question."""

    rule: AnyRule
    lacks: tuple[Lack, ...]
    """All that did not hold; none: it matches."""

    @property
    def written(self) -> tuple[str, ...]:
        """What the rule says under the first key that did not hold, as it is written."""
        return self.rule.written.get(self.lacks[0].key, ()) if self.lacks else ()


@dataclass(frozen=True, slots=True)
class DestinationExplanation:
    """A decision on a destination, and how it came about."""

    decision: DestinationDecision
    before: tuple[RuleTrace, ...]
    """The rules before the one that decided, or all where none did, in order."""
    decider: RuleTrace | None
    """The rule that decided; of one that was in the way though not all is known, what is not."""


@dataclass(frozen=True, slots=True)
class PublicationExplanation:
    """A decision on a client of a publication, and how it came about."""

    decision: Decision
    before: tuple[RuleTrace, ...]
    """The publications before the one that decided, or all where none did, in order."""


def explain_destination(
    index: RuleIndex | None,
    request: DestinationRequest,
    now: float,
    is_own_listener: IsOwnListener = lambda _address, _port: False,
) -> DestinationExplanation:
    """Decide as ``decide_destination`` does, by weighing every rule in order, and say why."""
    index = RuleIndex(()) if index is None else index
    question = Question(request, now)
    choice = Choice(question)
    for one in index.rules:
        if choice.weigh(one):
            break
    choice.finish(index.learning)
    decision = DestinationDecision(index, request, question, choice, is_own_listener)
    decider = choice.compiled
    end = len(index.rules) if decider is None else min(decider.order, len(index.rules))
    before = tuple(_trace(one, question) for one in index.rules[:end])
    return DestinationExplanation(
        decision, before, None if decider is None else _trace(decider, question)
    )


def explain_publication(
    snapshot: PolicySnapshot, listener: str, client: SocketAddress, now: float
) -> PublicationExplanation:
    """Decide as ``decide`` does, by trying every publication in order, and say why."""
    publications = snapshot.compiled_publications(listener)
    decision = choose_publication(publications, client, now)
    before: list[RuleTrace] = []
    for one in publications:
        if one.publication is decision.publication:
            break
        lacks = tuple(Lack(key, text) for key, text in one.lacking(client, now))
        before.append(RuleTrace(one.publication, lacks))
    return PublicationExplanation(decision, tuple(before))


def _trace(one: CompiledRule, question: Question) -> RuleTrace:
    lacks = tuple(
        Lack(condition.key, condition.lack(question), is_unknown)
        for condition, is_unknown in one.lacking(question)
    )
    return RuleTrace(one.rule, lacks)
