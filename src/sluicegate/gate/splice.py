"""Splicing: a bulky direction that nobody inspects, moved inside the kernel.

A direction hands itself over when it proves bulky, and takes itself back when it turns interactive.
The pipe is filled from the source and drained to the sink without blocking; one poll waits for
whichever is not ready. The invariant: the pipe goes back to the pool only when it is empty, so no
byte of this client ever reaches another.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from sluicegate.port.backend import POLL_IN, POLL_OUT, Pipe, RawSocket

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort, Timer

    from .pump import Direction

__all__ = ["SpliceFlow"]

_FILL_SIZE: Final = 1 << 20
"""The pipe's size: what one call moves at most."""

_MOVES_PER_TURN: Final = 16
"""Fills in one go before others have their turn."""

_PAUSE_S: Final = 0.0005
"""How long a source that gave less than a pipe full is left alone. What gathers meanwhile moves in
one call: a quarter less CPU per GB and a quarter more throughput than a wake-up per packet."""

_SMALL: Final = 4096

_SMALL_FILLS_TO_INTERACTIVE: Final = 8
"""Small fills in a row after which the pipe is given back."""


class SpliceFlow:
    """One direction while it is spliced; lives from the promotion to the end or the way back."""

    __slots__ = (
        "_backend",
        "_direction",
        "_operation",
        "_pause",
        "_pipe",
        "_port",
        "_sink",
        "_small_in_row",
        "_source",
    )

    def __init__(
        self,
        direction: Direction,
        port: CompletionPort,
        pipe: Pipe,
        source: RawSocket,
        sink: RawSocket,
    ) -> None:
        self._direction = direction
        self._port = port
        self._backend = port.backend
        self._pipe: Pipe | None = pipe
        self._source = source
        self._sink = sink
        self._small_in_row = 0
        self._pause: Timer | None = None
        self._operation = direction.receive_op
        port.backend.redirect(self._operation, self._on_ready)

    def close(self) -> None:
        """Give the pipe back; one that is not empty is closed by the backend."""
        pipe, self._pipe = self._pipe, None
        if self._pause is not None:
            self._pause.cancel()
        if pipe is not None:
            self._backend.close_pipe(pipe)

    def run(self) -> None:
        """Move what can be moved now, then wait for the end that is not ready."""
        pipe, direction = self._pipe, self._direction
        if pipe is None:
            return
        count = 0
        for _ in range(_MOVES_PER_TURN):
            if not pipe.held:
                before = count
                try:
                    count = pipe.fill(self._source, _FILL_SIZE)
                except BlockingIOError:
                    self._wait_for_source(before)
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
        self._poll_source()

    def _wait_for_source(self, last_count: int) -> None:
        if self._small_in_row >= _SMALL_FILLS_TO_INTERACTIVE:
            self._finish(None)
        elif last_count < _FILL_SIZE:
            self._pause = self._port.call_after(_PAUSE_S, self._poll_source)
        else:
            self._poll_source()

    def _poll_source(self) -> None:
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
