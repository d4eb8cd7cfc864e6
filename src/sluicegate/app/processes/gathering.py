"""Gathering: one answer out of the answers of all workers.

``supervisor`` calls it. The invariant: sums are of what workers have said, and one that said
nothing is a row that says so, never silently left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sluicegate.gate.views import (
    FilterView,
    FloodView,
    LeavesView,
    ListenerView,
    Phase,
    ScannerView,
    StatusView,
    TransferView,
)
from sluicegate.version import VERSION

from .crew import Worker

__all__ = [
    "gather_filters",
    "gather_flood",
    "gather_learned",
    "gather_leaves",
    "gather_lines",
    "gather_listeners",
    "gather_phase",
    "gather_scanners",
    "gather_status",
    "gather_transfers",
    "gather_warnings",
]


def gather_status(
    answers: Mapping[Worker, StatusView], listeners: Sequence[ListenerView]
) -> StatusView:
    """Return what workers' answers say of the gate as a whole.

    What only the supervisor knows is left empty, and is its to fill in.

    Args:
        answers: What workers say.
        listeners: The gate's, where clients wait also while no worker serves.
    """
    seen = list(answers.values())
    serving = [view for worker, view in answers.items() if not worker.is_draining]
    learned = gather_learned(seen)
    return StatusView(
        phase=gather_phase(serving),
        version=VERSION,
        pid=0,
        boot="",
        backend=next((view.backend for view in seen), ""),
        diagnosis="",
        started=0.0,
        policy="",
        listeners=gather_listeners(serving, listeners),
        connections=sum(view.connections for view in seen),
        sessions=sum(view.sessions for view in seen),
        connections_allowed=sum(view.connections_allowed for view in seen),
        connections_denied=sum(view.connections_denied for view in seen),
        bytes_to_server=sum(view.bytes_to_server for view in seen),
        bytes_to_client=sum(view.bytes_to_client for view in seen),
        spool_bytes=sum(view.spool_bytes for view in seen),
        spool_transfers=sum(view.spool_transfers for view in seen),
        verdicts_kept=sum(view.verdicts_kept for view in seen),
        verdict_hits=sum(view.verdict_hits for view in seen),
        verdict_misses=sum(view.verdict_misses for view in seen),
        records_queued_bytes=sum(view.records_queued_bytes for view in seen),
        records_lost=sum(view.records_lost for view in seen),
        records_failure=next((it.records_failure for it in seen if it.records_failure), ""),
        descriptors_max=min((view.descriptors_max for view in seen), default=0),
        memory_bytes=sum(view.memory_bytes for view in seen),
        cpu_s=sum(view.cpu_s for view in seen),
        protections=gather_lines(view.protections for view in seen),
        protections_lacking=gather_lines(view.protections_lacking for view in seen),
        learned=sum(view.learned for view in seen),
        learned_by=dict(learned),
        revoked=sum(view.revoked for view in seen),
        revoking=sum(view.revoking for view in seen),
        flood=gather_flood(view.flood for view in seen),
        scanners=gather_scanners(view.scanners for view in seen),
        leaves=gather_leaves(view.leaves for view in seen),
    )


def gather_leaves(answers: Iterable[LeavesView]) -> LeavesView:
    """Return the leaves of all workers together."""
    total = LeavesView()
    for one in answers:
        total.kept += one.kept
        total.found += one.found
        total.minted += one.minted
        total.failed += one.failed
    return total


def gather_phase(views: Sequence[StatusView]) -> Phase:
    """Say how a gate is whose serving workers are so: it refuses when one of them does."""
    phases = {view.phase for view in views}
    if not phases:
        return Phase.STARTING
    for phase in (Phase.REFUSING, Phase.DRAINING, Phase.STARTING, Phase.STOPPED):
        if phase in phases:
            return phase
    return Phase.READY


def gather_listeners(
    views: Sequence[StatusView], opened: Sequence[ListenerView]
) -> list[ListenerView]:
    """Return each address once, as it is over all workers; ``opened`` are there without any."""
    found = {(one.name, one.address, one.transport): one for one in opened}
    for view in views:
        for one in view.listeners:
            known = found.setdefault(
                (one.name, one.address, one.transport),
                ListenerView(name=one.name, address=one.address, transport=one.transport),
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
            _add_times(known, row)
            if row.state != "working":
                known.state, known.cause = row.state, row.cause
    return list(found.values())


def _add_times(known: FilterView | ScannerView, row: FilterView | ScannerView) -> None:
    """Add how long it took elsewhere; a worker of another version may have other buckets."""
    known.answer_s += row.answer_s
    if len(known.answer_buckets) == len(row.answer_buckets):
        pairs = zip(known.answer_buckets, row.answer_buckets, strict=True)
        known.answer_buckets = [ours + theirs for ours, theirs in pairs]


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
            _add_times(known, row)
            known.pids = [*known.pids, *row.pids]
            known.problem = known.problem or row.problem
            if row.state != "working":
                known.state = row.state
    return list(found.values())


_SCANNER_COUNTS: Final = (
    "processes",
    "waiting",
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


def gather_transfers(answers: Iterable[Sequence[TransferView]]) -> list[TransferView]:
    """Return all held objects, the oldest first."""
    return sorted((row for rows in answers for row in rows), key=lambda row: row.started)


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
