"""PartsReading: takes the parts out of a multipart body, each an object of its own.

``held_forms`` has one for an upload of files. The parts are judged as they come, several at a time;
what is delivered is the body as it came. The invariant: a body of which a part was refused, or of
which servers may read the parts otherwise, goes nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sluicegate.filterapi import Connection, Outcome, TransferOffer
from sluicegate.gate.holding import RefusalCause
from sluicegate.gate.judgement import wanting
from sluicegate.protocols.multipart import (
    MultipartError,
    MultipartEvent,
    MultipartReader,
    PartBegin,
    PartData,
    PartEnd,
)
from sluicegate.protocols.object_names import disposition_names
from sluicegate.protocols.text import printable

from .reading import ObjectReading, ReadingOwner, ReadingRefusal

if TYPE_CHECKING:
    from sluicegate.gate.registry import ContentStep
    from sluicegate.gate.transfer import TransferService

__all__ = ["PartsReading"]


class PartsReading:
    """The parts of one body."""

    __slots__ = (
        "_connection",
        "_current",
        "_finishing",
        "_is_over",
        "_offer",
        "_open",
        "_owner",
        "_reader",
        "_service",
        "_steps",
        "_waits",
    )

    def __init__(
        self,
        service: TransferService[Any],
        connection: Connection,
        offer: TransferOffer,
        steps: Sequence[ContentStep],
        boundary: bytes,
        owner: ReadingOwner,
    ) -> None:
        self._service = service
        self._connection = connection
        self._offer = offer
        #: Of the whole body.
        self._steps = steps
        self._owner = owner
        self._reader = MultipartReader(boundary)
        self._open: set[_Part] = set()
        #: Not decided yet.
        self._current: _Part | None = None
        #: The one whose bytes come.
        self._waits = False
        self._finishing = False
        self._is_over = False

    # -- Reading -------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``Reading.feed``."""
        if self._is_over:
            return False
        try:
            events = self._reader.receive(bytes(data))
        except MultipartError as error:
            self._refuse(RefusalCause.FORM, error.hint)
            return False
        is_ready = True
        for event in events:
            if self._is_over:
                return False
            is_ready = self._take(event) and is_ready
        is_ready = is_ready and len(self._open) < self._open_max
        self._waits = not is_ready
        return is_ready

    def finish(self) -> None:
        """As ``Reading.finish``."""
        if self._is_over:
            return
        try:
            self._reader.finish()
        except MultipartError as error:
            self._refuse(RefusalCause.FORM, error.hint)
            return
        self._finishing = True
        self._service.port.post(self._check_finished)

    def end(self, outcome: Outcome, reason: str) -> None:
        """As ``Reading.end``."""
        self._is_over = True
        for part in list(self._open):
            part.reading.end(outcome, reason)
        self._open.clear()

    def end_delivered(self) -> None:
        """As ``Reading.end_delivered``: each part has ended with its verdict."""
        self._is_over = True

    # -- the parts tell ------------------------------------------------------------------------

    def on_part_ready(self) -> None:
        """Take that a part's disk has caught up."""
        self._tell_ready()

    def on_part_released(self, part: _Part) -> None:
        """End a part: only the whole body is delivered."""
        self._open.discard(part)
        if part.reading.holding.is_replaced:
            part.reading.end(Outcome.REFUSED, _REPLACED)
            self._refuse(RefusalCause.FORM, _REPLACED)
            return
        part.reading.end_delivered()
        self._check_finished()
        self._tell_ready()

    def on_part_refused(self, part: _Part, refusal: ReadingRefusal) -> None:
        """Give up the others."""
        self._open.discard(part)
        self._refuse(refusal.cause, refusal.reason)

    # -- private -------------------------------------------------------------------------------

    @property
    def _open_max(self) -> int:
        return self._service.limits.open_transfers_per_connection_max

    def _take(self, event: MultipartEvent) -> bool:
        match event:
            case PartBegin(fields):
                return self._begin(fields)
            case PartData(data):
                return self._current is None or self._current.reading.feed(data)
            case PartEnd():
                current, self._current = self._current, None
                if current is not None:
                    current.reading.finish()
                return True

    def _begin(self, fields: dict[bytes, bytes]) -> bool:
        disposition = fields.get(b"content-disposition", b"")
        names = disposition_names(disposition)
        essence = printable(fields.get(b"content-type", b"text/plain").strip().lower())
        offer = dataclasses.replace(
            self._offer, name=names[0] if names else self._offer.name, content_type=essence
        )
        for name in names or (offer.name,):
            objection = self._service.objection(
                self._connection, dataclasses.replace(offer, name=name)
            )
            if objection:
                self._refuse(RefusalCause.POLICY, objection)
                return False
        if wanting(self._steps, offer):
            part = _Part(self, self._service, self._connection, offer, self._steps)
            self._current = part
            self._open.add(part)
        return True

    def _check_finished(self) -> None:
        if self._finishing and not self._open and not self._is_over:
            self._is_over = True
            self._owner.on_reading_released()

    def _tell_ready(self) -> None:
        is_open = not self._is_over and not self._finishing
        if self._waits and is_open and len(self._open) < self._open_max:
            self._waits = False
            self._owner.on_reading_ready()

    def _refuse(self, cause: RefusalCause, reason: str) -> None:
        if not self._is_over:
            self.end(Outcome.REFUSED, reason)
            self._owner.on_reading_refused(ReadingRefusal(cause, reason))


class _Part:
    """One part that a content filter wants to see."""

    __slots__ = ("_parts", "reading")

    def __init__(
        self,
        parts: PartsReading,
        service: TransferService[Any],
        connection: Connection,
        offer: TransferOffer,
        steps: Sequence[ContentStep],
    ) -> None:
        self._parts = parts
        self.reading = ObjectReading(service, connection, offer, steps, self)

    def on_reading_ready(self) -> None:
        """Pass it on."""
        self._parts.on_part_ready()

    def on_reading_released(self) -> None:
        """Pass it on, with whose it is."""
        self._parts.on_part_released(self)

    def on_reading_refused(self, refusal: ReadingRefusal) -> None:
        """Pass it on, with whose it is."""
        self._parts.on_part_refused(self, refusal)


_REPLACED = "a filter replaced one part of a body of several"
