"""OriginEnd: a connection to a server, or to a parent proxy, for one request after the other.

The pool makes and keeps it, exchanges use it one at a time. The invariant: it is used again only
if everything about its last exchange was whole, on both ways; bytes that answer no request, an
error or an end close it.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, cast

from sluicegate.errors import BadContext, LimitExceeded, errno_name
from sluicegate.port.layer import LayeredSocket
from sluicegate.protocols.http1 import (
    Body,
    ClientEvent,
    EndOfMessage,
    EndOfStream,
    Fields,
    FramingKind,
    Http1Client,
    HttpProtocolError,
    KnownHeads,
    RawData,
    Request,
    Response,
)
from sluicegate.tls import TlsSocket
from sluicegate.web_limits import WEB_SPLICE_BYTES_MIN

from .switched import Switched
from .wire import Wire

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.gate.service import FirewallService
    from sluicegate.port.backend import RawSocket
    from sluicegate.port.given_away import GivenAway

    from .body_stage import BodySource, ResponseSink
    from .gate_exchange import GateExchange
    from .origin_pool import OriginPool, PoolKey

__all__ = ["OriginEnd"]


class OriginEnd:
    """One connection to a server; a ``RequestSink``, and the ``BodySource`` of responses."""

    __slots__ = (
        "_exchange",
        "_http",
        "_is_last",
        "_is_reading",
        "_out",
        "_pool",
        "_sent_before",
        "address",
        "allowed_by",
        "bound_to",
        "has_length",
        "idle_since",
        "is_corked",
        "is_idle",
        "is_stopped",
        "key",
        "sink",
        "source",
        "stops",
        "uses",
        "wire",
    )

    def __init__(
        self,
        service: FirewallService,
        pool: OriginPool,
        key: PoolKey,
        raw: RawSocket,
        address: SocketAddress,
        known: KnownHeads,
        *,
        given: GivenAway | None = None,
    ) -> None:
        """Take a socket over, to receive from it; ``given``: with what receives from it so far."""
        self.key = key
        #: What it may be used for.
        self.address = address
        #: The judged address that was dialled.
        self.allowed_by: Collection[SocketAddress] = ()
        #: The judged addresses that it was found among when it was last given out.
        self.bound_to: object = None
        #: The only client's connection that may use it: what it logged in holds for the connection.
        self.idle_since = 0.0
        self.is_idle = False
        self.has_length = False
        #: Whether it has said how long the body is that it sends now.
        self.uses = 0
        #: Exchanges that it has had.
        self.stops = 0
        #: How often it was not read because somebody else was not ready.
        self.is_corked = False
        #: Whether what is sent waits for more of the same turn.
        self.sink: ResponseSink | None = None
        #: Where the response goes.
        self.source: BodySource | None = None
        #: Where the request's body comes from.
        self._pool = pool
        self._sent_before = 0
        self._http = Http1Client(known=known)
        self._exchange: GateExchange | None = None
        self._out: list[bytes | memoryview] = []
        self._is_reading = self._is_last = False
        self.is_stopped = False
        #: Whether nothing is to be read before ``resume``.
        self.wire = Wire(service, raw, self)
        if given is None:
            self.wire.start()
        else:
            self.wire.adopt(given.receive_op)

    # -- exchanges -----------------------------------------------------------------------------

    def begin_exchange(self, exchange: GateExchange) -> None:
        """Serve an exchange from now on."""
        self._exchange = exchange
        self.is_idle = self.has_length = False
        self.uses += 1
        self._sent_before = self.wire.bytes_sent
        self.wire.session = exchange.session

    @property
    def has_answered(self) -> bool:
        """Whether anything came since the request."""
        return self._http.has_received

    @property
    def was_not_looked_at(self) -> bool:
        """Whether the server has said that it has not looked at the request: HTTP/1 cannot."""
        return False

    def has_gone(self) -> bool:
        """Look whether the server has ended its connection by now, though nobody was told so far.

        What is received tells it, but perhaps only in this turn, behind whoever asks.
        """
        raw = self.wire.raw
        is_layered = isinstance(raw, LayeredSocket)
        while isinstance(raw, LayeredSocket):
            raw = raw.inner
        try:
            seen = raw.recv(1, _LOOK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        # Of TLS these may be tickets; in the clear they answer nothing that was asked.
        return not (seen and is_layered)

    def bind_to(self, client: object) -> None:
        """Let nobody but one client's connection use it from here on."""
        self._pool.bind(self, client)

    @property
    def may_be_given_out(self) -> bool:
        """Whether it waits in the pool."""
        return self.is_idle

    def let_go(self) -> None:
        """End the service of an exchange: back to the pool, or closed if anything is left of it."""
        exchange = self._leave()
        if exchange is None or self.wire.is_closing:
            return
        is_whole = self._http.is_reusable and not (self.wire.is_blocked or self.is_stopped)
        if is_whole and not self._is_last:
            self._pool.give(self)
        else:
            self.close()

    def close_when_answered(self) -> None:
        """Serve no further exchange."""
        self._is_last = True
        if self.is_idle:
            self.close()

    def close(self) -> None:
        """Close it, whatever it is about."""
        self._leave()
        self._out.clear()
        self._pool.forget(self)
        self.wire.close(abortive=not self._http.is_reusable)

    def _leave(self) -> GateExchange | None:
        """Let go of the exchange, whose connection counts what its server was sent."""
        exchange, self._exchange = self._exchange, None
        self.sink = self.source = None
        if exchange is not None:
            # What is left of a request that was answered early goes nowhere.
            exchange.client.stop_splice()
            exchange.connection.bytes_to_servers += self.wire.bytes_sent - self._sent_before
        return exchange

    # -- the request (RequestSink) -------------------------------------------------------------

    def begin(self, head: Request) -> None:
        """Send the head; it may wait for what follows it in the same turn."""
        self._out += self._http.send(head)
        if not self.is_corked or head.expects_continue:
            self.flush()

    def send_whole(self, request: Request, head: bytes) -> None:
        """Send a request without a body, as one piece."""
        self._http.send_whole(request)
        self.wire.send(head)

    def feed(self, data: bytes | memoryview) -> bool:
        """Send bytes of the body; False while the server does not take them."""
        exchange = self._exchange
        if exchange is None:
            return True
        exchange.bytes_to_server += len(data)
        if exchange.plan.counts_bodies and not exchange.has_bytes_left:
            return False
        self._out += self._http.send(Body(data))
        was_blocked = self.wire.is_blocked
        has_room = self.flush()
        if not (has_room or was_blocked):
            exchange.connection.begin_server_window(self)
        return has_room

    def finish(self, trailers: Fields) -> None:
        """Send the end of the request."""
        try:
            self._out += self._http.send(EndOfMessage(trailers))
        except BadContext as error:
            self._fail(f"request-body: {error}")
            return
        self.flush()
        exchange = self._exchange
        if exchange is not None:
            exchange.on_request_sent()

    def abort(self, reason: str) -> None:
        """Take that the request is not whole: the server must not take it for whole."""
        exchange = self._exchange
        if exchange is not None:
            exchange.abort(reason)

    @property
    def is_clear(self) -> bool:
        """Whether nothing that was sent waits for the server to take it."""
        return not (self._out or self.wire.is_blocked)

    def skip_sent(self, count: int) -> None:
        """Take that bytes of the request's body were sent past us."""
        self._http.skip_sent(count)

    def flush(self) -> bool:
        """Send what waits; False while the server does not take it."""
        out = self._out
        if not out:
            return not self.wire.is_blocked
        if len(out) == 1:
            data = out[0]
            out.clear()
            return self.wire.send(data)
        pieces = out.copy()
        out.clear()
        return self.wire.send_pieces(pieces)

    # -- the response (BodySource) -------------------------------------------------------------

    def resume(self) -> None:
        """Read on: the sink has room again, or the exchange has decided on the head."""
        if self.is_stopped and not self.wire.is_closing:
            self.is_stopped = False
            spliced = self.wire.spliced
            self.wire.resume()
            if spliced is not None:
                spliced.run()
            else:
                self._read()

    def stop(self) -> None:
        """Read no further before ``resume``."""
        self.is_stopped = True
        self.stops += 1
        self.wire.pause()

    def on_received(self, data: memoryview) -> None:
        """Take what the server sent."""
        exchange = self._exchange
        if exchange is None:
            # It answers nothing: whoever asks next must not get it.
            self.close()
            return
        if exchange.takes_whole:
            try:
                known = self._http.receive_whole(data)
            except HttpProtocolError as error:
                self._on_protocol_error(error)
                return
            if known is not None:
                exchange.on_whole_response(known, data[known.head_length :])
                return
        self._http.receive_data(data)
        self._read()

    def _read(self) -> None:
        """Go through what has come, as far as it is wanted."""
        exchange, http = self._exchange, self._http
        if self._is_reading or exchange is None:
            return
        self._is_reading = True
        client = exchange.client
        client.is_corked = not exchange.has_response_stages
        try:
            while not self.is_stopped:
                event = http.next_event()
                if event is None:
                    break
                self._take(event, exchange)
                if self._exchange is not exchange:
                    break
        except HttpProtocolError as error:
            self._on_protocol_error(error)
        finally:
            self._is_reading = False
            http.keep_data()
        client.uncork()
        if self._exchange is exchange and not client.has_room and self.sink is client:
            self.stop()

    def _take(self, event: ClientEvent, exchange: GateExchange) -> None:
        kind = type(event)
        if kind is Body:
            assert self.sink is not None, "a body follows its head"
            exchange.touch()
            if not self.sink.feed(cast("Body", event).data):
                self.stop()
        elif kind is Response:
            response = cast("Response", event)
            if response.framing.kind is FramingKind.LENGTH:
                self.has_length = True
                exchange.connection.begin_server_window(self)
            if not exchange.on_response(response):
                self.stop()
        elif kind is EndOfMessage:
            exchange.on_response_whole(cast("EndOfMessage", event).trailers)

    def _on_protocol_error(self, error: HttpProtocolError) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()
        else:
            exchange.on_origin_failed(f"server-{error.fault.code}: {error.hint}", self)

    # -- the wire ------------------------------------------------------------------------------

    def on_wire_ended(self) -> None:
        """Take the server's end of stream."""
        if self._exchange is None:
            self.close()
            return
        self._http.receive_end()
        self._read()

    def on_wire_failed(self, error: int) -> None:
        """Take that the connection failed."""
        if self._exchange is None:
            self.close()
        else:
            self._exchange.on_origin_failed(self._words_for(error), self, error)

    def _words_for(self, error: int) -> str:
        raw = self.wire.raw
        if error == errno.EPROTO and isinstance(raw, TlsSocket) and raw.stream.failure:
            return f"server {raw.stream.failure}"
        return f"server {errno_name(error)}"

    def on_limit(self, error: LimitExceeded) -> None:
        """Take that what the server does not take passes a limit."""
        if self._exchange is not None:
            self._exchange.on_limit(error)

    def on_room(self) -> None:
        """Let the request's body come on."""
        if self.source is not None:
            self.source.resume()

    def on_wire_closed(self) -> None:
        """Take that the descriptor is free."""
        self._pool.on_closed(self)

    def _fail(self, reason: str) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.on_origin_failed(reason, self, errno.EPROTO)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        exchange = self._exchange
        if exchange is not None:
            exchange.connection.on_internal_error(error)
        self.close()

    # -- bodies that nobody looks at (SplicingEnd) -------------------------------------------------

    def splice(self) -> bool:
        """Have the rest of a large response moved past us; False: it is to be read."""
        exchange, http = self._exchange, self._http
        if exchange is None or not http.has_plain_body or exchange.plan.counts_bodies:
            return False
        client, left = exchange.client, http.body_left
        is_worth_it = left is None or left >= WEB_SPLICE_BYTES_MIN
        return self.sink is client and is_worth_it and client.take_splice(self, left)

    def on_moved(self, count: int) -> None:
        """Take that bytes of the response have gone to the client."""
        exchange = self._exchange
        assert exchange is not None, "what is moved answers a request"
        self._http.skip_body(count)
        exchange.client.skip_sent(count)
        exchange.bytes_to_client += count
        exchange.connection.bytes_spliced += count
        exchange.touch()

    def on_splice_stalled(self) -> None:
        """Take that the client takes nothing now."""
        self.is_stopped = True
        self.stops += 1
        if self._exchange is not None:
            self._exchange.connection.begin_window()

    def on_splice_over(self) -> None:
        """Read on behind the body."""
        if self.wire.is_ended:
            self.on_wire_ended()
        else:
            self._read()

    # -- upgrades ------------------------------------------------------------------------------

    def switch(self) -> Switched:
        """Return what carries another protocol from here on, behind its 101."""
        self.is_stopped = True
        return Switched(self.wire, self._take_tunnel(), self.wire.is_ended, self.on_wire_closed)

    def _take_tunnel(self) -> bytes:
        """Return what the server has sent behind its 101: another protocol's bytes."""
        early = bytearray()
        while (event := self._http.next_event()) is not None:
            if isinstance(event, RawData):
                early += event.data
            elif isinstance(event, EndOfStream):
                break
        return bytes(early)

    def give_away(self) -> None:
        """End the service of an exchange that has switched: its wire is somebody else's."""
        self._leave()
        self._pool.on_given_away(self)


_LOOK: Final = 0x42
"""MSG_PEEK | MSG_DONTWAIT."""
