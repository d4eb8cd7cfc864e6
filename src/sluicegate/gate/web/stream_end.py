"""StreamEnd: the client's side of exchanges on one stream of HTTP/2 after the other.

Each ``StreamConnection`` has one; ``multiplexed`` hands it what comes on its stream. The invariant:
a body moves as fast as the other side takes it: what the client sends is given back to its window
when it was taken, and what it does not take waits here, one piece, on its session's account; an
answer that was begun ends whole or by a reset.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sluicegate.errors import LimitExceeded
from sluicegate.filterapi import Outcome
from sluicegate.protocols.http1 import (
    NO_BODY,
    Fields,
    Framing,
    FramingKind,
    KnownResponse,
    Request,
    Response,
    Target,
)
from sluicegate.protocols.http1.framing import has_no_body
from sluicegate.protocols.http2 import ErrorCode, whole_fields
from sluicegate.protocols.websocket import as_stream_answer
from sluicegate.web_limits import WEB_JOIN_BYTES_MAX

from .gate_exchange import CLIENT_GONE, GateExchange
from .grpc_refusal import is_grpc
from .switched import Switched, switch_stream
from .switching import NOT_SWITCHED

if TYPE_CHECKING:
    from sluicegate.gate.session import GateSession
    from sluicegate.port.account import Kept

    from .body_stage import BodySource, RequestSink
    from .multiplexed import MultiplexedConnection
    from .origin_end import OriginEnd
    from .stream_connection import StreamConnection

__all__ = ["StreamEnd"]


class StreamEnd:
    """One stream's client; satisfies ``ClientSide`` and ``ClientWire``."""

    __slots__ = (
        "_came",
        "_carrier",
        "_connection",
        "_end",
        "_head",
        "_is_bodiless",
        "_is_finishing",
        "_is_stopped",
        "_left",
        "_rest",
        "_sink",
        "_switched",
        "_trailers",
        "_untaken",
        "bytes_received",
        "bytes_sent",
        "committed",
        "exchange",
        "head_began",
        "is_closing",
        "is_corked",
        "is_request_whole",
        "linger_until",
        "session",
        "source",
        "stream",
    )

    def __init__(self, connection: StreamConnection, carrier: MultiplexedConnection) -> None:
        self.stream = 0
        #: The present one's number; 0 while there is none.
        self.exchange: GateExchange | None = None
        self.session: GateSession | None = connection.session
        self.bytes_received = self.bytes_sent = 0
        self.head_began = self.linger_until = 0.0
        self.is_closing = self.is_corked = False
        self.is_request_whole = True
        self.source: BodySource | None = None
        self.committed: Framing | None = None
        #: A head is sent whole or not at all here.
        self._connection = connection
        self._carrier = carrier
        self._sink: RequestSink | None = None
        #: Where the request's body goes; None until it may come.
        self._came: deque[Kept] = deque()
        #: What came of it and is not wanted yet.
        self._end: Fields | None = None
        #: The end of it has come, with these trailers, and was not handed on.
        self._is_stopped = False
        self._untaken = 0
        #: Bytes that were handed on to somebody who has no room for more.
        self._head: Response | None = None
        #: A head that waits for what follows it in the same turn.
        self._left = -1
        #: What is to come of the answer's body; below 0 where nothing says it.
        self._is_bodiless = False
        self._rest: Kept | None = None
        #: What the client's windows do not let yet.
        self._is_finishing = False
        self._trailers = _NO_TRAILERS
        self._switched: Switched | None = None
        #: What the stream has become, for good.

    @property
    def wire(self) -> StreamEnd:
        """Its bytes."""
        return self

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the client to take it."""
        return self._rest is not None

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return self._rest is None

    # -- the request ---------------------------------------------------------------------------

    def begin_request(self, stream: int, request: Request, number: int, *, is_whole: bool) -> None:
        """Take the head of a request that has come on a stream."""
        self._begin(stream)
        framing = request.framing
        has_body = framing is not NO_BODY and (framing.length > 0 or framing.is_chunked)
        self.is_request_whole = is_whole or not has_body
        connection = self._connection
        exchange = self.exchange = GateExchange(connection, self, request, number)
        if is_whole and self.must_switch:
            self._end = _NO_TRAILERS
        connection.on_exchange_began(exchange)
        exchange.begin()

    def _begin(self, stream: int) -> None:
        self.stream = stream
        self.session = self._connection.session
        self.is_corked = self._is_stopped = self._is_finishing = self._is_bodiless = False
        self._untaken, self._left = 0, -1
        self._end = self._head = None

    def open_request(self, sink: RequestSink) -> None:
        """Let the body of the request come."""
        if self.is_request_whole:
            sink.finish(_NO_TRAILERS)
            return
        self._sink = sink
        self._connection.begin_window()
        self._go_on()

    def on_body(self, data: memoryview) -> None:
        """Take bytes of the request's body."""
        self.bytes_received += len(data)
        if self.exchange is None:
            self._carrier.consume(self.stream, len(data))
        elif self._sink is None or self._is_stopped or self._came:
            self._keep(data)
        else:
            self._hand_on(data)

    def _keep(self, data: memoryview) -> None:
        connection = self._connection
        try:
            self._came.append(connection.blockage.keep_bytes(connection.session, data))
        except LimitExceeded as error:
            connection.on_limit(error)

    def _hand_on(self, data: memoryview) -> None:
        sink, stream = self._sink, self.stream
        assert sink is not None, "somebody takes the body"
        self._untaken += len(data)
        if not sink.feed(data):
            self._is_stopped = True
        elif self.stream == stream and not self._is_stopped:
            self._give_back()

    def _give_back(self) -> None:
        untaken, self._untaken = self._untaken, 0
        if untaken:
            self._carrier.consume(self.stream, untaken)

    def on_body_end(self, trailers: Fields) -> None:
        """Take the end of the request."""
        if self.exchange is None or (self.is_request_whole and not self.must_switch):
            return
        self._end = trailers
        if self._sink is not None and not (self._is_stopped or self._came):
            self._finish_request()

    def _finish_request(self) -> None:
        sink, trailers = self._sink, self._end
        assert sink is not None, "somebody takes the body"
        assert trailers is not None, "the end has come"
        self._end = None
        self.is_request_whole = True
        sink.finish(trailers)

    def resume(self) -> None:
        """Read on: whoever takes the request's body has room again."""
        if self._is_stopped:
            self._is_stopped = False
            self._give_back()
            self._go_on()

    def _go_on(self) -> None:
        """Hand on what has come, as far as it is wanted."""
        while self._came and not self._is_stopped and self.exchange is not None:
            kept = self._came.popleft()
            self._hand_on(kept[0].view[kept[1] : kept[1] + kept[2]])
            self._drop(kept)
        if self._end is not None and not (self._is_stopped or self._came):
            self._finish_request()
        self._carrier.flush_soon()

    def _drop(self, kept: Kept) -> None:
        connection = self._connection
        connection.blockage.give_up(connection.session, kept[0])
        kept[0].release()

    @property
    def is_awaited(self) -> bool:
        """Whether the client is to send more of its request, and nothing keeps it from it."""
        return not (self.is_request_whole or self._is_stopped or self._end is not None)

    def on_reset(self) -> None:
        """Take that the client gives this exchange up."""
        exchange = self.exchange
        if exchange is not None:
            exchange.note_end(Outcome.FAILED, CLIENT_GONE)
            self.drop_exchange()

    def on_fault(self, reason: str) -> None:
        """Take that the client did on its stream what it may not, for which it was reset."""
        exchange = self.exchange
        if exchange is not None:
            exchange.note_end(Outcome.REFUSED, reason)
            self.drop_exchange()

    # -- what switches to another protocol (RFC 8441) --------------------------------------------

    @property
    def must_switch(self) -> bool:
        """Whether the client asks for another protocol alone: success means that to it."""
        exchange = self.exchange
        return exchange is not None and bool(exchange.request.upgrade)

    def switch(self, response: Response) -> Switched:
        """Send what stands for 101; the stream is another protocol's from here on."""
        exchange, connection, carrier = self.exchange, self._connection, self._carrier
        assert exchange is not None, "an answer is to a request"
        exchange.is_answered = True
        exchange.status = response.status
        self.is_corked = False
        carrier.http.send_head(self.stream, as_stream_answer(response))
        came = [bytes(one[0].view[one[1] : one[1] + one[2]]) for one in self._came]
        while self._came:
            self._drop(self._came.popleft())
        tunnel, switched = switch_stream(
            connection.service,
            connection.session,
            carrier,
            self.stream,
            came,
            has_ended=self._end is not None,
            on_over=carrier.on_tunnel_over,
            on_closed=connection.on_wire_closed,
        )
        tunnel.exchange = exchange
        self._switched = switched
        carrier.take_over(tunnel)
        carrier.flush_soon()
        return switched

    # -- the answer (ResponseSink) ---------------------------------------------------------------

    def inform(self, response: Response) -> bool:
        """Send an informational response; False: an answer has begun, or the client takes none."""
        exchange = self.exchange
        if exchange is None or exchange.is_answered or self._head is not None:
            return False
        if is_grpc(exchange.request):
            return False  # its libraries take any status but 200 for the end of the call
        self._carrier.http.send_head(self.stream, response)
        self._carrier.flush_soon()
        return True

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        self.inform(Response(100))

    def comfort(self, head: Response | None) -> bool:
        """Tell the client that it is worked on (102): nothing of the answer is promised by it."""
        del head
        return self.inform(Response(_PROCESSING))

    def begin(self, head: Response) -> None:
        """Send the head; it may wait for what follows it in the same turn."""
        exchange = self.exchange
        assert exchange is not None, "an answer is to a request"
        if self.must_switch and _OK <= head.status < _REDIRECTED:
            # It would be taken for the other protocol's beginning, and its body for what follows.
            exchange.note_end(Outcome.FAILED, NOT_SWITCHED)
            head = Response(_BAD_GATEWAY, framing=NO_BODY)
            self._is_bodiless = True
        else:
            self._is_bodiless = has_no_body(head.status, exchange.request.method)
        exchange.is_answered = True
        exchange.status = head.status
        framing = head.framing
        if framing.kind is FramingKind.LENGTH:
            self._left = framing.length
        elif framing is NO_BODY:
            self._left = 0
        else:
            self._left = -1
        self._head = head
        if not self.is_corked:
            self.flush()

    def _send_head(self, *, is_last: bool = False) -> None:
        head, self._head = self._head, None
        if head is not None:
            self._carrier.http.send_head(self.stream, head, is_last=is_last)

    def feed(self, data: bytes | memoryview) -> bool:
        """Send bytes of the body; False while the client does not take them."""
        exchange = self.exchange
        if exchange is None:
            return True
        size = len(data)
        exchange.bytes_to_client += size
        if exchange.plan.counts_bodies and not exchange.has_bytes_left:
            return False
        if self._is_bodiless:
            return True
        if self._left >= 0:
            if size > self._left:
                exchange.abort("response-body: more than was declared")
                return True
            self._left -= size
        self._send_head()
        return self._send(data)

    def _send(self, data: bytes | memoryview) -> bool:
        """Send what the windows let, and keep the rest."""
        carrier, size = self._carrier, len(data)
        if self._rest is None and not carrier.wire.is_blocked:
            if size <= WEB_JOIN_BYTES_MAX:
                data = bytes(data)  # it may wait for others' frames of the same turn
            sent = carrier.send_data(self.stream, data)
            self.bytes_sent += sent
            if size > WEB_JOIN_BYTES_MAX:
                carrier.flush()
            else:
                carrier.flush_soon()
            if sent == size:
                return True
            if self.exchange is None:
                return True  # the connection has ended by it
            data = memoryview(data)[sent:]
        self._keep_rest(data)
        return False

    def _keep_rest(self, data: bytes | memoryview) -> None:
        connection = self._connection
        assert self._rest is None, "nobody feeds a client that has no room"
        try:
            self._rest = connection.blockage.keep_bytes(connection.session, data)
        except LimitExceeded as error:
            limit = error
            connection.port.post(lambda: connection.on_limit(limit))
            return
        self._carrier.note_blocked(self)
        connection.begin_window()

    def on_room(self) -> None:
        """Send on: the client's windows are open again, or its connection takes bytes."""
        kept = self._rest
        if kept is not None:
            buffer, start, length = kept
            view = buffer.view[start : start + length]
            sent = self._carrier.send_data(self.stream, view)
            self.bytes_sent += sent
            self._carrier.flush()
            if self._rest is not kept:
                return  # the connection has ended by it
            if sent < length:
                self._rest = buffer, start + sent, length - sent
                self._carrier.note_blocked(self)
                return
            self._rest = None
            self._drop(kept)
        if self._is_finishing:
            self._is_finishing = False
            self._send_end()
        elif self.source is not None:
            self.source.resume()

    def hand_back(self) -> bool:
        """Keep the connection: other streams are on it."""
        return False

    def take_splice(self, origin: OriginEnd, left: int | None) -> bool:
        """Have everything fed: it goes out in frames, as the windows let it."""
        del origin, left
        return False

    def skip_sent(self, count: int) -> None:
        """Never called: nothing is sent past us."""
        raise AssertionError(f"{count} bytes have gone past the frames")

    def stop_splice(self) -> None:
        """Nothing is moved past us."""

    def finish(self, trailers: Fields) -> None:
        """Send the end; the exchange is over when the windows have let all of it."""
        exchange = self.exchange
        if exchange is None:
            return
        if self._left > 0 and not self._is_bodiless:
            exchange.abort("response-body: less than was declared")
            return
        self._trailers = trailers
        self.is_corked = False
        if self._rest is None:
            self._send_end()
        else:
            self._is_finishing = True

    def _send_end(self) -> None:
        http, trailers = self._carrier.http, self._trailers
        if self._head is not None and not len(trailers):
            self._send_head(is_last=True)
        else:
            self._send_head()
            http.send_end(self.stream, trailers)
        self._on_answered()

    @property
    def takes_whole(self) -> bool:
        """Whether an answer that is there as a whole may be sent at once, as one piece."""
        return self._rest is None and not (self._is_begun or self.must_switch)

    @property
    def _is_begun(self) -> bool:
        """Whether something of the present answer was sent."""
        exchange = self.exchange
        return exchange is not None and exchange.is_answered

    def send_whole(
        self, known: KnownResponse, changed: Fields | None, body: bytes | memoryview, status: int
    ) -> None:
        """Send a whole answer."""
        exchange = self.exchange
        assert exchange is not None, "an answer is to a request"
        pseudonym = self._connection.desk.pseudonym
        exchange.is_answered = True
        exchange.status = status
        exchange.bytes_to_client = len(body)
        self._carrier.http.send_fields(self.stream, whole_fields(known, changed, pseudonym))
        self._left, self._trailers = -1, _NO_TRAILERS
        if self._send(body):
            if self.exchange is exchange:
                self._send_end()
        else:
            self._is_finishing = True

    def abort(self, reason: str) -> None:
        """Take that the response is not whole."""
        if self.exchange is not None:
            self.exchange.abort(reason)

    def uncork(self) -> None:
        """Send what has waited for more of the same turn."""
        self.is_corked = False
        self.flush()

    def flush(self) -> bool:
        """Send what waits; False while the client does not take it."""
        self._send_head()
        self._carrier.flush_soon()
        return self._rest is None

    def _on_answered(self) -> None:
        """End the exchange: its answer is on its way as a whole."""
        # What the client still sends of its request is not wanted (RFC 9113 section 8.1).
        self._carrier.http.reset(self.stream, ErrorCode.NO_ERROR)
        self._carrier.flush_soon()
        exchange = self._leave_exchange()
        if exchange is not None:
            try:
                exchange.on_answered()
            finally:
                self._carrier.on_stream_over(self._connection)

    # -- the end -------------------------------------------------------------------------------

    def close(self, *, abortive: bool) -> None:
        """Take that its connection has no further use for it; the stream was reset before."""
        self.is_closing = True
        if self._switched is None:
            self._connection.on_wire_closed()
        else:
            self._switched.wire.close(abortive=abortive)

    def drop_exchange(self) -> None:
        """End the present exchange, unanswered."""
        if self._switched is not None:
            exchange = self._leave_exchange()
            if exchange is not None:
                exchange.end()
            return
        self._carrier.http.reset(self.stream, ErrorCode.INTERNAL_ERROR)
        self._carrier.flush_soon()
        exchange = self._leave_exchange()
        if exchange is not None:
            try:
                exchange.end()
            finally:
                self._carrier.on_stream_over(self._connection)

    def let_go(self) -> None:
        """Take that its connection has ended; a connection that it has would be a circle."""
        del self._connection
        self._switched = None

    def _leave_exchange(self) -> GateExchange | None:
        """Let go of the exchange, and of what waits for either side of it."""
        exchange, self.exchange = self.exchange, None
        self._sink = self.source = self._head = self._end = None
        rest, self._rest = self._rest, None
        if rest is not None:
            self._drop(rest)
        while self._came:
            self._drop(self._came.popleft())
        return exchange

    def end_with_carrier(self) -> None:
        """End with the client's connection."""
        self._connection.close(abortive=True)

    def end_exchange(self) -> None:
        """End the present exchange: what follows on its stream is another protocol's."""
        exchange = self._leave_exchange()
        if exchange is not None:
            exchange.on_answered()

    def close_after_answer(self) -> None:
        """Do nothing: the other streams go on."""

    def close_when_answered(self) -> None:
        """Do nothing: it is the connection that takes no further streams."""

    def refuse_unread(self, status: int, reason: str, detail: str = "") -> None:
        """Refuse a request on the present stream whose head was malformed."""
        number = self._carrier.next_request()
        exchange = self.exchange = GateExchange(self._connection, self, _UNREAD, number)
        self._connection.on_exchange_began(exchange)
        exchange.refuse(status, reason, detail=detail)

    def begin_malformed(self, stream: int, status: int, reason: str, detail: str) -> None:
        """Take a head that is refused, on a stream of its own."""
        self._begin(stream)
        self.is_request_whole = True
        self.refuse_unread(status, reason, detail)


_NO_TRAILERS: Final = Fields()
_PROCESSING: Final = 102
_OK: Final = 200
_REDIRECTED: Final = 300
_BAD_GATEWAY: Final = 502
_UNREAD: Final = Request(b"", Target.origin(b"/"))
"""Stands for a request whose head could not be read."""
