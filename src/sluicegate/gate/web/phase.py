"""Phases: one round of hooks about a head, compiled for a rule when a policy is loaded.

``pipeline`` makes them, ``filtered_exchange`` walks through them for each exchange. The invariant:
which filters are asked, and in which order, is the same in all exchanges of a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sluicegate.filterapi import WebExchange
    from sluicegate.gate.registry import Installed

    from .filtered_exchange import FilteredExchange

__all__ = ["Asked", "Phase"]


class Asked(NamedTuple):
    """One filter that has the hook of a phase."""

    at: int
    #: Index of its step in the pipeline.
    installed: Installed
    hook: Callable[[WebExchange], object]
    #: Bound here, so that no exchange looks it up.


@dataclass(frozen=True, slots=True)
class Phase:
    """Which filters are asked, and what their answers do."""

    asked: tuple[Asked, ...]
    take: Callable[[FilteredExchange, int, object], bool]
    """Acts on one answer; False: the exchange has ended."""
    finish: Callable[[FilteredExchange], bool]
    """What comes behind the last answer; True: the message goes on."""
    is_first: bool = False
    """Whether exchanges begin with it."""
