"""StreamTunnel: one stream of HTTP/2 as a socket, for what a client asks CONNECT for.

``multiplexed`` makes one for each CONNECT and begins a handshake on it, as on any client's socket:
what it reads first is the request as HTTP/1 would say it, and what is answered first is said in
HTTP/2 (RFC 9113 section 8.5). So tunnels are judged, filtered, pumped and recorded by what does it
for all others. The invariant: bytes pass in order and once, at the pace of the stream's windows;
and a stream that was cut off is an error, never an end.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.gate.entry_answers import EntryAnswer
from sluicegate.gate.entry_dialogue import EntryRequest, Step
from sluicegate.gate.entry_handshake import EntryHandshake
from sluicegate.port.layer import LayeredSocket
from sluicegate.port.layered_driver import LayeredDriver
from sluicegate.protocols.http2 import ErrorCode
from sluicegate.web_limits import WEB_JOIN_BYTES_MAX

if TYPE_CHECKING:
    from sluicegate.gate.flood_count import FloodClient
    from sluicegate.port.backend import RawSocket
    from sluicegate.protocols.http1 import Fields, Request

    from .gate_exchange import GateExchange
    from .multiplexed import MultiplexedConnection

__all__ = ["StreamHandshake", "StreamTunnel", "connect_text"]


class StreamTunnel(LayeredDriver):
    """One stream; satisfies ``SocketDriver`` and ``StreamUser``."""

    __slots__ = ("_came", "_carrier", "_has_ended", "_is_answered", "exchange", "socket", "stream")

    def __init__(self, carrier: MultiplexedConnection, stream: int, first: bytes) -> None:
        super().__init__(carrier.port, carrier.service.entries.tls.pool)
        self.stream = stream
        self.socket = StreamSocket(self, carrier.wire.raw)
        self.exchange: GateExchange | None = None
        #: None: a tunnel is no exchange.
        self._carrier = carrier
        self._came: deque[tuple[memoryview, int]] = deque([(memoryview(first), 0)])
        #: Received and not delivered, with what each takes of the window; the window bounds it.
        self._has_ended = False
        self._is_answered = False

    # -- what comes on the stream (StreamUser) ---------------------------------------------------

    def on_body(self, data: memoryview) -> None:
        """Take bytes from the client."""
        if self.is_released:
            self._carrier.consume(self.stream, len(data))
            return
        self._came.append((data, len(data)))
        self._deliver()

    def on_body_end(self, trailers: Fields) -> None:
        """Take the end of the client's direction."""
        del trailers
        self._has_ended = True
        self._deliver()

    def on_reset(self) -> None:
        """Take that the client has cut the stream off."""
        self._fail()

    def on_fault(self, reason: str) -> None:
        """Take that the client did what it may not, for which the stream was reset."""
        del reason
        self._fail()

    def end_with_carrier(self) -> None:
        """End with the client's connection."""
        self._fail()

    def _fail(self) -> None:
        self.error = self.error or errno.ECONNRESET
        self._came.clear()
        if not self.is_released:
            self._post()
            return
        self._forget()

    def on_room(self) -> None:
        """Send on: the client's windows are open again."""
        self._go_on_writing()

    # -- the driver: receiving -----------------------------------------------------------------

    @property
    @override
    def _has_news(self) -> bool:
        return bool(self._came or self._has_ended or self.error)

    @override
    def go_on(self) -> None:
        if not self.is_released:
            self._deliver()
        if not self.is_released:
            self._go_on_writing()

    @override
    def _deliver(self) -> None:
        super()._deliver()
        if not self.is_released:
            self._carrier.flush_soon()

    @override
    def _tell_end(self) -> None:
        if self.error or self._has_ended:
            self._end_reading(-self.error)

    @override
    def _fill(self, view: memoryview) -> int:
        """Fill memory with what came; the client may send as much again."""
        filled = 0
        while self._came and filled < len(view):
            data, size = self._came.popleft()
            piece = data[: len(view) - filled]
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
            taken = min(size, len(piece))
            if taken:
                self._carrier.consume(self.stream, taken)
            if len(piece) < len(data):
                self._came.appendleft((data[len(piece) :], size - taken))
        return filled

    # -- the driver: sending -------------------------------------------------------------------

    @override
    def write(self, data: memoryview | bytes) -> int:
        """Send what the windows let; the first piece is the answer to CONNECT.

        Raises:
            BlockingIOError: They let nothing now.
            OSError: The stream is over.
        """
        if self.error:
            raise OSError(self.error, "the stream was reset")
        if self.is_released or self._is_shut:
            raise BrokenPipeError(errno.EPIPE, "the stream was ended")
        carrier, size = self._carrier, len(data)
        if not self._is_answered:
            self._is_answered = True
            self._answer(bytes(data))
            return size
        if carrier.wire.is_blocked:
            raise BlockingIOError(errno.EAGAIN, "no room")
        is_small = size <= WEB_JOIN_BYTES_MAX
        sent = carrier.send_data(self.stream, bytes(data) if is_small else data)
        if is_small:
            carrier.flush_soon()
        else:
            carrier.flush()
        if not sent and size:
            raise BlockingIOError(errno.EAGAIN, "no room")
        return sent

    def _answer(self, text: bytes) -> None:
        """Say in HTTP/2 what a client of HTTP/1 would be answered."""
        head, _, body = text.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        fields = [(b":status", line.split(b" ")[1])]
        for one in lines:
            name, _, value = one.partition(b": ")
            if name.lower() != b"connection":
                fields.append((name.lower(), value))
        http = self._carrier.http
        http.send_fields(self.stream, fields)
        if body:
            http.send_data(self.stream, body)
        self._carrier.flush_soon()

    @property
    @override
    def _has_room(self) -> bool:
        carrier = self._carrier
        is_open = not carrier.wire.is_blocked and carrier.http.window_of(self.stream) > 0
        return is_open or not self._is_answered

    @override
    def _wait_for_room(self) -> None:
        self._carrier.note_blocked(self)

    # -- the end -------------------------------------------------------------------------------

    def shut(self) -> None:
        """End our direction, behind what was sent."""
        if not (self._is_shut or self.is_released):
            self._is_shut = True
            if self._writer is None:
                self._end_stream()

    @override
    def _end_stream(self) -> None:
        http = self._carrier.http
        if http.is_open(self.stream):
            http.send_end(self.stream)
            self._carrier.flush_soon()

    @override
    def release(self, *, abortive: bool) -> None:
        """Close, as its user did: behind what was sent, or with a reset."""
        if self.is_released:
            return
        assert self._reader is None, "an operation is in flight"
        assert self._writer is None, "an operation is in flight"
        self.is_released = True
        carrier = self._carrier
        while self._came:
            _, size = self._came.popleft()
            if size:
                carrier.consume(self.stream, size)
        if not (abortive or self.error) and self._is_answered:
            self._end_stream()
        # What the client still sends is not wanted; a tunnel that was cut off is told as one.
        code = ErrorCode.CONNECT_ERROR if abortive else ErrorCode.NO_ERROR
        carrier.http.reset(self.stream, code)
        carrier.flush_soon()
        self._forget()

    def _forget(self) -> None:
        self._carrier.on_tunnel_over(self)


