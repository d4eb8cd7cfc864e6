"""OriginStream: one exchange on a server's connection of HTTP/2.

``OriginCarrier`` makes one for each. The invariant: what the server sends is given back to its
window when somebody took it, what it does not take waits here, one piece, on its client's account;
and a request that was begun ends whole or by a reset.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sluicegate.errors import BadContext, LimitExceeded
from sluicegate.protocols.http1 import Fields, FramingKind, Request
from sluicegate.protocols.http2 import (
    BodyPiece,
    ErrorCode,
    Http2Event,
    ResponseBegan,
    StreamEnded,
    StreamReset,
)
from sluicegate.protocols.websocket import as_extended_connect, as_switched
from sluicegate.web_limits import WEB_JOIN_BYTES_MAX

from .switched import Switched, switch_stream

if TYPE_CHECKING:
    from collections.abc import Collection

    from sluicegate.address import SocketAddress
    from sluicegate.port.account import Kept

    from .body_stage import BodySource, ResponseSink
    from .gate_exchange import GateExchange
    from .origin_carrier import OriginCarrier
    from .stream_tunnel import StreamTunnel

__all__ = ["OriginStream"]


class OriginStream:
    """One stream; satisfies ``ServerSide`` and ``ServerWire``."""

    __slots__ = (
        "_came",
        "_carrier",
        "_end",
        "_exchange",
        "_head",
        "_is_finishing",
        "_left",
        "_offer",
        "_rest",
        "_switched",
        "_trailers",
        "_tunnel",
        "_untaken",
        "address",
        "allowed_by",
        "bytes_received",
        "bytes_sent",
        "has_answered",
        "has_length",
        "is_corked",
        "is_stopped",
        "is_watched",
        "sink",
        "source",
        "stops",
        "stream",
        "was_not_looked_at",
    )

    def __init__(self, carrier: OriginCarrier) -> None:
        self.stream = 0
        #: Its number; 0 before its head was sent.
        self.address: SocketAddress = carrier.address
        self.allowed_by: Collection[SocketAddress] = ()
        self.bytes_received = self.bytes_sent = 0
        self.is_watched = False
        #: What comes is memory of its own, so it makes no difference.
        self.has_answered = self.has_length = self.was_not_looked_at = False
        self.stops = 0
        self.is_corked = self.is_stopped = False
        self.sink: ResponseSink | None = None
        self.source: BodySource | None = None
        self._carrier = carrier
        self._exchange: GateExchange | None = None
        self._came: deque[memoryview] = deque()
        #: What has come and is not wanted yet; the stream's window bounds it.
        self._end: Fields | None = None
        #: The end has come, with these trailers, and was not handed on.
        self._untaken = 0
        #: Bytes that were handed on to somebody who has no room for more.
        self._head: Request | None = None
        #: A head that waits for what follows it in the same turn.
        self._left = -1
        #: What is to come of the request's body; below 0 where nothing says it.
        self._rest: Kept | None = None
        self._is_finishing = False
        self._trailers = _NO_TRAILERS
        self._offer: Request | None = None
        #: A request that offers to switch protocols, which is an extended CONNECT here.
        self._tunnel: StreamTunnel | None = None
        self._switched: Switched | None = None
        #: What the stream has become, for good.

    @property
    def wire(self) -> OriginStream:
        """Its bytes."""
        return self

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the server to take it."""
        return self._rest is not None

    @property
    def is_received(self) -> bool:
        """Whether the end of the response has come, and only somebody else is not ready for it."""
        return self._end is not None

    @property
    def uses(self) -> int:
        """Exchanges that its connection has had."""
        return self._carrier.uses

    def bind_to(self, client: object) -> None:
        """Let nobody but one client's connection use its connection from here on."""
        self._carrier.bind_to(client)

    # -- exchanges -----------------------------------------------------------------------------

    def has_gone(self) -> bool:
        """Tell whether its connection has ended: it says before what it will not look at."""
        return False

    def begin_exchange(self, exchange: GateExchange) -> None:
        """Serve an exchange from now on."""
        self._exchange = exchange

    def let_go(self) -> None:
        """End the service of an exchange: its answer is whole."""
        self._leave()

    def close(self) -> None:
        """End it, whatever it is about."""
        self._leave()

    def _leave(self) -> None:
        """Let go of the exchange; what is not whole by now is reset."""
        if self._switched is not None:
            self._switched.wire.close(abortive=True)  # if it is not closed otherwise by now
            self.give_away()
            return
        exchange, self._exchange = self._exchange, None
        self.sink = self.source = self._head = self._end = None
        self._came.clear()
        rest, self._rest = self._rest, None
        if exchange is None:
            return
        exchange.connection.bytes_to_servers += self.bytes_sent
        if rest is not None:
            self._drop(exchange, rest)
        carrier = self._carrier
        if self.stream:
            carrier.http.reset(self.stream, ErrorCode.CANCEL)
        carrier.on_stream_over(self)

    @staticmethod
    def _drop(exchange: GateExchange, kept: Kept) -> None:
        exchange.connection.blockage.give_up(exchange.session, kept[0])
        kept[0].release()

    # -- the request (RequestSink) -------------------------------------------------------------

    def begin(self, head: Request) -> None:
        """Send the head; it may wait for what follows it in the same turn."""
        framing = head.framing
        self._left = framing.length if framing.kind is FramingKind.LENGTH else -1
        self._head = head
        if not self.is_corked or head.expects_continue:
            self.flush()

    def _send_head(self, *, is_last: bool = False) -> None:
        head = self._head
        if head is None:
            return
        if head.upgrade and not self._carrier.takes_protocols:
            self._wait_to_switch(self._carrier)
            return
        self._head = None
        protocol = b""
        if head.upgrade:
            self._offer, is_last = head, False
            head, protocol = as_extended_connect(head)
        try:
            self.stream = self._carrier.http.send_head(head, is_last=is_last, protocol=protocol)
        except BadContext as error:
            self._fail(f"request: {error}")
            return
        self._carrier.on_stream_began(self)

    def _wait_to_switch(self, carrier: OriginCarrier) -> None:
        """Wait until the server says whether it has other protocols; or fail: it has none."""
        if not carrier.is_settled:
            carrier.await_settings(self)
            return
        self._fail(NO_EXTENDED_CONNECT)
        if carrier.uses == 1:
            carrier.close_when_answered()  # it was dialled for this alone

    def on_settled(self) -> None:
        """Ask for the other protocol now that the server has said whether it has any."""
        self._send_head()
        self._carrier.flush_soon()

    def send_whole(self, request: Request, head: bytes) -> None:
        """Send a request without a body, as one piece."""
        del request, head
        exchange = self._exchange
        assert exchange is not None, "a request is an exchange's"
        self._head = exchange.connection.desk.to_server(exchange)
        self._send_head(is_last=True)
        self._carrier.flush_soon()

    def feed(self, data: bytes | memoryview) -> bool:
        """Send bytes of the body; False while the server does not take them."""
        exchange, size = self._exchange, len(data)
        if exchange is None:
            return True
        exchange.bytes_to_server += size
        if exchange.plan.counts_bodies and not exchange.has_bytes_left:
            return False
        if self._left >= 0:
            if size > self._left:
                self._fail("request-body: more than was declared")
                return True
            self._left -= size
        self._send_head()
        if self._head is not None and self._exchange is not None:
            self._fail("request-body: it comes before the server has said that it switches")
        return self._exchange is None or self._send(data)

    def _send(self, data: bytes | memoryview) -> bool:
        carrier, size = self._carrier, len(data)
        if self._rest is None and not carrier.wire.is_blocked:
            is_small = size <= WEB_JOIN_BYTES_MAX
            sent = carrier.send_data(self.stream, bytes(data) if is_small else data)
            self.bytes_sent += sent
            if is_small:
                carrier.flush_soon()
            else:
                carrier.flush()
            exchange = self._exchange
            if sent == size or exchange is None:
                return True
            data = memoryview(data)[sent:]
        self._keep_rest(data)
        return False

    def _keep_rest(self, data: bytes | memoryview) -> None:
        exchange = self._exchange
        assert exchange is not None, "somebody's request is sent"
        connection = exchange.connection
        try:
            self._rest = connection.blockage.keep_bytes(exchange.session, data)
        except LimitExceeded as error:
            limit = error
            connection.port.post(lambda: exchange.on_limit(limit))
            return
        self._carrier.note_blocked(self)

    def on_room(self) -> None:
        """Send on: the server's windows are open again, or its connection takes bytes."""
        kept, exchange = self._rest, self._exchange
        if exchange is None:
            return
        if kept is not None:
            buffer, start, length = kept
            sent = self._carrier.send_data(self.stream, buffer.view[start : start + length])
            self.bytes_sent += sent
            self._carrier.flush()
            if self._rest is not kept:
                return  # it has ended by it
            if sent < length:
                self._rest = buffer, start + sent, length - sent
                self._carrier.note_blocked(self)
                return
            self._rest = None
            self._drop(exchange, kept)
        if self._is_finishing:
            self._send_end()
        elif self.source is not None:
            self.source.resume()

    def finish(self, trailers: Fields) -> None:
        """Send the end of the request."""
        if self._exchange is None:
            return
        if self._left > 0:
            self._fail("request-body: less than was declared")
            return
        self._trailers = trailers
        if self._rest is None:
            self._send_end()
        else:
            self._is_finishing = True

    def _send_end(self) -> None:
        self._is_finishing = False
        if self._head is not None and not len(self._trailers):
            self._send_head(is_last=True)
        else:
            self._send_head()
            if self._offer is None:
                self._carrier.http.send_end(self.stream, self._trailers)
        self._carrier.flush_soon()
        exchange = self._exchange
        if exchange is not None:
            exchange.on_request_sent()

    def abort(self, reason: str) -> None:
        """Take that the request is not whole: the server must not take it for whole."""
        if self._exchange is not None:
            self._exchange.abort(reason)

    def flush(self) -> bool:
        """Send what waits; False while the server does not take it."""
        self._send_head()
        self._carrier.flush_soon()
        return self._rest is None

    def _fail(self, reason: str) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_origin_failed(reason, self)

    # -- the response (BodySource) -------------------------------------------------------------

    def take(self, event: Http2Event) -> None:
        """Take what came on the stream."""
        if self._tunnel is not None:
            self._pass_on(event, self._tunnel)
        elif isinstance(event, ResponseBegan):
            self._take_head(event)
        elif isinstance(event, BodyPiece):
            self.bytes_received += len(event.data)
            self._came.append(event.data)
            self._go_on()
        elif isinstance(event, StreamEnded):
            self._end = event.trailers
            self._go_on()
        elif isinstance(event, StreamReset):
            self._take_reset(event)

    @staticmethod
    def _pass_on(event: Http2Event, tunnel: StreamTunnel) -> None:
        """Hand on what came for what the stream has switched to."""
        if isinstance(event, BodyPiece):
            tunnel.on_body(event.data)
        elif isinstance(event, StreamEnded):
            tunnel.on_body_end(event.trailers)
        elif isinstance(event, StreamReset):
            tunnel.on_reset()

    def _take_head(self, event: ResponseBegan) -> None:
        exchange, response = self._exchange, event.response
        if exchange is None:
            return
        if self._offer is not None:
            response = as_switched(response, self._offer)
        self.has_answered = True
        exchange.client.is_corked = not exchange.has_response_stages
        self.has_length = response.framing.kind is FramingKind.LENGTH
        if event.is_whole:
            self._end = _NO_TRAILERS
        if not exchange.on_response(response):
            self._stop()
        self._go_on()

    def _take_reset(self, event: StreamReset) -> None:
        """Take that the stream was reset: by the server, or for what it did."""
        fault = event.fault
        if event.code == ErrorCode.REFUSED_STREAM and fault is None:
            self.was_not_looked_at = True
        what = f"server reset the stream: {event.code}"
        self._fail(what if fault is None else f"server-{fault.code}: {fault.hint}")

    def _stop(self) -> None:
        self.is_stopped = True
        self.stops += 1

    def resume(self) -> None:
        """Read on: the sink has room again, or the exchange has decided on the head."""
        if self.is_stopped:
            self.is_stopped = False
            self._give_back()
            self._go_on()
            exchange = self._exchange
            if exchange is not None:
                exchange.client.uncork()

    def _go_on(self) -> None:
        """Hand on what has come, as far as it is wanted."""
        while self._came and not self.is_stopped:
            exchange, sink = self._exchange, self.sink
            if exchange is None:
                return
            assert sink is not None, "a body follows its head"
            data = self._came.popleft()
            self._untaken += len(data)
            exchange.touch()
            if not sink.feed(data):
                self._stop()
            elif not self.is_stopped:
                self._give_back()
        if self._end is not None and not (self.is_stopped or self._came):
            trailers, self._end = self._end, None
            exchange = self._exchange
            if exchange is not None:
                exchange.on_response_whole(trailers)

    def _give_back(self) -> None:
        untaken, self._untaken = self._untaken, 0
        if untaken and self._exchange is not None:
            self._carrier.http.consume(self.stream, untaken)
            self._carrier.flush_soon()

    def uncork(self) -> None:
        """Send on what has waited for more of the same turn."""
        exchange = self._exchange
        if exchange is not None:
            exchange.client.uncork()
            if not exchange.client.has_room and self.sink is exchange.client:
                self._stop()

    # -- what switches to another protocol (RFC 8441) --------------------------------------------

    def switch(self) -> Switched:
        """Return what carries another protocol from here on, behind its 101."""
        exchange, carrier = self._exchange, self._carrier
        assert exchange is not None, "it is an exchange that switches"
        came = [bytes(one) for one in self._came]
        self._came.clear()
        self._tunnel, self._switched = switch_stream(
            carrier.service,
            exchange.session,
            carrier,
            self.stream,
            came,
            has_ended=self._end is not None,
            on_over=self._on_tunnel_over,
            on_closed=_nothing,
        )
        self._end = None
        return self._switched

    def give_away(self) -> None:
        """End the service of an exchange that has switched: its wire is somebody else's."""
        exchange, self._exchange = self._exchange, None
        self.sink = self.source = None
        if exchange is not None:
            exchange.connection.bytes_to_servers += self.bytes_sent

    def _on_tunnel_over(self, tunnel: StreamTunnel) -> None:
        self._tunnel = self._switched = None
        self._carrier.forget_blocked(tunnel)
        self._carrier.on_stream_over(self)

    # -- what goes wrong -----------------------------------------------------------------------

    def on_carrier_failed(self, reason: str, error: int) -> None:
        """Take that the connection failed."""
        if self._tunnel is not None:
            self._tunnel.on_reset()
            return
        exchange = self._exchange
        if exchange is not None:
            exchange.on_origin_failed(reason, self, error)


_NO_TRAILERS: Final = Fields()

NO_EXTENDED_CONNECT: Final = "server-has-no-extended-connect"
"""Of a request to switch protocols, to a server that speaks HTTP/2 and does not say that it can."""


def _nothing() -> None:
    """Nobody waits for the stream to be closed: its connection goes on."""
