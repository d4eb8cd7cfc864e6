"""Holding: one object from its first byte to its verdict, and on to its receiver.

``transfer_filter`` holds what comes on a data connection, ``open_transfer`` what a data filter
takes out of its dialogue, ``web`` the bodies of HTTP; they tell their holding what to do, and are
told what came of it. The invariant: nothing is delivered before the verdict, and however it ends
the body is closed and one record is written.

Stages::

    FILLING -> STORING -> JUDGING -> RELEASED -> DELIVERING -> OVER
    (any) -> OVER, by refusal or ``settle``

Nothing here awaits anything: bytes travel by callbacks, and only the judgement is a task.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sluicegate.buffer import Window
from sluicegate.errors import LimitExceeded, SluicegateError
from sluicegate.filterapi import (
    Connection,
    Outcome,
    Refuse,
    Replace,
    TransferOffer,
    TransferOutcome,
)
from sluicegate.port.answerable import is_answerable
from sluicegate.port.scope import current_scope, entered
from sluicegate.spool import Delivery, Sink, SpooledBody

from .judgement import HeldObject, Judgement, bytes_limit, judge, wanting
from .steps import request_of
from .views import TransferView

if TYPE_CHECKING:
    from .registry import ContentStep
    from .transfer import TransferService

__all__ = ["Holding", "HoldingOwner", "HoldingStage", "RefusalCause"]


class HoldingStage(enum.Enum):
    """Where a held object is in its life."""

    FILLING = "filling"
    STORING = "storing"
    JUDGING = "judging"
    RELEASED = "released"
    DELIVERING = "delivering"
    OVER = "over"


class RefusalCause(enum.Enum):
    """What kind of reason refused an object; protocols have different words for them."""

    POLICY = "policy"
    """Rules about content."""
    VERDICT = "verdict"
    """A content filter, which said so."""
    FAILURE = "failure"
    """A content filter that gave no verdict, or the spool."""
    LIMIT = "limit"
    FORM = "form"
    """The bytes are not what they say that they are, or can be read in two ways."""


class HoldingOwner(Protocol):
    """Who is told of a holding's progress."""

    def on_holding_ready(self) -> None:
        """Take that the disk has caught up: more may be appended."""
        ...

    def on_released(self, outcome: TransferOutcome) -> None:
        """Take that every content filter agrees: ``deliver``."""
        ...

    def on_refused(self, outcome: TransferOutcome) -> None:
        """Take that nobody gets it; the holding is over."""
        ...

    def on_delivered(self, error: SluicegateError | None) -> None:
        """Take that the receiver has every byte, or why it has not: ``settle``."""
        ...


