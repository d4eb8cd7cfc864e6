"""Alerts: those that are open, those that were, one with the records that raised it.

The invariant: what is acknowledged is what was shown: a raising by its identifier, never whatever
is open by now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from sluicegate.audit.alerts import Raising
from sluicegate.audit.search import QueryRefused, parse_query
from sluicegate.audit.store import StoreReader
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.link import GateLost
from sluicegate.console.past import PastUnknown
from sluicegate.console.roles import Role
from sluicegate.console.summary import Summary, summary_of
from sluicegate.console_limits import CONSOLE_SEARCH_S
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    AlertsReply,
    AlertsRequest,
    RefusedReply,
)

__all__ = ["ENTRIES", "acknowledge_alerts", "find_alerts"]

_NOT_FOUND: Final = 404
_ROWS: Final = 20
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Causes:
    """The records that an alert was raised for."""

    rows: list[Summary]
    is_whole: bool
    unknown: str = ""
    """Why the store cannot say."""
    range: str = "24h"
    """How far back the log's page has to look for them."""


async def find_alerts(asked: Asked) -> list[Raising]:
    """Return what was raised and is known still, the last one first.

    Raises:
        GateLost: Nobody knows at the moment.
    """
    reply = await asked.ask_gate(AlertsRequest())
    if isinstance(reply, RefusedReply):
        raise GateLost("; ".join(reply.causes))
    if not isinstance(reply, AlertsReply):
        raise GateLost("the gate does not say which alerts there are")
    return reply.rows


async def acknowledge_alerts(asked: Asked, identifiers: list[str]) -> list[str]:
    """Acknowledge alerts in the name of who asks; return those that were open. It is recorded.

    Raises:
        GateLost: They cannot be kept as acknowledged at the moment.
    """
    reply = await asked.ask_gate(AcknowledgeRequest(alerts=identifiers))
    if isinstance(reply, AcknowledgedReply):
        done = reply.acknowledged
        if done:
            asked.record("alert-acknowledge", *identifiers)
        else:
            why = ("no such alert was open",)
            asked.record("alert-acknowledge", *identifiers, result="failed", causes=why)
        return done
    causes = tuple(reply.causes) if isinstance(reply, RefusedReply) else ("no answer",)
    asked.record("alert-acknowledge", *identifiers, result="refused", causes=causes)
    raise GateLost("; ".join(causes))


async def _show(asked: Asked) -> Response:
    rows = await find_alerts(asked)
    return asked.page(
        "alerts.html",
        open=[row for row in rows if row.state == "open"],
        closed=[row for row in rows if row.state != "open"][: 5 * _ROWS],
        acknowledged=asked.query("acknowledged"),
        chose_none=asked.query("chosen") == "none",
    )


async def _show_one(asked: Asked) -> Response:
    identifier = asked.query("id")
    row = next((one for one in await find_alerts(asked) if one.raising == identifier), None)
    if row is None:
        return asked.page("alert_gone.html", _NOT_FOUND, identifier=identifier)
    return asked.page("alert.html", row=row, causes=await _find_causes(asked, row))


async def _find_causes(asked: Asked, row: Raising) -> Causes:
    age_s = asked.console.clock.wall() - row.first
    reach = next((name for name, length_s in _REACH if age_s < length_s), "30d")
    if not row.query:
        return Causes([], is_whole=True)

    def ask(reader: StoreReader) -> Causes:
        query = parse_query(row.query, 0.0)
        found = reader.search(query, _ROWS, seconds_max=CONSOLE_SEARCH_S)
        return Causes([summary_of(one) for one in found.records], found.is_complete, range=reach)

    try:
        return await asked.console.past.ask(ask)
    except (PastUnknown, QueryRefused) as error:
        return Causes([], is_whole=False, unknown=str(error), range=reach)


_REACH: Final = (("24h", _DAY_S), ("7d", 7 * _DAY_S), ("30d", math.inf))


async def _acknowledge(asked: Asked) -> Response:
    identifiers = asked.lists.get("id", [])
    if not identifiers:
        return asked.go("/alerts?chosen=none")
    done = await acknowledge_alerts(asked, identifiers)
    if not done:
        return asked.page("alert_gone.html", _NOT_FOUND, identifier=", ".join(identifiers))
    return asked.go(f"/alerts?acknowledged={len(done)}")


ENTRIES: Final = (
    Entry("/alerts", _show),
    Entry("/alerts/one", _show_one),
    Entry("/alerts/acknowledge", _acknowledge, role=Role.OPERATOR, method="POST"),
)
