"""The SHA-256 of a stream, taken on the way without holding up the port's thread.

A body adds what it receives, in order; pieces are hashed in the port's blocking pool (``hashlib``
releases the GIL for them), one batch at a time. The invariant: bytes are hashed in the order they
were added, and their buffer stays leased until they were.

Waking a thread costs about as much as hashing 64 KiB, so pieces wait for each other: a batch goes
when it is large, when the stream ends, or after ``_GATHER_S``, because pieces pin shared buffers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sluicegate.buffer import Buffer
from sluicegate.errors import LimitExceeded

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["StreamDigest"]

_INLINE_BYTES_MAX: Final = 32 << 10
"""About 20 µs with SHA instructions: less than handing it to a thread costs."""

_BATCH_BYTES_MIN: Final = 1 << 20
"""Four large slots: a hand-off for each slot costs a tenth of a held object's CPU."""

_STEP_BYTES: Final = 64 << 10
"""After each the thread gives way. A kernel that does not preempt lets a thread run for its slice
of one to three milliseconds, and where the port's thread shares the core, everybody waits."""

_GATHER_S: Final = 0.02
"""How long pieces wait for others; at 50 MB/s a batch is full by then."""

_Piece = tuple[Buffer, int, int]


class StreamDigest:
    """The hash of one body; lives until the body's end has joined its last batch."""

    __slots__ = (
        "_hasher",
        "_is_gathering",
        "_on_progress",
        "_pieces",
        "_port",
        "_running",
        "_waiting_bytes",
        "backlog_bytes",
    )

    def __init__(
        self, port: CompletionPort, on_progress: Callable[[BaseException | None], None]
    ) -> None:
        self.backlog_bytes = 0
        #: Added and not hashed yet; their buffers are leased.
        self._waiting_bytes = 0
        #: Of these, not in a batch yet.
        self._is_gathering = False
        #: Whether a timer runs for pieces that wait for others.
        self._port = port
        self._on_progress = on_progress
        self._hasher = hashlib.sha256()
        self._pieces: list[_Piece] = []
        self._running: list[_Piece] = []

    @property
    def is_idle(self) -> bool:
        """Whether everything that was added is hashed."""
        return not self._running and not self._pieces

    @property
    def is_running(self) -> bool:
        """Whether a thread is at work; it cannot be interrupted."""
        return bool(self._running)

    def add(self, buffer: Buffer, start: int, length: int) -> None:
        """Take the next bytes; ``push`` has them hashed."""
        buffer.lease()
        self.backlog_bytes += length
        self._waiting_bytes += length
        self._pieces.append((buffer, start, length))

    def push(self, *, at_once: bool) -> None:
        """Have what was added hashed, in a thread unless it is little; soon, or at once.

        ``on_progress`` is called later, on the port's thread, after each batch of a thread.

        Raises:
            LimitExceeded: The port is closed.
        """
        if self._running or not self._pieces:
            return
        if self._waiting_bytes <= _INLINE_BYTES_MAX:
            batch = self._take()
            self._hash(batch)
            self._finish(batch)
        elif at_once or self._waiting_bytes >= _BATCH_BYTES_MIN:
            self._start()
        elif not self._is_gathering:
            self._is_gathering = True
            self._port.call_after(_GATHER_S, self._on_gathered)

    def _start(self) -> None:
        batch = self._pieces
        self._port.submit_blocking(lambda: self._hash_politely(batch), self._on_hashed)
        self._running = self._take()

    def _take(self) -> list[_Piece]:
        batch, self._pieces = self._pieces, []
        self._waiting_bytes = 0
        return batch

    def drop(self) -> None:
        """Give up what no thread has begun, and tell nobody; a running batch still ends."""
        self._finish(self._take())
        if not self._running:
            self.let_go()

    def let_go(self) -> None:
        """Tell nobody any more: whoever is told would be kept alive."""
        self._on_progress = _tell_nobody

    def hexdigest(self) -> str:
        """Return the digest of everything that was hashed."""
        assert self.is_idle, "the digest is not complete"
        return self._hasher.hexdigest()

    def _hash(self, batch: list[_Piece]) -> None:
        update = self._hasher.update
        for buffer, start, length in batch:
            update(buffer.view[start : start + length])

    def _hash_politely(self, batch: list[_Piece]) -> None:
        """Hash on a thread; whoever waits for this core has it every 40 µs."""
        update = self._hasher.update
        for buffer, start, length in batch:
            view, end = buffer.view, start + length
            for offset in range(start, end, _STEP_BYTES):
                update(view[offset : min(offset + _STEP_BYTES, end)])
                os.sched_yield()

    def _on_gathered(self) -> None:
        self._is_gathering = False
        if not self._pieces or self._running:
            return
        try:
            self._start()
        except LimitExceeded as error:  # the port is closing
            self._on_progress(error)

    def _on_hashed(self, _result: None, error: BaseException | None) -> None:
        batch, self._running = self._running, []
        self._finish(batch)
        self._on_progress(error)

    def _finish(self, batch: list[_Piece]) -> None:
        for buffer, _, length in batch:
            self.backlog_bytes -= length
            buffer.release()


def _tell_nobody(_error: BaseException | None) -> None:
    """Stand for whoever had something hashed."""
