"""WebSocketCodec: one end of a WebSocket behind its handshake, bytes in and whole messages out.

The relay has one towards each side. wsproto reads and writes the frames; this joins the fragments
and holds the bounds. The invariant: any cut of the input gives the same events, arbitrary bytes
raise ``WebSocketError`` alone, and nothing is read behind a close or a fault.
"""

from __future__ import annotations

from typing import Final

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from .bounds import DEFAULT_WEBSOCKET_BOUNDS, WebSocketBounds
from .deflate import Deflate
from .events import Close, Message, Ping, Pong, WebSocketEvent
from .fault import WebSocketError, WebSocketFault
from .guard import MessageGuard

__all__ = ["WebSocketCodec"]


class WebSocketCodec:
    """One end; ``next_event`` until None after each ``receive_data``."""

    def __init__(
        self,
        *,
        is_client: bool,
        deflate: Deflate | None = None,
        bounds: WebSocketBounds = DEFAULT_WEBSOCKET_BOUNDS,
    ) -> None:
        """Make one.

        Args:
            is_client: Whether this end is the client: it masks, and reads what is not masked.
            deflate: What the handshake agreed on.
            bounds: Of each message that is read.
        """
        self._guard = MessageGuard(is_client=is_client, deflate=deflate, bounds=bounds)
        self._frames = FrameProtocol(is_client, [self._guard])
        self._pieces: list[str | bytes] = []
        self._is_over = False

    @property
    def pending_bytes(self) -> int:
        """What there is of a message whose end has not come, decompressed."""
        return self._guard.size

    # -- reading ---------------------------------------------------------------------------------

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take what the peer sent; behind its close it is dropped."""
        if not self._is_over:
            self._frames.receive_bytes(bytes(data))

    def next_event(self) -> WebSocketEvent | None:
        """Return what has come next, as a whole; None: the rest of it has not.

        Raises:
            WebSocketError: It is no WebSocket, or passes a bound. Nothing is read any more.
        """
        if self._is_over:
            return None
        try:
            for frame in self._frames.received_frames():
                event = self._take(frame)
                if event is not None:
                    return event
        except ParseFailed as error:
            self._is_over = True
            self._pieces.clear()
            raise self._error_of(error) from error
        return None

    def _take(self, frame: Frame) -> WebSocketEvent | None:
        payload, opcode = frame.payload, frame.opcode
        if opcode.iscontrol():
            return self._take_control(opcode, payload)
        assert not isinstance(payload, tuple), "only a close has a code"
        if payload:
            self._pieces.append(payload)
        if not frame.message_finished:
            return None
        pieces = self._pieces
        whole: str | bytes
        if opcode is Opcode.TEXT:
            whole = "".join(one for one in pieces if isinstance(one, str))
        else:
            whole = b"".join(one for one in pieces if isinstance(one, bytes))
        pieces.clear()
        return Message(whole, self._guard.was_compressed)

    def _take_control(
        self, opcode: Opcode, payload: bytes | str | tuple[int, str]
    ) -> WebSocketEvent:
        if opcode is Opcode.CLOSE:
            self._is_over = True
            assert isinstance(payload, tuple), "a close has a code, or 1005 for none"
            code, reason = payload
            return Close(None if code == CloseReason.NO_STATUS_RCVD else int(code), reason)
        assert isinstance(payload, bytes), "a ping has bytes"
        return Ping(payload) if opcode is Opcode.PING else Pong(payload)

    def _error_of(self, error: ParseFailed) -> WebSocketError:
        if self._guard.fault is not None:
            return WebSocketError(self._guard.fault)
        if error.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA:
            # Its words would show what was sent.
            return WebSocketError(WebSocketFault.TEXT)
        return WebSocketError(WebSocketFault.FRAME, str(error))

    # -- writing ---------------------------------------------------------------------------------

    def send(self, event: WebSocketEvent) -> bytes:
        """Return the bytes of an event, each message in one frame.

        Raises:
            ValueError: What a control frame carries is longer than it may be.
        """
        match event:
            case Message(payload, is_compressed):
                guard = self._guard
                guard.compresses_next = bool(is_compressed and payload and guard.may_compress)
                return bytes(self._frames.send_data(payload))
            case Ping(data):
                return bytes(self._frames.ping(data))
            case Pong(data):
                return bytes(self._frames.pong(data))
            case Close(code, reason):
                if len(reason.encode()) > CLOSE_REASON_BYTES_MAX:
                    raise ValueError(f"a reason has at most {CLOSE_REASON_BYTES_MAX} bytes")
                return bytes(self._frames.close(code, reason if code is not None else None))


CLOSE_REASON_BYTES_MAX: Final = 123
"""A control frame has 125 bytes, two of which are the code (RFC 6455 section 5.5)."""
