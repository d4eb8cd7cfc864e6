"""Splicing: a bulky direction that nobody inspects, moved inside the kernel.

A direction hands itself over when it proves bulky, and takes itself back when it turns interactive.
The pipe is filled from the source and drained to the sink without blocking; one poll waits for
whichever is not ready. The invariant: the pipe goes back to the pool only when it is empty, so no
byte of this client ever reaches another.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from sluicegate.port.backend import POLL_IN, POLL_OUT, Backend, Pipe, RawSocket

if TYPE_CHECKING:
    from .pump import Direction

__all__ = ["SpliceFlow"]

_FILL_SIZE: Final = 1 << 20
"""The pipe's size: what one call moves at most."""

_MOVES_PER_TURN: Final = 16
"""Fills in one go before others have their turn."""

_SMALL: Final = 4096

_SMALL_FILLS_TO_INTERACTIVE: Final = 8
"""Small fills in a row after which the pipe is given back."""


class SpliceFlow:
    """One direction while it is spliced; lives from the promotion to the end or the way back."""

    __slots__ = (
        "_backend",
        "_direction",
        "_operation",
        "_pipe",
        "_sink",
        "_small_in_row",
        "_source",
    )

    def __init__(
        self,
        direction: Direction,
        backend: Backend,
        pipe: Pipe,
        source: RawSocket,
        sink: RawSocket,
    ) -> None:
        self._direction = direction
        self._backend = backend
        self._pipe: Pipe | None = pipe
        self._source = source
        self._sink = sink
        self._small_in_row = 0
        self._operation = direction.receive_op
        backend.redirect(self._operation, self._on_ready)

    def close(self) -> None:
        """Give the pipe back; one that is not empty is closed by the backend."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._backend.close_pipe(pipe)

    def run(self) -> None:
        """Move what can be moved now, then wait for the end that is not ready."""
        pipe, direction = self._pipe, self._direction
        if pipe is None:
            return
        for _ in range(_MOVES_PER_TURN):
            if not pipe.held:
                try:
                    count = pipe.fill(self._source, _FILL_SIZE)
                except BlockingIOError:
                    self._wait_for_source()
                    return
                except OSError as error:
                    self._finish(error.errno or errno.EIO)
                    return
                if not count:
                    self._finish(0)
                    return
                self._small_in_row = self._small_in_row + 1 if count <= _SMALL else 0
            try:
                direction.on_spliced(pipe.drain(self._sink))
            except BlockingIOError:
                direction.on_splice_stalled(is_stalled=True)
                self._backend.poll(self._operation, self._sink.fileno(), POLL_OUT)
                return
            except OSError as error:
                self._finish(error.errno or errno.EIO, at_sink=True)
                return
        # Others have their turn; both ends are likely to be ready still.
        self._backend.poll(self._operation, self._source.fileno(), POLL_IN)

    def _wait_for_source(self) -> None:
        if self._small_in_row >= _SMALL_FILLS_TO_INTERACTIVE:
            self._finish(None)
        else:
            self._backend.poll(self._operation, self._source.fileno(), POLL_IN)

    def _on_ready(self, result: int, _flags: int) -> None:
        if result < 0:
            self._finish(-result)
        else:
            self._direction.on_splice_stalled(is_stalled=False)
            self.run()

    def _finish(self, error: int | None, *, at_sink: bool = False) -> None:
        self.close()
        direction = self._direction
        direction.on_splice_over(error, direction.sink_side if at_sink else None)
