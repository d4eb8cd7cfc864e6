"""Gathering: one answer out of the answers of all workers.

``supervisor`` calls it. The invariant: sums are of what workers have said, and one that said
nothing is a row that says so, never silently left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from sluicegate.gate.views import (
    FilterView,
    FloodView,
    ListenerView,
    Phase,
    ScannerView,
    StatusView,
)

__all__ = [
    "gather_filters",
    "gather_flood",
    "gather_learned",
    "gather_lines",
    "gather_listeners",
    "gather_phase",
    "gather_scanners",
    "gather_warnings",
]


def gather_phase(views: Sequence[StatusView]) -> Phase:
    """Say how a gate is whose serving workers are so: it refuses when one of them does."""
    phases = {view.phase for view in views}
    if not phases:
        return Phase.STARTING
    for phase in (Phase.REFUSING, Phase.DRAINING, Phase.STARTING, Phase.STOPPED):
        if phase in phases:
            return phase
    return Phase.READY


def gather_listeners(views: Sequence[StatusView]) -> list[ListenerView]:
    """Return each address once, as it is over all workers."""
    found: dict[tuple[str, str], ListenerView] = {}
    for view in views:
        for one in view.listeners:
            known = found.setdefault(
                (one.name, one.address), ListenerView(name=one.name, address=one.address)
            )
            known.accepted += one.accepted
            known.is_paused |= one.is_paused
    return list(found.values())


def gather_filters(answers: Sequence[Sequence[FilterView]]) -> list[FilterView]:
    """Return each filter once: failed if it is anywhere, its counts over all workers."""
    found: dict[str, FilterView] = {}
    for rows in answers:
        for row in rows:
            known = found.get(row.name)
            if known is None:
                found[row.name] = row
                continue
            known.sessions += row.sessions
            known.calls += row.calls
            known.failures += row.failures
            if row.state != "working":
                known.state, known.cause = row.state, row.cause
    return list(found.values())


def gather_flood(answers: Iterable[FloodView]) -> FloodView:
    """Return what flood limits did on all workers."""
    found = FloodView()
    for one in answers:
        found.enabled |= one.enabled
        found.clients += one.clients
        for limit, count in one.reached.items():
            found.reached[limit] = found.reached.get(limit, 0) + count
    return found


def gather_scanners(answers: Iterable[Sequence[ScannerView]]) -> list[ScannerView]:
    """Return each scanner once: failed if it is anywhere, its processes and counts together."""
    found: dict[str, ScannerView] = {}
    for rows in answers:
        for row in rows:
            known = found.get(row.name)
            if known is None:
                found[row.name] = row
                continue
            for count in _SCANNER_COUNTS:
                setattr(known, count, getattr(known, count) + getattr(row, count))
            known.pids = [*known.pids, *row.pids]
            known.problem = known.problem or row.problem
            if row.state != "working":
                known.state = row.state
    return list(found.values())


_SCANNER_COUNTS: Final = (
    "processes",
    "restarts",
    "memory_bytes",
    "asked",
    "found",
    "unfinished",
    "remembered",
)


def gather_learned(views: Iterable[StatusView]) -> Counter[str]:
    """Return how many connections passed to be learned from, by the name of their rule."""
    found: Counter[str] = Counter()
    for view in views:
        found.update(view.learned_by)
    return found


def gather_lines(answers: Iterable[Sequence[str]]) -> list[str]:
    """Return each line once, in the order in which they came."""
    return list(dict.fromkeys(line for lines in answers for line in lines))


def gather_warnings(views: Sequence[tuple[str, StatusView]]) -> list[str]:
    """Return what all say, once, and what only some say, with who says it."""
    said: dict[str, list[str]] = {}
    for name, view in views:
        for warning in view.warnings:
            said.setdefault(warning, []).append(name)
    return [
        warning if len(names) == len(views) else f"{', '.join(names)}: {warning}"
        for warning, names in said.items()
    ]
