"""Listings: the tables of the dashboard, with their columns, and how their rows come of a look.

The invariant: what a table is asked by is named as in records, so a query that was tried here is
one for ``sluicegate log``, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sluicegate.audit.alerts import Raising
from sluicegate.audit.query import LogLine
from sluicegate.audit.search.words import host_of_record
from sluicegate.cli.display import format_bytes, format_duration, format_time
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    ScannerView,
    SessionView,
    TransferView,
    WorkerView,
)

from .look import Look
from .row import Cell, Row, number, searched_text, text

__all__ = ["ALERTS", "LISTINGS", "REFUSALS", "Listing", "refusal_row"]


@dataclass(frozen=True, slots=True)
class Listing:
    """One table."""

    name: str
    titles: tuple[str, ...]
    rows: Callable[[Look], list[Row]]
    total: Callable[[Look], int]
    """How many there are, also where the gate tells the first of them only."""
    sorted_by: int
    """The column, at the beginning."""
    is_falling: bool = True
    is_asked: bool = True
    """Whether it takes queries; else words only."""


def _age(started: float, now: float) -> Cell:
    return number(format_duration(max(now - started, 0.0)), now - started)


def _size(count: float) -> Cell:
    return number(format_bytes(count), count)


def _count(value: float) -> Cell:
    return number(f"{value:g}", value)


# -- connections and sessions --------------------------------------------------------------------


def _connection(row: ConnectionView, now: float) -> Row:
    asked = row.asked or row.server
    fields: dict[str, object] = {
        "kind": "connection",
        "connection": row.connection,
        "session": row.session,
        "client": row.client,
        "listener": row.listener,
        "rule": row.rule,
        "server": row.server,
        "started": row.started,
        "time": now,
        "duration_s": now - row.started,
        "bytes_to_server": row.bytes_to_server,
        "bytes_to_client": row.bytes_to_client,
        "filters": row.filters,
        "primary": row.primary,
        "transport": "udp" if row.transport == "udp" else "",
        "host": host_of_record({"target": row.asked}),
    }
    words = (
        row.connection, row.session, row.client, row.server, row.asked, row.listener, row.rule,
        row.state, row.transport, *row.filters, "spliced" if row.is_spliced else "",
    )  # fmt: skip
    cells = (
        text(row.client),
        text(asked),
        text(row.rule),
        text("spliced" if row.is_spliced else row.state),
        _size(row.bytes_to_client),
        _size(row.bytes_to_server),
        _age(row.started, now),
        number(format_duration(row.idle_s), row.idle_s),
        text(", ".join(row.filters)),
        text(row.connection),
    )
    return Row(row.connection, cells, searched_text(words), fields, row, row.connection)


def _session(row: SessionView, now: float) -> Row:
    fields: dict[str, object] = {
        "kind": "session",
        "session": row.session,
        "client": row.client,
        "user": row.user,
        "time": now,
        "duration_s": now - row.started,
        "filters": row.filters,
    }
    cells = (
        text(row.client),
        text(row.user),
        _count(row.connections),
        _count(row.expected),
        _age(row.started, now),
        number(format_duration(row.idle_s), row.idle_s),
        text(", ".join(row.filters)),
        text(row.session),
    )
    words = (row.session, row.client, row.user, *row.filters)
    return Row(row.session, cells, searched_text(words), fields, row, row.session)


# -- objects -------------------------------------------------------------------------------------


def _transfer(row: TransferView, number_of_it: int, now: float) -> Row:
    fields: dict[str, object] = {
        "kind": "transfer",
        "connection": row.connection,
        "session": row.session,
        "client": row.client,
        "rule": row.rule,
        "name": row.name,
        "direction": row.direction,
        "protocol": row.protocol,
        "user": row.user,
        "content_type": row.content_type,
        "bytes": row.bytes_held,
        "bytes_delivered": row.bytes_delivered,
        "time": now,
        "held_ms": 1000 * (now - row.started),
    }
    cells = (
        text(row.client),
        text(row.name),
        text(row.stage),
        _size(row.bytes_held),
        _size(row.bytes_delivered),
        _age(row.started, now),
        text(row.protocol),
        text(row.rule),
        text(", ".join(row.filters)),
        text(row.connection),
    )
    words = (
        row.connection, row.client, row.name, row.stage, row.protocol, row.rule, row.user,
        row.content_type, row.direction, *row.filters,
    )  # fmt: skip
    identity = f"{row.connection} {row.started:.6f} {number_of_it}"
    return Row(identity, cells, searched_text(words), fields, row, row.connection)


def refusal_row(line: LogLine, place: int) -> Row:
    """Return the row of a record of something that was refused or failed.

    Args:
        line: The record.
        place: How many came before it: what it is known by in the table.
    """
    fields = line.fields
    time = fields.get("time")
    moment = float(time) if isinstance(time, int | float) else 0.0
    # A request that was allowed and refused later says so in ``ended``.
    reason = line.text("ended") or line.text("reason") or line.text("cause") or line.text("limit")
    about = (
        line.text("url") or line.text("name") or line.text("target") or line.text("host")
        or line.text("server")
    )  # fmt: skip
    cells = (
        number(format_time(moment)[11:19], moment),
        text(line.text("client")),
        text(about),
        text(reason, is_alarming=line.text("kind") == "filter-failure"),
        text(line.text("rule")),
        text(line.text("filter")),
        text(line.text("kind")),
        text(line.text("connection")),
    )
    searched = line.raw.decode("ascii", "replace").lower()
    return Row(str(place), cells, searched, fields, fields)


def _alert(row: Raising, now: float) -> Row:
    fields: dict[str, object] = {
        "kind": "alert",
        "alert": row.alert,
        "raising": row.raising,
        "severity": row.severity,
        "category": row.category,
        "message": row.message,
        "about": row.about,
        "client": row.client,
        "count": row.count,
        "times": row.times,
        "time": row.last,
    }
    is_open = row.state == "open"
    cells = (
        number(f"{format_duration(max(now - row.last, 0.0))} ago", now - row.last),
        text(row.severity, is_alarming=is_open and row.severity == "error"),
        text(row.state, is_alarming=is_open),
        text(row.alert),
        text(row.about),
        _count(row.count),
        text(row.message),
        text(row.raising),
    )
    words = (row.alert, row.severity, row.state, row.about, row.message, row.raising, row.client)
    return Row(row.raising, cells, searched_text(words), fields, row)


# -- what works for all of them ------------------------------------------------------------------


def _filter(row: FilterView, _now: float) -> Row:
    mean_ms = 1000 * row.answer_s / row.calls if row.calls else 0.0
    cells = (
        text(row.name),
        text(row.state, is_alarming=row.state != "working"),
        _count(row.calls),
        number(str(row.failures), row.failures, is_alarming=row.failures > 0),
        number(f"{mean_ms:.2f} ms", mean_ms),
        number(f"{row.answer_s:.1f} s", row.answer_s),
        _count(row.sessions),
        text(row.isolation),
        text(", ".join(row.rules)),
    )
    return Row(row.name, cells, searched_text((row.name, row.state, *row.rules)), {}, row)


def _scanner(row: ScannerView, _now: float) -> Row:
    cells = (
        text(row.name),
        text(row.state, is_alarming=row.state != "working"),
        _count(row.waiting),
        _count(row.processes),
        _count(row.asked),
        _count(row.found),
        number(str(row.unfinished), row.unfinished, is_alarming=row.unfinished > 0),
        _count(row.restarts),
        _size(row.memory_bytes),
        text(row.signatures),
    )
    return Row(row.name, cells, searched_text((row.name, row.state, row.signatures)), {}, row)


def _process(row: WorkerView, now: float) -> Row:
    cells = (
        text(row.name),
        number(str(row.pid or ""), row.pid),
        text(row.state, is_alarming=row.state in {"silent", "waiting"}),
        _count(row.connections),
        _count(row.accepted),
        number(f"{row.cpu_s:.1f} s", row.cpu_s),
        _size(row.memory_bytes),
        number(str(row.restarts), row.restarts, is_alarming=row.restarts > 0),
        _age(row.started, now) if row.started else number("", 0.0),
    )
    return Row(f"{row.name} {row.pid}", cells, searched_text((row.name, row.state)), {}, row)


def _supervisor(look: Look) -> Row:
    status = look.status
    view = WorkerView(
        name="supervisor" if status.workers else "gate",
        pid=status.pid,
        state=status.phase.value,
        started=status.started,
        connections=status.connections,
        accepted=status.connections_allowed,
        cpu_s=status.cpu_s,
        memory_bytes=status.memory_bytes,
        policy=status.policy,
        version=status.version,
    )
    return _process(view, look.time)


def _transfers(look: Look) -> list[Row]:
    return [_transfer(row, at, look.time) for at, row in enumerate(look.transfers)]


REFUSALS: Final = "Refusals"
"""The table whose rows come from the log."""

ALERTS: Final = "Alerts"
"""The table whose lines can be acknowledged."""

LISTINGS: Final = (
    Listing(
        "Connections",
        (
            "CLIENT", "ASKED FOR", "RULE", "STATE", "DOWN", "UP", "AGE", "IDLE", "FILTERS", "ID",
        ),
        lambda look: [_connection(row, look.time) for row in look.connections],
        lambda look: look.connections_total,
        6,
        is_falling=False,
    ),
    Listing(
        "Sessions",
        ("CLIENT", "USER", "OPEN", "EXPECTED", "AGE", "IDLE", "FILTERS", "ID"),
        lambda look: [_session(row, look.time) for row in look.sessions],
        lambda look: look.sessions_total,
        2,
    ),
    Listing(
        "Held",
        (
            "CLIENT", "NAME", "STAGE", "HELD", "DELIVERED", "AGE", "PROTOCOL", "RULE", "FILTERS",
            "CONNECTION",
        ),
        _transfers,
        lambda look: look.transfers_total,
        5,
    ),
    Listing(
        REFUSALS,
        ("TIME", "CLIENT", "ABOUT", "REASON", "RULE", "FILTER", "KIND", "CONNECTION"),
        lambda _look: [],
        lambda _look: 0,
        0,
    ),
    Listing(
        ALERTS,
        ("RAISED", "SEVERITY", "STATE", "ALERT", "ABOUT", "EVENTS", "MESSAGE", "ID"),
        lambda look: [_alert(row, look.time) for row in look.alerts],
        lambda look: look.alerts_total,
        0,
        is_falling=False,
    ),
    Listing(
        "Filters",
        (
            "FILTER", "STATE", "CALLS", "FAILURES", "EACH", "IN ALL", "SESSIONS", "PLACE", "RULES",
        ),
        lambda look: [_filter(row, look.time) for row in look.filters],
        lambda look: len(look.filters),
        5,
        is_asked=False,
    ),
    Listing(
        "Scanners",
        (
            "SCANNER", "STATE", "WAITING", "PROCESSES", "ASKED", "FOUND", "UNFINISHED", "RESTARTS",
            "MEMORY", "SIGNATURES",
        ),
        lambda look: [_scanner(row, look.time) for row in look.status.scanners],
        lambda look: len(look.status.scanners),
        2,
        is_asked=False,
    ),
    Listing(
        "Processes",
        (
            "PROCESS", "PID", "STATE", "CONNECTIONS", "ACCEPTED", "CPU", "MEMORY", "RESTARTS",
            "AGE",
        ),
        lambda look: [
            _supervisor(look),
            *(_process(row, look.time) for row in look.status.workers),
        ],
        lambda look: 1 + len(look.status.workers),
        5,
        is_asked=False,
    ),
)  # fmt: skip
