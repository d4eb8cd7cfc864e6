"""The operations of the API, and the table of them; those of one subject have their own modules.

The invariant: they ask and order by the same ways as the pages, with the same rights.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from sluicegate.audit.search import QueryRefused, parse_query
from sluicegate.audit.store import StoreReader
from sluicegate.audit.store.reader import Found
from sluicegate.audit.store.totals import SUBJECTS
from sluicegate.console.live import Live
from sluicegate.console.pages.connections import connection_text, matching, session_text
from sluicegate.console.past import PastUnknown
from sluicegate.console.roles import Role
from sluicegate.console_limits import CONSOLE_SEARCH_S
from sluicegate.gate.control_messages import (
    DoneReply,
    KilledReply,
    KillRequest,
    RefusedReply,
    ReloadRequest,
)
from sluicegate.gate.views import ConnectionView, SessionView, StatusView
from sluicegate.log_limits import QUERY_BYTES_MAX
from sluicegate.version import VERSION

from . import alerts, authority, content, policy, queries
from .document import make_document
from .operation import Called, Operation, Parameter, ProblemRaised
from .parameters import CURSOR, FILTER, LIMIT, NUMBER_MAX, ROWS_DEFAULT, page_of

__all__ = ["OPEN_DOCUMENT", "OPERATIONS"]

_NOT_FOUND: Final = 404
_WRONG: Final = 400
_REFUSED: Final = 409
_UNAVAILABLE: Final = 503
_IDENTIFIERS_MAX: Final = 100
_IDENTIFIER_CHARACTERS_MAX: Final = 128
_HOURS_2_S: Final = 2 * 3600
_DAYS_31_S: Final = 31 * 86_400
_TIME_MAX: Final = 10**11

_QUERY: Final = Parameter(
    "query", "Which records, in the language of sluicegate log.",
    {"type": "string", "maxLength": QUERY_BYTES_MAX},
)  # fmt: skip
_NUMBER: Final = Parameter(
    "number", "Of the record.", {"type": "integer", "minimum": 0, "maximum": NUMBER_MAX},
    in_path=True,
)  # fmt: skip
_SINCE: Final = Parameter(
    "since", "From then on, in seconds since the Unix epoch.",
    {"type": "integer", "minimum": 0, "maximum": _TIME_MAX},
)  # fmt: skip
_UNTIL: Final = Parameter(
    "until", "Up to then, in seconds since the Unix epoch.",
    {"type": "integer", "minimum": 0, "maximum": _TIME_MAX},
)  # fmt: skip


class Connections(msgspec.Struct):
    """Open connections, the newest first."""

    rows: list[ConnectionView]
    total: int
    next: int | None
    """The cursor of the next rows; none: there are none."""


class Sessions(msgspec.Struct):
    """Sessions, the newest first."""

    rows: list[SessionView]
    total: int
    next: int | None


class StoredLine(msgspec.Struct):
    """One record."""

    number: int
    record: dict[str, Any]


class Records(msgspec.Struct):
    """Records, the newest first."""

    rows: list[StoredLine]
    next: int | None
    """The cursor of older ones; none: there are none."""
    searched_to: float | None
    """The time of the oldest record that was looked at; none: none was."""


class Explanation(msgspec.Struct):
    """What the policy in force says of a record."""

    explanation: dict[str, Any] | None
    why_not: str
    """Why nothing can be said."""


class Total(msgspec.Struct):
    """Records alike in a minute."""

    time: int
    kind: str
    result: str
    rule: str
    records: int
    bytes_to_client: int
    bytes_to_server: int


class Totals(msgspec.Struct):
    """What was counted."""

    rows: list[Total]


class TopValue(msgspec.Struct):
    """A value, and how many records have it."""

    value: str
    records: int
    bytes: int


class Top(msgspec.Struct):
    """The values that most records have."""

    rows: list[TopValue]


class About(msgspec.Struct):
    """This program."""

    version: str
    origin: str
    """Where browsers reach it."""
    has_store: bool
    """Whether records are kept in a store."""
    keep_days: int
    """How long; 0: until there is no room."""
    sessions: int
    """People who are logged in."""


class Kill(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be ended."""

    identifiers: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=_IDENTIFIER_CHARACTERS_MAX)]],
        msgspec.Meta(min_length=1, max_length=_IDENTIFIERS_MAX),
    ]
    """Of connections and sessions."""


