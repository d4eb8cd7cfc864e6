"""Http2Connection: one end of a connection: frames in, events out, frames written (RFC 9113).

``Http2Server`` and ``Http2Client`` stand on it; they read and write the heads. Bytes come by
``receive_data``, ``next_event`` goes through them frame by frame, so that what is done about an
event counts for the next frame; ``take_output`` is to be sent after every call.

The invariant: a frame is taken in the one state in which it may come, whatever it carries is
counted (windows, lengths, floods) before anybody sees it, and header blocks are decompressed in
their order even when nobody wants what they say. Only what is wrong with one stream's message ends
that stream alone.

HPACK is the ``hpack`` package's. The states are ours: see the decision about HTTP/2 in
``docs/decisions``.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, cast

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from sluicegate.protocols.http1.fields import Fields

from .bounds import Http2Bounds
from .events import BodyPiece, Http2Event, PeerLeaves, StreamEnded, StreamReset, WindowOpened
from .fault import Http2Fault, Http2ProtocolError, StreamFault
from .field_lists import KnownLists, RawField, read_trailers
from .frames import FRAME_BYTES, HEAD, Flag, FrameType, Setting, frame, go_away
from .sending import Http2Sending
from .stream import Stream

__all__ = ["Http2Connection"]


class Http2Connection(Http2Sending):
    """One end of one connection."""

    def __init__(self, bounds: Http2Bounds, known: KnownLists) -> None:
        super().__init__(bounds)
        self.has_peer_left = False
        #: Whether GOAWAY has come.
        self._known = known
        self._data = b""
        self._at = 0
        #: How much of it was read.
        self._decoder = Decoder(bounds.heads.head_bytes_max)
        self._block: bytearray | None = None
        #: A header block whose end has not come.
        self._block_stream = self._block_flags = self._continuations = 0
        self._has_settings = False
        self._has_time = False

    # -- bytes ---------------------------------------------------------------------------------

    def receive_data(self, data: bytes | memoryview, now: float) -> None:
        """Take bytes; ``next_event`` reads them.

        Args:
            data: What came; it is copied.
            now: The time in seconds, of any clock that only goes on.
        """
        if not self._has_time:
            self._has_time = True
            self.floods.start(now)
        self.floods.now = now
        rest = self._data[self._at :] if self._at < len(self._data) else b""
        self._data = rest + bytes(data) if rest else bytes(data)
        self._at = 0

    def receive_end(self) -> None:
        """Take the end of the peer's stream.

        Raises:
            Http2ProtocolError: It stands inside a frame or a head.
        """
        if self._at < len(self._data) or self._block is not None:
            raise self._refuse(Http2Fault.TRUNCATED)

    @property
    def is_inside_head(self) -> bool:
        """Whether the end of a frame or of a head is still to come."""
        return self._at < len(self._data) or self._block is not None or not self._has_settings

    @property
    def is_settled(self) -> bool:
        """Whether the peer has said its first SETTINGS, which say what it understands."""
        return self._has_settings

    def next_event(self) -> Http2Event | None:
        """Read on; None where the end of the next frame has not come.

        Raises:
            Http2ProtocolError: The connection is over; what says so to the peer is in the output.
        """
        events = self._events
        if events:
            return events.popleft()
        if self.error is not None:
            return None
        try:
            while self._read_frame():
                if events:
                    return events.popleft()
        except Http2ProtocolError as error:
            if self.error is None:
                self.error = error
                self._out.append(go_away(self._last_of_peer, error.fault.error_code))
            raise
        return None

    # -- frames --------------------------------------------------------------------------------

    def _read_frame(self) -> bool:
        """Read a frame; False where it is not whole."""
        data, at = self._data, self._at
        left = len(data) - at
        if left < HEAD:
            return False
        high, low, kind, flags, stream = _FRAME_HEAD.unpack_from(data, at)
        size = high << 16 | low
        if size > FRAME_BYTES:
            raise self._refuse(Http2Fault.FRAME_TOO_LONG, str(size))
        if left < HEAD + size:
            return False
        end = self._at = at + HEAD + size
        stream &= _STREAM_MAX
        if self._block is not None and (
            kind != FrameType.CONTINUATION or stream != self._block_stream
        ):
            raise self._refuse(Http2Fault.FRAME_ORDER, "inside a head")
        if not self._has_settings and (kind != FrameType.SETTINGS or flags & Flag.ACK):
            raise self._refuse(Http2Fault.PREFACE, "SETTINGS come first")
        read = self._readers.get(kind)
        if read is None:
            self.floods.note_control()
            return True
        read(self, flags, stream, memoryview(data)[at + HEAD : end])
        return True

    def _check_stream(self, stream: int) -> None:
        """Refuse a frame that belongs to a stream, and names none."""
        if not stream:
            raise self._refuse(Http2Fault.FRAME_STREAM, "stream 0")

    def _unpadded(self, flags: int, payload: memoryview) -> memoryview:
        if not flags & Flag.PADDED:
            return payload
        if not len(payload):
            raise self._refuse(Http2Fault.FRAME_SIZE, "no padding's length")
        padding = payload[0]
        if padding >= len(payload):
            raise self._refuse(Http2Fault.PADDING)
        return payload[1 : len(payload) - padding]

    def _find(self, number: int) -> Stream | None:
        """Return an open stream; None for one that has ended.

        Raises:
            Http2ProtocolError: It has not begun.
        """
        stream = self.streams.get(number)
        if stream is None and self._is_idle(number):
            raise self._refuse(Http2Fault.STREAM_IDLE, str(number))
        return stream

    @abc.abstractmethod
    def _is_idle(self, number: int) -> bool:
        """Tell whether a stream has never begun."""

    # -- DATA ----------------------------------------------------------------------------------

    def _read_data(self, flags: int, number: int, payload: memoryview) -> None:
        self._check_stream(number)
        size = len(payload)
        stream = self._find(number)
        self._receive_left -= size
        if self._receive_left < 0:
            raise self._refuse(Http2Fault.WINDOW_EXCEEDED, "of the connection")
        data = self._unpadded(flags, payload)
        if len(data):
            self.floods.note_progress()
        elif not flags & Flag.END_STREAM:
            self.floods.note_empty()
        if stream is None or stream.is_remote_over:
            self._give_back(size)
            if stream is not None:
                self._end_stream(stream, StreamFault(Http2Fault.STREAM_CLOSED))
            elif number not in self._forgotten:
                raise self._refuse(Http2Fault.STREAM_CLOSED, str(number))
            return
        stream.receive_left -= size
        stream.held += size
        try:
            self._take_data(stream, data, size, is_last=bool(flags & Flag.END_STREAM))
        except StreamFault as fault:
            self._end_stream(stream, fault)

    def _take_data(self, stream: Stream, data: memoryview, size: int, *, is_last: bool) -> None:
        if stream.receive_left < 0:
            raise StreamFault(Http2Fault.WINDOW_EXCEEDED)
        if not stream.has_head:
            raise StreamFault(Http2Fault.BODY_WITHOUT_HEAD)
        length = len(data)
        if stream.body_left >= 0:
            stream.body_left -= length
            if stream.body_left < 0 or (is_last and stream.body_left):
                raise StreamFault(Http2Fault.LENGTH_WRONG)
        if length:
            if size > length:
                self.consume(stream.number, size - length)  # padding is nobody's
            self._events.append(BodyPiece(stream.number, data, length))
        elif size:
            self.consume(stream.number, size)
        if is_last:
            self._end_remote(stream)
            self._events.append(StreamEnded(stream.number, _NO_TRAILERS))

    # -- HEADERS, CONTINUATION -----------------------------------------------------------------

    def _read_headers(self, flags: int, number: int, payload: memoryview) -> None:
        self._check_stream(number)
        data = self._unpadded(flags, payload)
        if flags & Flag.PRIORITY:
            if len(data) < _PRIORITY_BYTES:
                raise self._refuse(Http2Fault.FRAME_SIZE, "no room for a priority")
            if _WORD.unpack_from(data)[0] & _STREAM_MAX == number:
                raise self._refuse(Http2Fault.DEPENDENCY)
            data = data[_PRIORITY_BYTES:]
        if flags & Flag.END_HEADERS:
            self._read_block(number, bytes(data), is_last=bool(flags & Flag.END_STREAM))
            return
        self._block = bytearray(data)
        self._block_stream, self._block_flags, self._continuations = number, flags, 0

    def _read_continuation(self, flags: int, number: int, payload: memoryview) -> None:
        block = self._block
        if block is None:
            raise self._refuse(Http2Fault.FRAME_ORDER, "CONTINUATION of nothing")
        self._continuations += 1
        if self._continuations > self.bounds.continuations_max:
            raise self._refuse(Http2Fault.TOO_MANY_CONTINUATIONS)
        if not len(payload):
            self.floods.note_empty()
        block += payload
        if len(block) > self.bounds.heads.head_bytes_max:
            raise self._refuse(Http2Fault.BLOCK_TOO_LARGE)
        if flags & Flag.END_HEADERS:
            self._block = None
            is_last = bool(self._block_flags & Flag.END_STREAM)
            self._read_block(number, bytes(block), is_last=is_last)

    def _read_block(self, number: int, block: bytes, *, is_last: bool) -> None:
        """Decompress a head, then take it where it belongs."""
        try:
            fields = cast("list[RawField]", self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise self._refuse(Http2Fault.BLOCK_TOO_LARGE) from error
        except (HPACKError, IndexError, UnicodeDecodeError) as error:
            raise self._refuse(Http2Fault.COMPRESSION) from error
        stream = self.streams.get(number)
        if stream is None:
            stream = self._open_from_peer(number)
            if stream is None:
                return
        try:
            if stream.is_remote_over:
                raise StreamFault(Http2Fault.STREAM_CLOSED)
            if stream.has_head:
                self._take_trailers(stream, fields, is_last=is_last)
            else:
                self._take_head(stream, fields, is_last=is_last)
        except StreamFault as fault:
            self._end_stream(stream, fault)

    @abc.abstractmethod
    def _open_from_peer(self, number: int) -> Stream | None:
        """Open a stream that a head names and that is not open; None: the head is not wanted.

        Raises:
            Http2ProtocolError: It can be no new one.
        """

    @abc.abstractmethod
    def _take_head(self, stream: Stream, fields: Sequence[RawField], *, is_last: bool) -> None:
        """Take a message's head.

        Raises:
            StreamFault: It is malformed.
        """

    def _take_trailers(self, stream: Stream, fields: Sequence[RawField], *, is_last: bool) -> None:
        if not is_last or stream.is_tunnel:
            raise StreamFault(Http2Fault.TRAILERS)
        if stream.body_left > 0:
            raise StreamFault(Http2Fault.LENGTH_WRONG)
        trailers = read_trailers(fields, self.bounds.heads)
        self._end_remote(stream)
        self._events.append(StreamEnded(stream.number, trailers))

    # -- other frames --------------------------------------------------------------------------

    def _read_priority(self, _flags: int, number: int, payload: memoryview) -> None:
        """Read what RFC 9113 section 5.3 has taken back; its form is checked all the same."""
        self._check_stream(number)
        self.floods.note_control()
        if len(payload) != _PRIORITY_BYTES:
            raise self._refuse(Http2Fault.FRAME_SIZE, "PRIORITY")
        if _WORD.unpack_from(payload)[0] & _STREAM_MAX == number:
            raise self._refuse(Http2Fault.DEPENDENCY)

    def _read_reset(self, _flags: int, number: int, payload: memoryview) -> None:
        self._check_stream(number)
        if len(payload) != _WORD.size:
            raise self._refuse(Http2Fault.FRAME_SIZE, "RST_STREAM")
        stream = self._find(number)
        self.floods.note_reset()
        if stream is not None:
            self._drop(stream)
            self._events.append(StreamReset(number, _WORD.unpack(payload)[0]))

    def _read_settings(self, flags: int, number: int, payload: memoryview) -> None:
        if number:
            raise self._refuse(Http2Fault.FRAME_STREAM, "SETTINGS")
        size = len(payload)
        if size % _SETTING.size or (flags & Flag.ACK and size):
            raise self._refuse(Http2Fault.FRAME_SIZE, "SETTINGS")
        self.floods.note_control()
        if flags & Flag.ACK:
            return
        if size // _SETTING.size > self.bounds.settings_max:
            raise self._refuse(Http2Fault.TOO_MANY_SETTINGS)
        for key, value in _SETTING.iter_unpack(payload):
            self._take_setting(key, value)
        self._has_settings = True
        self._out.append(_SETTINGS_ACK)

    def _take_setting(self, key: int, value: int) -> None:
        if key == Setting.HEADER_TABLE_SIZE:
            # Ours is never larger than what it is at first, however large the peer's could be.
            self._encoder.header_table_size = min(value, _TABLE_BYTES)
        elif key == Setting.INITIAL_WINDOW_SIZE:
            self._take_window(value)
        elif key == Setting.MAX_FRAME_SIZE:
            if not FRAME_BYTES <= value < 1 << 24:
                raise self._refuse(Http2Fault.SETTING, "MAX_FRAME_SIZE")
        elif key in _SWITCHES and value > 1:
            raise self._refuse(Http2Fault.SETTING, "a switch is 0 or 1")
        else:
            self._take_own_setting(key, value)

    @abc.abstractmethod
    def _take_own_setting(self, key: int, value: int) -> None:
        """Take what only one side's peers say."""

    def _take_window(self, value: int) -> None:
        if value > _WINDOW_MAX:
            raise self._refuse(Http2Fault.WINDOW_OVERFLOW, "INITIAL_WINDOW_SIZE")
        change, self._peer_window = value - self._peer_window, value
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > _WINDOW_MAX:
                raise self._refuse(Http2Fault.WINDOW_OVERFLOW, "INITIAL_WINDOW_SIZE")
        if change > 0:
            self._events.append(WindowOpened(0))

    def _read_push(self, _flags: int, _number: int, _payload: memoryview) -> None:
        raise self._refuse(Http2Fault.PUSH)

    def _read_ping(self, flags: int, number: int, payload: memoryview) -> None:
        if number:
            raise self._refuse(Http2Fault.FRAME_STREAM, "PING")
        if len(payload) != _PING_BYTES:
            raise self._refuse(Http2Fault.FRAME_SIZE, "PING")
        self.floods.note_control()
        if not flags & Flag.ACK:
            self._out.append(frame(FrameType.PING, Flag.ACK, 0, bytes(payload)))

    def _read_go_away(self, _flags: int, number: int, payload: memoryview) -> None:
        if number:
            raise self._refuse(Http2Fault.FRAME_STREAM, "GOAWAY")
        if len(payload) < _TWO_WORDS.size:
            raise self._refuse(Http2Fault.FRAME_SIZE, "GOAWAY")
        self.floods.note_control()
        last, code = _TWO_WORDS.unpack_from(payload)
        self.has_peer_left = True
        self._events.append(PeerLeaves(last & _STREAM_MAX, code))

    def _read_window_update(self, _flags: int, number: int, payload: memoryview) -> None:
        if len(payload) != _WORD.size:
            raise self._refuse(Http2Fault.FRAME_SIZE, "WINDOW_UPDATE")
        self.floods.note_control()
        increment = _WORD.unpack(payload)[0] & _STREAM_MAX
        if not number:
            if not increment:
                raise self._refuse(Http2Fault.WINDOW_ZERO)
            self._send_window += increment
            self._owed = max(0, self._owed - increment)
            if self._send_window > _WINDOW_MAX:
                raise self._refuse(Http2Fault.WINDOW_OVERFLOW, "of the connection")
            self._events.append(WindowOpened(0))
            return
        stream = self._find(number)
        if stream is None:
            return
        stream.send_window += increment
        stream.owed = max(0, stream.owed - increment)
        if not increment:
            self._end_stream(stream, StreamFault(Http2Fault.WINDOW_ZERO))
        elif stream.send_window > _WINDOW_MAX:
            self._end_stream(stream, StreamFault(Http2Fault.WINDOW_OVERFLOW))
        elif not stream.is_local_over:
            self._events.append(WindowOpened(number))

    _readers: ClassVar[dict[int, Callable[[Http2Connection, int, int, memoryview], None]]] = {
        FrameType.DATA: _read_data,
        FrameType.HEADERS: _read_headers,
        FrameType.PRIORITY: _read_priority,
        FrameType.RST_STREAM: _read_reset,
        FrameType.SETTINGS: _read_settings,
        FrameType.PUSH_PROMISE: _read_push,
        FrameType.PING: _read_ping,
        FrameType.GOAWAY: _read_go_away,
        FrameType.WINDOW_UPDATE: _read_window_update,
        FrameType.CONTINUATION: _read_continuation,
    }


_NO_TRAILERS: Final = Fields()
_FRAME_HEAD: Final = struct.Struct(">BHBBL")
_WORD: Final = struct.Struct(">L")
_TWO_WORDS: Final = struct.Struct(">LL")
_SETTING: Final = struct.Struct(">HL")
_STREAM_MAX: Final = (1 << 31) - 1
_WINDOW_MAX: Final = (1 << 31) - 1
_TABLE_BYTES: Final = 4096
_PRIORITY_BYTES: Final = 5
_PING_BYTES: Final = 8
_SWITCHES: Final = frozenset({Setting.ENABLE_PUSH, Setting.ENABLE_CONNECT_PROTOCOL})
_SETTINGS_ACK: Final = frame(FrameType.SETTINGS, Flag.ACK, 0)
