"""Changing the policy: written, checked, compared, tried on yesterday, and put in force at last.

The invariant: nothing is put in force that was not shown as a difference to what is, by somebody
whose password was given lately; and the gate checks all of it again.
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.responses import Response

from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.proof import prove
from sluicegate.console.roles import Role
from sluicegate.documents import ConfigRefused
from sluicegate.gate.policy_orders import (
    ChangePolicy,
    CheckPolicy,
    PolicyChanged,
    PolicyChecked,
    PolicyFile,
    PolicyTried,
    ReadVersion,
    RollBack,
    TryPolicy,
    VersionTexts,
)

from .policy import ask_policy, differences_of, texts_of

__all__ = ["ENTRIES", "put_in_force", "try_policy"]

_DAY_S: Final = 86_400
_TRIED_DAYS: Final = {"1": "the last day", "7": "the last seven days"}
_WRONG: Final = 422
_CONFLICT: Final = 409
_TITLES: Final = (
    ("now-denied", "Allowed then, refused by this policy", "bad"),
    ("now-allowed", "Refused then, allowed by this policy", "warn"),
    ("other-filters", "Allowed as before, through other filters", "warn"),
    ("other-rule", "The same answer by another rule", ""),
)


async def _edit(asked: Asked) -> Response:
    current = await ask_policy(asked, ReadVersion(), VersionTexts)
    texts = texts_of(current)
    name = asked.query("file", current.main)
    if name not in texts:
        name = current.main
    return _editor(asked, current, name, texts[name])


async def _edit_again(asked: Asked) -> Response:
    name, text = _sent(asked)
    current = await ask_policy(asked, ReadVersion(), VersionTexts)
    known = {file.name for file in current.files}
    return _editor(asked, current, name if name in known else current.main, text)


def _editor(
    asked: Asked,
    current: VersionTexts,
    name: str,
    text: str,
    checked: PolicyChecked | None = None,
    status_code: int = 200,
) -> Response:
    return asked.page(
        "policy_edit.html",
        status_code,
        files=[file.name for file in current.files],
        name=name,
        text=text,
        rows=min(max(text.count("\n") + 3, 12), 40),
        checked=checked,
    )


def _sent(asked: Asked) -> tuple[str, str]:
    """Return name and text of the file that was sent; browsers end lines with two characters."""
    text = asked.form.get("text", "").replace("\r\n", "\n").replace("\r", "\n")
    return asked.form.get("file", ""), text


async def _review(asked: Asked) -> Response:
    return await _show_review(asked)


async def _show_review(
    asked: Asked, faults: list[str] | None = None, status_code: int = 200
) -> Response:
    """Show what would become of a text, and what to do with it."""
    name, text = _sent(asked)
    current = await ask_policy(asked, ReadVersion(), VersionTexts)
    old = texts_of(current)
    if name not in old:
        name = current.main
    files = [PolicyFile(name=name, text=text)]
    checked = await ask_policy(asked, CheckPolicy(files=files), PolicyChecked)
    if checked.errors:
        return _editor(asked, current, name, text, checked, _WRONG)
    return asked.page(
        "policy_review.html",
        status_code,
        name=name,
        text=text,
        base=asked.form.get("base", "") or current.version.texts,
        note=asked.form.get("note", ""),
        checked=checked,
        found=differences_of(old, old | {name: text}),
        faults=faults or [],
        days=_TRIED_DAYS,
        must_prove=not asked.console.sessions.is_proved(asked.who),
    )


async def try_policy(asked: Asked, files: list[PolicyFile], days: int) -> dict[str, Any]:
    """Return what a policy would have decided in the last days, as ``simulate --json`` has it.

    Raises:
        ConfigRefused: It is none, or another trial runs.
        GateLost: There was no answer.
    """
    order = TryPolicy(files=files, since_s=days * _DAY_S)
    tried = await ask_policy(asked, order, PolicyTried)
    report: dict[str, Any] = json.loads(tried.report)
    return report


async def _try(asked: Asked) -> Response:
    name, text = _sent(asked)
    days = asked.form.get("days", "1")
    days = days if days in _TRIED_DAYS else "1"
    report: dict[str, Any] | None = None
    causes: list[str] = []
    try:
        report = await try_policy(asked, [PolicyFile(name=name, text=text)], int(days))
    except ConfigRefused as refused:
        causes = [str(one) for one in refused.errors]
    return asked.page(
        "policy_trial.html", report=report, causes=causes, titles=_TITLES, since=_TRIED_DAYS[days]
    )


async def put_in_force(asked: Asked, order: ChangePolicy | RollBack) -> PolicyChanged:
    """Order a change in the name of who asks, and have recorded what became of it.

    Raises:
        ConfigRefused: It was refused, and nothing was changed.
        GateLost: There was no answer.
    """
    if isinstance(order, ChangePolicy):
        action, subject = "policy-change", ", ".join(file.name for file in order.files)
    else:
        action, subject = "policy-roll-back", order.version
    try:
        changed = await ask_policy(asked, order, PolicyChanged)
    except ConfigRefused as refused:
        causes = tuple(str(one) for one in refused.errors)
        asked.record(action, subject, result="refused", causes=causes)
        raise
    asked.record(action, subject, f"version {changed.version.number}")
    return changed


async def _save(asked: Asked) -> Response:
    name, text = _sent(asked)
    note = asked.form.get("note", "").strip()
    fault, status_code = await prove(asked, asked.form.get("password", ""))
    if fault:
        return await _show_review(asked, [fault], status_code)
    order = ChangePolicy(
        files=[PolicyFile(name=name, text=text)], base=asked.form.get("base", ""), note=note
    )
    try:
        changed = await put_in_force(asked, order)
    except ConfigRefused as refused:
        return await _show_review(asked, [str(one) for one in refused.errors], _CONFLICT)
    return asked.go(f"/policy/history?done={changed.version.number}")


async def _roll_back(asked: Asked) -> Response:
    version = asked.form.get("n", "")
    fault, status_code = await prove(asked, asked.form.get("password", ""))
    causes = [fault]
    if not fault:
        order = RollBack(
            version=version,
            base=asked.form.get("base", ""),
            note=asked.form.get("note", "").strip(),
        )
        try:
            changed = await put_in_force(asked, order)
        except ConfigRefused as refused:
            causes, status_code = [str(one) for one in refused.errors], _CONFLICT
        else:
            return asked.go(f"/policy/history?done={changed.version.number}")
    return asked.page("policy_not_done.html", status_code, causes=causes, number=version)


_ADMINISTRATOR: Final = Role.ADMINISTRATOR

ENTRIES: Final = (
    Entry("/policy/edit", _edit, role=_ADMINISTRATOR),
    Entry("/policy/edit", _edit_again, role=_ADMINISTRATOR, method="POST"),
    Entry("/policy/review", _review, role=_ADMINISTRATOR, method="POST"),
    Entry("/policy/try", _try, role=_ADMINISTRATOR, method="POST"),
    Entry("/policy/save", _save, role=_ADMINISTRATOR, method="POST"),
    Entry("/policy/rollback", _roll_back, role=_ADMINISTRATOR, method="POST"),
)
