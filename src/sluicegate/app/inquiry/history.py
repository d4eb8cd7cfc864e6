"""History: what the log has of one connection: its decision, and all that came of it.

``why`` asks for it. The invariant: files are read as streams, and what is kept of them is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from sluicegate.audit.log_source import LogSource
from sluicegate.audit.query import LogLine, host_of
from sluicegate.policy_limits import HISTORY_RECORDS_MAX

from .past import PastDecision

__all__ = [
    "Found",
    "History",
    "find_connection",
    "find_history",
    "find_last",
    "is_decision",
    "is_refusal",
]

_BEFORE_S: Final = 60.0
"""A limit that a client reached so long before its decision may be why."""


_DECISIONS: Final = frozenset({"decision", "request"})
"""Kinds of records that say what was decided."""


@dataclass(frozen=True, slots=True)
class Found:
    """A connection, or one HTTP request that it carried."""

    connection: str = ""
    request: str = ""

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.connection)


NOT_FOUND: Final = Found()


@dataclass(frozen=True, slots=True)
class History:
    """One decision, and the records about its connection, in the order of the log."""

    decision: PastDecision
    records: tuple[dict[str, Any], ...]
    """Without the decision itself."""
    left_out: int = 0
    """Records that are not among them, because there are too many."""


def find_connection(log: LogSource, identifier: str) -> Found:
    """Return what an identifier means; empty: the log does not have it.

    Args:
        log: All of it.
        identifier: Of a connection, of a request; of a session, whose last decision is meant; or of
            an alert, and the last connection or request is meant that raised it.
    """
    found = NOT_FOUND
    for line in log.about(identifier):
        if line.text("request") == identifier:
            return _found(line)
        if line.text("connection") == identifier:
            return Found(identifier)
        if line.text("raising") == identifier:
            found = _raised_by(line)
        if line.text("session") == identifier and line.fields.get("kind") in _DECISIONS:
            found = _found(line)
    return found


def find_last(log: LogSource, client: str, wanted: Callable[[LogLine], bool]) -> Found:
    """Return what the last record that is wanted is about; empty: there is none.

    Args:
        log: All of it.
        client: An address; empty: whoever.
        wanted: Of the records of that client.
    """

    def is_meant(line: LogLine) -> bool:
        is_theirs = not client or host_of(line.text("client")) == client
        return is_theirs and wanted(line) and bool(line.text("connection"))

    line = log.last(is_meant, *([client] if client else []))
    return NOT_FOUND if line is None else _found(line)


def is_decision(line: LogLine) -> bool:
    """Tell whether a record is of a decision, on a connection or on an HTTP request."""
    return line.fields.get("kind") in _DECISIONS


def _found(line: LogLine) -> Found:
    return Found(line.text("connection"), line.text("request"))


def _raised_by(line: LogLine) -> Found:
    """Return what the last record was about for which an alert was raised."""
    facts = line.fields.get("facts")
    if not isinstance(facts, dict):
        return NOT_FOUND
    known = cast("dict[str, object]", facts)
    return Found(str(known.get("connection", "")), str(known.get("request", "")))


def is_refusal(line: LogLine) -> bool:
    """Tell whether something was refused: a client, a connection, a request, an object."""
    return line.fields.get("verdict") in {"denied", "refused"} or (
        line.fields.get("outcome") == "refused"
    )


def find_history(log: LogSource, found: Found) -> History | None:
    """Return what the log has of a connection; None: no decision about it.

    Of a connection that carries requests, the decision is that on the request that is meant, or on
    the last one; the others are among the records.

    Args:
        log: All of it.
        found: What is meant.
    """
    connection = found.connection
    decision: PastDecision | None = None
    replaced: dict[str, Any] | None = None
    #: The record of the decision so far, where a later request may take its place.
    kept: deque[dict[str, Any]] = deque(maxlen=HISTORY_RECORDS_MAX)
    count = 0
    for line in log.about(connection):
        if not _is_about(line, connection):
            continue
        if line.text("connection") == connection and _may_be(line, found, decision):
            past = PastDecision.of(line)
            if past is not None:
                if replaced is not None:
                    kept.append(replaced)
                    count += 1
                replaced = line.fields if past.request else None
                decision = past
                continue
        kept.append(line.fields)
        count += 1
    if decision is None:
        return None
    limits = _limits_before(log, decision)
    return History(decision, (*limits, *kept), count - len(kept))


def _may_be(line: LogLine, found: Found, decision: PastDecision | None) -> bool:
    """Tell whether a record may be that of the decision that is meant."""
    if line.fields.get("kind") == "request":
        return found.request in {"", line.text("request")} and (
            decision is None or bool(decision.request)
        )
    return decision is None and not found.request


def _is_about(line: LogLine, connection: str) -> bool:
    if connection in {line.text("connection"), line.text("primary")}:
        return True
    facts = line.fields.get("facts")
    return (
        isinstance(facts, dict) and cast("dict[str, object]", facts).get("connection") == connection
    )


def _limits_before(log: LogSource, decision: PastDecision) -> Iterator[dict[str, Any]]:
    """Yield the limits that the client reached about then, if one of them decided."""
    if not decision.reason.startswith("limit "):
        return
    client = host_of(decision.client)
    for line in log.around(decision.time, _BEFORE_S, "limit"):
        fields = line.fields
        if fields.get("kind") != "limit" or fields.get("connection") == decision.connection:
            continue
        if host_of(line.text("client")) == client or line.text("client") == client:
            time = fields.get("time")
            if isinstance(time, int | float) and abs(time - decision.time) <= _BEFORE_S:
                yield fields
