"""Raising: one alert that was raised, from then until it is acknowledged or over.

``engine`` makes them; commands, the console and actions are shown them. The invariant: one alert
has at most one that is open for each value that it counts apart.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from sluicegate.audit.records import AlertRecord

from .rule import Severity

__all__ = ["Raising", "RaisingState"]

RaisingState: TypeAlias = Literal["open", "acknowledged", "over"]


class Raising(msgspec.Struct, kw_only=True):
    """One of them."""

    raising: str
    """Its identifier."""
    alert: str
    """The alert's name."""
    state: RaisingState
    """``over``: the condition that it was raised for is not so any more."""
    severity: Severity
    category: str = ""
    message: str = ""
    """What happened, in a sentence."""
    about: str = ""
    """The value that it was counted for: a client, a host; empty: all were counted together."""
    first: float = 0.0
    """When the first event was that counted, in seconds since the Unix epoch."""
    raised: float = 0.0
    """When it was raised first."""
    last: float = 0.0
    """When it was raised last."""
    times: int = 1
    """How often it was raised."""
    count: int = 1
    """How many events there were until now, or until it was acknowledged."""
    query: str = ""
    """The query that finds the records that it was raised for last; empty: there are none."""
    client: str = ""
    facts: dict[str, str | int] = {}
    """What is known of the last event."""
    ended: float = 0.0
    """When it was acknowledged, or over."""
    by: str = ""
    """Who acknowledged it."""
    failures: dict[str, str] = {}
    """Actions that failed, and why."""

    def record(
        self,
        event: Literal["raised", "raised-again", "acknowledged", "over", "action-failed"],
        time: float,
        by: str = "",
        facts: dict[str, str | int] | None = None,
    ) -> AlertRecord:
        """Return the record of a step of it."""
        return AlertRecord(
            time=time,
            alert=self.alert,
            event=event,
            severity=self.severity,
            category=self.category,
            raising=self.raising,
            message=self.message,
            about=self.about,
            count=self.count,
            times=self.times,
            query=self.query,
            by=by,
            client=self.client,
            facts=self.facts if facts is None else facts,
        )
