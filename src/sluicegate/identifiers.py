"""Identifiers of sessions, connections and records: short, unique within one gate, sortable.

The gate numbers what it makes; a boot mark distinguishes one run from the next. The invariant: an
identifier never repeats, and it carries no client text.
"""

from __future__ import annotations

import itertools
from typing import NewType

__all__ = ["ConnectionId", "IdentifierSource", "SessionId", "urn"]

ConnectionId = NewType("ConnectionId", str)
SessionId = NewType("SessionId", str)


class IdentifierSource:
    """Numbers for one kind of thing in one run of the gate: ``c-6924a1b2-1f``."""

    __slots__ = ("_next", "_prefix")

    def __init__(self, kind: str, boot_mark: str) -> None:
        self._prefix = f"{kind}-{boot_mark}-"
        self._next = itertools.count(1).__next__

    def next(self) -> str:
        """Return a new identifier."""
        return f"{self._prefix}{self._next():x}"


def urn(identifier: str) -> str:
    """Return the URN form that leaves this machine: ``urn:sluicegate:…``."""
    return f"urn:sluicegate:{identifier}"