class Killed(msgspec.Struct):
    """What was ended."""

    killed: list[str]


class Done(msgspec.Struct):
    """It was done."""

    notes: list[str]


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """An empty object."""


async def _status(called: Called) -> StatusView:
    await called.asked.console.sampler.look()
    status = called.asked.console.sampler.status
    if status is None:
        raise ProblemRaised(_UNAVAILABLE, "the gate does not answer")
    return status


async def _connections(called: Called) -> Connections:
    rows = (await called.asked.console.present.rows()).connections
    found = matching(rows, called.values.get("filter", ""), connection_text)
    shown, further = page_of(found, called)
    return Connections(shown, len(found), further)


async def _sessions(called: Called) -> Sessions:
    rows = (await called.asked.console.present.rows()).sessions
    found = matching(rows, called.values.get("filter", ""), session_text)
    shown, further = page_of(found, called)
    return Sessions(shown, len(found), further)


async def _kill(called: Called) -> Killed:
    wanted: Kill = called.body
    asked = called.asked
    reply = await asked.ask_gate(KillRequest(identifiers=wanted.identifiers))
    asked.console.present.forget()
    killed = reply.killed if isinstance(reply, KilledReply) else []
    asked.record("kill", *wanted.identifiers, result="done" if killed else "failed")
    return Killed(killed)


async def _reload(called: Called) -> Done:
    reply = await called.asked.ask_gate(ReloadRequest())
    if isinstance(reply, RefusedReply):
        called.asked.record("reload", result="refused", causes=tuple(reply.causes))
        raise ProblemRaised(_REFUSED, "; ".join(reply.causes))
    if not isinstance(reply, DoneReply):
        raise ProblemRaised(_UNAVAILABLE, "the gate does not say whether it was done")
    called.asked.record("reload")
    return Done(reply.notes)


async def _search(called: Called, text: str, limit: int, before: int) -> Found:
    console = called.asked.console
    try:
        query = parse_query(text, console.clock.wall())
    except QueryRefused as error:
        raise ProblemRaised(_WRONG, error.cause, error.cure) from error

    def ask(reader: StoreReader) -> Found:
        return reader.search(query, limit, before=before or None, seconds_max=CONSOLE_SEARCH_S)

    try:
        return await console.past.ask(ask)
    except PastUnknown as error:
        raise ProblemRaised(_UNAVAILABLE, error.cause, error.cure) from error


async def _records(called: Called) -> Records:
    limit = called.number("limit", ROWS_DEFAULT)
    found = await _search(called, called.values.get("query", ""), limit, called.number("cursor"))
    rows = [StoredLine(one.seq, json.loads(one.line)) for one in found.records]
    has_looked = found.searched_to < float("inf")
    return Records(
        rows,
        None if found.is_complete else found.before,
        found.searched_to if has_looked else None,
    )


async def _find(called: Called) -> tuple[int, str]:
    number = called.number("number")
    found = await _search(called, "", 1, number + 1)
    if not found.records or found.records[0].seq != number:
        raise ProblemRaised(_NOT_FOUND, "the store has no such record (any more)")
    return number, found.records[0].line


async def _record(called: Called) -> StoredLine:
    number, line = await _find(called)
    return StoredLine(number, json.loads(line))


async def _explain(called: Called) -> Explanation:
    _, line = await _find(called)
    explained = await called.asked.console.link.explain(line)
    return Explanation(explained.tree or None, explained.why_not)


def _times(called: Called) -> tuple[float, float]:
    now = called.asked.console.clock.wall()
    until = float(called.values.get("until", now))
    since = float(called.values.get("since", until - 3600))
    return since, until


