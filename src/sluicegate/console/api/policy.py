"""What the API can be asked about the policy, and how it is changed.

``operations`` has these in its table. The invariant: a change names the texts that it was made
from, and needs the password of an administrator, as the page does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

from sluicegate.console.pages.policy import (
    Hits,
    ask_policy,
    differences_of,
    look_at_rules,
    texts_of,
)
from sluicegate.console.pages.policy_change import put_in_force, try_policy
from sluicegate.console.roles import Role
from sluicegate.documents import ConfigRefused
from sluicegate.gate.policy_orders import (
    ChangePolicy,
    CheckPolicy,
    FindingView,
    ListVersions,
    PolicyChanged,
    PolicyChecked,
    PolicyFile,
    PolicyVersion,
    PolicyVersions,
    ReadVersion,
    RollBack,
    RuleView,
    VersionTexts,
)
from sluicegate.policy.differences import DifferentLine, Mark
from sluicegate.policy_limits import POLICY_NOTE_CHARACTERS_MAX

from .operation import Called, Operation, Parameter, ProblemRaised, Proof
from .parameters import CURSOR, LIMIT, ROWS_DEFAULT, page_of

__all__ = ["OPERATIONS"]

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_DAYS_MAX: Final = 31
_DAYS_DEFAULT: Final = 7
_FILES_MAX: Final = 1000
_STATES: Final = ("all", "unused", "covered", "expired")
_IN_FORCE: Final = "current"

_Name = Annotated[str, msgspec.Meta(max_length=4096)]
_Note = Annotated[str, msgspec.Meta(max_length=POLICY_NOTE_CHARACTERS_MAX)]
_Digest = Annotated[str, msgspec.Meta(max_length=64)]


class Rule(msgspec.Struct):
    """A rule of the policy in force, and what it did."""

    rule: RuleView
    allowed: int | None
    """Decisions of the time asked for; none: nobody knows."""
    refused: int | None
    last: float | None
    """The hour of the last one, in seconds since the Unix epoch; none: there was none."""
    is_unused: bool
    """Whether it decided nothing in that time."""
    is_expired: bool


class Rules(msgspec.Struct):
    """The policy in force; its rules in the order in which they are tried."""

    policy: str
    """SHA-256 of what it decides."""
    texts: str
    """SHA-256 of its files: what a change is based on."""
    since: float
    """When it came into force, in seconds since the Unix epoch."""
    rows: list[Rule]
    total: int
    """Rules of the state that was asked for."""
    next: int | None
    """The cursor of the next rows; none: there are none."""
    warnings: list[FindingView]
    can_write: str
    """Why the gate cannot write the policy's files; empty: it can."""
    unknown: str
    """Why nobody knows what the rules did; empty: it is known."""


class Versions(msgspec.Struct):
    """Policies that were in force, the newest first."""

    rows: list[PolicyVersion]
    total: int
    texts: str
    """SHA-256 of the files in force."""
    next: int | None
    """The cursor of older ones; none: there are none."""


class Line(msgspec.Struct):
    """A line that differs, or stands beside one."""

    mark: Mark
    """``-``: only the old text has it, ``+``: only the new one, ``@``: something was left out."""
    old: int
    """Its number in the old text; 0: it is not there."""
    new: int
    text: str


class FileDifference(msgspec.Struct):
    """What differs in a file."""

    name: str
    lines: list[Line]


class Differences(msgspec.Struct):
    """What leads from one policy to another."""

    files: list[FileDifference]
    """Those that differ."""


class Proposed(msgspec.Struct, forbid_unknown_fields=True):
    """A policy that is not in force."""

    files: Annotated[list[PolicyFile], msgspec.Meta(max_length=_FILES_MAX)]
    """Those that are other than in force."""


class Checked(msgspec.Struct):
    """What a policy would be."""

    checked: PolicyChecked
    differences: list[FileDifference]
    """Against what is in force."""


