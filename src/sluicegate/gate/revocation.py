"""Revocation: what is open is judged again when policy or time has changed, and may end by it.

One per service; ``service`` begins it with every change, connections that are on their way ask it
before they go a step further. The invariant: within a second of a change (or its grace), nothing
that the policy in force refuses is open; what it allows goes on untouched.

What is open is judged in slices, one a turn, so that ten thousand connections keep no client
waiting; the longer turns take, the larger are the slices, so that the end is in time all the same.
What is not open yet is judged before it dials and before its client is told that it may go on, so
a slow dial is no way around a change.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from sluicegate.audit import Recorder, RuleChangeRecord
from sluicegate.policy_limits import JUDGED_AGAIN_PER_TURN_MIN, JUDGED_AGAIN_WITHIN_S
from sluicegate.port import CompletionPort, Timer

from .flood_count import Elsewhere
from .readmission import Readmission, carried, lacking, refused_plan
from .registry import RulePlan
from .rule_places import RulePlaces
from .state import State

__all__ = ["REVOKED", "Judged", "Revocation"]

REVOKED = "revoked: "
"""Before the reason of what a change of policy or time has ended."""


class GoesOn(Protocol):
    """Something open that came by a rule."""

    id: str
    plan: RulePlan
    state: State


class Judged(GoesOn, Protocol):
    """The same, judged by itself."""

    judged: int
    """The change up to which it was judged."""
    is_closing: bool

    def judge_anew(self) -> Readmission:
        """Say by which rule it would be let in now."""
        ...

    def on_readmitted(self) -> None:
        """Take that it goes on; what hangs on it may not."""
        ...

    def refuse(self, reason: str) -> None:
        """End it by a verdict."""
        ...


class Revocation:
    """Judges again what one service has open."""

    __slots__ = (
        "_carried",
        "_due",
        "_everything",
        "_grace_s",
        "_is_posted",
        "_on_notice",
        "_policy_hash",
        "_port",
        "_recorder",
        "_timer",
        "_turned",
        "_waiting",
        "epoch",
        "places",
        "revoked",
    )

    def __init__(
        self,
        port: CompletionPort,
        recorder: Recorder,
        grace_s: float,
        everything: Callable[[], Iterable[Judged]],
        policy_hash: Callable[[], str],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Make it.

        Args:
            port: Of the service.
            recorder: Takes what is recorded of connections that go on by another rule.
            grace_s: How long what is refused may go on.
            everything: Returns what is open.
            policy_hash: Returns the hash of the policy in force.
            elsewhere: The other workers.
        """
        self.epoch = 0
        #: Counts changes; what was judged under an earlier one is judged again.
        self.places = RulePlaces(elsewhere, port.clock.monotonic)
        #: Which rule each connection counts for, where that is bounded.
        self.revoked = 0
        #: How much was ended by changes, since the start.
        self._port = port
        self._recorder = recorder
        self._grace_s = grace_s
        self._everything = everything
        self._policy_hash = policy_hash
        self._is_posted = False
        self._waiting: deque[Judged] = deque()
        self._due = self._turned = 0.0
        #: When all of that is to be judged, and when the last slice of it was.
        self._carried: dict[tuple[int, int], tuple[RulePlan, RulePlan, RulePlan]] = {}
        #: What goes on for what came by one plan and is let in by another; both are kept with it,
        #: so that no other object gets their identity.
        self._on_notice: dict[Judged, float] = {}
        #: What is refused and may go on until then.
        self._timer: Timer | None = None

    @property
    def pending(self) -> int:
        """What is still to be judged, or goes on for its grace."""
        return len(self._waiting) + len(self._on_notice)

    def begin(self) -> None:
        """Take that policy, users or time have changed: judge everything again, soon."""
        self.epoch += 1
        self._carried.clear()
        self._waiting = deque(self._everything())
        self._turned = self._port.clock.monotonic()
        self._due = self._turned + JUDGED_AGAIN_WITHIN_S
        self._post()

    def admits(self, one: Judged) -> bool:
        """Judge what is on its way; False when that has ended it."""
        if one.judged != self.epoch and not one.is_closing:
            self._surely(self._judge_last, one)
        return not one.is_closing

    def close(self) -> None:
        """Judge no more: the service stops."""
        self._waiting.clear()
        self._on_notice.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _post(self) -> None:
        if self._waiting and not self._is_posted:
            self._is_posted = True
            self._port.post(self._judge_slice)

    def _judge_slice(self) -> None:
        self._is_posted = False
        waiting = self._waiting
        for _ in range(self._size_slice()):
            one = waiting.popleft()
            if one.judged == self.epoch or one.is_closing:
                continue
            self._surely(self._judge_open, one)
        self._post()

    def _size_slice(self) -> int:
        """Say how many of what is left have to be judged in this turn."""
        left, now = len(self._waiting), self._port.clock.monotonic()
        turn_s, self._turned = now - self._turned, now
        turns_left = (self._due - now) / turn_s if turn_s > 0 else math.inf
        if turns_left <= 1:
            return left
        return min(left, max(JUDGED_AGAIN_PER_TURN_MIN, math.ceil(left / turns_left)))

    def _surely(self, judge: Callable[[Judged], None], one: Judged) -> None:
        """Judge one thing; what cannot be judged is refused, and the others are still judged."""
        try:
            judge(one)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is let go on by it
            self._port.on_error(error)
            self._revoke(one, _UNJUDGED)

    def _judge_open(self, one: Judged) -> None:
        refusal = self._judge(one)
        if refusal is None:
            self._on_notice.pop(one, None)
        elif self._grace_s and one.state is State.OPEN:
            one.judged = self.epoch
            self._on_notice.setdefault(one, self._port.now + self._grace_s)
            self._set_timer()
        else:
            self._revoke(one, refusal)

    def _judge_last(self, one: Judged) -> None:
        """Judge one thing that has no grace, or none left."""
        refusal = self._judge(one)
        if refusal is not None:
            self._revoke(one, refusal)

    def _judge(self, one: Judged) -> Readmission | None:
        """Judge one thing under what is in force; let it go on, or return how it is refused."""
        found = one.judge_anew()
        if found.plan is None:
            return found
        reason = lacking(one.plan, found.plan)
        if reason:
            return Readmission(None, reason, found.plan.rule)
        plan = self._carry(one.plan, found.plan)
        self.note_rule(one, plan)
        one.plan, one.judged = plan, self.epoch
        one.on_readmitted()
        return None

    def note_rule(self, one: GoesOn, plan: RulePlan) -> None:
        """Record that something goes on by another rule, if it is another one."""
        before = one.plan.rule.name
        if before == plan.rule.name:
            return
        self.places.move(one.id, plan.rule)
        if one.state is not State.ASKED:
            self._recorder.write(
                RuleChangeRecord(
                    time=self._port.wall,
                    connection=one.id,
                    before=before,
                    rule=plan.rule.name,
                    policy=self._policy_hash(),
                )
            )

    def _carry(self, before: RulePlan, after: RulePlan) -> RulePlan:
        key = id(before), id(after)
        known = self._carried.get(key)
        if known is None:
            known = self._carried[key] = before, after, carried(before, after)
        return known[2]

    def _revoke(self, one: Judged, refusal: Readmission) -> None:
        one.judged = self.epoch
        self._on_notice.pop(one, None)
        if one.state is State.ASKED:
            one.plan = refused_plan(one.plan, refusal.rule, self._policy_hash())
            one.refuse(refusal.reason)
        else:
            self.revoked += 1
            one.refuse(f"{REVOKED}{refusal.why}")

    # -- grace -----------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is None and self._on_notice:
            first = next(iter(self._on_notice.values()))
            self._timer = self._port.call_after(first - self._port.now, self._end_grace)

    def _end_grace(self) -> None:
        self._timer = None
        now = self._port.clock.monotonic()
        for one in [one for one, until in self._on_notice.items() if until <= now]:
            del self._on_notice[one]
            if not one.is_closing:
                self._surely(self._judge_last, one)
        self._set_timer()


_UNJUDGED: Final = Readmission(None, "it could not be judged again")
