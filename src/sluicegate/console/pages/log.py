"""The log: asked in the language of ``sluicegate log``, over a time, with totals as a plot.

The invariant: a search that is not finished says how far it looked and goes on from there, and it
never takes longer than ``CONSOLE_SEARCH_S``.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from sluicegate.audit.search import FIELDS, Query, QueryRefused, parse_query
from sluicegate.audit.search.query import All
from sluicegate.audit.store import StoreReader
from sluicegate.audit.store.reader import Found
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.environment import quoted
from sluicegate.console.live import Live
from sluicegate.console.roles import Role
from sluicegate.console.saved_queries import SavedQuery
from sluicegate.console.summary import Summary, summary_of
from sluicegate.console_limits import CONSOLE_PAGE_ROWS, CONSOLE_SEARCH_S
from sluicegate.documents import Wrong

__all__ = ["ENTRIES", "RANGES", "remove_query", "save_query"]

RANGES: Final = {
    "15m": ("15 minutes", 900, 60),
    "1h": ("1 hour", 3600, 60),
    "6h": ("6 hours", 21_600, 300),
    "24h": ("24 hours", 86_400, 1200),
    "7d": ("7 days", 604_800, 7200),
    "30d": ("30 days", 2_592_000, 43_200),
}
"""Times that can be chosen: in words, in seconds, and the step of the plot, in seconds."""

_DEFAULT: Final = "24h"
_LIVE: Final = frozenset({"15m", "1h"})
"""What is short enough to be searched every few seconds."""
_GOOD: Final = frozenset({"allowed", "released"})
_BAD: Final = frozenset({"denied", "refused", "failed"})
_WRONG: Final = 400
_NOT_FOUND: Final = 404
_HISTORY_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Plot:
    """How many records there were, by step."""

    good: list[float]
    bad: list[float]
    others: list[float]
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found."""

    rows: list[Summary]
    found: Found
    plot: Plot


