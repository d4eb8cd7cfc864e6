"""Measuring a gate: everything that one process of it can say in numbers, when it is asked.

``build.Gate`` answers with it; the supervisor adds up what its workers say. The invariant: numbers
are read from where they are kept for other reasons, so what nobody asks for costs nothing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sluicegate.gate.views import FilterView, LeavesView
from sluicegate.metrics import Series
from sluicegate.scan import ScannerView

if TYPE_CHECKING:
    from .build import Gate

__all__ = ["count_descriptors", "measure_gate"]


def measure_gate(gate: Gate) -> list[Series]:
    """Return what is measured in one process."""
    gate.recorder.flush()  # what is recorded is counted when it is made text
    return [
        *gate.recorder.counts.series(),
        *_measure_service(gate),
        *_measure_objects(gate),
        *_measure_leaves(gate.leaves.view()),
        *_measure_filters(gate),
        *(one for view in gate.service.scanners.views() for one in _measure_scanner(view)),
        *_measure_names(gate),
        *_measure_records(gate),
        *_measure_port(gate),
        *_measure_process(gate.descriptors_max),
    ]


def count_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in pathlib.Path("/proc/self/fd").iterdir()) - 1  # what lists them is one


def _plain(name: str, value: float) -> Series:
    return Series(f"sluicegate_{name}", (), float(value))


def _labelled(name: str, label: str, value: float) -> Series:
    return Series(f"sluicegate_{name}", (label,), float(value))


def _measure_service(gate: Gate) -> Iterator[Series]:
    service = gate.service
    yield _plain("connections_open", service.connection_count)
    yield _plain("sessions_open", service.session_count)
    yield _plain("connections_allowed", service.allowed)
    yield _plain("connections_denied", service.denied)
    yield _plain("revoked", service.revocation.revoked)
    yield _plain("revoking", service.revocation.pending)
    yield _plain("learned", service.learned.total())
    accepted: dict[str, int] = {}
    paused: dict[str, bool] = {}
    for listener in service.listeners():
        accepted[listener.name] = accepted.get(listener.name, 0) + listener.accepted
        paused[listener.name] = paused.get(listener.name, False) or listener.is_paused
    for name, count in accepted.items():
        yield _labelled("listener_accepted", name, count)
        yield _labelled("listener_paused", name, paused[name])
    flood = service.flood.view()
    yield _plain("flood_clients", flood.clients)
    for limit, count in flood.reached.items():
        yield _labelled("flood_limits_reached", limit, count)


def _measure_objects(gate: Gate) -> Iterator[Series]:
    held = gate.spool.statistics()
    yield _plain("spool_bytes", held.bytes_held)
    yield _plain("spool_memory_bytes", held.memory_bytes)
    yield _plain("spool_max_bytes", gate.spool.limits.spool_bytes_max)
    yield _plain("spool_objects", held.bodies)
    yield _plain("spool_files", held.files_open)
    verdicts = gate.service.transfers.verdicts.counts()
    yield _plain("verdicts_kept", verdicts.kept)
    yield _plain("verdict_cache_hits", verdicts.hits)
    yield _plain("verdict_cache_misses", verdicts.misses)


def _measure_leaves(view: LeavesView) -> Iterator[Series]:
    yield _plain("leaves_kept", view.kept)
    yield _plain("leaves_found", view.found)
    yield _plain("leaves_minted", view.minted)
    yield _plain("leaves_failed", view.failed)


def _measure_filters(gate: Gate) -> Iterator[Series]:
    for view in gate.service.filters():
        yield from _measure_filter(view)


def _measure_filter(view: FilterView) -> Iterator[Series]:
    yield _labelled("filter_failed", view.name, view.state != "working")
    yield _labelled("filter_calls", view.name, view.calls)
    yield _labelled("filter_failures", view.name, view.failures)
    yield Series("sluicegate_filter_seconds", (view.name,), view.answer_s, view.answer_buckets)
    if view.isolation:
        yield _labelled("filter_restarts", view.name, view.restarts)
        yield _labelled("filter_memory_bytes", view.name, view.memory_bytes)


def _measure_scanner(view: ScannerView) -> Iterator[Series]:
    yield _labelled("scanner_failed", view.name, view.state != "working")
    yield _labelled("scanner_processes", view.name, view.processes)
    yield _labelled("scanner_waiting", view.name, view.waiting)
    yield _labelled("scanner_restarts", view.name, view.restarts)
    yield _labelled("scanner_memory_bytes", view.name, view.memory_bytes)
    yield _labelled("scanner_asked", view.name, view.asked)
    yield _labelled("scanner_found", view.name, view.found)
    yield _labelled("scanner_unfinished", view.name, view.unfinished)
    yield _labelled("scanner_remembered", view.name, view.remembered)
    yield Series("sluicegate_scanner_seconds", (view.name,), view.answer_s, view.answer_buckets)


def _measure_names(gate: Gate) -> Iterator[Series]:
    counts = gate.service.entries.resolver.statistics()
    yield _plain("resolver_kept", counts.pop("kept"))
    yield _plain("resolver_asking", counts.pop("asking"))
    for event, count in counts.items():
        yield _labelled("resolver_events", str(event), count)


def _measure_records(gate: Gate) -> Iterator[Series]:
    recorder = gate.recorder
    yield _plain("trace_steps_left_out", gate.service.records.steps.left_out)
    yield _plain("records_lost", recorder.lost)
    yield _plain("records_queued_bytes", recorder.queued_bytes)
    yield _plain("records_failing", bool(recorder.failure))


def _measure_port(gate: Gate) -> Iterator[Series]:
    port = gate.port.statistics()
    yield _plain("port_turns", port.turns)
    yield _plain("port_submitted", port.submitted)
    yield _plain("port_completed", port.completed)
    yield _plain("port_pending", max(0, port.submitted - port.completed))
    yield _plain("port_handles", port.handles)
    yield _plain("port_timers", port.timers)
    yield _plain("port_starved", port.starved)
    yield _plain("port_blocking_threads", port.blocking_threads)
    yield _plain("port_blocking_waiting", port.blocking_queue)
    yield _plain("port_internal_errors", port.unhandled_errors)


def _measure_process(descriptors_max: int) -> Iterator[Series]:
    """Name no process: whoever asked knows which one it has asked."""
    yield _labelled("process_open_fds", "", count_descriptors())
    yield _labelled("process_max_fds", "", descriptors_max)
