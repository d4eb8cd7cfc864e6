"""Alerts: what operators are told of. This file only re-exports.

``rule`` says when, ``engine`` finds out, ``actions`` tell somebody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .condition import CONDITIONS, Condition
    from .engine import AlertEngine, AlertState, Step
    from .raising import Raising, RaisingState
    from .rule import LOG_ACTION, AlertRule, RaiseAgain, Severity
else:
    __getattr__ = front(
        __name__,
        condition=("CONDITIONS", "Condition"),
        engine=("AlertEngine", "AlertState", "Step"),
        raising=("Raising", "RaisingState"),
        rule=("LOG_ACTION", "AlertRule", "RaiseAgain", "Severity"),
    )

__all__ = [
    "CONDITIONS",
    "LOG_ACTION",
    "AlertEngine",
    "AlertRule",
    "AlertState",
    "Condition",
    "RaiseAgain",
    "Raising",
    "RaisingState",
    "Severity",
    "Step",
]