class StreamSocket(LayeredSocket):
    """What the users of a tunnel have in the place of a socket; satisfies ``RawSocket``."""

    __slots__ = ("tunnel",)

    def __init__(self, tunnel: StreamTunnel, inner: RawSocket) -> None:
        super().__init__(inner, tunnel)
        self.tunnel = tunnel

    def fileno(self) -> int:
        """Return -1 once this socket was closed; before, what is no descriptor.

        It has none of its own, and whoever asks wants to know whether it was closed: that of the
        client's connection may be closed already while this one is not.
        """
        return -1 if self.tunnel.is_released else _NO_DESCRIPTOR

    @override
    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        """Leave the client's socket as it is: it has other streams."""

    def send(self, data: memoryview | bytes, flags: int = 0, /) -> int:
        """Send what there is room for.

        Raises:
            BlockingIOError: There is none.
            OSError: The stream is over.
        """
        del flags
        return self.tunnel.write(data)

    def shutdown(self, how: int, /) -> None:
        """End our direction, behind what was sent."""
        del how
        self.tunnel.shut()

    def close(self) -> None:
        """Close, behind what was sent."""
        self.tunnel.release(abortive=False)


class StreamHandshake(EntryHandshake):
    """A client that asks for a tunnel on a stream."""

    __slots__ = ("_refusal",)

    def __init__(
        self, carrier: MultiplexedConnection, tunnel: StreamTunnel, flood: FloodClient
    ) -> None:
        entry = carrier.entry
        assert entry is not None, "only proxy listeners have such clients"
        desk = carrier.service.entries
        name = carrier.listener_name
        super().__init__(desk, name, entry, tunnel.socket, carrier.client_address, flood)
        self._refusal = carrier.refusal
        self.user = carrier.session.user
        self.announced = carrier.announced
        # No listener is called so; what was asked for without a password is known apart.
        known_as = f"{name} by a stream, authentication {entry.authenticate}"
        self._opening = desk.openings.beginning(known_as, entry)

    @property
    @override
    def refusal(self) -> str:
        return self._refusal

    @override
    def take_step(self, step: Step) -> None:
        """As for everybody; a request by a certificate that names nobody is refused."""
        if self._refusal and isinstance(step, EntryRequest):
            self._desk.record_refusal(self, self._refusal, target=str(step.destination))
            self.refuse(EntryAnswer.NOT_ALLOWED)
        else:
            super().take_step(step)


def connect_text(request: Request) -> bytes:
    """Return a CONNECT as HTTP/1 says it."""
    host = bytes(request.target)
    lines = [b"CONNECT %b HTTP/1.1" % host, b"Host: %b" % host]
    lines += [
        b"Proxy-Authorization: %b" % value
        for name, value in request.hop_fields
        if name == b"proxy-authorization"
    ]
    return b"\r\n".join([*lines, b"", b""])


_NO_DESCRIPTOR: Final = (1 << 31) - 1
"""Every system call refuses it."""
