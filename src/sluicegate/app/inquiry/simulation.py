"""Simulation: the decisions of a log, made again by another policy, and what would be different.

``simulate`` hands it the records, in the order of the log. The invariant: every decision record is
counted once: as unchanged, in one group of changes, or among those that cannot be made again, with
the reason; memory does not grow with the log.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import msgspec

from sluicegate.audit.query import LogLine, host_of
from sluicegate.policy import AnyRule
from sluicegate.policy_limits import (
    SIMULATION_ANSWERS_MAX,
    SIMULATION_CLIENTS_MAX,
    SIMULATION_GROUPS_MAX,
)

from .offline_gate import Decided, OfflineGate
from .past import Cause, PastDecision, Unanswerable, ask_again, cause_of, rule_of

__all__ = ["ChangeGroup", "ClientChanges", "Simulated", "Simulation"]

_EXAMPLES_MAX: Final = 3


class Example(msgspec.Struct, kw_only=True):
    """One record of a group."""

    time: float
    connection: str
    client: str
    target: str
    user: str = ""


class ChangeGroup(msgspec.Struct, kw_only=True):
    """Changes that are alike: the same rules before and after."""

    change: str
    """``now-denied``, ``now-allowed``, ``other-rule`` (the verdict stays), ``other-filters`` (so
    does the rule's name)."""
    rule_before: str
    """Empty: none."""
    reason_before: str
    rule_after: str
    reason_after: str
    filters_before: tuple[str, ...] | None = None
    """None: not known, because the records are of yet another policy."""
    filters_after: tuple[str, ...] = ()
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    """Of the records, in seconds since the epoch."""
    examples: list[Example] = []


class ClientChanges(msgspec.Struct, kw_only=True):
    """What would be different for one client."""

    client: str
    """Its address; ``…`` stands for all that are not told apart."""
    changes: dict[str, int] = {}
    """By kind of change, as in ``ChangeGroup``."""

    @property
    def count(self) -> int:
        """How many records changed."""
        return sum(self.changes.values())


class Simulated(msgspec.Struct, kw_only=True):
    """What came of a simulation."""

    policy: str
    """SHA-256 of the policy that was tried."""
    decisions: int = 0
    """Records of decisions and of HTTP requests that were read."""
    unchanged: int = 0
    changed: int = 0
    not_replayed: dict[str, int] = {}
    """Those that cannot be decided again, by reason."""
    by_name_only: int = 0
    """Of those that this policy allows: what their names lead to is not in the records, and was not
    judged."""
    other_policy: int = 0
    """Of the decided ones: those of a policy that is not the one in the files, so that their
    filters are not known."""
    groups: list[ChangeGroup] = []
    """The largest first."""
    clients: list[ClientChanges] = []
    """Those for whom something changed, those with most changes first."""
    first: float = 0.0
    last: float = 0.0
    """Times of the first and the last decision that was read, in seconds since the epoch."""
    is_complete: bool = True
    """Whether all records were read; what is behind ``last`` was not, when time was up."""
    seconds: float = 0.0
    """How long it took."""

    def count(self, *changes: str) -> int:
        """Return how many records are in groups of some kinds."""
        return sum(group.count for group in self.groups if group.change in changes)


_Key: TypeAlias = tuple[str, str, str, str, str]

_Answer: TypeAlias = tuple[Decided, bool] | Unanswerable
"""What is decided, and whether by a name alone."""


class Simulation:
    """Decides records again.

    Args:
        gate: With the policy that is tried.
        current: With the policy in the files, for the filters of the records' rules; None: there
            is none.
    """

    def __init__(self, gate: OfflineGate, current: OfflineGate | None) -> None:
        self._gate = gate
        self._current = current
        self._result = Simulated(policy=gate.policy.hash)
        self._groups: dict[_Key, ChangeGroup] = {}
        self._clients: dict[str, ClientChanges] = {}
        self._answers: dict[tuple[object, ...], _Answer] = {}
        #: By what a record says, but for its time and the client's port.
        self._valid = (-math.inf, -math.inf)
        #: Between these times, answers stay the same.
        self._rules_before: dict[str, AnyRule | None] = {}

    def take(self, line: LogLine) -> None:
        """Decide one record again; others than decisions and requests are passed over."""
        past = PastDecision.of(line)
        if past is None:
            return
        result = self._result
        result.decisions += 1
        result.first = result.first or past.time
        result.last = max(result.last, past.time)
        cause = cause_of(past)
        if cause not in {Cause.POLICY, Cause.ADDRESSES}:
            self._skip(_NOT_POLICY[cause])
            return
        answer = self._answer(past)
        if isinstance(answer, Unanswerable):
            self._skip(answer.why)
            return
        decided, is_by_name = answer
        if cause == Cause.ADDRESSES and is_by_name and decided.is_allowed:
            self._skip("refused for what its name led to, which its record does not have")
            return
        result.by_name_only += is_by_name and decided.is_allowed
        self._compare(past, decided)

    def finish(self, seconds: float, *, is_complete: bool = True) -> Simulated:
        """Return what came of it."""
        self._result.seconds = seconds
        self._result.is_complete = is_complete
        self._result.clients = sorted(self._clients.values(), key=lambda one: -one.count)
        self._result.groups = sorted(self._groups.values(), key=lambda group: -group.count)
        return self._result

    # -- private -------------------------------------------------------------------------------

    def _skip(self, why: str) -> None:
        skipped = self._result.not_replayed
        skipped[why] = skipped.get(why, 0) + 1

    def _answer(self, past: PastDecision) -> _Answer:
        """Decide, or remember what was decided for such a record, at its time."""
        first, last = self._valid
        if past.time >= last:
            self._valid = past.time, self._gate.policy.next_change(past.time)
            self._answers.clear()
        elif past.time < first:
            return self._decide(past)
        key = (
            past.listener, host_of(past.client), past.target, past.user, past.transport,
            past.protocol, past.addresses, past.primary and past.transport != "udp",
            past.reason if not past.target else "", past.method, past.url,
        )  # fmt: skip
        known = self._answers.get(key)
        if known is None:
            if len(self._answers) >= SIMULATION_ANSWERS_MAX:
                self._answers.clear()
            known = self._answers[key] = self._decide(past)
        return known

    def _decide(self, past: PastDecision) -> _Answer:
        asked = ask_again(past, self._gate)
        if isinstance(asked, Unanswerable):
            return asked
        decided = self._gate.decide(asked)
        is_by_name = (
            asked.host is not None and not asked.host.is_address and asked.addresses is None
        )
        # How it was found is not kept: that is most of it.
        return Decided(decided.is_allowed, decided.reason, decided.rule), is_by_name

    def _compare(self, past: PastDecision, decided: Decided) -> None:
        result = self._result
        after = "" if decided.rule is None else decided.rule.name
        before = self._rule_before(past)
        result.other_policy += before is None and past.is_allowed
        filters_differ = (
            before is not None
            and decided.rule is not None
            and (before.filters, before.settings) != (decided.rule.filters, decided.rule.settings)
        )
        if past.is_allowed != decided.is_allowed:
            change = "now-allowed" if decided.is_allowed else "now-denied"
        elif past.rule != after:
            change = "other-rule"
        elif past.is_allowed and filters_differ:
            change = "other-filters"
        else:
            result.unchanged += 1
            return
        result.changed += 1
        self._count_client(host_of(past.client), change)
        reason_after = decided.reason.partition(":")[0]
        key = (change, past.rule, past.code, after, reason_after)
        if key not in self._groups and len(self._groups) >= SIMULATION_GROUPS_MAX:
            key = (change, _MANY, _MANY, _MANY, _MANY)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = ChangeGroup(
                change=change,
                rule_before=key[1],
                reason_before=key[2],
                rule_after=key[3],
                reason_after=key[4],
                filters_before=None if before is None else before.filters,
                filters_after=() if decided.rule is None else decided.rule.filters,
                first=past.time,
                examples=[],
            )
        _add(group, past)

    def _count_client(self, client: str, change: str) -> None:
        if client not in self._clients and len(self._clients) >= SIMULATION_CLIENTS_MAX:
            client = _MANY
        found = self._clients.setdefault(client, ClientChanges(client=client, changes={}))
        found.changes[change] = found.changes.get(change, 0) + 1

    def _rule_before(self, past: PastDecision) -> AnyRule | None:
        """Return the rule that decided then, if the files still have that policy."""
        current = self._current
        if current is None or past.policy != current.policy.hash:
            return None
        if past.rule not in self._rules_before:
            self._rules_before[past.rule] = rule_of(current, past.rule)
        return self._rules_before[past.rule]


def _add(group: ChangeGroup, past: PastDecision) -> None:
    group.count += 1
    group.first = min(group.first, past.time)
    group.last = max(group.last, past.time)
    if len(group.examples) >= _EXAMPLES_MAX:
        return
    client = host_of(past.client)
    if any((one.client, one.target) == (client, past.shown) for one in group.examples):
        return
    group.examples.append(
        Example(
            time=past.time,
            connection=past.connection,
            client=client,
            target=past.shown,
            user=past.user,
        )
    )


_MANY: Final = "…"
"""In place of what is not told apart any more."""

_NOT_POLICY: Final = {
    Cause.LIMIT: "refused by a limit",
    Cause.FILTER: "refused by a filter",
    Cause.DESTINATION: "its destination has no reading",
    Cause.LOOKUP: "its name could not be looked up",
    Cause.OTHER: "refused by something else than the policy",
}
