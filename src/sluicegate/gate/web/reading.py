"""Readings: what the bytes of one HTTP body are to those who judge them.

``held_forms`` feeds the bytes that came to one or more readings: as they are (``ObjectReading``),
or decoded first (``decoding``), or part by part (``held_parts``). The invariant: each object that a
reader could make of the body is held, and judged, as an object of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import SluicegateError
from sluicegate.filterapi import Connection, Outcome, TransferOffer, TransferOutcome
from sluicegate.gate.holding import Holding, HoldingStage, RefusalCause
from sluicegate.limits import SPOOL_HASH_BACKLOG_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sluicegate.gate.registry import ContentStep
    from sluicegate.gate.transfer import TransferService

__all__ = ["ObjectReading", "Reading", "ReadingOwner", "ReadingRefusal"]


@dataclass(frozen=True, slots=True)
class ReadingRefusal:
    """Why nobody gets a body."""

    cause: RefusalCause
    reason: str


class ReadingOwner(Protocol):
    """Who is told of a reading's progress; never inside a call to it, but of refusals."""

    def on_reading_ready(self) -> None:
        """Take that ``feed`` may go on."""
        ...

    def on_reading_released(self) -> None:
        """Take that every object in it was released."""
        ...

    def on_reading_refused(self, refusal: ReadingRefusal) -> None:
        """Take that an object in it was refused; the reading is over."""
        ...


class Reading(Protocol):
    """One way to read a body."""

    def feed(self, data: bytes | memoryview) -> bool:
        """Take the next bytes; False: no more before ``on_reading_ready``, or never."""
        ...

    def finish(self) -> None:
        """Take that the body is whole."""
        ...

    def end(self, outcome: Outcome, reason: str) -> None:
        """Give up what is not over, and record how it ended."""
        ...

    def end_delivered(self) -> None:
        """Record that the receiver has it."""
        ...


class ObjectReading:
    """One object (``gate.holding``): the body itself, or what another reading found in it."""

    __slots__ = ("_owner", "holding", "on_delivered_to")

    def __init__(
        self,
        service: TransferService[Any],
        connection: Connection,
        offer: TransferOffer,
        steps: Sequence[ContentStep],
        owner: ReadingOwner,
    ) -> None:
        self._owner = owner
        self.on_delivered_to: Callable[[SluicegateError | None], None] = _to_nobody
        #: Who is told of the delivery.
        self.holding = Holding(service, connection, offer, steps, self)

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``Reading.feed``."""
        holding = self.holding
        if holding.stage is not HoldingStage.FILLING:
            return False
        view, taken, is_ready = memoryview(data), 0, True
        if len(view) >= _LARGE_BYTES:
            body = holding.body()
            is_lent = body.receive_buffer() is not None
            body.backlog_bytes_max = SPOOL_HASH_BACKLOG_BYTES_MAX if is_lent else _COPIES_BYTES_MAX
        while taken < len(view) and holding.stage is HoldingStage.FILLING:
            # The body's own warm memory, where it has some: a new one costs more than the copy.
            buffer = holding.body().receive_buffer() if len(view) >= _LARGE_BYTES else None
            if buffer is None:
                # Small enough to be collected, so that nothing waits for disk and hash in memory
                # that nobody counts.
                kept = bytes(view[taken : taken + _SMALL_BYTES])
                is_ready = holding.append(Window(ConstBuffer(kept), 0, len(kept)))
                taken += len(kept)
                continue
            start = buffer.used
            count = buffer.append(view[taken : taken + buffer.allocated - start])
            is_ready = holding.append(Window(buffer, start, count))
            taken += count
        return is_ready

    def finish(self) -> None:
        """As ``Reading.finish``."""
        if self.holding.stage is HoldingStage.FILLING:
            self.holding.finish()

    def end(self, outcome: Outcome, reason: str) -> None:
        """As ``Reading.end``."""
        if self.holding.stage is not HoldingStage.OVER:
            self.holding.settle(outcome, reason)

    def end_delivered(self) -> None:
        """As ``Reading.end_delivered``."""
        if self.holding.stage is not HoldingStage.OVER:
            self.holding.settle_delivered()

    # -- the holding tells (HoldingOwner) --------------------------------------------------------

    def on_holding_ready(self) -> None:
        """Pass it on."""
        self._owner.on_reading_ready()

    def on_released(self, outcome: TransferOutcome) -> None:
        """Pass it on."""
        del outcome
        self._owner.on_reading_released()

    def on_refused(self, outcome: TransferOutcome) -> None:
        """Pass it on, with its kind of reason."""
        self._owner.on_reading_refused(ReadingRefusal(self.holding.cause, outcome.reason))

    def on_delivered(self, error: SluicegateError | None) -> None:
        """Tell whoever has it delivered."""
        self.on_delivered_to(error)


def _to_nobody(_error: SluicegateError | None) -> None:
    """Stand for whoever has it delivered."""


_LARGE_BYTES: Final = 64 << 10
_COPIES_BYTES_MAX: Final = 256 << 10
"""What may wait of an object in copies of its own: hundreds are held at a time."""

_SMALL_BYTES: Final = 32 << 10
"""Half of what a body writes from where it is (``spool.body``)."""