async def _totals(called: Called) -> Totals:
    since, until = _times(called)
    span_s = until - since
    step_s = 60 if span_s <= _HOURS_2_S else 3600 if span_s <= _DAYS_31_S else 86_400
    rows = await called.asked.console.past.ask(lambda reader: reader.minutes(since, until, step_s))
    return Totals([Total(*row) for row in rows])


async def _top(called: Called) -> Top:
    since, until = _times(called)
    subject, limit = called.values["subject"], called.number("limit", 10)
    rows = await called.asked.console.past.ask(
        lambda reader: reader.top(subject, since, until, limit)
    )
    return Top([TopValue(*row) for row in rows])


async def _events(called: Called) -> Response:
    sampler = called.asked.console.sampler

    async def parts() -> AsyncGenerator[str]:
        while True:
            await sampler.wait()
            status = sampler.status
            yield "null" if status is None else msgspec.json.encode(status).decode()

    return Live(called.asked, "status", parts())


async def _about(called: Called) -> About:
    console = called.asked.console
    return About(
        VERSION,
        console.origins.own,
        console.past.is_kept,
        console.settings.keep_days,
        len(console.sessions),
    )


async def _document(_called: Called) -> dict[str, Any]:
    return _DOCUMENT


_SUBJECT: Final = Parameter(
    "subject", "What is counted by its values.",
    {"type": "string", "enum": list(SUBJECTS)}, in_path=True,
)  # fmt: skip

OPERATIONS: Final = (
    Operation(name="readStatus", path="/status", summary="How the gate is.",
              answer=_status, reply=StatusView),
    Operation(name="followStatus", path="/events", reply=str,
              reply_type="text/event-stream", is_live=True,
              summary="How the gate is, every few seconds, as server-sent events named status.",
              answer=_events),
    Operation(name="listConnections", path="/connections", summary="Open connections.",
              answer=_connections, reply=Connections, parameters=(FILTER, CURSOR, LIMIT)),
    Operation(name="listSessions", path="/sessions", summary="Clients that the gate knows.",
              answer=_sessions, reply=Sessions, parameters=(FILTER, CURSOR, LIMIT)),
    Operation(name="kill", path="/kill", method="POST", role=Role.OPERATOR,
              summary="End connections, and all connections of sessions.",
              answer=_kill, body=Kill, reply=Killed),
    Operation(name="reload", path="/reload", method="POST", role=Role.ADMINISTRATOR,
              summary="Read the files again and put them in force, whole or not at all.",
              answer=_reload, body=Nothing, reply=Done,
              failures={409: "The files are wrong; what was in force stays in force."}),
    Operation(name="searchRecords", path="/records", summary="Records of the log.",
              answer=_records, reply=Records, parameters=(_QUERY, CURSOR, LIMIT)),
    Operation(name="readRecord", path="/records/{number}", summary="One record.",
              answer=_record, reply=StoredLine, parameters=(_NUMBER,),
              failures={404: "The store has no such record."}),
    Operation(name="explainRecord", path="/records/{number}/explanation", reply=Explanation,
              summary="What the policy in force says of a decision in the log.",
              answer=_explain, parameters=(_NUMBER,),
              failures={404: "The store has no such record."}),
    Operation(name="readTotals", path="/totals", reply=Totals, answer=_totals,
              summary="Records counted by minute, hour or day, as the time asked for is longer.",
              parameters=(_SINCE, _UNTIL)),
    Operation(name="readTop", path="/top/{subject}", reply=Top, answer=_top,
              summary="The values that most records have.",
              parameters=(_SUBJECT, _SINCE, _UNTIL, LIMIT)),
    Operation(name="readProgram", path="/about", reply=About, answer=_about,
              summary="What this program is."),
    *queries.OPERATIONS,
    *policy.OPERATIONS,
    *content.OPERATIONS,
    *alerts.OPERATIONS,
    *authority.OPERATIONS,
)  # fmt: skip
"""All of it but the document itself."""

_DOCUMENT: Final = make_document(OPERATIONS)

OPEN_DOCUMENT: Final = Operation(
    name="readDocument",
    path="/openapi.json",
    summary="This document.",
    answer=_document,
    reply=dict[str, Any],
    role=None,
)
