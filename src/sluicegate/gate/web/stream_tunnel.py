"""StreamTunnel: one stream of HTTP/2 as a socket, for what is no HTTP any more.

``stream_handshake`` makes one of a client's CONNECT, ``switched`` one of either side of an exchange
that has switched protocols (RFC 8441). So tunnels are judged, filtered, pumped and recorded by what
does it for all others. The invariant: bytes pass in order and once, at the pace of the stream's
windows; and a stream that was cut off is an error, never an end.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override

from sluicegate.port.layer import LayeredSocket
from sluicegate.port.layered_driver import LayeredDriver
from sluicegate.protocols.http2 import ErrorCode
from sluicegate.web_limits import WEB_JOIN_BYTES_MAX, WEB_LINGER_S

if TYPE_CHECKING:
    from sluicegate.gate.service import FirewallService
    from sluicegate.port import CompletionPort
    from sluicegate.port.backend import RawSocket
    from sluicegate.port.timers import Timer
    from sluicegate.protocols.http1 import Fields
    from sluicegate.protocols.http2 import Http2Connection

    from .gate_exchange import GateExchange
    from .wire import Wire

__all__ = ["RoomTaker", "StreamCarrier", "StreamTunnel"]


class RoomTaker(Protocol):
    """Who waits for the windows of a stream, or for its connection."""

    @property
    def stream(self) -> int:
        """Its number."""
        ...

    def on_room(self) -> None:
        """Take that there may be room for more."""
        ...


class StreamCarrier(Protocol):
    """A connection of HTTP/2, to a client or to a server."""

    wire: Wire

    @property
    def http(self) -> Http2Connection:
        """Its states."""
        ...

    @property
    def port(self) -> CompletionPort:
        """Whose turns it runs in."""
        ...

    @property
    def service(self) -> FirewallService:
        """The running service."""
        ...

    def send_data(self, stream: int, data: bytes | memoryview) -> int:
        """Send what the windows let; return how much that was."""
        ...

    def consume(self, stream: int, size: int) -> None:
        """Let the peer send more."""
        ...

    def note_blocked(self, taker: RoomTaker, /) -> None:
        """Serve a stream when there is room for it."""
        ...

    def flush(self) -> None:
        """Send what waits."""
        ...

    def flush_soon(self) -> None:
        """Send at the end of this turn."""
        ...


class StreamTunnel(LayeredDriver):
    """One stream; satisfies ``SocketDriver`` and ``StreamUser``."""

    __slots__ = (
        "_came",
        "_carrier",
        "_on_over",
        "_refused",
        "_reset_code",
        "_timer",
        "exchange",
        "has_ended",
        "stream",
    )

    def __init__(
        self,
        carrier: StreamCarrier,
        stream: int,
        came: Iterable[bytes],
        on_over: Callable[[StreamTunnel], None],
        reset_code: ErrorCode,
    ) -> None:
        """Make a socket of a stream.

        Args:
            carrier: Whose stream it is.
            stream: Its number.
            came: What has come on it and was not consumed.
            on_over: Is told when nobody uses the stream any more.
            reset_code: What a reset of it is told as.
        """
        super().__init__(carrier.port, carrier.service.entries.tls.pool)
        self.stream = stream
        self.exchange: GateExchange | None = None
        #: What it was before it switched, while that goes on; a tunnel is no exchange.
        self._carrier = carrier
        self._on_over = on_over
        self._reset_code = reset_code
        self._came: deque[tuple[memoryview, int]] = deque(
            (memoryview(one), len(one)) for one in came
        )
        #: Received and not delivered, with what each takes of the window; the window bounds it.
        self.has_ended = False
        #: Whether the peer sends nothing more.
        self._timer: Timer | None = None
        #: Until when its peer may end it, once its user has closed it.
        self._refused = 1
        #: How much was to be written last: whether there is room depends on it.

    def as_socket(self) -> RawSocket:
        """Return what its user has in the place of a socket; it is had by that, and has it not."""
        return StreamSocket(self, self._carrier.wire.raw)

    # -- what comes on the stream (StreamUser) ---------------------------------------------------

    def on_body(self, data: memoryview) -> None:
        """Take bytes from the client."""
        if self.is_released:
            return  # it gets no more window than it has
        self._came.append((data, len(data)))
        self._deliver()

    _lingers = True
    #: Whether the peer gets some time to read our end, and to end its own direction: a reset, even
    #: one without an error, makes some readers throw away what they have not looked at.

    def on_body_end(self, trailers: Fields) -> None:
        """Take the end of the client's direction."""
        del trailers
        self.has_ended = True
        if self.is_released:
            self._forget()
        else:
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
        return bool(self._came or self.has_ended or self.error)

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
        if self.error or self.has_ended:
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
        """Send what the windows let.

        Raises:
            BlockingIOError: They let nothing now.
            OSError: The stream is over.
        """
        if self.error:
            raise OSError(self.error, "the stream was reset")
        if self.is_released or self._is_shut:
            raise BrokenPipeError(errno.EPIPE, "the stream was ended")
        carrier, size = self._carrier, len(data)
        self._refused = size
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

    @property
    @override
    def _has_room(self) -> bool:
        carrier, writing = self._carrier, self._writing
        if carrier.wire.is_blocked:
            return False
        size = self._refused if writing is None else writing[2] - writing[1]
        return carrier.http.has_window_for(self.stream, size)

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

    def _end_whole(self) -> None:
        """End our direction because its user is through with it."""
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
        if not (abortive or self.error):
            self._end_whole()
            if self._lingers and carrier.http.is_known(self.stream):
                self._timer = self._port.call_after(WEB_LINGER_S, self._end_linger)
                return
        # What the peer still sends is not wanted; a tunnel that was cut off is told as one.
        self._reset(self._reset_code if abortive else ErrorCode.NO_ERROR)

    def _end_linger(self) -> None:
        self._reset(ErrorCode.NO_ERROR)

    def _reset(self, code: ErrorCode) -> None:
        self._carrier.http.reset(self.stream, code)
        self._carrier.flush_soon()
        self._forget()

    def _forget(self) -> None:
        self.exchange = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        on_over, self._on_over = self._on_over, _nothing
        on_over(self)


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


_NO_DESCRIPTOR: Final = (1 << 31) - 1
"""Every system call refuses it."""


def _nothing(_tunnel: StreamTunnel) -> None:
    """Tell nobody: it was told."""