def _plot(reader: StoreReader, now: float, length_s: int, step_s: int) -> Plot:
    until = int(now // step_s + 1) * step_s
    count = length_s // step_s
    since = until - count * step_s
    plot = Plot([0.0] * count, [0.0] * count, [0.0] * count, since, until)
    for total in reader.minutes(since, until, step_s):
        at = (total.time - since) // step_s
        if 0 <= at < count:
            result = total.result
            numbers = plot.good if result in _GOOD else plot.bad if result in _BAD else plot.others
            numbers[at] += total.records
    return plot


def _read_range(asked: Asked) -> str:
    chosen = asked.query("range", _DEFAULT)
    return chosen if chosen in RANGES else _DEFAULT


def _read_query(asked: Asked, text: str, chosen: str) -> Query:
    """Return a query within a time.

    Raises:
        QueryRefused: The text is none.
    """
    now = asked.console.clock.wall()
    return All((parse_query(text, now), parse_query(f"since:{chosen}", now)))


async def _search(asked: Asked, text: str, chosen: str) -> Answer:
    query = _read_query(asked, text, chosen)
    now = asked.console.clock.wall()
    before = asked.number("before")
    _, length_s, step_s = RANGES[chosen]

    def ask(reader: StoreReader) -> Answer:
        found = reader.search(
            query, CONSOLE_PAGE_ROWS, before=before or None, seconds_max=CONSOLE_SEARCH_S
        )
        rows = [summary_of(record) for record in found.records]
        return Answer(rows, found, _plot(reader, now, length_s, step_s))

    return await asked.console.past.ask(ask)


async def _values(asked: Asked) -> dict[str, Any]:
    text, chosen = asked.query("q").strip(), _read_range(asked)
    answer, refused = None, None
    try:
        answer = await _search(asked, text, chosen)
    except QueryRefused as error:
        refused = error
    return {
        "q": text,
        "range": chosen,
        "ranges": RANGES,
        "answer": answer,
        "refused": refused,
        "search": urllib.parse.urlencode({"q": text, "range": chosen}),
        "follow": asked.query("follow") == "yes" and chosen in _LIVE and not refused,
        "may_follow": chosen in _LIVE,
        "before": asked.query("before"),
    }


async def _show(asked: Asked) -> Response:
    values = await _values(asked)
    saved = asked.console.saved_queries.read()
    fields = sorted(FIELDS.values(), key=lambda field: field.name)
    status_code = _WRONG if values["refused"] else 200
    return asked.page("log.html", status_code, saved=saved, fields=fields, **values)


async def _live(asked: Asked) -> Response:
    async def parts() -> AsyncGenerator[str]:
        while True:
            await asked.console.sampler.wait()
            values = await _values(asked)
            if not values["follow"]:
                return
            yield asked.render("log_rows.html", **values)

    return Live(asked, "log", parts())


# -- one record --------------------------------------------------------------------------------


async def _show_record(asked: Asked) -> Response:
    number = asked.number("seq")
    now = asked.console.clock.wall()

    def ask(reader: StoreReader) -> tuple[Summary | None, str, list[Summary]]:
        everything = parse_query("", now)
        found = reader.search(everything, 1, before=number + 1, seconds_max=CONSOLE_SEARCH_S)
        if not found.records or found.records[0].seq != number:
            return None, "", []
        record = found.records[0]
        summary = summary_of(record)
        related: list[Summary] = []
        if summary.connection:
            query = parse_query(f"connection:{quoted(summary.connection)}", now)
            seen = reader.search(query, _HISTORY_MAX, seconds_max=CONSOLE_SEARCH_S)
            related = [summary_of(one) for one in reversed(seen.records)]
        return summary, record.line, related

    summary, line, related = await asked.console.past.ask(ask)
    if summary is None:
        return asked.page(
            "gone.html", _NOT_FOUND, cause="The store has no such record (any more).", cure=""
        )
    explained = None
    if summary.kind in {"decision", "request"}:
        explained = await asked.console.link.explain(line)
    return asked.page(
        "record.html", record=summary, line=line, related=related, explained=explained
    )


# -- saved queries -----------------------------------------------------------------------------


def save_query(asked: Asked, title: str, text: str) -> None:
    """Keep a query for everybody, and have that recorded.

    Raises:
        QueryRefused: It is none.
        Wrong: Its title is none, or there are too many.
        OSError: It cannot be written.
    """
    try:
        parse_query(text, asked.console.clock.wall())
        asked.console.saved_queries.save(SavedQuery(title, text, asked.by))
    except (QueryRefused, Wrong, OSError) as error:
        asked.record("query-save", title, result="failed", causes=(str(error),))
        raise
    asked.record("query-save", title)


def remove_query(asked: Asked, title: str) -> bool:
    """Forget a query, and have that recorded; tell whether it was there.

    Raises:
        OSError: It cannot be written.
    """
    was_there = asked.console.saved_queries.remove(title)
    asked.record("query-remove", title, result="done" if was_there else "failed")
    return was_there


async def _save(asked: Asked) -> Response:
    title, text = asked.form.get("title", "").strip(), asked.form.get("q", "").strip()
    try:
        save_query(asked, title, text)
    except (QueryRefused, Wrong, OSError) as error:
        return asked.page("refused.html", _WRONG, cause=str(error), cure="")
    return asked.go(f"/log?{urllib.parse.urlencode({'q': text})}")


async def _remove(asked: Asked) -> Response:
    remove_query(asked, asked.form.get("title", ""))
    return asked.go("/log")


ENTRIES: Final = (
    Entry("/log", _show),
    Entry("/live/log", _live, is_live=True),
    Entry("/log/record", _show_record),
    Entry("/log/queries", _save, role=Role.OPERATOR, method="POST"),
    Entry("/log/queries/remove", _remove, role=Role.OPERATOR, method="POST"),
)
