"""Transfers: objects that protocol filters ask the service to hold until their verdict.

``GateSession.hold_transfer`` makes one here; its ``factory`` makes the data filter that holds the
object on the data connection (``transfer_filter``). One that moves inside a dialogue is an
``open_transfer``. The invariant: every transfer that began ends in exactly one record, and whoever
waits for its outcome is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sluicegate.audit import FilterFailureRecord, Recorder, TransferRecord
from sluicegate.clock import Clock
from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    AnyDataFilter,
    Connection,
    Outcome,
    TransferOffer,
    TransferOutcome,
)
from sluicegate.limits import Limits
from sluicegate.spool import SpoolStore

from .open_transfer import GateOpenTransfer
from .steps import StepRecords
from .tasks import Tasks
from .transfer_filter import TransferFilter
from .verdict_cache import VerdictCache
from .views import TransferView

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

    from .connection import GateConnection
    from .holding import Holding
    from .registry import ContentStep, WebStep

__all__ = ["GateTransfer", "TransferService"]

ConnectionT = TypeVar("ConnectionT", bound=Connection)


class TransferService(Generic[ConnectionT]):
    """Holds objects for one worker's gate."""

    __slots__ = (
        "_recorder",
        "_tasks",
        "ahead_bytes",
        "clock",
        "coding_bytes",
        "content_filters",
        "held",
        "limits",
        "objection",
        "port",
        "steps",
        "store",
        "verdicts",
    )

    def __init__(
        self,
        port: CompletionPort,
        store: SpoolStore,
        limits: Limits,
        clock: Clock,
        content_filters: Callable[[ConnectionT], Sequence[ContentStep]],
        recorder: Recorder,
        *,
        objection: Callable[[ConnectionT, TransferOffer], str] = lambda _connection, _offer: "",
        steps: StepRecords | None = None,
    ) -> None:
        self.port = port
        self.store = store
        self.limits = limits
        self.clock = clock
        self.content_filters = content_filters
        #: The content filters of a connection's rule, in the operator's order.
        self.objection = objection
        #: Why policy refuses an object of a connection; empty if it does not.
        self.ahead_bytes = 0
        #: What is in memory of objects that pass while they are held (``fast_trickle_bytes_max``).
        self.coding_bytes = 0
        #: What decoders of held bodies may take in memory now (``coding_memory_bytes_max``).
        self.verdicts = VerdictCache(clock, limits.verdicts_kept_max, limits.verdicts_kept_s)
        self.held: dict[Holding, None] = {}
        #: What waits for its verdict or its receiver, the oldest first.
        self.steps = steps or StepRecords(recorder, clock)
        #: What filters are recorded to have taken, of connections that are traced.
        self._recorder = recorder
        self._tasks = Tasks(port)

    def hold(
        self, connection: ConnectionT, offer: TransferOffer, *, deliver_later: bool = False
    ) -> GateTransfer:
        """Prepare to hold one object that ``connection`` (the primary one) has announced."""
        return GateTransfer(
            self,
            offer,
            self.content_filters(connection),
            self.objection(connection, offer),
            may_deliver=not deliver_later,
        )

    def views(self) -> list[TransferView]:
        """Describe what is held now, the oldest first."""
        return [one.view() for one in self.held if one.is_recorded]

    def open(self, connection: GateConnection, offer: TransferOffer) -> GateOpenTransfer:
        """Begin to hold an object that moves inside the dialogue of ``connection``."""
        return GateOpenTransfer(self, connection, offer)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a judgement; a failure of it is the port's to report."""
        return self._tasks.spawn(work)

    def record_filter_failure(
        self, step: ContentStep | WebStep, cause: str, connection: Connection
    ) -> None:
        """Record that a filter failed, and what becomes of its object or exchange for it."""
        self._recorder.write(
            FilterFailureRecord(
                time=self.clock.wall(),
                filter=step.installed.name,
                cause=cause,
                action="bypassed" if step.is_bypassed_on_failure else "refused",
                connection=connection.id,
                session=connection.session.id,
            )
        )

    def record(
        self,
        connection: Connection,
        offer: TransferOffer,
        outcome: TransferOutcome,
        filter_name: str,
        bytes_written: int,
    ) -> None:
        """Record what became of one object."""
        self._recorder.write(
            TransferRecord(
                time=self.clock.wall(),
                connection=connection.id,
                session=connection.session.id,
                client=str(connection.client_address),
                rule=connection.rule,
                name=offer.name,
                direction=offer.direction.value,
                protocol=offer.protocol,
                verdict=outcome.outcome.value,
                reason=outcome.reason,
                bytes=outcome.bytes_held,
                sha256=outcome.sha256,
                filter=filter_name,
                user=offer.user,
                content_type=offer.content_type,
                held_ms=outcome.held_ms,
                bytes_written=bytes_written,
                bytes_delivered=outcome.bytes_delivered,
                facts=offer.facts,
            )
        )


