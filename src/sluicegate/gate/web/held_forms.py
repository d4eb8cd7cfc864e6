"""HeldForms: one HTTP body on the spool, in every form in which somebody may read it.

``held_body`` makes one for each body that it holds. What came is the *carrier*, which is delivered;
where it is coded, or has parts, *readings* beside it hold what is in it. The invariant: the body is
released only when every object in every reading of it was, and then what came is what is delivered,
unless a filter replaced it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sluicegate.errors import SluicegateError
from sluicegate.filterapi import Connection, Outcome, TransferOffer
from sluicegate.gate.holding import Holding, RefusalCause
from sluicegate.protocols.content_coding import (
    DEFAULT_CODING_BOUNDS,
    Coding,
    CodingBounds,
    ContentDecoder,
)
from sluicegate.spool import Sink

from .decoding import DecodingReading
from .held_parts import PartsReading
from .reading import ObjectReading, Reading, ReadingRefusal

if TYPE_CHECKING:
    from sluicegate.gate.registry import ContentStep
    from sluicegate.gate.transfer import TransferService

__all__ = ["BodyPlan", "FormsOwner", "HeldForms"]


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """How one body is to be held."""

    offer: TransferOffer
    steps: Sequence[ContentStep]
    """The content filters of the rule."""
    codings: tuple[Coding, ...] = ()
    is_coded_form_read: bool = False
    """Whether the receiver may read the coded bytes as they are."""
    boundary: bytes | None = None
    """Of a multipart body."""
    bounds: CodingBounds = DEFAULT_CODING_BOUNDS


class FormsOwner(Protocol):
    """Who is told of a held body's progress."""

    def on_forms_ready(self) -> None:
        """Take that ``feed`` may go on."""
        ...

    def on_forms_released(self) -> None:
        """Take that everything in it was released: ``deliver``."""
        ...

    def on_forms_refused(self, refusal: ReadingRefusal) -> None:
        """Take that nobody gets it; it is over."""
        ...

    def on_forms_delivered(self, error: SluicegateError | None) -> None:
        """Take that the receiver has it, or why not: ``end``."""
        ...


class _Stage(enum.Enum):
    FILLING = "filling"
    JUDGING = "judging"
    RELEASED = "released"
    OVER = "over"


