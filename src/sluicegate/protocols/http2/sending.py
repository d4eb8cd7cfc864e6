"""Http2Sending: the half of a connection that sends: windows, bodies, ends, and what is reset.

``connection`` stands on it and reads. The invariant: nothing is sent that the peer's windows do not
let, a message ends once, and what a stream that has gone still held of our own windows is given
back.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Sequence

from hpack import Encoder

from sluicegate.errors import BadContext, Side
from sluicegate.protocol_limits import HTTP2_RESET_KNOWN_MAX, HTTP2_TINY_FRAME_BYTES
from sluicegate.protocols.http1.fields import Fields

from .bounds import Http2Bounds
from .events import Http2Event, StreamReset
from .fault import ErrorCode, Http2Fault, Http2ProtocolError, StreamFault
from .field_lists import RawField
from .floods import FloodWatch
from .frames import (
    FRAME_BYTES,
    WINDOW,
    Flag,
    FrameType,
    Setting,
    frame,
    frame_head,
    go_away,
    reset_stream,
    settings,
    window_update,
)
from .stream import Stream

__all__ = ["Http2Sending"]


class Http2Sending(abc.ABC):
    """What one end sends."""

    peer: Side
    #: Whose bytes are read.

    def __init__(self, bounds: Http2Bounds) -> None:
        self.bounds = bounds
        self.floods = FloodWatch(bounds, self.peer)
        self.streams: dict[int, Stream] = {}
        #: By their numbers, those that are not over.
        self.is_leaving = False
        #: Whether GOAWAY was sent.
        self.error: Http2ProtocolError | None = None
        self.last_stream = 0
        #: The highest number that began.
        self._events: deque[Http2Event] = deque()
        self._out: list[bytes | memoryview] = []
        self._open_frame = -1, 0
        #: Where the output ends with data of a stream, and of which one.
        self._encoder = Encoder()
        self._send_window = self._peer_window = WINDOW
        self._owed = 0
        #: Sent, and not given back to the window.
        self._receive_left = bounds.connection_window_bytes
        self._unacknowledged = 0
        self._forgotten: dict[int, None] = {}
        #: Those that we have reset, of which the peer may not know yet.

    @property
    @abc.abstractmethod
    def _last_of_peer(self) -> int:
        """The highest stream of the peer's that was looked at, as GOAWAY names it."""

    def _begin(self, values: dict[int, int]) -> None:
        """Say first what the peer may do."""
        bounds = self.bounds
        values[Setting.INITIAL_WINDOW_SIZE] = bounds.stream_window_bytes
        values[Setting.MAX_HEADER_LIST_SIZE] = bounds.heads.head_bytes_max
        self._out.append(settings(values))
        self._out.append(window_update(0, bounds.connection_window_bytes - WINDOW))

    def take_output(self) -> list[bytes | memoryview]:
        """Return what is to be sent, in this order."""
        out, self._out = self._out, []
        self._open_frame = -1, 0
        return out

    @property
    def has_output(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._out)

    def _refuse(self, fault: Http2Fault, detail: str = "") -> Http2ProtocolError:
        return Http2ProtocolError(fault, self.peer, detail)

    # -- our own windows -----------------------------------------------------------------------

    def consume(self, number: int, size: int) -> None:
        """Take that so much of a stream's data needs no memory any more: the peer may send more."""
        stream = self.streams.get(number)
        if stream is None:
            return  # it was given back when the stream ended
        size = min(size, stream.held)
        stream.held -= size
        self._give_back(size)
        if stream.is_remote_over:
            return
        stream.unacknowledged += size
        if stream.unacknowledged >= self.bounds.stream_window_bytes // 2:
            self._out.append(window_update(number, stream.unacknowledged))
            stream.receive_left += stream.unacknowledged
            stream.unacknowledged = 0

    def _give_back(self, size: int) -> None:
        """Give so much back to the connection's window."""
        self._unacknowledged += size
        if self._unacknowledged >= self.bounds.connection_window_bytes // 2:
            self._out.append(window_update(0, self._unacknowledged))
            self._receive_left += self._unacknowledged
            self._unacknowledged = 0

    # -- the ends of streams -------------------------------------------------------------------

    def _end_remote(self, stream: Stream) -> None:
        stream.is_remote_over = True
        if stream.is_local_over:
            self._drop(stream)

    def _end_local(self, stream: Stream) -> None:
        stream.is_local_over = True
        if stream.is_remote_over:
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        """Forget a stream; what nobody has consumed of it is the connection's again."""
        if self.streams.pop(stream.number, None) is not None and stream.held:
            self._give_back(stream.held)
            stream.held = 0

    def _end_stream(self, stream: Stream, fault: StreamFault) -> None:
        """Reset a stream for what the peer did on it.

        Raises:
            Http2ProtocolError: The peer does so again and again.
        """
        self._reset(stream, fault.fault.error_code)
        self._events.append(StreamReset(stream.number, fault.fault.error_code, fault.fault))
        self.floods.note_reset()

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        number = stream.number
        self._out.append(reset_stream(number, code))
        self._drop(stream)
        self._forget(number)

    def _forget(self, number: int) -> None:
        """Remember that what comes on a stream is not wanted."""
        forgotten = self._forgotten
        forgotten[number] = None
        if len(forgotten) > HTTP2_RESET_KNOWN_MAX:
            del forgotten[next(iter(forgotten))]

    # -- sending -------------------------------------------------------------------------------

    def is_open(self, number: int) -> bool:
        """Tell whether something may still be sent on a stream."""
        stream = self.streams.get(number)
        return stream is not None and not stream.is_local_over

    def is_known(self, number: int) -> bool:
        """Tell whether a direction of a stream is still open."""
        return number in self.streams

    def has_window_for(self, number: int, size: int) -> bool:
        """Tell whether ``send_data`` would send some of so many bytes now, or drop them."""
        stream = self.streams.get(number)
        if stream is None or stream.is_local_over:
            return True
        room = min(size, stream.send_window, self._send_window)
        return room > 0 and not self._waits_for_window(stream, room, size)

    def _waits_for_window(self, stream: Stream, room: int, size: int) -> bool:
        """Tell whether what is left of a window is so little that the peer is to give more first.

        It will: it was sent as much, and has not given that back.
        """
        if room == size or room >= HTTP2_TINY_FRAME_BYTES:
            return False
        return (self._owed if self._send_window < stream.send_window else stream.owed) >= room

    def send_data(self, number: int, data: bytes | memoryview) -> int:
        """Send what the windows let of some bytes of a body; return how many these are.

        A view has to be valid until the output was taken and sent. A stream that is over takes
        everything: nobody wants it.

        Raises:
            Http2ProtocolError: The peer's windows are so small that it is more work than message.
        """
        stream = self.streams.get(number)
        size = len(data)
        if stream is None or not size:
            return size
        if stream.is_local_over:
            raise BadContext("the message was ended")
        room = min(size, stream.send_window, self._send_window)
        if room <= 0:
            return 0
        if room < size and room < HTTP2_TINY_FRAME_BYTES:
            if self._waits_for_window(stream, room, size):
                return 0
            if self.floods.note_tiny():
                raise self._end_for_tiny_windows()
        stream.send_window -= room
        stream.owed += room
        self._send_window -= room
        self._owed += room
        self.floods.note_progress()
        out = self._out
        if room <= FRAME_BYTES:
            out.append(frame_head(FrameType.DATA, 0, number, room))
            out.append(data if room == size else memoryview(data)[:room])
            self._open_frame = len(out), number
            return room
        view = memoryview(data)
        for start in range(0, room, FRAME_BYTES):
            piece = view[start : min(start + FRAME_BYTES, room)]
            out.append(frame_head(FrameType.DATA, 0, number, len(piece)))
            out.append(piece)
        self._open_frame = len(out), number
        return room

    def _end_for_tiny_windows(self) -> Http2ProtocolError:
        error = self.error = self._refuse(Http2Fault.TINY_WINDOW)
        self._out.append(go_away(self._last_of_peer, error.fault.error_code))
        return error

    def send_end(self, number: int, trailers: Fields | None = None) -> None:
        """End a message, whose body was sent."""
        stream = self.streams.get(number)
        if stream is None:
            return
        if stream.is_local_over:
            raise BadContext("the message was ended")
        if trailers is not None and len(trailers):
            fields = [(name.lower(), value) for name, value in trailers.items()]
            self._send_block(number, fields, is_last=True)
        elif self._open_frame == (len(self._out), number):
            # The frame before this one is its last data, and says the end, too.
            size = len(self._out[-1])
            self._out[-2] = frame_head(FrameType.DATA, Flag.END_STREAM, number, size)
        else:
            self._out.append(frame_head(FrameType.DATA, Flag.END_STREAM, number, 0))
        self._end_local(stream)

    def _send_block(self, number: int, fields: Sequence[RawField], *, is_last: bool) -> None:
        """Send a head, in as many frames as it needs."""
        block = self._encoder.encode(fields)
        flags = Flag.END_STREAM if is_last else 0
        if len(block) <= FRAME_BYTES:
            self._out.append(frame(FrameType.HEADERS, flags | Flag.END_HEADERS, number, block))
            return
        kind = FrameType.HEADERS
        for start in range(0, len(block), FRAME_BYTES):
            if start + FRAME_BYTES >= len(block):
                flags |= Flag.END_HEADERS
            self._out.append(frame(kind, flags, number, block[start : start + FRAME_BYTES]))
            kind, flags = FrameType.CONTINUATION, 0

    def reset(self, number: int, code: ErrorCode) -> None:
        """End a stream before its time; nothing where it has ended."""
        stream = self.streams.get(number)
        if stream is not None:
            self._reset(stream, code)

    def leave(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Take no further streams; those that are open go on (GOAWAY)."""
        if not self.is_leaving and self.error is None:
            self.is_leaving = True
            self._out.append(go_away(self._last_of_peer, code))
