"""Process views: what a supervisor tells about its processes, one row or one warning each.

``supervisor`` puts it into the status. The invariant: a process that is not there, or does not
answer, is a row that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sluicegate.gate.views import StatusView, WorkerView
from sluicegate.version import VERSION

from .attendant_post import AttendantPost
from .audit_post import AuditPost
from .child_post import ChildPost
from .crew import Crew, Place, Worker
from .signer_post import SignerPost
from .store_post import StorePost

__all__ = ["process_warnings", "worker_views"]


def worker_views(
    crew: Crew,
    audit: AuditPost,
    signer: SignerPost,
    store: StorePost,
    attendants: Sequence[AttendantPost],
    views: Mapping[Worker, StatusView],
) -> list[WorkerView]:
    """Return a row for every process beside the supervisor.

    Args:
        crew: The workers.
        audit: Where the audit writer is.
        signer: Where the signer is, if there is one.
        store: Where the keeper of the store of records is, if there is one.
        attendants: Where the console is, and others that look after the gate.
        views: What those workers say of themselves that answered.
    """
    rows = [_place_view(place, views) for place in crew.places]
    rows += [
        _worker_view(worker, views.get(worker), "draining" if worker.is_draining else "starting")
        for worker in sorted(crew.leaving, key=lambda one: one.number)
    ]
    rows.append(_post_view("audit writer", audit))
    if signer.opened is not None:
        rows.append(_post_view("signer", signer))
    if store.settings is not None:
        rows.append(_post_view("store keeper", store))
    if store.forward.begin.sinks:
        rows.append(_post_view("forwarder", store.forward))
    rows += [_post_view(one.name, one) for one in attendants]
    return rows


def _post_view(
    name: str,
    post: AuditPost | SignerPost | ChildPost,
) -> WorkerView:
    return WorkerView(
        name=name,
        pid=post.pid,
        state="ready" if post.pid else "waiting",
        restarts=post.restarts,
        started=post.started,
        version=post.version,
    )


def _place_view(place: Place, views: Mapping[Worker, StatusView]) -> WorkerView:
    worker = place.worker
    if worker is None:
        view = WorkerView(name=f"worker {place.slot}", pid=0, state="waiting")
    elif not worker.is_ready:
        view = _worker_view(worker, None, "starting")
    elif worker.is_draining:
        view = _worker_view(worker, views.get(worker), "draining")
    else:
        state = "ready" if worker in views else "silent"
        view = _worker_view(worker, views.get(worker), state)
    view.restarts = place.restarts
    return view


def process_warnings(
    crew: Crew, audit: AuditPost, signer: SignerPost, views: Mapping[Worker, StatusView]
) -> list[str]:
    """Return what an operator should know of processes; the arguments as above."""
    warnings: list[str] = []
    for place in crew.places:
        worker = place.worker
        if worker is None:
            warnings.append(f"worker {place.slot} is not there: its clients wait")
        elif worker.is_ready and worker not in views:
            warnings.append(f"{worker.name} (pid {worker.child.pid}) does not answer")
        if place.backoff.is_holding_back:
            warnings.append(
                f"worker {place.slot} ended {place.restarts} times, soon after its start"
            )
        if worker is not None and worker.is_ready and worker.version != VERSION:
            warnings.append(
                f"{worker.name} runs version {worker.version}, this is {VERSION}: "
                "sluicegate upgrade puts one in place everywhere"
            )
    if not audit.pid or audit.is_holding_back:
        warnings.append(f"the audit writer had to be started again {audit.restarts} times")
    return [*warnings, *signer.warnings()]


def _worker_view(
    worker: Worker,
    view: StatusView | None,
    state: str,
) -> WorkerView:
    row = WorkerView(
        name=worker.name,
        pid=worker.child.pid,
        state=state,
        started=worker.started,
        policy=worker.policy,
        version=worker.version,
    )
    if view is not None:
        row.connections, row.accepted = view.connections, view.connections_allowed
        row.cpu_s, row.memory_bytes = view.cpu_s, view.memory_bytes
        row.policy = view.policy
    return row