class HeldForms:
    """One body; ended by its refusal or by ``end``."""

    __slots__ = (
        "_carrier",
        "_owner",
        "_reading",
        "_service",
        "_stage",
        "_undecided",
        "_waits",
        "size",
    )

    def __init__(
        self,
        service: TransferService[Any],
        connection: Connection,
        plan: BodyPlan,
        owner: FormsOwner,
    ) -> None:
        self.size = 0
        #: Bytes that came.
        self._service = service
        self._owner = owner
        self._stage = _Stage.FILLING
        self._waits = False
        #: Whether ``feed`` said so.
        is_plain = not plan.codings and plan.boundary is None
        judges_carrier = is_plain or plan.is_coded_form_read
        self._carrier = ObjectReading(
            service, connection, plan.offer, plan.steps if judges_carrier else (), self
        )
        self._carrier.holding.is_recorded = judges_carrier
        self._carrier.on_delivered_to = owner.on_forms_delivered
        self._reading: Reading | None = None
        self._undecided = 1
        if not is_plain:
            self._undecided += 1
            self._reading = self._read_into(connection, plan)

    def _read_into(self, connection: Connection, plan: BodyPlan) -> Reading | None:
        """Make the reading of what is in the body; None: it was refused."""
        decoder: DecodingReading | None = None
        if plan.codings:
            windows = sum(coding.window_bytes for coding in plan.codings)
            bound = self._service.limits.coding_memory_bytes_max
            if self._service.coding_bytes + windows > bound:
                # Later: whoever makes it does not know it yet.
                refusal = ReadingRefusal(RefusalCause.LIMIT, "limit coding_memory_bytes_max")
                self._service.port.post(lambda: self.on_reading_refused(refusal))
                return None
            self._service.coding_bytes += windows
            decoder = DecodingReading(
                self._service, ContentDecoder(plan.codings, plan.bounds), windows, self
            )
        owner = self if decoder is None else decoder
        inner: Reading
        if plan.boundary is not None:
            inner = PartsReading(
                self._service, connection, plan.offer, plan.steps, plan.boundary, owner
            )
        else:
            inner = ObjectReading(self._service, connection, plan.offer, plan.steps, owner)
            inner.on_delivered_to = self._owner.on_forms_delivered
            inner.holding.carrier = self._carrier.holding
        if decoder is None:
            return inner
        decoder.inner = inner
        return decoder

    # -- filling -------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> bool:
        """Take the next bytes; False: no more before ``on_forms_ready``, or never."""
        if self._stage is not _Stage.FILLING:
            return False
        self.size += len(data)
        is_ready = self._carrier.feed(data)
        if self._reading is not None and self._stage is _Stage.FILLING:
            is_ready = self._reading.feed(data) and is_ready
        self._waits = not is_ready
        return is_ready

    def finish(self) -> None:
        """Take that the body is whole: it is judged, and its owner told."""
        if self._stage is not _Stage.FILLING:
            return
        self._stage = _Stage.JUDGING
        self._carrier.finish()
        if self._reading is not None:
            self._reading.finish()

    # -- the readings tell (ReadingOwner) --------------------------------------------------------

    def on_reading_ready(self) -> None:
        """Go on; the other reading says at the next piece if it is full."""
        if self._waits and self._stage is _Stage.FILLING:
            self._waits = False
            self._owner.on_forms_ready()

    def on_reading_released(self) -> None:
        """Take that one of them agrees."""
        self._undecided -= 1
        if self._undecided or self._stage is not _Stage.JUDGING:
            return
        if self._reading is not None and self._carrier.holding.is_replaced:
            reason = "a filter replaced one of two forms of the body"
            self.on_reading_refused(ReadingRefusal(RefusalCause.FORM, reason))
            return
        self._stage = _Stage.RELEASED
        self._owner.on_forms_released()

    def on_reading_refused(self, refusal: ReadingRefusal) -> None:
        """Give up all forms."""
        if self._stage is not _Stage.OVER:
            self._end(Outcome.REFUSED, refusal.reason)
            self._owner.on_forms_refused(refusal)

    # -- delivering ----------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._stage is _Stage.OVER

    @property
    def is_released(self) -> bool:
        """Whether it may be delivered."""
        return self._stage is _Stage.RELEASED

    @property
    def is_whole(self) -> bool:
        """Whether all of it came."""
        return self._stage in {_Stage.JUDGING, _Stage.RELEASED}

    @property
    def is_replaced(self) -> bool:
        """Whether what is delivered is not what came: it has no coding then."""
        return self._source is not self._carrier.holding or self._source.is_replaced

    @property
    def release_size(self) -> int:
        """How many bytes are to be delivered."""
        return self._source.release_size

    def move_to(self, owner: FormsOwner) -> None:
        """Tell somebody else from now on."""
        self._owner = owner
        self._carrier.on_delivered_to = owner.on_forms_delivered
        inner = self._inner
        if isinstance(inner, ObjectReading):
            inner.on_delivered_to = owner.on_forms_delivered

    def note_ahead(self, count: int) -> None:
        """Count bytes of it that its receiver had before the verdict."""
        self._carrier.holding.bytes_ahead += count

    @property
    def is_verified(self) -> bool:
        """Whether it can only be delivered whole."""
        return self._source.is_verified

    def deliver(self, sink: Sink, part: range | None = None) -> None:
        """Send what was released; ``on_forms_delivered`` follows, never inside this call."""
        self._source.deliver(sink, part)

    def take_back(self) -> None:
        """Let it be delivered once more: the receiver has gone before it had everything."""
        self._source.take_back()

    def end(self, outcome: Outcome, reason: str) -> None:
        """Give everything back, and record how it ended; harmless when it is over."""
        if self._stage is not _Stage.OVER:
            self._end(outcome, reason)

    def end_delivered(self) -> None:
        """Record that the receiver has it."""
        if self._stage is not _Stage.OVER:
            self._stage = _Stage.OVER
            # Before the carrier, whose count of delivered bytes it tells.
            if self._reading is not None:
                self._reading.end_delivered()
            self._carrier.end_delivered()

    @property
    def _source(self) -> Holding:
        """What is delivered."""
        inner = self._inner
        if isinstance(inner, ObjectReading) and inner.holding.is_replaced:
            return inner.holding
        return self._carrier.holding

    @property
    def _inner(self) -> Reading | None:
        """What is behind the codings."""
        reading = self._reading
        return reading.inner if isinstance(reading, DecodingReading) else reading

    def _end(self, outcome: Outcome, reason: str) -> None:
        self._stage = _Stage.OVER
        if self._reading is not None:
            self._reading.end(outcome, reason)
        self._carrier.end(outcome, reason)
