"""DecodingReading: takes the content codings off a body, on the way to another reading.

``held_forms`` has one for a coded body. The first bytes are decoded where they come, so that a page
costs no hand-off; the rest goes to the port's blocking pool, a mebibyte at a time. The invariant:
what is in memory between the two is bounded, and the decoder is used by one thread at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from sluicegate.errors import LimitExceeded
from sluicegate.filterapi import Outcome
from sluicegate.gate.holding import RefusalCause
from sluicegate.protocols.content_coding import CodingError, CodingFault, ContentDecoder

from .reading import Reading, ReadingOwner, ReadingRefusal

if TYPE_CHECKING:
    from sluicegate.gate.transfer import TransferService

__all__ = ["DecodingReading"]


class DecodingReading:
    """Decodes for ``inner``, and speaks for it to ``owner``."""

    __slots__ = (
        "_decoder",
        "_finishing",
        "_inline_left",
        "_is_inner_full",
        "_is_over",
        "_is_running",
        "_needs_input",
        "_owner",
        "_queue",
        "_queued_bytes",
        "_service",
        "_was_full",
        "_window_bytes",
        "inner",
    )

    def __init__(
        self,
        service: TransferService[Any],
        decoder: ContentDecoder,
        window_bytes: int,
        owner: ReadingOwner,
    ) -> None:
        """Make one; ``window_bytes`` were taken from the service's account for it."""
        self._service = service
        self._window_bytes = window_bytes
        self._decoder = decoder
        self._owner = owner
        self.inner: Reading
        #: Who gets what is decoded; its owner is this.
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._inline_left = _INLINE_BYTES
        self._is_running = False
        #: Whether a thread has the decoder.
        self._needs_input = True
        self._is_inner_full = False
        self._was_full = False
        #: Whether ``feed`` has said so.
        self._finishing = False
        self._is_over = False

    # -- Reading -------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``Reading.feed``."""
        if self._is_over:
            return False
        self._queue.append(bytes(data))
        self._queued_bytes += len(data)
        self._advance()
        # Decoding may have ended it.
        self._was_full = self._is_full
        return not (self._was_full or self._has_ended)

    def finish(self) -> None:
        """As ``Reading.finish``."""
        self._finishing = True
        self._advance()

    def end(self, outcome: Outcome, reason: str) -> None:
        """As ``Reading.end``."""
        self._stop()
        self.inner.end(outcome, reason)

    def end_delivered(self) -> None:
        """As ``Reading.end_delivered``."""
        self._stop()
        self.inner.end_delivered()

    # -- the inner reading tells (ReadingOwner) --------------------------------------------------

    def on_reading_ready(self) -> None:
        """Decode on."""
        self._is_inner_full = False
        self._advance()
        self._tell_ready()

    def on_reading_released(self) -> None:
        """Pass it on."""
        self._owner.on_reading_released()

    def on_reading_refused(self, refusal: ReadingRefusal) -> None:
        """Pass it on."""
        self._stop()
        self._owner.on_reading_refused(refusal)

    # -- private -------------------------------------------------------------------------------

    @property
    def _has_ended(self) -> bool:
        return self._is_over

    @property
    def _is_full(self) -> bool:
        return self._queued_bytes > _QUEUE_BYTES

    def _advance(self) -> None:
        """Decode as long as there is something to decode and room for it."""
        try:
            while not (self._is_over or self._is_running or self._is_inner_full):
                if self._needs_input and not self._take_input():
                    return
                if self._inline_left <= 0:
                    self._start()
                    return
                piece = self._decoder.take()
                self._inline_left -= len(piece)
                self._give(piece, needs_input=not piece)
        except CodingError as error:
            self._refuse(error)

    def _take_input(self) -> bool:
        if self._queue:
            data = self._queue.popleft()
            self._queued_bytes -= len(data)
            self._decoder.receive(data)
            self._needs_input = False
            return True
        if self._finishing:
            self._decoder.finish()
            self._stop()
            self.inner.finish()
        return False

    def _give(self, data: bytes, *, needs_input: bool) -> None:
        self._needs_input = needs_input
        if data:
            self._is_inner_full = not self.inner.feed(data)

    def _start(self) -> None:
        """Have a thread decode the next piece."""
        try:
            self._service.port.submit_blocking(self._work, self._on_worked)
        except LimitExceeded as error:  # the port is closing
            self._refuse(error)
            return
        self._is_running = True

    def _work(self) -> tuple[bytes, bool]:
        """Decode up to a mebibyte (a thread of the pool)."""
        pieces: list[bytes] = []
        left = _BATCH_BYTES
        while left > 0:
            piece = self._decoder.take()
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), left > 0

    def _on_worked(self, result: tuple[bytes, bool] | None, error: BaseException | None) -> None:
        self._is_running = False
        if self._is_over:
            self._give_window_back()
            return
        if isinstance(error, CodingError):
            self._refuse(error)
            return
        if result is None:
            self._refuse(error)
            if error is not None:
                raise error
            return
        data, needs_input = result
        self._give(data, needs_input=needs_input)
        self._advance()
        self._tell_ready()

    def _tell_ready(self) -> None:
        if self._was_full and not self._is_over and not self._is_full:
            self._was_full = False
            self._owner.on_reading_ready()

    def _refuse(self, error: BaseException | None) -> None:
        if self._is_over:
            return
        self._stop()
        if isinstance(error, CodingError):
            reason = f"{error.fault.code}: {error.hint}"
            cause = RefusalCause.LIMIT if error.fault in _LIMITS else RefusalCause.FORM
            refusal = ReadingRefusal(cause, reason)
        else:
            refusal = ReadingRefusal(RefusalCause.FAILURE, f"decoding failed: {error!r}")
        self.inner.end(Outcome.REFUSED, refusal.reason)
        self._owner.on_reading_refused(refusal)

    def _stop(self) -> None:
        self._is_over = True
        self._queue.clear()
        self._queued_bytes = 0
        self._give_window_back()

    def _give_window_back(self) -> None:
        """Count the decoder's memory no more, once no thread uses it."""
        if self._is_over and not self._is_running:
            self._service.coding_bytes -= self._window_bytes
            self._window_bytes = 0


_LIMITS: Final = frozenset({CodingFault.BOMB, CodingFault.TOO_LARGE})

_INLINE_BYTES: Final = 128 << 10
"""Decoded on the port's thread: half a millisecond at most; most pages are smaller."""

_BATCH_BYTES: Final = 1 << 20
_QUEUE_BYTES: Final = 256 << 10
"""Coded bytes that wait for the decoder before the source is."""
