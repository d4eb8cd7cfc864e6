"""One operation of the simulated port, from its start to its last completion.

``simulated_port`` makes and drives them; nobody else sees one. The invariant: decided once, told
after that, and results of one flight are told in the order in which they were decided.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sluicegate.port.backend import Operation
from sluicegate.port.pool import Slot

from .network import SimulatedSocket

__all__ = ["Flight", "identity_of", "ignore_woken", "nothing_to_do", "wait_for_answer"]


class Flight:
    """One started operation until its last completion was told."""

    __slots__ = (
        "attempt",
        "granted",
        "is_decided",
        "is_parked",
        "is_scheduled",
        "kind",
        "last_told",
        "number",
        "operation",
        "sock",
        "unsent",
    )

    def __init__(self, number: int, kind: str, operation: Operation) -> None:
        self.number = number
        self.kind = kind
        self.operation = operation
        self.attempt: Callable[[Flight], None] = _never
        #: What to try when its time comes, or its socket changed.
        self.sock: SimulatedSocket | None = None
        self.is_scheduled = False
        self.is_decided = False
        #: The last result is known, though perhaps not yet told.
        self.last_told = 0.0
        #: When its latest result is told: results of one operation keep their order.
        self.granted: Slot | None = None
        self.is_parked = False
        self.unsent = memoryview(b"")


def _never(_flight: Flight) -> None:
    raise AssertionError("a flight without an attempt was tried")


def identity_of(fd: int) -> tuple[int, int] | None:
    """Return what tells a file from one that got its number later; None for a bad descriptor."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def nothing_to_do() -> int:
    """Simulated disks are written at once."""
    return 0


def wait_for_answer(_flight: Flight) -> None:
    """Do nothing when the socket changes: the network calls back."""


def ignore_woken() -> None:
    """Nobody asked for the time of the turn."""
