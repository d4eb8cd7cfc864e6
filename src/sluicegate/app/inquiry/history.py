"""History: what the log has of one connection: its decision, and all that came of it.

``why`` asks for it. The invariant: files are read as streams, and what is kept of them is bounded.
"""

from __future__ import annotations

import pathlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sluicegate.audit.query import LogFile, LogLine, host_of
from sluicegate.policy_limits import HISTORY_RECORDS_MAX

from .past import PastDecision

__all__ = ["History", "find_connection", "find_history", "find_last", "is_refusal"]

_BEFORE_S: Final = 60.0
"""A limit that a client reached so long before its decision may be why."""


@dataclass(frozen=True, slots=True)
class History:
    """One decision, and the records about its connection, in the order of the log."""

    decision: PastDecision
    records: tuple[dict[str, Any], ...]
    """Without the decision itself."""
    left_out: int = 0
    """Records that are not among them, because there are too many."""


def find_connection(logs: Sequence[pathlib.Path], identifier: str) -> str:
    """Return the connection that an identifier means; empty: the logs do not have it.

    Args:
        logs: The oldest first.
        identifier: Of a connection, or of a session, whose last decision is meant.
    """
    found = ""
    for line in _lines(logs, identifier):
        if line.text("connection") == identifier:
            return identifier
        if line.text("session") == identifier and line.fields.get("kind") == "decision":
            found = line.text("connection")
    return found


def find_last(logs: Sequence[pathlib.Path], client: str, wanted: Callable[[LogLine], bool]) -> str:
    """Return the connection of the last record that is wanted; empty: there is none.

    Args:
        logs: The oldest first; they are read from the newest on.
        client: An address; empty: whoever.
        wanted: Of the records of that client.
    """
    for log in reversed(logs):
        found = ""
        for line in _lines([log], *([client] if client else [])):
            is_theirs = not client or host_of(line.text("client")) == client
            if is_theirs and wanted(line):
                found = line.text("connection") or found
        if found:
            return found
    return ""


def is_refusal(line: LogLine) -> bool:
    """Tell whether something was refused: a client, a connection on its way, an object."""
    return line.fields.get("verdict") in {"denied", "refused"} or (
        line.fields.get("outcome") == "refused"
    )


def find_history(logs: Sequence[pathlib.Path], connection: str) -> History | None:
    """Return what the logs have of a connection; None: no decision about it.

    Args:
        logs: The oldest first.
        connection: Its identifier.
    """
    decision: PastDecision | None = None
    kept: deque[dict[str, Any]] = deque(maxlen=HISTORY_RECORDS_MAX)
    count = 0
    for line in _lines(logs, connection):
        if not _is_about(line, connection):
            continue
        if line.text("connection") == connection and decision is None:
            decision = PastDecision.of(line)
            if decision is not None:
                continue
        kept.append(line.fields)
        count += 1
    if decision is None:
        return None
    limits = _limits_before(logs, decision)
    return History(decision, (*limits, *kept), count - len(kept))


def _is_about(line: LogLine, connection: str) -> bool:
    if connection in {line.text("connection"), line.text("primary")}:
        return True
    facts = line.fields.get("facts")
    return (
        isinstance(facts, dict) and cast("dict[str, object]", facts).get("connection") == connection
    )


def _limits_before(
    logs: Sequence[pathlib.Path], decision: PastDecision
) -> Iterator[dict[str, Any]]:
    """Yield the limits that the client reached about then, if one of them decided."""
    if not decision.reason.startswith("limit "):
        return
    client = host_of(decision.client)
    for line in _lines(logs, "limit"):
        fields = line.fields
        if fields.get("kind") != "limit" or fields.get("connection") == decision.connection:
            continue
        if host_of(line.text("client")) == client or line.text("client") == client:
            time = fields.get("time")
            if isinstance(time, int | float) and abs(time - decision.time) <= _BEFORE_S:
                yield fields


def _lines(logs: Sequence[pathlib.Path], *texts: str) -> Iterator[LogLine]:
    for path in logs:
        log = LogFile(path)
        log.only_with(*texts)
        try:
            yield from log.new_lines()
        finally:
            log.close()
