"""AlertEngine: records and conditions in, raised alerts out.

Pure: the time is that of a record, or is given; the process that follows the log turns it. The
invariant: the same records in the same order raise the same alerts under the same identifiers, so
what was read but not kept before a crash is read again without harm; and no number of values,
records or alerts makes it hold more than its limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from sluicegate.alert_limits import (
    ALERT_ACKNOWLEDGED_MAX,
    ALERT_OPEN_MAX,
    ALERT_PAUSE_S,
    ALERT_RAISED_MAX,
    ALERT_VALUE_CHARACTERS_MAX,
)
from sluicegate.audit.records import AlertRecord
from sluicegate.audit.search import Field, parse_query
from sluicegate.audit.search.fields import find_field
from sluicegate.audit.search.matching import Predicate, predicate_of

from .condition import Condition
from .counters import Counter, Counters
from .kinds import kinds_chosen
from .raising import Raising
from .rule import AlertRule
from .signs import Signs, signs_of, signs_of_any
from .subject import facts_of, records_query, value_of

__all__ = ["AlertEngine", "AlertState", "Step"]

_OVERFLOW: Final = "alert-overflow"
_THE_GATE: Final = "the gate: too many alerts are open"


class AlertState(msgspec.Struct, kw_only=True):
    """All that an engine knows; kept over a restart."""

    number: int = 0
    """Of the last raising."""
    raisings: dict[str, Raising] = {}
    """By identifier, the oldest first."""
    counters: dict[str, Counters] = {}
    """By the alert's name."""
    standing: list[tuple[str, str]] = []
    """Conditions that were so when they were looked at last: their name, and what about."""


class Step(NamedTuple):
    """Something that has become of an alert."""

    record: AlertRecord
    raising: Raising
    """As it is now; it changes."""
    actions: tuple[str, ...] = ()
    """What is to be done."""


class _Watch(NamedTuple):
    """One alert that is about records."""

    rule: AlertRule
    passes: Predicate
    by: Field | None