class GateTransfer:
    """A protocol filter's handle on one held object (``filterapi.HeldTransfer``)."""

    __slots__ = (
        "_filter",
        "_finished",
        "_finished_waiters",
        "_is_made",
        "_judged",
        "_judged_waiters",
        "_service",
        "cancelled",
        "may_deliver",
        "objection",
        "offer",
        "steps",
    )

    def __init__(
        self,
        service: TransferService[Any],
        offer: TransferOffer,
        steps: Sequence[ContentStep],
        objection: str = "",
        *,
        may_deliver: bool,
    ) -> None:
        self.offer = offer
        self.steps = steps
        self.objection = objection
        #: Why policy lets nobody have it; empty if it does.
        self.may_deliver = may_deliver
        #: Whether the receiver is ready for what is released.
        self.cancelled = ""
        #: Why it was given up by the protocol filter; empty otherwise.
        self._service = service
        self._filter: TransferFilter | None = None
        #: While it is on its connection.
        self._is_made = False
        self._judged: TransferOutcome | None = None
        self._finished: TransferOutcome | None = None
        self._judged_waiters: list[asyncio.Future[TransferOutcome]] = []
        self._finished_waiters: list[asyncio.Future[TransferOutcome]] = []

    # -- filterapi.HeldTransfer ------------------------------------------------------------------

    def factory(self, connection: Connection) -> AnyDataFilter:
        """Make the data filter that holds the object; once.

        Raises:
            BadContext: It was made before: one transfer holds one object.
        """
        del connection
        if self._is_made:
            raise BadContext("one transfer holds one object: ask hold_transfer for another")
        self._is_made = True
        self._filter = TransferFilter(self._service, self)
        return self._filter

    async def judged(self) -> TransferOutcome:
        """Wait for the verdict."""
        return await _wait(self._judged, self._judged_waiters)

    async def finished(self) -> TransferOutcome:
        """Wait until the receiver has every byte, or never will."""
        return await _wait(self._finished, self._finished_waiters)

    def deliver(self) -> None:
        """Say that the receiver is ready."""
        self.may_deliver = True
        if self._filter is not None:
            self._filter.on_receiver_ready()

    def cancel(self, reason: str) -> None:
        """Give up: nothing more is delivered, both sides of the data connection are reset."""
        if self._finished is not None:
            return
        self.cancelled = reason
        if self._filter is not None:
            self._filter.cancel(reason)
        else:
            self.on_finished(
                TransferOutcome(Outcome.FAILED, reason, 0, "", held_ms=0.0, bytes_delivered=0)
            )

    @property
    def is_held(self) -> bool:
        """Whether it is on a data connection."""
        return self._filter is not None

    # -- what the data filter tells --------------------------------------------------------------

    def on_judged(self, outcome: TransferOutcome) -> None:
        """Take the verdict."""
        if self._judged is None:
            self._judged = outcome
            _tell(self._judged_waiters, outcome)

    def on_detached(self) -> None:
        """Take that the filter is off its connection."""
        self._filter = None

    def on_finished(self, outcome: TransferOutcome) -> None:
        """Take the end; where no verdict came before, this is it."""
        assert self._finished is None, "a transfer ends once"
        self._finished = outcome
        self.on_judged(outcome)
        _tell(self._finished_waiters, outcome)


async def _wait(
    outcome: TransferOutcome | None, waiters: list[asyncio.Future[TransferOutcome]]
) -> TransferOutcome:
    if outcome is not None:
        return outcome
    future: asyncio.Future[TransferOutcome] = asyncio.get_running_loop().create_future()
    waiters.append(future)
    return await future


def _tell(waiters: list[asyncio.Future[TransferOutcome]], outcome: TransferOutcome) -> None:
    for future in waiters:
        if not future.done():
            future.set_result(outcome)
    waiters.clear()
