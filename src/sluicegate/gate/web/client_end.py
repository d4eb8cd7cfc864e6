"""ClientEnd: the client's side of exchanges, in HTTP/1.1: requests in, answers out.

One per client's connection. The invariant: one exchange at a time, and what is read of the next
request waits until the answer before it has left; a client that is to be closed gets to read its
last answer first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sluicegate.errors import BadContext, LimitExceeded
from sluicegate.protocols.http1 import (
    NO_BODY,
    Body,
    EndOfMessage,
    EndOfStream,
    Fields,
    Framing,
    Http1Server,
    HttpProtocolError,
    KnownHeads,
    KnownResponse,
    RawData,
    Request,
    Response,
    ServerEvent,
    Target,
    written_connect,
)
from sluicegate.web_limits import (
    WEB_AHEAD_BYTES_MAX,
    WEB_JOIN_BYTES_MAX,
    WEB_LINGER_BYTES_MAX,
    WEB_LINGER_S,
    WEB_SPLICE_BYTES_MIN,
)

from .gate_exchange import GateExchange
from .origin_end import OriginEnd
from .promised_head import PromisedHead
from .switched import Switched
from .wire import Wire

if TYPE_CHECKING:
    from sluicegate.port.backend import RawSocket

    from .body_stage import BodySource, RequestSink
    from .connection import WebConnection

__all__ = ["ClientEnd"]


class ClientEnd:
    """One client; a ``ResponseSink``, and the ``BodySource`` of requests."""

    __slots__ = (
        "_connection",
        "_http",
        "_is_finishing",
        "_is_reading",
        "_is_stopped",
        "_lingered",
        "_out",
        "_promised",
        "_sink",
        "committed",
        "exchange",
        "head_began",
        "is_corked",
        "is_request_whole",
        "linger_until",
        "requests",
        "source",
        "wire",
    )

    def __init__(self, connection: WebConnection, raw: RawSocket, known: KnownHeads) -> None:
        self.exchange: GateExchange | None = None
        #: The one that is going on.
        self.requests = 0
        self.head_began = 0.0
        #: When the first byte of a head came whose end has not come; 0 while there is none.
        self.is_corked = False
        #: Whether what is sent waits for more of the same turn.
        self.is_request_whole = True
        self.linger_until = 0.0
        #: Until when a client that was answered for good may read; 0 before.
        self.source: BodySource | None = None
        #: Where the response comes from.
        self.wire = Wire(connection.service, raw, self)
        self.wire.session = connection.session
        self._connection = connection
        self._http = Http1Server(known=known)
        self._sink: RequestSink | None = None
        #: Where the request's body goes; None until it may come.
        self._out: list[bytes | memoryview] = []
        self._is_reading = self._is_stopped = False
        self._promised: PromisedHead | None = None
        #: A head that the client was sent some of before its time.
        self.committed: Framing | None = None
        #: How that head tells the end of its body, once it was promised.
        self._is_finishing = False
        #: Whether the answer's last bytes wait for the client to take them.
        self._lingered = 0

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._connection.on_internal_error(error)

    # -- receiving -----------------------------------------------------------------------------

    def on_received(self, data: memoryview | bytes) -> None:
        """Take what the client sent."""
        if self.linger_until:
            self._lingered += len(data)
            if self._lingered > WEB_LINGER_BYTES_MAX:
                self._connection.close(abortive=True)
            return
        if self.exchange is None and not self._is_reading:
            try:
                request = self._http.receive_whole(data)
            except HttpProtocolError as error:
                self._on_protocol_error(error)
                return
            if request is not None:
                self._is_reading = True
                self._begin_exchange(request, is_whole=True)
                self._is_reading = False
                return  # nothing came behind it
        self._http.receive_data(data)
        self._read()

    def _read(self) -> None:
        """Go through what has come, as far as it is wanted."""
        if self._is_reading:
            return
        self._is_reading = True
        http = self._http
        try:
            while not self._is_stopped:
                event = http.next_event()
                if event is None or not self._take(event):
                    break
        except HttpProtocolError as error:
            self._on_protocol_error(error)
        finally:
            self._is_reading = False
            http.keep_data()
        self._after_reading()

    def _take(self, event: ServerEvent) -> bool:
        """Take what came; False: nothing behind it is of interest here."""
        kind = type(event)
        if kind is Request:
            self._begin_exchange(cast("Request", event))
        elif kind is Body:
            assert self._sink is not None, "a body is read when somebody takes it"
            if not self._sink.feed(cast("Body", event).data):
                self._stop()
        elif kind is EndOfMessage:
            self.is_request_whole = True
            assert self._sink is not None, "a body is read when somebody takes it"
            self._sink.finish(cast("EndOfMessage", event).trailers)
        elif kind is EndOfStream:
            self._on_end()
        else:
            return False  # a tunnel's: ``take_tunnel`` gives out the rest
        return not (self.linger_until or self.wire.is_closing)

    def _after_reading(self) -> None:
        """Note what is not whole: a head, or requests that wait behind the present one."""
        exchange, http = self.exchange, self._http
        if self.wire.is_closing:
            return
        if exchange is None:
            if http.waiting and not self.head_began and not self.linger_until:
                now = self._connection.port.now
                self.head_began = now
                self._connection.hasten(now + self._connection.service.limits.web_head_timeout_s)
        elif http.waiting > WEB_AHEAD_BYTES_MAX and not self._is_stopped:
            self.wire.pause()

    def _begin_exchange(self, request: Request, *, is_whole: bool = False) -> None:
        connection, http = self._connection, self._http
        self.head_began = 0.0
        self.requests += 1
        if self.requests >= connection.service.limits.web_requests_per_connection_max:
            http.close_after_message()
        framing = request.framing
        if is_whole:
            self.is_request_whole = True
        elif framing is NO_BODY or not (framing.length or framing.is_chunked):
            self.is_request_whole = True
            http.next_event()  # the end of a message without a body is there at once
        else:
            self.is_request_whole = False
        exchange = self.exchange = GateExchange(connection, self, request, self.requests)
        connection.on_exchange_began(exchange)
        exchange.begin()
        if self.exchange is exchange and not self.is_request_whole and self._sink is None:
            self._stop()

    def open_request(self, sink: RequestSink) -> None:
        """Let the body of the request come."""
        if self.is_request_whole:
            sink.finish(_NO_TRAILERS)
            return
        self._sink = sink
        self._connection.begin_window()
        self.resume()

    def _stop(self) -> None:
        self._is_stopped = True
        self.wire.pause()

    def resume(self) -> None:
        """Read on: whoever takes the request's body has room again."""
        if self._is_stopped and not self.wire.is_closing:
            self._is_stopped = False
            spliced = self.wire.spliced
            self.wire.resume()
            if spliced is not None:
                spliced.run()
            else:
                self._read()

    @property
    def is_awaited(self) -> bool:
        """Whether the client is to send more of its request, and nothing keeps it from it."""
        return not (self.is_request_whole or self._is_stopped)

    # -- bodies that nobody looks at (SplicingEnd) -------------------------------------------------

    def splice(self) -> bool:
        """Have the rest of a large request moved past us; False: it is to be read."""
        exchange, http = self.exchange, self._http
        if exchange is None or not http.has_plain_body or exchange.plan.counts_bodies:
            return False
        origin, left = exchange.origin, http.body_left
        if not isinstance(origin, OriginEnd) or self._sink is not origin or not origin.is_clear:
            return False
        if left is None or left < WEB_SPLICE_BYTES_MIN:
            return False
        return self.wire.begin_splice(origin.wire, self, left=left, is_chunked=False)

    def on_moved(self, count: int) -> None:
        """Take that bytes of the request have gone to the server."""
        exchange = self.exchange
        assert exchange is not None, "what is moved is a request"
        assert isinstance(exchange.origin, OriginEnd), "it goes to a connection of HTTP/1"
        self._http.skip_body(count)
        exchange.origin.skip_sent(count)
        exchange.bytes_to_server += count
        self._connection.bytes_spliced += count
        exchange.touch()

    def on_splice_stalled(self) -> None:
        """Take that the server takes nothing now."""
        self._is_stopped = True
        exchange = self.exchange
        if exchange is not None and exchange.origin is not None:
            self._connection.begin_server_window(exchange.origin)

    def on_splice_over(self) -> None:
        """Read on behind the body."""
        if self.wire.is_ended:
            self.on_wire_ended()
        else:
            self._read()

    def take_splice(self, origin: OriginEnd, left: int | None) -> bool:
        """Have the rest of a response moved from its server's socket; False: it is to be fed."""
        if self._out or self._promised is not None or self.wire.is_blocked:
            return False
        is_chunked = self._http.sends_chunks
        return origin.wire.begin_splice(self.wire, origin, left=left, is_chunked=is_chunked)

    def stop_splice(self) -> None:
        """Take that nobody wants what is left of a request that is moved past us, if it is."""
        self.wire.stop_splice()

    def skip_sent(self, count: int) -> None:
        """Take that bytes of the answer's body were sent past us."""
        self._http.skip_sent(count)

    # -- what goes wrong -----------------------------------------------------------------------

    def _on_protocol_error(self, error: HttpProtocolError) -> None:
        reason = f"malformed-request: {error.fault.code}"
        exchange = self.exchange
        if exchange is not None:
            exchange.refuse(error.status, reason, detail=error.hint)
            return
        self.refuse_unread(error.status, reason, error.hint)

    def _on_end(self) -> None:
        """Take the client's end of stream, with nothing of it left to be read."""
        if self.exchange is None:
            self._connection.close(abortive=False)
        else:
            # It may only have ended its own direction; the answer is its last one.
            self._http.close_after_message()
            self._connection.on_half_closed()

    def on_wire_ended(self) -> None:
        """Take the client's end of stream."""
        if self.linger_until:
            self._connection.close(abortive=False)
            return
        self._http.receive_end()
        self._read()

    def on_wire_failed(self, error: int) -> None:
        """Take that the client's connection failed."""
        if self.linger_until:
            self._connection.close(abortive=True)
        else:
            self._connection.on_client_failed(error)

    def on_limit(self, error: LimitExceeded) -> None:
        """Take that what the client does not take passes a limit."""
        self._connection.on_limit(error)

    def on_wire_closed(self) -> None:
        """Take that the descriptor is free."""
        self._connection.on_wire_closed()

    # -- the answer (ResponseSink) ---------------------------------------------------------------

    def inform(self, response: Response) -> bool:
        """Send an informational response; False: an answer has begun, or this client takes none."""
        exchange = self.exchange
        if exchange is None or exchange.is_answered or self._promised is not None:
            return False
        pieces = self._http.send(response)
        self._out += pieces
        if not self.is_corked:
            self.flush()
        return bool(pieces)

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        self.inform(Response(100))
        self.flush()

    def begin(self, head: Response) -> None:
        """Send the head; it may wait for what follows it in the same turn."""
        exchange = self.exchange
        assert exchange is not None, "an answer is to a request"
        exchange.is_answered = True
        exchange.status = head.status
        promised, self._promised = self._promised, None
        if promised is None:
            self._out += self._http.send(head)
        else:
            self._out.append(promised.rest(lambda: b"".join(self._http.send(head))))
        if not self.is_corked:
            self.flush()

    def comfort(self, head: Response | None) -> bool:
        """Send the next byte of a head that is not due yet; see ``Exchange.comfort``."""
        exchange = self.exchange
        if exchange is None:
            return False
        promised = self._promised
        if promised is None:
            promised = self._promised = PromisedHead()
        if promised.wants_promise:
            if head is None:
                return False
            exchange.is_answered = True
            exchange.status = head.status
            promised.promise(b"".join(self._http.send(head)))
            self.committed = head.framing
        byte = promised.next_byte()
        if byte:
            self.wire.send(byte)
        return bool(byte)

    def feed(self, data: bytes | memoryview) -> bool:
        """Send bytes of the body; False while the client does not take them."""
        exchange = self.exchange
        if exchange is None:
            return True
        exchange.bytes_to_client += len(data)
        if exchange.plan.counts_bodies and not exchange.has_bytes_left:
            return False
        try:
            self._out += self._http.send(Body(data))
        except BadContext as error:
            exchange.abort(f"response-body: {error}")
            return True
        if self.is_corked:
            return not self.wire.is_blocked
        return self.flush()

    def finish(self, trailers: Fields) -> None:
        """Send the end; the exchange is over when the client has taken all of it."""
        exchange = self.exchange
        if exchange is None:
            return
        try:
            self._out += self._http.send(EndOfMessage(trailers))
        except BadContext as error:
            exchange.abort(f"response-body: {error}")
            return
        self.is_corked = False
        if self.flush():
            self._on_answered()
        else:
            self._is_finishing = True

    @property
    def takes_whole(self) -> bool:
        """Whether an answer that is there as a whole may be sent at once, as one piece."""
        return self._http.takes_whole and not self._out and self._promised is None

    def send_whole(
        self, known: KnownResponse, changed: Fields | None, body: bytes | memoryview, status: int
    ) -> None:
        """Send a whole answer."""
        pseudonym = self._connection.desk.pseudonym
        if changed is None:
            head = known.forwarded(pseudonym)
        else:
            head = known.forwarded_as(changed, pseudonym)
        exchange = self.exchange
        assert exchange is not None, "an answer is to a request"
        exchange.is_answered = True
        exchange.status = status
        exchange.bytes_to_client = len(body)
        is_last = self._http.send_whole()
        if is_last:
            head = head[:-2] + _CLOSES
        if len(body) <= WEB_JOIN_BYTES_MAX:
            is_sent = self.wire.send(b"".join((head, body)), is_last=is_last)
        else:
            is_sent = self.wire.send_pieces([head, body])
        if is_sent:
            self._on_answered()
        else:
            self._is_finishing = True
            self._connection.begin_window()

    def abort(self, reason: str) -> None:
        """Take that the response is not whole."""
        if self.exchange is not None:
            self.exchange.abort(reason)

    def uncork(self) -> None:
        """Send what has waited for more of the same turn."""
        self.is_corked = False
        if self._out:
            self.flush()

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return not self.wire.is_blocked

    def flush(self) -> bool:
        """Send what waits; False while the client does not take it."""
        out = self._out
        if not out:
            return not self.wire.is_blocked
        if len(out) == 1:
            data = out[0]
            out.clear()
            is_sent = self.wire.send(data)
        else:
            pieces = out.copy()
            out.clear()
            is_sent = self.wire.send_pieces(pieces)
        if not is_sent:
            self._connection.begin_window()
        return is_sent

    def on_room(self) -> None:
        """Go on: the client has taken everything."""
        if self._is_finishing:
            self._is_finishing = False
            self._on_answered()
        elif self.source is not None:
            self.source.resume()

    def _on_answered(self) -> None:
        """End the exchange; close, or read the next request."""
        exchange, self.exchange = self.exchange, None
        self._sink = self.source = self.committed = None
        self.wire.stop_splice()
        if exchange is not None:
            exchange.on_answered()
        if self.wire.is_closing:
            return
        if self._http.must_close:
            self._close_read_out()
            return
        self._is_stopped = False
        self.wire.resume()
        if not self._is_reading and self._http.waiting:
            self._read()

    def _close_read_out(self) -> None:
        """Close such that the client reads its last answer: not while it still sends."""
        connection = self._connection
        is_quiet = self.is_request_whole and not self._http.waiting and self._http.error is None
        if (is_quiet and self._http.has_ended) or not self.wire.end_stream():
            connection.close(abortive=False)
            return
        self.linger_until = connection.port.now + WEB_LINGER_S
        self._is_stopped = False
        connection.hasten(self.linger_until)
        self.wire.resume()

    # -- the end -------------------------------------------------------------------------------

    def hand_back(self) -> bool:
        """Give the connection to who serves CONNECT, with the request and what came behind it.

        Every answer before it was taken by the client: else this one would not have been read.
        """
        exchange = self.exchange
        assert exchange is not None, "the request is an exchange until here"
        request, wire = exchange.request, self.wire
        self.exchange = None
        exchange.forget()
        connection = self._connection
        said = written_connect(request) + self._http.take_waiting()
        operation = wire.give_away()
        connection.desk.hand_back(connection, wire.raw, operation, said, ended=wire.is_ended)
        return True

    def let_go(self) -> None:
        """Take that its connection has ended, and be no circle with it."""
        del self._connection

    def close_after_answer(self) -> None:
        """End the connection with the answer to the present request."""
        self._http.close_after_message()

    def drop_exchange(self) -> None:
        """End the present exchange, unanswered: the connection is closing."""
        exchange, self.exchange = self.exchange, None
        self._sink = self.source = None
        self._out.clear()
        if exchange is not None:
            exchange.end()

    def end_exchange(self) -> None:
        """End the present exchange: what follows is another protocol's."""
        exchange, self.exchange = self.exchange, None
        self._sink = self.source = None
        if exchange is not None:
            exchange.on_answered()

    def refuse_unread(self, status: int, reason: str, detail: str = "") -> None:
        """Refuse a request whose head could not be read, or never came whole."""
        if self._http.error is None:
            self._http.give_up()
        exchange = self.exchange = GateExchange(self._connection, self, _UNREAD, self.requests + 1)
        self._connection.on_exchange_began(exchange)
        exchange.refuse(status, reason, detail=detail)

    def close_when_answered(self) -> None:
        """Take no further request: the gate is being drained."""
        if self.exchange is None and not self._http.waiting:
            self._connection.close(abortive=False)
        else:
            self._http.close_after_message()

    @property
    def must_switch(self) -> bool:
        """Never: what offers to switch may be answered as if it did not."""
        return False

    def switch(self, response: Response) -> Switched:
        """Send 101; the connection is another protocol's from here on."""
        self.begin(response)
        self.uncork()
        return Switched(self.wire, self._take_tunnel(), self.wire.is_ended, self.on_wire_closed)

    def _take_tunnel(self) -> bytes:
        """Return what the client has sent behind its request: another protocol's bytes."""
        early = bytearray()
        while (event := self._http.next_event()) is not None:
            if isinstance(event, RawData):
                early += event.data
            elif isinstance(event, EndOfStream):
                break
        return bytes(early)


_NO_TRAILERS: Final = Fields()
_CLOSES: Final = b"Connection: close\r\n\r\n"
_UNREAD: Final = Request(b"", Target.origin(b"/"))
"""Stands for a request whose head could not be read."""