class Trial(msgspec.Struct, forbid_unknown_fields=True):
    """A policy, and how much of the past it is tried on."""

    files: Annotated[list[PolicyFile], msgspec.Meta(max_length=_FILES_MAX)]
    days: Literal[1, 7] = 1


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Write these files, and put them in force."""

    files: Annotated[list[PolicyFile], msgspec.Meta(max_length=_FILES_MAX)]
    base: _Digest
    """SHA-256 of the files in force that they were made from: ``texts`` of what was read."""
    note: _Note = ""
    """Why, for the history."""
    proof: Proof | None = None


class GoBack(msgspec.Struct, forbid_unknown_fields=True):
    """Put an earlier policy in force again."""

    version: _Name
    """Its number, or the beginning of its SHA-256."""
    base: _Digest
    """SHA-256 of the files that are in force now."""
    note: _Note = ""
    proof: Proof | None = None


async def _rules(called: Called) -> Rules:
    found = await look_at_rules(called.asked, called.number("days", _DAYS_DEFAULT))
    tests: dict[str, Callable[[RuleView], bool]] = {
        "unused": found.is_unused,
        "covered": found.is_covered,
        "expired": found.is_expired,
    }
    is_wanted = tests.get(called.values.get("state", "all"))
    rows = [row for row in found.rules.rows if is_wanted is None or is_wanted(row)]
    shown, further = page_of(rows, called)
    hits = found.hits

    def rule(row: RuleView) -> Rule:
        unused, expired = found.is_unused(row), found.is_expired(row)
        if hits is None:
            return Rule(row, None, None, None, unused, expired)
        known = hits.get(row.name, Hits())
        return Rule(row, known.allowed, known.refused, known.last or None, unused, expired)

    return Rules(
        found.rules.policy,
        found.rules.texts,
        found.rules.since,
        [rule(row) for row in shown],
        len(rows),
        further,
        found.rules.warnings,
        found.rules.can_write,
        found.unknown,
    )


async def _versions(called: Called) -> Versions:
    limit = called.number("limit", ROWS_DEFAULT)
    order = ListVersions(before=called.number("cursor"), limit=limit)
    answer = await ask_policy(called.asked, order, PolicyVersions)
    oldest = answer.rows[-1].number if answer.rows else 0
    has_more = len(answer.rows) == limit and oldest > 1
    return Versions(answer.rows, answer.total, answer.texts, oldest if has_more else None)


async def _find(called: Called, version: str) -> VersionTexts:
    order = ReadVersion(version="" if version == _IN_FORCE else version)
    try:
        return await ask_policy(called.asked, order, VersionTexts)
    except ConfigRefused as refused:
        raise _problem_of(refused, _NOT_FOUND) from refused


async def _version(called: Called) -> VersionTexts:
    return await _find(called, called.values["version"])


async def _differences(called: Called) -> Differences:
    after = await _find(called, called.values["version"])
    before = await _find(called, called.values.get("from", _IN_FORCE))
    return Differences(_in_files(differences_of(texts_of(before), texts_of(after))))


async def _check(called: Called) -> Checked:
    proposed: Proposed = called.body
    checked = await ask_policy(called.asked, CheckPolicy(files=proposed.files), PolicyChecked)
    if checked.errors:
        return Checked(checked, [])
    old = texts_of(await _find(called, _IN_FORCE))
    new = old | {file.name: file.text for file in proposed.files}
    return Checked(checked, _in_files(differences_of(old, new)))


async def _try(called: Called) -> dict[str, Any]:
    trial: Trial = called.body
    try:
        return await try_policy(called.asked, trial.files, trial.days)
    except ConfigRefused as refused:
        raise _problem_of(refused) from refused


async def _change(called: Called) -> PolicyChanged:
    change: Change = called.body
    order = ChangePolicy(files=change.files, base=change.base, note=change.note)
    return await _put_in_force(called, order)


async def _roll_back(called: Called) -> PolicyChanged:
    wanted: GoBack = called.body
    order = RollBack(version=wanted.version, base=wanted.base, note=wanted.note)
    return await _put_in_force(called, order)


async def _put_in_force(called: Called, order: ChangePolicy | RollBack) -> PolicyChanged:
    try:
        return await put_in_force(called.asked, order)
    except ConfigRefused as refused:
        raise _problem_of(refused) from refused


def _problem_of(refused: ConfigRefused, status: int = _CONFLICT) -> ProblemRaised:
    return ProblemRaised(status, "; ".join(str(one) for one in refused.errors))


def _in_files(found: dict[str, list[DifferentLine]]) -> list[FileDifference]:
    return [FileDifference(name, [Line(*line) for line in lines]) for name, lines in found.items()]


_VERSION: Final = Parameter(
    "version", "Its number, the beginning of its SHA-256, or current.",
    {"type": "string", "minLength": 1, "maxLength": 64}, in_path=True,
)  # fmt: skip
_FROM: Final = Parameter(
    "from", "Against which version; absent: current.", {"type": "string", "maxLength": 64}
)
_DAYS: Final = Parameter(
    "days", "Of how many days decisions are counted.",
    {"type": "integer", "minimum": 1, "maximum": _DAYS_MAX, "default": _DAYS_DEFAULT},
)  # fmt: skip
_STATE: Final = Parameter(
    "state", "Only such rules.", {"type": "string", "enum": list(_STATES), "default": "all"}
)
_ADMINISTRATOR: Final = Role.ADMINISTRATOR
_GONE: Final = {404: "No such version is kept."}

OPERATIONS: Final = (
    Operation(name="readPolicy", path="/policy", answer=_rules, reply=Rules,
              summary="The rules in force with what they did, unused and covered ones among them.",
              parameters=(_DAYS, _STATE, CURSOR, LIMIT)),
    Operation(name="listPolicyVersions", path="/policy/versions", answer=_versions,
              reply=Versions, summary="Policies that were in force.",
              parameters=(CURSOR, LIMIT)),
    Operation(name="readPolicyVersion", path="/policy/versions/{version}", answer=_version,
              reply=VersionTexts, summary="The files of a policy.",
              parameters=(_VERSION,), failures=_GONE),
    Operation(name="comparePolicyVersions", path="/policy/versions/{version}/differences",
              answer=_differences, reply=Differences,
              summary="What leads from one policy to another.",
              parameters=(_VERSION, _FROM), failures=_GONE),
    Operation(name="checkPolicy", path="/policy/check", method="POST", role=_ADMINISTRATOR,
              answer=_check, body=Proposed, reply=Checked,
              summary="Whether files would be a policy, and what would be other than now."),
    Operation(name="tryPolicy", path="/policy/trial", method="POST", role=_ADMINISTRATOR,
              answer=_try, body=Trial, reply=dict[str, Any],
              summary="What a policy would have decided, as sluicegate simulate --json has it.",
              failures={409: "It is no policy, or another trial runs."}),
    Operation(name="changePolicy", path="/policy/change", method="POST", role=_ADMINISTRATOR,
              answer=_change, body=Change, reply=PolicyChanged, needs_proof=True,
              summary="Write files of the policy, and put them in force, whole or not at all.",
              failures={409: "It is refused; what was in force stays in force."}),
    Operation(name="rollBackPolicy", path="/policy/roll-back", method="POST",
              role=_ADMINISTRATOR, answer=_roll_back, body=GoBack, reply=PolicyChanged,
              needs_proof=True, summary="Put an earlier policy in force again.",
              failures={409: "It is refused; what was in force stays in force."}),
)  # fmt: skip
