"""The policy: its rules with what they did, and the policies that were in force before.

``policy_change`` has what changes it. The invariant: rules stand in the order in which they are
tried, and a rule that did nothing is told apart from one of which nothing is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.responses import Response

from sluicegate.audit.store import StoreReader
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.link import GateLost
from sluicegate.console.past import PastUnknown
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.gate.control_messages import PolicyReply, PolicyRequest, RefusedReply
from sluicegate.gate.policy_orders import (
    AnyPolicyOrder,
    ListVersions,
    PolicyRules,
    PolicyVersions,
    ReadRules,
    ReadVersion,
    RuleView,
    VersionTexts,
)
from sluicegate.policy.differences import DifferentLine, differences

__all__ = ["ENTRIES", "Ruled", "ask_policy", "differences_of", "look_at_rules", "texts_of"]

AnswerT = TypeVar("AnswerT")

_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_DAYS: Final = (1, 7, 30)
_DECIDED: Final = ("decision", "request")
_REFUSED: Final = ("denied", "refused", "failed")
_VERSIONS: Final = 50
_NOT_FOUND: Final = 404


@dataclass(slots=True)
class Hits:
    """What a rule decided."""

    allowed: int = 0
    refused: int = 0
    last: float = 0.0
    """The hour of the last one; 0: there was none."""

    @property
    def count(self) -> int:
        """Both together."""
        return self.allowed + self.refused


async def ask_policy(asked: Asked, order: AnyPolicyOrder, kind: type[AnswerT]) -> AnswerT:
    """Ask or order something about the policy in the name of who asks.

    Raises:
        ConfigRefused: The gate refused it, and nothing was changed.
        GateLost: There was no answer.
    """
    reply = await asked.ask_gate(PolicyRequest(order=order))
    if isinstance(reply, RefusedReply):
        raise ConfigRefused(tuple(ConfigError("", cause) for cause in reply.causes))
    if not isinstance(reply, PolicyReply) or not isinstance(reply.answer, kind):
        raise GateLost("the gate answered something else")
    return reply.answer


def texts_of(answer: VersionTexts) -> dict[str, str]:
    """Return the texts of a policy by the names of their files."""
    return {file.name: file.text for file in answer.files}


def differences_of(before: dict[str, str], after: dict[str, str]) -> dict[str, list[DifferentLine]]:
    """Return what differs, by file; those that are alike are not there."""
    names = dict.fromkeys([*before, *after])
    found = {name: differences(before.get(name, ""), after.get(name, "")) for name in names}
    return {name: lines for name, lines in found.items() if lines}


def _count_hits(reader: StoreReader, since: float, now: float) -> dict[str, Hits]:
    found: dict[str, Hits] = {}
    for total in reader.minutes(since, now + _HOUR_S, _HOUR_S):
        if total.kind in _DECIDED and total.rule:
            hits = found.setdefault(total.rule, Hits())
            if total.result in _REFUSED:
                hits.refused += total.records
            else:
                hits.allowed += total.records
            hits.last = max(hits.last, total.time)
    return found


def _days_of(asked: Asked) -> int:
    wanted = asked.query("days", "7")
    return int(wanted) if wanted in {str(days) for days in _DAYS} else _DAYS[1]


@dataclass(frozen=True, slots=True)
class Ruled:
    """The rules in force, with what they did lately."""

    rules: PolicyRules
    hits: dict[str, Hits] | None
    """By rule; a rule that decided nothing is not there. None: nobody knows."""
    unknown: str
    """Why nobody knows."""
    now: float

    def is_unused(self, row: RuleView) -> bool:
        """Tell whether a rule decided nothing, as far as that is known."""
        return self.hits is not None and row.is_enabled and row.name not in self.hits

    def is_covered(self, row: RuleView) -> bool:
        """Tell whether others decide whenever a rule would."""
        return bool(row.covered_by) and row.is_enabled

    def is_expired(self, row: RuleView) -> bool:
        """Tell whether a rule's time is over."""
        return 0 < row.expires <= self.now


async def look_at_rules(asked: Asked, days: int) -> Ruled:
    """Return the rules in force, with what they did in the last days.

    Raises:
        ConfigRefused: The gate does not tell.
        GateLost: There was no answer.
    """
    rules = await ask_policy(asked, ReadRules(), PolicyRules)
    now = asked.console.clock.wall()
    try:
        hits = await asked.console.past.ask(
            lambda reader: _count_hits(reader, now - days * _DAY_S, now)
        )
    except PastUnknown as error:
        return Ruled(rules, None, str(error), now)
    return Ruled(rules, hits, "", now)


async def _show(asked: Asked) -> Response:
    days = _days_of(asked)
    found = await look_at_rules(asked, days)
    rows = found.rules.rows
    return asked.page(
        "policy.html",
        rules=found.rules,
        hits=found.hits,
        no_hits=Hits(),
        unused=[row for row in rows if found.is_unused(row)],
        covered=[row for row in rows if found.is_covered(row)],
        expired=[row for row in rows if found.is_expired(row)],
        most=max((one.count for one in (found.hits or {}).values()), default=0),
        unknown=found.unknown,
        days=days,
        all_days=_DAYS,
        now=found.now,
    )


async def _history(asked: Asked) -> Response:
    order = ListVersions(before=asked.number("before"), limit=_VERSIONS)
    answer = await ask_policy(asked, order, PolicyVersions)
    oldest = answer.rows[-1].number if answer.rows else math.inf
    return asked.page(
        "policy_history.html",
        answer=answer,
        has_more=len(answer.rows) == _VERSIONS and oldest > 1,
        rolled_back=asked.query("done"),
    )


async def _version(asked: Asked) -> Response:
    number = asked.query("n")
    current = await ask_policy(asked, ReadVersion(), VersionTexts)
    try:
        shown = await ask_policy(asked, ReadVersion(version=number), VersionTexts)
    except ConfigRefused as refused:
        return asked.page(
            "policy_version.html",
            _NOT_FOUND,
            shown=None,
            number=number,
            causes=[str(one) for one in refused.errors],
        )
    return asked.page(
        "policy_version.html",
        shown=shown,
        number=number,
        current=current,
        is_in_force=shown.version.texts == current.version.texts,
        found=differences_of(texts_of(current), texts_of(shown)),
        faults=[],
        must_prove=not asked.console.sessions.is_proved(asked.who),
    )


ENTRIES: Final = (
    Entry("/policy", _show),
    Entry("/policy/history", _history),
    Entry("/policy/version", _version),
)
