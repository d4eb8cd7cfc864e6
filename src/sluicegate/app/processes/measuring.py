"""Measuring: the numbers of a whole gate, out of what workers say and the supervisor knows.

``supervisor`` answers with it. The invariant: a counter never goes back while the gate runs: what a
worker had counted when it was asked last stays, whatever becomes of the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import resource
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from cryptography import x509

from sluicegate.app.measuring import count_descriptors
from sluicegate.audit import RecordSender
from sluicegate.gate.control_messages import MeasuresReply, MeasuresRequest
from sluicegate.gate.views import Phase, StatusView
from sluicegate.metrics import CATALOGUE, Series, add_up

from .attendants import Attendants
from .crew import Crew, Worker
from .signer_post import SignerPost
from .store_post import StorePost

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Measuring"]


class Measuring:
    """Satisfies the part of ``ControlTarget`` that measures, for a gate of several processes."""

    def __init__(
        self,
        crew: Crew,
        sender: RecordSender,
        signer: SignerPost,
        store: StorePost,
        attendants: Attendants,
        status: Callable[[], Awaitable[StatusView]],
    ) -> None:
        """Have counted nothing yet.

        Args:
            crew: The workers.
            sender: The supervisor's own records.
            signer: Where the signer is, if there is one.
            store: Where the keeper of the store of records is, if there is one.
            attendants: Where alerts are counted.
            status: Says how the gate is.
        """
        self._crew = crew
        self._sender = sender
        self._signer = signer
        self._store = store
        self._attendants = attendants
        self._status = status
        self._said: dict[Worker, list[Series]] = {}
        #: What each worker said last.
        self._left: list[Series] = []
        #: Counted by workers that are gone.

    def retire(self, worker: Worker) -> None:
        """Keep what a worker has counted that is gone."""
        said = self._said.pop(worker, [])
        counted = [one for one in said if CATALOGUE[one.name].kind != "gauge"]
        self._left = add_up(CATALOGUE, [self._left, counted])

    async def measures(self) -> list[Series]:
        """Return what is measured."""
        workers = self._crew.answering
        # At once: a worker that hangs is waited for by both, and whoever asks waits ten seconds.
        replies, status = await asyncio.gather(
            self._crew.ask(workers, MeasuresRequest()), self._status()
        )
        fresh: list[list[Series]] = []
        for worker, reply in zip(workers, replies, strict=True):
            if worker not in self._crew.all:
                continue  # it has ended meanwhile: what it said before was kept
            if isinstance(reply, MeasuresReply):
                known = [_named(one, worker) for one in reply.series if one.name in CATALOGUE]
                fresh.append(known)
                self._said[worker] = known
            elif worker in self._said:
                # It does not answer: its counters stay, what it holds now nobody knows.
                said = self._said[worker]
                fresh.append([one for one in said if CATALOGUE[one.name].kind != "gauge"])
        self._sender.flush()
        own = [
            *self._sender.counts.series(),
            *_measure_status(status),
            *self._measure_processes(status),
            *self._measure_store(),
            *self._attendants.alerts.measures(),
            *_measure_certificates(status, self._signer),
            Series("sluicegate_records_lost", (), self._sender.lost),
            Series("sluicegate_records_queued_bytes", (), self._sender.queued_bytes),
        ]
        return add_up(CATALOGUE, [self._left, own, *fresh])

    def _measure_processes(self, status: StatusView) -> Iterator[Series]:
        descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield Series("sluicegate_process_open_fds", ("supervisor",), count_descriptors())
        yield Series("sluicegate_process_max_fds", ("supervisor",), descriptors_max)
        yield from _measure_process("supervisor", os.getpid(), is_up=True)
        # Of two in one slot, the one that serves: it comes first.
        rows = {row.name: row for row in reversed(status.workers)}
        for row in rows.values():
            yield Series("sluicegate_process_restarts", (row.name,), row.restarts)
            yield from _measure_process(row.name, row.pid, is_up=row.state in _UP)

    def _measure_store(self) -> Iterator[Series]:
        if self._store.settings is not None:
            stored = self._store.stored
            yield Series("sluicegate_store_last", (), stored.last)
            yield Series("sluicegate_store_behind_bytes", (), stored.bytes_behind)
            yield Series("sluicegate_store_failing", (), float(bool(stored.failure)))
        for one in self._store.forward.totals():
            yield Series("sluicegate_sink_sent", (one.name,), one.sent)
            yield Series("sluicegate_sink_lost", (one.name,), one.lost)
            yield Series("sluicegate_sink_behind_bytes", (one.name,), one.bytes_behind)
            yield Series("sluicegate_sink_failing", (one.name,), float(bool(one.failure)))


def _named(one: Series, worker: Worker) -> Series:
    """Say of which process it is what a worker says of itself."""
    if CATALOGUE[one.name].labels == ("process",):
        one.labels = (worker.name,)
    return one


_UP = frozenset({"ready", "draining"})


def _measure_process(name: str, pid: int, *, is_up: bool) -> Iterator[Series]:
    """Say what the kernel lets everybody read of a process."""
    yield Series("sluicegate_process_up", (name,), float(is_up))
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has gone meanwhile
        folder = pathlib.Path("/proc", str(pid))
        pages = int((folder / "statm").read_text().split()[1])
        memory_bytes = pages * resource.getpagesize()
        yield Series("sluicegate_process_resident_memory_bytes", (name,), memory_bytes)
        # Behind the name, which may hold anything: proc(5), fields 14 and 15.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        cpu_s = ticks / os.sysconf("SC_CLK_TCK")
        yield Series("sluicegate_process_cpu_seconds", (name,), cpu_s)


def _measure_status(status: StatusView) -> Iterator[Series]:
    yield Series("sluicegate_info", (status.version, status.backend), 1)
    yield Series("sluicegate_start_time_seconds", (), status.started)
    for phase in Phase:
        yield Series("sluicegate_phase", (phase.value,), float(phase is status.phase))
    yield Series("sluicegate_reloads", ("done",), status.reloads.done)
    yield Series("sluicegate_reloads", ("refused",), status.reloads.refused)
    yield Series("sluicegate_last_reload_refused", (), float(status.reloads.is_last_refused))
    loaded = status.reloads.done_at or status.started
    yield Series("sluicegate_last_reload_timestamp_seconds", (), loaded)
    yield Series("sluicegate_warnings", (), len(status.warnings))


def _measure_certificates(status: StatusView, signer: SignerPost) -> Iterator[Series]:
    ends: dict[str, float] = {}
    for view in status.certificates:
        ends[view.listener] = min(view.expires, ends.get(view.listener, view.expires))
    if signer.opened is not None:
        ends["authority"] = _end_of(signer.opened.chain)
        ends["untrusted authority"] = _end_of(signer.opened.untrusted)
    for name, end in ends.items():
        yield Series("sluicegate_certificate_expiry_timestamp_seconds", (name,), end)


def _end_of(chain: str) -> float:
    certificates: Iterable[x509.Certificate] = x509.load_pem_x509_certificates(chain.encode())
    return min(one.not_valid_after_utc.timestamp() for one in certificates)
