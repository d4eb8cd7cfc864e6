"""Learning: for a bounded time, what no rule speaks of passes for chosen clients, on the record.

``destinations`` asks when no rule matched. The invariant: an entry only turns the silence of the
rules into a yes; it never turns a no of a rule, or of a judgement of addresses, into one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpNetwork

__all__ = ["LEARNING", "LearnEntry"]

LEARNING: Final = "learning"
"""No rule speaks of it, and it passes to be learned from."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnEntry:
    """One ``[[learn]]``."""

    name: str
    clients: tuple[IpNetwork, ...]
    until: float
    """Seconds since the epoch (UTC); from then on it does nothing."""
    listeners: tuple[str, ...] | None = None
    """None: every proxy listener."""
    owner: str = ""
    comment: str = ""
