"""What operators ask and order about the policy, and what they are answered.

``control_messages`` carries these, ``app.policies`` answers them. The invariant: an order names the
texts that it was made from, so nobody overwrites what he has not seen.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

__all__ = [
    "AnyPolicyAnswer",
    "AnyPolicyOrder",
    "ChangePolicy",
    "CheckPolicy",
    "FindingView",
    "ListVersions",
    "PolicyChanged",
    "PolicyChecked",
    "PolicyFile",
    "PolicyRules",
    "PolicyTried",
    "PolicyVersion",
    "PolicyVersions",
    "ReadRules",
    "ReadVersion",
    "RollBack",
    "RuleView",
    "TryPolicy",
    "VersionOrigin",
    "VersionTexts",
    "is_change",
]

VersionOrigin: TypeAlias = Literal["start", "reload", "change", "roll-back"]


class PolicyFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One file of a policy."""

    name: str
    """Its path, from the folder of the main file."""
    text: str


class PolicyVersion(msgspec.Struct, kw_only=True):
    """A policy that was in force."""

    number: int
    """Later ones have greater numbers."""
    policy: str
    """SHA-256 of what it decides; comments change nothing of it."""
    texts: str
    """SHA-256 of its files as they were written."""
    time: float
    """When it came into force, in seconds since the Unix epoch."""
    by: str
    """Who wanted it."""
    origin: VersionOrigin
    note: str = ""
    """Why, in the words of whoever wanted it."""
    size_bytes: int = 0
    """Of all its files."""
    is_kept: bool = True
    """Whether its files are kept: they were too large otherwise."""
    added: list[str] = []
    """Names of rules, against the version before."""
    removed: list[str] = []
    changed: list[str] = []
    moved: list[str] = []


class FindingView(msgspec.Struct, kw_only=True):
    """What is wrong with a policy, or worth a word."""

    where: str
    cause: str
    cure: str = ""


class RuleView(msgspec.Struct, kw_only=True):
    """One rule of the policy in force."""

    name: str
    kind: Literal["publish", "rule"]
    action: str
    """``publish`` for publications."""
    place: str
    """File and line."""
    text: str
    """As it was written."""
    is_enabled: bool = True
    listeners: list[str] = []
    """None: every proxy listener."""
    clients: list[str] = []
    users: list[str] = []
    to: list[str] = []
    protocols: list[str] = []
    filters: list[str] = []
    owner: str = ""
    comment: str = ""
    expires: float = 0.0
    """In seconds since the Unix epoch; 0: never."""
    has_schedule: bool = False
    covered_by: list[str] = []
    """Rules that decide whenever it would; it never does."""


# Orders.


class PolicyOrder(
    msgspec.Struct, tag_field="about", kw_only=True, frozen=True, forbid_unknown_fields=True
):
    """Anything that is asked or ordered."""


class ListVersions(PolicyOrder, tag="history", frozen=True):
    """Which policies were in force?"""

    before: int = 0
    """Only those with smaller numbers; 0: from the newest on."""
    limit: int = 50


class ReadVersion(PolicyOrder, tag="read", frozen=True):
    """What are the files of a policy?"""

    version: str = ""
    """Its number, or the beginning of its SHA-256; empty: what is in force."""


class ReadRules(PolicyOrder, tag="rules", frozen=True):
    """What are the rules in force?"""


class CheckPolicy(PolicyOrder, tag="check", frozen=True):
    """Would this be a policy?"""

    files: list[PolicyFile]
    """Those that are other than in force."""


class TryPolicy(PolicyOrder, tag="try", frozen=True):
    """What would it have decided?"""

    files: list[PolicyFile]
    since_s: int = 86_400
    """How far back the records go that are decided again."""


class ChangePolicy(PolicyOrder, tag="change", frozen=True):
    """Write these files, and put them in force."""

    files: list[PolicyFile]
    base: str
    """SHA-256 of the files in force that they were made from."""
    note: str = ""


class RollBack(PolicyOrder, tag="roll-back", frozen=True):
    """Put an earlier policy in force again."""

    version: str
    base: str
    """SHA-256 of the files that are in force now."""
    note: str = ""


AnyPolicyOrder: TypeAlias = (
    ListVersions | ReadVersion | ReadRules | CheckPolicy | TryPolicy | ChangePolicy | RollBack
)

_CHANGES: Final = (ChangePolicy, RollBack)


def is_change(order: AnyPolicyOrder) -> bool:
    """Tell whether an order changes what is in force."""
    return isinstance(order, _CHANGES)


# Answers.


class PolicyAnswer(msgspec.Struct, tag_field="about", kw_only=True):
    """Anything that is answered."""


class PolicyVersions(PolicyAnswer, tag="history"):
    """Versions, the newest first."""

    rows: list[PolicyVersion]
    total: int
    """How many are kept."""
    texts: str
    """SHA-256 of the files in force."""
    number: int = 0
    """Which version is in force, of several with the same files; 0: it is not kept."""


class VersionTexts(PolicyAnswer, tag="read"):
    """The files of one version, in the order of their rules."""

    version: PolicyVersion
    files: list[PolicyFile]
    main: str
    """The name of the file that names the others."""


class PolicyRules(PolicyAnswer, tag="rules"):
    """The rules in force, in the order in which they are tried."""

    policy: str
    """SHA-256 of the policy."""
    texts: str
    """SHA-256 of its files."""
    since: float
    """When it came into force."""
    rows: list[RuleView]
    total: int
    """How many there are; more than ``rows`` are left out."""
    warnings: list[FindingView] = []
    can_write: str = ""
    """Why the gate cannot write the policy's files; empty: it can."""


class PolicyChecked(PolicyAnswer, tag="check"):
    """What a policy would be."""

    policy: str = ""
    """Its SHA-256; empty: it is none."""
    errors: list[FindingView] = []
    warnings: list[FindingView] = []
    added: list[str] = []
    """Names of rules, against the policy in force."""
    removed: list[str] = []
    changed: list[str] = []
    moved: list[str] = []


class PolicyTried(PolicyAnswer, tag="try"):
    """What it would have decided."""

    report: str
    """In the words of ``sluicegate simulate --json``."""


class PolicyChanged(PolicyAnswer, tag="changed"):
    """It is in force."""

    version: PolicyVersion
    notes: list[str] = []
    """What an operator should know about it."""


AnyPolicyAnswer: TypeAlias = (
    PolicyVersions | VersionTexts | PolicyRules | PolicyChecked | PolicyTried | PolicyChanged
)
