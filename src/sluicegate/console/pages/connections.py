"""Connections and sessions that are open: seen as they change, found by any word, and ended.

The invariant: nothing is ended without a page that shows what it is, and a second press.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, TypeVar

from starlette.responses import Response

from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry, Page
from sluicegate.console.live import Live
from sluicegate.console.paging import part_of
from sluicegate.console.roles import Role
from sluicegate.gate.control_messages import KilledReply, KillRequest
from sluicegate.gate.views import ConnectionView, SessionView

__all__ = ["ENTRIES", "connection_text", "matching", "session_text"]

RowT = TypeVar("RowT")
_FILTER_CHARACTERS_MAX: Final = 200
_NOT_FOUND: Final = 404


def matching(rows: Sequence[RowT], words: str, text_of: Callable[[RowT], str]) -> list[RowT]:
    """Return the rows whose text has every word, in whatever case."""
    wanted = words[:_FILTER_CHARACTERS_MAX].lower().split()
    if not wanted:
        return list(rows)
    return [row for row in rows if all(word in text_of(row) for word in wanted)]


def connection_text(row: ConnectionView) -> str:
    """Return what a connection is found by, in lower case."""
    parts = (
        row.connection, row.session, row.client, row.server, row.asked, row.listener, row.rule,
        row.state, row.transport, *row.filters, "spliced" if row.is_spliced else "",
    )  # fmt: skip
    return " ".join(parts).lower()


def session_text(row: SessionView) -> str:
    """Return what a session is found by, in lower case."""
    return " ".join((row.session, row.client, row.user, *row.filters)).lower()


async def _connections(asked: Asked) -> dict[str, Any]:
    rows = await asked.console.present.rows()
    words = asked.query("filter")
    found = matching(rows.connections, words, connection_text)
    return _part(asked, found, words, rows.connections_total, len(rows.connections))


async def _sessions(asked: Asked) -> dict[str, Any]:
    rows = await asked.console.present.rows()
    words = asked.query("filter")
    found = matching(rows.sessions, words, session_text)
    return _part(asked, found, words, rows.sessions_total, len(rows.sessions))


def _part(asked: Asked, found: list[Any], words: str, total: int, known: int) -> dict[str, Any]:
    part = part_of(found, asked.query("page", "1"))
    return {
        "part": part,
        "filter": words,
        "ended": asked.query("ended"),
        "total": total,
        "beyond": total - known,
        "search": urllib.parse.urlencode({"filter": words}) if words else "",
        "live_search": str(asked.request.url.query),
    }


def _list(template: str, values: Callable[[Asked], Any]) -> Page:
    async def show(asked: Asked) -> Response:
        return asked.page(template, **await values(asked))

    return show


def _live(name: str, values: Callable[[Asked], Any]) -> Page:
    async def show(asked: Asked) -> Response:
        async def parts() -> AsyncGenerator[str]:
            while True:
                await asked.console.sampler.wait()
                yield asked.render(f"{name}_rows.html", **await values(asked))

        return Live(asked, name, parts())

    return show


# -- ending ------------------------------------------------------------------------------------


async def _find(asked: Asked, identifier: str) -> tuple[list[ConnectionView], bool]:
    """Return the connections that go with an identifier, and whether it is a session's."""
    rows = await asked.console.present.rows()
    is_session = any(row.session == identifier for row in rows.sessions)
    ends = [row for row in rows.connections if identifier in {row.connection, row.session}]
    return ends, is_session


async def _show_end(asked: Asked) -> Response:
    identifier = asked.query("id")
    ends, is_session = await _find(asked, identifier)
    if not ends and not is_session:
        return asked.page("end_gone.html", _NOT_FOUND, identifier=identifier)
    return asked.page("end.html", identifier=identifier, ends=ends, is_session=is_session)


async def _end(asked: Asked) -> Response:
    identifier = asked.form.get("id", "")
    reply = await asked.ask_gate(KillRequest(identifiers=[identifier]))
    asked.console.present.forget()
    if isinstance(reply, KilledReply) and reply.killed:
        asked.record("kill", identifier)
        path = "/sessions" if asked.form.get("kind") == "session" else "/connections"
        return asked.go(f"{path}?ended={urllib.parse.quote(identifier)}")
    asked.record("kill", identifier, result="failed", causes=("it was not there",))
    return asked.page("end_gone.html", _NOT_FOUND, identifier=identifier)


ENTRIES: Final = (
    Entry("/connections", _list("connections.html", _connections)),
    Entry("/live/connections", _live("connections", _connections), is_live=True),
    Entry("/sessions", _list("sessions.html", _sessions)),
    Entry("/live/sessions", _live("sessions", _sessions), is_live=True),
    Entry("/connections/end", _show_end, role=Role.OPERATOR),
    Entry("/connections/end", _end, role=Role.OPERATOR, method="POST"),
)
