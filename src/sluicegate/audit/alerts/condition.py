"""Condition: something about the gate that is so, or is not: a spool nearly full, a scanner down.

``app.alert_conditions`` finds them in the gate's status, ``engine`` raises alerts for them. The
invariant: a condition that an alert is about is in ``CONDITIONS``, with what it means.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["CONDITIONS", "Condition"]

CONDITIONS: Final = {
    "alert-overflow": "an alert has more values, or is raised more often, than is kept apart",
    "authority-expires": "the authority's certificate, or a listener's, ends soon",
    "log-unwritable": "records cannot be written, wait, or were lost",
    "process-missing": "a process of the gate is not there, or does not answer",
    "records-missed": "lines of the log went before they were looked at for alerts",
    "scanner-down": "a scanner has no process that works",
    "store-failing": "records are not put into the store, and wait in the log",
    "spool-nearly-full": "held objects take most of the room that they may take",
}
"""By name: what is so."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One that is so now."""

    name: str
    about: str = ""
    """Which scanner, which certificate."""
    message: str = ""
    """What is so, in a sentence."""
