"""What the API can be asked about alerts, and that somebody has seen them.

``operations`` has these in its table. The invariant: what is acknowledged is named.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from sluicegate.audit.alerts import Raising
from sluicegate.console.pages.alerts import acknowledge_alerts, find_alerts
from sluicegate.console.pages.connections import matching
from sluicegate.console.roles import Role

from .operation import Called, Operation, Parameter, ProblemRaised
from .parameters import CURSOR, FILTER, LIMIT, page_of

__all__ = ["OPERATIONS"]

_NOT_FOUND: Final = 404
_CHARACTERS_MAX: Final = 128
_ALERTS_MAX: Final = 100

_STATE: Final = Parameter(
    "state", "Only those of a state.",
    {"type": "string", "enum": ["open", "acknowledged", "over"]},
)  # fmt: skip
_RAISING: Final = Parameter(
    "raising", "Identifier of one.", {"type": "string", "maxLength": _CHARACTERS_MAX}, in_path=True
)


class Alerts(msgspec.Struct):
    """Alerts that were raised and are known still, the last one first."""

    rows: list[Raising]
    total: int
    next: int | None
    """The cursor of the next rows; none: there are none."""


class Acknowledge(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody has seen."""

    alerts: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=_CHARACTERS_MAX)]],
        msgspec.Meta(min_length=1, max_length=_ALERTS_MAX),
    ]
    """Identifiers of raisings, or names of alerts: all that are open of that name."""


class Acknowledged(msgspec.Struct):
    """What was acknowledged."""

    acknowledged: list[str]
    """Identifiers of those that were open."""


def _text_of(row: Raising) -> str:
    """Return what an alert is found by, in lower case."""
    parts = (row.alert, row.about, row.severity, row.category, row.message, row.raising, row.by)
    return " ".join(parts).lower()


async def _alerts(called: Called) -> Alerts:
    rows = await find_alerts(called.asked)
    state = called.values.get("state", "")
    rows = [row for row in rows if state in {"", row.state}]
    found = matching(rows, called.values.get("filter", ""), _text_of)
    shown, further = page_of(found, called)
    return Alerts(shown, len(found), further)


async def _alert(called: Called) -> Raising:
    wanted = called.values["raising"]
    found = [row for row in await find_alerts(called.asked) if row.raising == wanted]
    if not found:
        raise ProblemRaised(_NOT_FOUND, "no such alert is known (any more)")
    return found[0]


async def _acknowledge(called: Called) -> Acknowledged:
    wanted: Acknowledge = called.body
    return Acknowledged(await acknowledge_alerts(called.asked, wanted.alerts))


OPERATIONS: Final = (
    Operation(name="listAlerts", path="/alerts", answer=_alerts, reply=Alerts,
              summary="Alerts that were raised.", parameters=(_STATE, FILTER, CURSOR, LIMIT)),
    Operation(name="readAlert", path="/alerts/{raising}", answer=_alert, reply=Raising,
              summary="One alert.", parameters=(_RAISING,),
              failures={404: "No such alert is known."}),
    Operation(name="acknowledgeAlerts", path="/acknowledge", method="POST",
              role=Role.OPERATOR, answer=_acknowledge, body=Acknowledge, reply=Acknowledged,
              summary="Acknowledge alerts: somebody has seen them."),
)  # fmt: skip