class AlertEngine:
    """The alerts of one gate."""

    def __init__(self, rules: Sequence[AlertRule], state: AlertState) -> None:
        """Go on where a state ends; what it knows of alerts that are not there any more, it keeps.

        Args:
            rules: When which alert is raised.
            state: What was before; it changes from now on.
        """
        self.state = state
        self._rules = {rule.name: rule for rule in rules}
        self._watches: dict[str, list[_Watch]] = {}
        self._signs: dict[str, Signs] = {}
        for rule in rules:
            if rule.query:
                query = parse_query(rule.query, 0.0)
                watch = _Watch(rule, predicate_of(query), find_field(rule.by) if rule.by else None)
                for kind in kinds_chosen(query):
                    self._watches.setdefault(kind, []).append(watch)
                    before = self._signs.get(kind, frozenset())
                    self._signs[kind] = signs_of_any((before, signs_of(query, kind)))
        self._watches.pop("alert", None)  # else an alert could raise itself
        self._signs.pop("alert", None)
        self._open = {
            (one.alert, one.about): one for one in state.raisings.values() if one.state == "open"
        }

    @property
    def signs(self) -> Mapping[str, Signs]:
        """What tells, by kind, that some alert may be about a record: no other is to be shown."""
        return self._signs

    @property
    def open_count(self) -> int:
        """How many alerts wait to be acknowledged."""
        return len(self._open)

    def raisings(self) -> list[Raising]:
        """Return all that are known, the last one first."""
        return sorted(self.state.raisings.values(), key=lambda one: one.last, reverse=True)

    # -- what happens --------------------------------------------------------------------------

    def take(self, fields: Mapping[str, object]) -> list[Step]:
        """Take a record; return what has become of alerts by it."""
        steps: list[Step] = []
        for rule, passes, by in self._watches.get(str(fields.get("kind")), ()):
            if passes(fields):
                time = fields.get("time")
                when = float(time) if isinstance(time, int | float) else 0.0
                about = value_of(by, fields) if by is not None else ""
                self._count(rule, about, when, steps, fields)
        return steps

    def look(self, conditions: Iterable[Condition], now: float) -> list[Step]:
        """Take which conditions are so now; return what has become of alerts by it.

        One that begins to be so counts once; while it goes on, it counts again only for an alert
        that reminds after minutes. When it is over, so is its alert.

        Args:
            conditions: All that are looked for and are so.
            now: In seconds since the Unix epoch.
        """
        steps: list[Step] = []
        found = {(one.name, one.about): one for one in conditions}
        before = {(name, about) for name, about in self.state.standing}
        for key, condition in found.items():
            for rule in self._about(condition.name):
                if key not in before or rule.again == "after-minutes":
                    self._meet(rule, condition, now, steps)
        for name, about in before - found.keys():
            for rule in self._about(name):
                self._end(rule.name, about, now, steps)
        self.state.standing = list(found)
        return steps

    def happen(self, condition: Condition, now: float) -> list[Step]:
        """Take that something has happened that is no condition that lasts."""
        steps: list[Step] = []
        for rule in self._about(condition.name):
            self._meet(rule, condition, now, steps)
        return steps

    def acknowledge(self, identifiers: Iterable[str], by: str, now: float) -> list[Step]:
        """Take that somebody has seen alerts; return those that were open.

        Args:
            identifiers: Of raisings, or names of alerts: all of that name.
            by: Who.
            now: In seconds since the Unix epoch.
        """
        wanted = set(identifiers)
        chosen = [one for one in self._open.values() if wanted & {one.raising, one.alert}]
        return [self._close(one, "acknowledged", now, by) for one in chosen]

    # -- private -------------------------------------------------------------------------------

    def _about(self, condition: str) -> list[AlertRule]:
        return [rule for rule in self._rules.values() if rule.condition == condition]

    def _meet(self, rule: AlertRule, condition: Condition, now: float, steps: list[Step]) -> None:
        fields = {"message": condition.message}
        self._count(rule, condition.about[:ALERT_VALUE_CHARACTERS_MAX], now, steps, fields)

    def _count(
        self,
        rule: AlertRule,
        about: str,
        time: float,
        steps: list[Step],
        fields: Mapping[str, object],
    ) -> None:
        """Count one event, and raise the alert if that was enough of them."""
        counters = self.state.counters.setdefault(rule.name, Counters())
        counter, is_full = counters.of(about)
        if is_full:
            self._overflow(rule, time, "more values than are counted apart", steps)
        raising = self._open.get((rule.name, about))
        if raising is not None:
            raising.count += 1
        total = counter.recent.add(time, rule.seconds)
        if total < rule.count:
            return
        first = counter.recent.first
        counter.recent.clear()
        if not _may_raise(rule, raising, counter, time):
            return
        minute = int(time // 60)
        if counters.minute != minute:
            counters.minute, counters.raised = minute, 0
        if counters.raised >= ALERT_RAISED_MAX:
            self._overflow(rule, time, "raised more often than alerts may be", steps)
            return
        counters.raised += 1
        counter.raised = time
        event: Literal["raised", "raised-again"] = "raised"
        if raising is None:
            raising = self._make(rule, about, time, total, steps)
        else:
            raising.times, event = raising.times + 1, "raised-again"
        raising.first, raising.last = first, time
        raising.facts = facts_of(fields)
        raising.message = _message(rule, str(fields.get("message", "")) if not rule.query else "")
        if rule.query:
            raising.query = records_query(rule.query, rule.by, about, first, time)
            raising.client = _client(rule, about, fields)
        steps.append(Step(raising.record(event, time), raising, rule.actions))

    def _make(
        self, rule: AlertRule, about: str, time: float, count: int, steps: list[Step]
    ) -> Raising:
        """Open a raising, if need be at the cost of the oldest."""
        if len(self._open) >= ALERT_OPEN_MAX:
            oldest = next(iter(self._open.values()))
            steps.append(self._close(oldest, "acknowledged", time, _THE_GATE))
        self.state.number += 1
        raising = Raising(
            raising=f"a-{int(time):x}-{self.state.number:x}",
            alert=rule.name,
            state="open",
            severity=rule.severity,
            category=rule.category,
            about=about,
            raised=time,
            count=count,
        )
        self.state.raisings[raising.raising] = raising
        self._open[rule.name, about] = raising
        return raising

    def _end(self, alert: str, about: str, now: float, steps: list[Step]) -> None:
        raising = self._open.get((alert, about))
        if raising is not None:
            steps.append(self._close(raising, "over", now, ""))

    def _close(
        self, raising: Raising, event: Literal["acknowledged", "over"], now: float, by: str
    ) -> Step:
        raising.state, raising.ended, raising.by = event, now, by
        del self._open[raising.alert, raising.about]
        closed = [one for one in self.state.raisings.values() if one.state != "open"]
        for one in sorted(closed, key=lambda one: one.ended)[:-ALERT_ACKNOWLEDGED_MAX]:
            del self.state.raisings[one.raising]
        return Step(raising.record(event, now, by), raising)

    def _overflow(self, rule: AlertRule, time: float, why: str, steps: list[Step]) -> None:
        """Say that an alert is more than is kept apart; not of the alert that says so."""
        if rule.condition != _OVERFLOW:
            condition = Condition(name=_OVERFLOW, about=rule.name, message=f"{rule.name}: {why}")
            steps += self.happen(condition, time)


def _may_raise(rule: AlertRule, raising: Raising | None, counter: Counter, time: float) -> bool:
    """Tell whether the rule of raising again lets an alert be raised now.

    A clock that was put back far is as good as time that has passed: else nobody would be told.
    """
    since = time - counter.raised
    match rule.again:
        case "immediately":
            return not counter.raised or abs(since) >= ALERT_PAUSE_S
        case "after-acknowledged":
            return raising is None
        case "after-minutes":
            return not counter.raised or abs(since) >= rule.minutes * 60


def _message(rule: AlertRule, found: str) -> str:
    return ": ".join(one for one in (rule.message, found) if one) or rule.name


def _client(rule: AlertRule, about: str, fields: Mapping[str, object]) -> str:
    if rule.by == "client":
        return about
    client = fields.get("client")
    return client if isinstance(client, str) and rule.count == 1 else ""