class Holding:
    """One held object; ended by its refusal or by ``settle``."""

    __slots__ = (
        "_body",
        "_bytes_held",
        "_bytes_max",
        "_bytes_written",
        "_connection",
        "_delivery",
        "_held_ms",
        "_judgement",
        "_objection",
        "_offer",
        "_owner",
        "_released",
        "_scope",
        "_service",
        "_sha256",
        "_started",
        "_task",
        "bytes_ahead",
        "carrier",
        "cause",
        "is_recorded",
        "stage",
        "steps",
    )

    def __init__(
        self,
        service: TransferService[Any],
        connection: Connection,
        offer: TransferOffer,
        steps: Sequence[ContentStep],
        owner: HoldingOwner,
        objection: str = "",
    ) -> None:
        self.stage = HoldingStage.FILLING
        self.bytes_ahead = 0
        #: What its owner let through before the verdict, as an operator wrote for such objects.
        self.carrier: Holding | None = None
        #: Another form of the same object, which is delivered in the place of this one.
        self.cause = RefusalCause.VERDICT
        #: Of its refusal, if it is refused.
        self.is_recorded = True
        #: Whether it is an object of its own in the records, not only a form of one.
        self.steps = wanting(steps, offer)
        #: The content filters that ask for such an object.
        self._objection = objection
        #: Why policy lets nobody have it, whatever is in it; empty if it does.
        self._service = service
        self._connection = connection
        self._offer = offer
        self._owner = owner
        self._bytes_max = bytes_limit(self.steps)
        self._body: SpooledBody | None = None
        self._delivery: Delivery | None = None
        self._released: SpooledBody | bytes = b""
        #: What is to be delivered.
        self._task: asyncio.Task[None] | None = None
        self._started = -1.0
        #: When the first byte came, or the end of an empty object; negative before.
        self._held_ms = 0.0
        self._judgement: Judgement | None = None
        self._bytes_held = 0
        self._bytes_written = 0
        self._sha256 = ""
        self._scope = current_scope()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has a say about it: a content filter, or policy against it."""
        return bool(self.steps or self._objection)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        if is_answerable(self._connection):
            self._connection.on_internal_error(error)

    # -- filling -------------------------------------------------------------------------------

    def append(self, window: Window) -> bool:
        """Take the next bytes; False when more may come at ``on_holding_ready``, or never."""
        if self._objection:
            self.refuse(self._objection, cause=RefusalCause.POLICY)
            return False
        body = self.body()
        self._begin()
        try:
            is_ready = body.append(window)
        except LimitExceeded as error:
            self.refuse(f"limit {error.limit}", cause=RefusalCause.LIMIT)
            return False
        if self._bytes_max is not None and body.size > self._bytes_max[0]:
            bound, name = self._bytes_max
            reason = f"larger than the {bound} bytes that {name} can judge"
            self.refuse(reason, name, cause=RefusalCause.LIMIT)
            return False
        return is_ready

    def finish(self) -> None:
        """Say that the object is whole: it is stored and judged, later."""
        if self._objection:
            self.refuse(self._objection, cause=RefusalCause.POLICY)
            return
        body = self.body()
        self._begin()
        self.stage = HoldingStage.STORING
        body.finish()

    def _begin(self) -> None:
        if self._started < 0:
            self._started = self._service.clock.monotonic()
            self._service.held[self] = None

    def body(self) -> SpooledBody:
        """Return where the bytes are kept; made when it is first asked for."""
        if self._body is None:
            with entered(self._scope):
                host = self._connection.client_address.host
                self._body = self._service.store.create_body(self, host)
        return self._body

    # -- the spool tells (spool.BodyOwner) -------------------------------------------------------

    def on_body_ready(self) -> None:
        """Take that the disk has caught up."""
        if self.stage is HoldingStage.FILLING:
            self._owner.on_holding_ready()

    def on_body_failed(self, error: SluicegateError) -> None:
        """Take that the object cannot be held: nobody gets it."""
        if isinstance(error, LimitExceeded):
            self.refuse(f"limit {error.limit}", cause=RefusalCause.LIMIT)
        else:
            self.refuse(f"spool failure: {error}", cause=RefusalCause.FAILURE)

    def on_body_finished(self) -> None:
        """Take that the object is whole: have it judged."""
        if self.stage is not HoldingStage.STORING:
            return
        self.stage = HoldingStage.JUDGING
        with entered(self._scope):
            self._task = self._service.spawn(self._judge())

    # -- judging -------------------------------------------------------------------------------

    async def _judge(self) -> None:
        body, connection, service = self.body(), self._connection, self._service
        held = HeldObject(service.store, body, connection, self._offer)
        judgement = _UNDECIDED
        try:
            judgement = await judge(
                self.steps,
                held,
                service.limits.inspect_timeout_s,
                lambda step, cause: service.record_filter_failure(step, cause, connection),
                service.verdicts,
                lambda name, seconds: service.steps.write(
                    connection.id,
                    "filter",
                    seconds,
                    filter_name=name,
                    request=request_of(self._offer),
                ),
            )
        finally:
            # Also after a bug of ours: an object that nobody judged is refused.
            held.end()
            if self.stage is HoldingStage.JUDGING:
                self._on_judged(judgement, body)

    def _on_judged(self, judgement: Judgement, body: SpooledBody) -> None:
        self._task = None
        self._judgement = judgement
        self._note_body(body)
        verdict = judgement.verdict
        if isinstance(verdict, Refuse):
            cause = RefusalCause.FAILURE if judgement.is_failure else RefusalCause.VERDICT
            self.refuse(judgement.reason, judgement.filter_name, cause=cause)
            return
        self._released = body
        if isinstance(verdict, Replace):
            self._released = verdict.body
            self._close_body()
        self.stage = HoldingStage.RELEASED
        self._owner.on_released(self.outcome(Outcome.RELEASED, judgement.reason))

    def refuse(
        self, reason: str, filter_name: str = "", *, cause: RefusalCause = RefusalCause.VERDICT
    ) -> None:
        """Let nobody have it; harmless when it is over."""
        if self.stage is not HoldingStage.OVER:
            self.cause = cause
            self._owner.on_refused(self.settle(Outcome.REFUSED, reason, filter_name))

    # -- delivering ----------------------------------------------------------------------------

    @property
    def release_size(self) -> int:
        """How many bytes are to be delivered, once it is released."""
        released = self._released
        return len(released) if isinstance(released, bytes) else released.size

    @property
    def is_replaced(self) -> bool:
        """Whether a content filter put something else in its place."""
        judgement = self._judgement
        return judgement is not None and isinstance(judgement.verdict, Replace)

    @property
    def is_verified(self) -> bool:
        """Whether what is delivered is hashed again: who looked at a descriptor ran elsewhere."""
        return any(one.installed.installation.process is not None for one in self.steps)

    def deliver(self, sink: Sink, part: range | None = None) -> None:
        """Send what was released; ``on_delivered`` follows, never inside this call.

        Args:
            sink: Who gets it.
            part: Which bytes of it; None: all. What ``is_verified`` is delivered whole.
        """
        assert self.stage is HoldingStage.RELEASED, "nothing is delivered that is not released"
        self.stage = HoldingStage.DELIVERING
        self._delivery = Delivery(
            self._service.store,
            self._released,
            sink,
            self._on_delivered,
            is_verified=self.is_verified,
            part=part,
        )
        self._delivery.start()

    def take_back(self) -> None:
        """Let it be delivered once more: the receiver has gone before it had everything."""
        assert self.stage is HoldingStage.DELIVERING, "it was on its way"
        if self._delivery is not None:
            self._delivery.stop()
            self._delivery = None
        self.stage = HoldingStage.RELEASED

    def _on_delivered(self, error: SluicegateError | None) -> None:
        if self.stage is HoldingStage.DELIVERING:
            self._owner.on_delivered(error)

    @property
    def bytes_delivered(self) -> int:
        """What the receiver has accepted so far."""
        if self.carrier is not None:
            return self.carrier.bytes_delivered
        ahead = self.bytes_ahead
        return ahead + (self._delivery.bytes_delivered if self._delivery is not None else 0)

    def view(self) -> TransferView:
        """Describe it as it is now."""
        connection, offer, clock = self._connection, self._offer, self._service.clock
        judgement = self._judgement
        return TransferView(
            connection=connection.id,
            session=connection.session.id,
            client=str(connection.client_address),
            rule=connection.rule,
            name=offer.name,
            direction=offer.direction.value,
            protocol=offer.protocol,
            stage=self.stage.value,
            started=clock.wall() - (clock.monotonic() - self._started),
            user=offer.user,
            content_type=offer.content_type,
            filters=[step.installed.name for step in self.steps],
            verdict=judgement.reason if judgement is not None else "",
            bytes_held=self._bytes_held if self._body is None else self._body.size,
            bytes_delivered=self.bytes_delivered,
            bytes_announced=offer.bytes_announced or 0,
        )

    # -- ending --------------------------------------------------------------------------------

    def settle_delivered(self) -> TransferOutcome:
        """Take that the receiver has everything: it was released for the reason of its verdict."""
        judgement = self._judgement
        assert judgement is not None, "what is delivered was judged"
        return self.settle(Outcome.RELEASED, judgement.reason, judgement.filter_name)

    def settle(self, outcome: Outcome, reason: str, filter_name: str = "") -> TransferOutcome:
        """Give everything back, and record the outcome; once."""
        assert self.stage is not HoldingStage.OVER, "a held object ends once"
        self.stage = HoldingStage.OVER
        self._service.held.pop(self, None)
        if self._delivery is not None:
            self._delivery.stop()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._close_body()
        self._released = b""
        told = self.outcome(outcome, reason)
        if self.is_recorded:
            written = self._bytes_written
            self._service.record(self._connection, self._offer, told, filter_name, written)
        return told

    def outcome(self, outcome: Outcome, reason: str) -> TransferOutcome:
        """Return what is to be told of it by now."""
        return TransferOutcome(
            outcome,
            reason,
            self._bytes_held,
            self._sha256,
            self._held_ms,
            self.bytes_delivered,
        )

    def _close_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            self._note_body(body)
            body.close()

    def _note_body(self, body: SpooledBody) -> None:
        """Keep what the record needs, once: the verdict ends the holding."""
        self._bytes_held = body.size
        self._bytes_written = 0 if body.is_in_memory else body.size
        self._sha256 = body.sha256
        if self._started >= 0 and not self._held_ms:
            held_s = self._service.clock.monotonic() - self._started
            self._held_ms = round(held_s * 1000, 3)


_UNDECIDED = Judgement(Refuse("no verdict"), "no verdict")
