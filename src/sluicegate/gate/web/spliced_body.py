"""SplicedBody: the rest of a body that nobody looks at, moved between two sockets in the kernel.

The end that it comes from begins one when its wire proves bulky (``OriginEnd``, ``ClientEnd``) and
nothing stands between the two sockets. The invariant: exactly the bytes of this body are moved, so
the end that reads goes on behind them as if it had read them; and a pipe with something in it is
closed, never used again.

A body of known length is taken up to its end and no byte further. One that ends with its connection
is moved until then; a client that is told its end by chunks gets each pipe full as one chunk.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol

from sluicegate.port.backend import POLL_IN

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort, Timer
    from sluicegate.port.backend import Operation, Pipe

    from .wire import Wire

__all__ = ["SplicedBody", "SplicingEnd"]


class SplicingEnd(Protocol):
    """Whose body it is: the end that would read it."""

    def on_moved(self, count: int) -> None:
        """Take that so many bytes have gone on; what that reaches may end the exchange."""
        ...

    def on_splice_stalled(self) -> None:
        """Take that the receiver takes nothing now: ``SplicedBody.run`` when it does."""
        ...

    def on_splice_over(self) -> None:
        """Take that the body is at its end, or that its reader is to go on as before."""
        ...


class SplicedBody:
    """One body while it is moved; lives from its beginning to its end, or to that of its wire."""

    __slots__ = (
        "_chunk_left",
        "_end",
        "_has_pipe",
        "_is_chunked",
        "_left",
        "_operation",
        "_pause",
        "_pipe",
        "_port",
        "_sink",
        "_source",
    )

    def __init__(
        self,
        port: CompletionPort,
        pipe: Pipe,
        source: Wire,
        sink: Wire,
        operation: Operation,
        end: SplicingEnd,
        *,
        left: int | None,
        is_chunked: bool,
    ) -> None:
        """Make it; ``run`` begins.

        Args:
            port: Of both sockets.
            pipe: Is given back at the end.
            source: Where the body comes from; nothing is received from it meanwhile.
            sink: Where it goes; nothing else is sent to it meanwhile.
            operation: The source's; not in flight.
            end: Told what happens.
            left: How many bytes are to come; None: all until the stream ends.
            is_chunked: Whether the receiver is sent chunks.
        """
        self._port = port
        self._pipe = pipe
        self._has_pipe = True
        self._source = source
        self._sink = sink
        self._operation = operation
        self._end = end
        self._left = left
        self._is_chunked = is_chunked
        self._chunk_left = 0
        #: Of the chunk whose size was sent; what is in the pipe.
        self._pause: Timer | None = None
        port.backend.redirect(operation, self.on_ready)

    @property
    def is_over(self) -> bool:
        """Whether it moves nothing any more."""
        return not self._has_pipe

    def stop(self) -> None:
        """Move nothing any more; what is in the pipe is lost."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._has_pipe:
            self._has_pipe = False
            self._port.backend.close_pipe(self._pipe)

    def run(self) -> None:
        """Move what can be moved now, then wait for the side that is not ready."""
        for _ in range(_MOVES_PER_TURN):
            if self.is_over or not (self._pipe.held or self._fill()):
                return
            if not self._drain() or self.is_over:
                return
        self._poll()  # others have their turn

    def _fill(self) -> bool:
        """Take from the source; False: it has nothing now, or is at its end."""
        left = self._left
        size = _FILL_BYTES if left is None else min(left, _FILL_BYTES)
        if not size:
            self._finish()
            return False
        source = self._source
        try:
            count = self._pipe.fill(source.raw, size)
        except BlockingIOError:
            # What gathers meanwhile moves in one call; see ``gate/splice``.
            self._pause = self._port.call_after(_PAUSE_S, self._poll)
            return False
        except OSError as error:
            self._finish(error.errno or errno.EIO)
            return False
        if not count:
            source.is_ended = True
            self._finish()
            return False
        source.bytes_received += count
        if left is not None:
            self._left = left - count
        if self._is_chunked:
            self._chunk_left = count
            if not self._sink.send(b"%x\r\n" % count):
                self._end.on_splice_stalled()
                return False
        return True

    def _drain(self) -> bool:
        """Give to the sink; False: it takes nothing now."""
        sink = self._sink
        try:
            count = self._pipe.drain(sink.raw)
        except BlockingIOError:
            sink.wait_for_room()
            self._end.on_splice_stalled()
            return False
        except OSError as error:
            self.stop()
            sink.fail_later(error.errno or errno.EIO)
            return False
        sink.bytes_sent += count
        self._end.on_moved(count)
        if self._chunk_left and not self.is_over:
            self._chunk_left -= count
            if not self._chunk_left and not sink.send(b"\r\n"):
                self._end.on_splice_stalled()
                return False
        return True

    def _poll(self) -> None:
        self._pause = None
        if not (self.is_over or self._operation.in_flight):
            self._port.backend.poll(self._operation, self._source.raw.fileno(), POLL_IN)

    def on_ready(self, result: int, _flags: int) -> None:
        """Take the end of a poll, or that it was cancelled because all of this is over."""
        if self.is_over:
            self._source.end_splice()
        elif result < 0 and result != -errno.ECANCELED:
            self._finish(-result)
        elif result >= 0:
            self.run()

    def _finish(self, error: int = 0) -> None:
        """End: with the body, with the stream, or with a failure of the source."""
        self.stop()
        self._source.end_splice(error)
        if not error:
            self._end.on_splice_over()


_FILL_BYTES: Final = 1 << 20
"""The pipe's size: what one call moves at most."""

_MOVES_PER_TURN: Final = 16
"""Fills in one go before others have their turn."""

_PAUSE_S: Final = 0.0005
"""How long a source that has nothing is left alone before it is polled."""
