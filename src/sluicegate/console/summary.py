"""Summary: one record in one row of a table.

Pages show it. The invariant: every kind of record has a row that says what it is about, also one
that this version does not know.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, cast

from sluicegate.audit.store.reader import StoredRecord

__all__ = ["Summary", "summary_of"]

_GOOD: Final = frozenset(
    {"allowed", "released", "done", "ready", "reloaded", "over", "acknowledged"}
)
_BAD: Final = frozenset(
    {
        "denied",
        "refused",
        "failed",
        "reload-refused",
        "raised",
        "raised-again",
        "action-failed",
        "bypassed",
        "error",
    }
)
_RESULTS: Final = ("verdict", "outcome", "result", "action", "event")
_SUBJECTS: Final = (
    "url", "name", "host", "target", "server", "process", "alert", "limit", "entry", "where",
    "message", "filter", "policy",
)  # fmt: skip
_REASONS: Final = ("ended", "reason", "cause", "causes", "message", "error", "by")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a row shows."""

    seq: int
    time: float
    kind: str
    result: str
    tone: str
    """``good``, ``bad`` or nothing."""
    client: str
    subject: str
    rule: str
    reason: str
    connection: str
    fields: dict[str, object]
    """All of it."""


def summary_of(record: StoredRecord) -> Summary:
    """Return the row of a record."""
    fields = cast("dict[str, object]", json.loads(record.line))
    kind = _text(fields.get("kind"))
    result = _result_of(fields, kind)
    subject = _first(fields, _SUBJECTS)
    if kind == "operator":
        subject = f"{_text(fields.get('action'))} {_text(fields.get('subjects'))}".strip()
    elif kind == "request":
        subject = f"{_text(fields.get('method'))} {subject}".strip()
    time = fields.get("time")
    return Summary(
        record.seq,
        float(time) if isinstance(time, int | float) else 0.0,
        kind,
        result,
        "good" if result in _GOOD else "bad" if result in _BAD else "",
        _first(fields, ("client", "clients")),
        subject,
        _text(fields.get("rule")),
        _first(fields, _REASONS),
        _text(fields.get("connection")),
        fields,
    )


def _result_of(fields: dict[str, object], kind: str) -> str:
    if kind == "request" and fields.get("verdict") == "denied":
        return "denied"
    if kind == "request":
        return _text(fields.get("outcome"))
    if kind == "operator":
        return _text(fields.get("result"))
    return _first(fields, _RESULTS)


def _first(fields: dict[str, object], names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := _text(fields.get(name)))), "")


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[object]", value)))
    return "" if value is None else str(value)
