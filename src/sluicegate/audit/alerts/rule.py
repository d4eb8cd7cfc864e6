"""AlertRule: when one alert is raised, how often, and what is done then.

``app.alerts_config`` makes it from tables, it passes to the process, ``engine`` counts by it. The
invariant: it is complete: what the operator left out has its default here.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["LOG_ACTION", "AlertRule", "RaiseAgain", "Severity"]

Severity: TypeAlias = Literal["information", "warning", "error"]

RaiseAgain: TypeAlias = Literal["immediately", "after-acknowledged", "after-minutes"]
"""What becomes of an alert that is raised already, when it happens again: it is raised once more
each time, or not before somebody has acknowledged it, or not before some minutes."""

LOG_ACTION: Final = "log"
"""The action that every gate has: a line for whoever started it, which is the system's journal."""


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    name: str
    query: str = ""
    """Which records count; empty: it is about the gate's condition."""
    condition: str = ""
    """The condition of the gate that it is about (``conditions``); empty: it is about records."""
    count: int = 1
    """How many records it takes."""
    seconds: float = 0.0
    """Within how many seconds they must come; 0: however long it takes."""
    by: str = ""
    """The field whose values are counted apart; empty: all are counted together."""
    again: RaiseAgain = "after-acknowledged"
    minutes: float = 0.0
    """For ``after-minutes``."""
    severity: Severity = "warning"
    category: str = ""
    """A word to choose alerts by: ``security``, ``service``, ``content``."""
    message: str = ""
    """What it means, in a sentence."""
    actions: tuple[str, ...] = (LOG_ACTION,)
    """Names of what is done."""
