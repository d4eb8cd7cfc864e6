"""A decoding stage: takes the content codings off a body, for the filters behind it.

``filtered_exchange`` puts it in front of them; the head was put right before. The invariant: what
goes on is what every client would have decoded, within the bounds of ``CodingBounds``, or the
exchange is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Generic

from sluicegate.protocols.content_coding import Coding, CodingError, ContentDecoder
from sluicegate.protocols.http1 import Fields

from .altered_body import mend_trailers
from .body_stage import BodySink, BodySource, HeadT

if TYPE_CHECKING:
    from .filtered_exchange import FilteredExchange

__all__ = ["DecodingStage"]


class DecodingStage(Generic[HeadT]):
    """One body's decoder (``BodyStage``)."""

    __slots__ = (
        "_decoder",
        "_is_blocked",
        "_is_posted",
        "_owes",
        "_part",
        "_status",
        "_trailers",
        "sink",
        "source",
    )

    source: BodySource
    sink: BodySink[HeadT]

    def __init__(self, part: FilteredExchange, codings: Sequence[Coding], status: int) -> None:
        """Make one.

        Args:
            part: The exchange.
            codings: Of the body, in the order in which they were applied.
            status: What the client is told of a body that is malformed.
        """
        self._part = part
        self._decoder = ContentDecoder(codings)
        self._status = status
        self._is_blocked = False
        self._is_posted = False
        #: Whether it goes on in another turn, so that other connections have theirs.
        self._owes = False
        self._trailers: Fields | None = None

    def begin(self, head: HeadT) -> None:
        """As ``BodyStage.begin``."""
        self.sink.begin(head)

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``BodyStage.feed``."""
        try:
            self._decoder.receive(bytes(data))
        except CodingError as error:
            self._refuse(error)
            return False
        is_done = self._decode()
        self._owes = not is_done
        return is_done

    def finish(self, trailers: Fields) -> None:
        """As ``BodyStage.finish``."""
        self._trailers = mend_trailers(trailers)
        if not (self._is_blocked or self._is_posted):
            self._finish()

    def abort(self, reason: str) -> None:
        """As ``BodyStage.abort``."""
        self.sink.abort(reason)

    def resume(self) -> None:
        """As ``BodyStage.resume``."""
        self._is_blocked = False
        self._go_on()

    def close(self) -> None:
        """As ``BodyStage.close``."""
        self._trailers = None

    def _go_on(self) -> None:
        if self._is_posted or not self._decode():
            return
        if self._trailers is not None:
            self._finish()
        elif self._owes:
            self._owes = False
            self.source.resume()

    def _decode(self) -> bool:
        """Give out what there is; False: something is left, or the exchange is over."""
        for _ in range(_PIECES_PER_TURN):
            try:
                piece = self._decoder.take()
            except CodingError as error:
                self._refuse(error)
                return False
            if not piece:
                return True
            is_ready = self.sink.feed(piece)
            if self._part.is_over:
                return False
            if not is_ready:
                self._is_blocked = True
                return False
        self._is_posted = True
        self._part.service.port.post(self._take_turn)
        return False

    def _take_turn(self) -> None:
        self._is_posted = False
        if not self._part.is_over:
            self._go_on()

    def _finish(self) -> None:
        trailers, self._trailers = self._trailers, None
        assert trailers is not None, "a body ends with its trailers"
        try:
            self._decoder.finish()
        except CodingError as error:
            self._refuse(error)
            return
        self._owes = False
        self.sink.finish(trailers)

    def _refuse(self, error: CodingError) -> None:
        self._part.exchange.refuse(self._status, error.fault.code, detail=str(error))


_PIECES_PER_TURN: Final = 16
"""Of 64 KiB: about 2 ms of the loop, whatever a body unpacks to."""
