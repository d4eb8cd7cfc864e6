"""WebSocketRelay: a WebSocket whose messages are judged, from the 101 to the last close.

``switching`` makes one behind a handshake whose rule has filters of messages; without any a tunnel
is pumped, unread. Towards the client it is a server, towards the server a client, each way in
frames of its own. The invariant: nothing passes but whole messages, closes that were judged, and
pings without a payload; however it ends, both sides are told by a close, and the exchange is
recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.errors import LimitExceeded, Side, errno_name
from sluicegate.filterapi import Direction, MessageKind, Outcome, WebMessage
from sluicegate.gate.deadline import find_deadline, find_expiry
from sluicegate.protocols.websocket import (
    Close,
    Deflate,
    Message,
    Ping,
    Pong,
    WebSocketBounds,
    WebSocketError,
    WebSocketEvent,
)
from sluicegate.web_limits import (
    WEB_LINGER_S,
    WEBSOCKET_CLOSE_S,
    WEBSOCKET_EVENTS_PER_TURN_MAX,
)

from .close_codes import GOING_AWAY, close_code_of
from .message_way import MessageWay
from .websocket_leg import WebSocketLeg

if TYPE_CHECKING:
    from .filtered_exchange import FilteredExchange
    from .gate_exchange import GateExchange
    from .switched import Switched

__all__ = ["WebSocketRelay"]


class WebSocketRelay:
    """Both ways of one WebSocket (``MessageOwner``)."""

    __slots__ = (
        "_bytes_noted",
        "_client",
        "_closing_since",
        "_connection",
        "_counts",
        "_exchange",
        "_is_abortive",
        "_is_over",
        "_is_reading",
        "_linger_until",
        "_posted",
        "_server",
        "_ways",
    )

    def __init__(
        self,
        exchange: GateExchange,
        part: FilteredExchange,
        client: Switched,
        origin: Switched,
        deflate: Deflate | None,
    ) -> None:
        """Take both wires over; ``start`` begins to read."""
        connection = exchange.connection
        limits = connection.service.limits
        bounds = WebSocketBounds(message_bytes_max=limits.web_message_bytes_max)
        self._exchange = exchange
        self._connection = connection
        self._client = WebSocketLeg(self, Side.CLIENT, client, deflate, bounds)
        self._server = WebSocketLeg(self, Side.SERVER, origin, deflate, bounds)
        content = exchange.plan.content
        self._ways: dict[Direction, MessageWay] = {
            direction: MessageWay(part, direction, part.message_judges(direction), content, self)
            for direction in Direction
        }
        self._counts = dict.fromkeys(Direction, 0)
        self._bytes_noted = 0
        #: What is counted of it for all connections together.
        self._closing_since = 0.0
        #: When the first close was let go on.
        self._linger_until = 0.0
        #: Until when both sides may read their close; 0 before it is ended.
        self._is_over = self._is_abortive = False
        self._is_reading: set[Direction] = set()
        self._posted: set[Direction] = set()
        #: The ways that go on in another turn.
        client.wire.hand_to(self._client)
        origin.wire.hand_to(self._server)

    def start(self, client: Switched, origin: Switched) -> None:
        """Begin to read, with what came behind both heads."""
        self._connection.hasten(self.due())
        for leg, side in ((self._client, client), (self._server, origin)):
            if self.is_ending:
                return
            leg.wire.resume()
            if side.early:
                leg.on_received(side.early)
            if side.is_ended and not self.is_ending:
                leg.on_wire_ended()

    # -- facts -----------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether nothing passes any more."""
        return self._is_over or self._linger_until > 0

    def _leg_from(self, direction: Direction) -> WebSocketLeg:
        return self._client if direction is Direction.UPLOAD else self._server

    def _leg_to(self, direction: Direction) -> WebSocketLeg:
        return self._server if direction is Direction.UPLOAD else self._client

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._connection.on_internal_error(error)

    # -- reading ---------------------------------------------------------------------------------

    def on_received(self, leg: WebSocketLeg) -> None:
        """Read what a side has sent."""
        self._exchange.touch()
        self._read(_DIRECTIONS[leg.sink_side])

    def on_room(self, leg: WebSocketLeg) -> None:
        """Go on: a side has taken everything."""
        self._exchange.touch()
        if not self.is_ending:
            self._read(_OTHER[_DIRECTIONS[leg.sink_side]])

    def on_way_ready(self, direction: Direction) -> None:
        """As ``MessageOwner.on_way_ready``."""
        self._read(direction)

    def _read(self, direction: Direction) -> None:
        """Read as long as there is something to read and somebody to take it."""
        if direction in self._is_reading or self.is_ending:
            return
        way, source, sink = (
            self._ways[direction],
            self._leg_from(direction),
            self._leg_to(direction),
        )
        self._is_reading.add(direction)
        is_waiting = False
        try:
            for _ in range(WEBSOCKET_EVENTS_PER_TURN_MAX):
                is_waiting = way.is_busy or sink.wire.is_blocked
                if is_waiting or self.is_ending:
                    break
                event = source.codec.next_event()
                if event is None:
                    break
                self._take(event, direction)
            else:
                is_waiting = True
                self._go_on_later(direction)
        except WebSocketError as error:
            self._on_fault(error, source)
        finally:
            self._is_reading.discard(direction)
        if self.is_ending:
            return
        self._note_bytes()
        if is_waiting or way.is_busy or sink.wire.is_blocked:
            source.wire.pause()
        elif source.has_ended:
            self._on_lost(source)
        else:
            source.wire.resume()

    def _go_on_later(self, direction: Direction) -> None:
        """Read on in another turn, so that other connections have theirs."""
        if direction in self._posted:
            return
        self._posted.add(direction)

        def go_on() -> None:
            self._posted.discard(direction)
            self._read(direction)

        self._connection.port.post(go_on)

    def _take(self, event: WebSocketEvent, direction: Direction) -> None:
        source, sink = self._leg_from(direction), self._leg_to(direction)
        if isinstance(event, Ping):
            sink.send_ping(event.data)
        elif isinstance(event, Pong):
            asked = source.asked_by(event)
            # One that nobody asked for is a sign of life, and carries nothing.
            sink.send(Pong(asked or b""))
        else:
            self._counts[direction] += 1
            way, number = self._ways[direction], self._counts[direction]
            if isinstance(event, Message):
                is_text = isinstance(event.payload, str)
                kind = MessageKind.TEXT if is_text else MessageKind.BINARY
                message = WebMessage(
                    direction, kind, event.payload, number, is_compressed=event.is_compressed
                )
            else:
                source.has_closed = True
                kind = MessageKind.CLOSE
                message = WebMessage(direction, kind, event.reason, number, event.code)
            way.push(message)

    def on_released(self, message: WebMessage) -> None:
        """As ``MessageOwner.on_released``."""
        if self.is_ending:
            return
        exchange, sink = self._exchange, self._leg_to(message.direction)
        size = len(message.data)
        if message.direction is Direction.UPLOAD:
            exchange.bytes_to_server += size
        else:
            exchange.bytes_to_client += size
        if exchange.plan.counts_bodies and not exchange.has_bytes_left:
            return
        if message.kind is not MessageKind.CLOSE:
            sink.send(Message(message.payload, message.is_compressed))
            return
        source = self._leg_from(message.direction)
        close = Close(message.close_code, message.text)
        sink.send_close(close, is_last=False)
        if source.was_closed and sink.has_closed:
            if sink.wire.is_blocked:
                self._tell(close, close)  # it is to have its close before everything is closed
            else:
                self.finish(abortive=False)
        elif not self._closing_since:
            self._closing_since = self._connection.port.now
            self._connection.hasten(self._closing_since + WEBSOCKET_CLOSE_S)

    def _note_bytes(self) -> None:
        """Count what is kept in memory of it, for all connections together."""
        desk, limits = self._connection.desk, self._connection.service.limits
        legs = (self._client, self._server)
        kept = sum(one.bytes_kept for one in self._ways.values())
        kept += sum(one.codec.pending_bytes for one in legs)
        desk.message_bytes += kept - self._bytes_noted
        self._bytes_noted = kept
        if kept and desk.message_bytes > limits.web_messages_bytes_max:
            bound = limits.web_messages_bytes_max
            self._exchange.on_limit(LimitExceeded("web_messages_bytes_max", bound))

    # -- what goes wrong -------------------------------------------------------------------------

    def _on_fault(self, error: WebSocketError, leg: WebSocketLeg) -> None:
        """Take that a side sends what is no WebSocket, or passes a bound."""
        fault, is_client = error.fault, leg is self._client
        told, other = Close(fault.close_code, fault.code), Close(GOING_AWAY)
        self._exchange.note_end(
            Outcome.REFUSED if is_client else Outcome.FAILED,
            f"malformed-message: {fault.code}: {error}"
            if is_client
            else f"server-{fault.code}: {error}",
        )
        self._tell(*((told, other) if is_client else (other, told)))

    def on_ended(self, leg: WebSocketLeg) -> None:
        """Take that a side will send nothing more."""
        if self.is_ending:
            if self._client.has_ended and self._server.has_ended:
                self.finish(abortive=False)
            return
        self._read(_DIRECTIONS[leg.sink_side])

    def _on_lost(self, leg: WebSocketLeg) -> None:
        """Take that a side has gone; without a close the other one learns it as it would have."""
        if leg.has_closed:
            return  # the other one's close is still to come
        side = "client" if leg is self._client else "server"
        self._exchange.note_end(Outcome.FAILED, f"{side} ended without a close")
        self.finish(abortive=False)

    def on_failed(self, leg: WebSocketLeg, error: int) -> None:
        """Take that a side's connection failed; both are reset."""
        if self.is_ending:
            self.finish(abortive=False)
            return
        self._exchange.note_end(Outcome.FAILED, f"{leg.sink_side} {errno_name(error)}")
        self.finish(abortive=True)

    def on_limit(self, error: LimitExceeded) -> None:
        """Take that what a side does not take passes a limit."""
        if self.is_ending:
            self.finish(abortive=True)
        else:
            self._exchange.on_limit(error)

    def on_blocked(self) -> None:
        """Take that a side does not take what it is sent."""
        connection = self._connection
        connection.hasten(connection.port.now + connection.service.limits.send_stall_s)

    # -- the end ---------------------------------------------------------------------------------

    def end(self, code: int, reason: str = "") -> None:
        """End it: nothing passes any more, both sides are told by a close.

        Args:
            code: Why.
            reason: For the client; the server is told the code alone.
        """
        self._tell(Close(code, _short(reason)), Close(code))

    def end_by_status(self, status: int, reason: str) -> None:
        """End it as ``end`` does, by the close code that stands for a status of HTTP.

        Args:
            status: Why; a close code stands for itself.
            reason: For the client.
        """
        self.end(close_code_of(status), reason)

    def _tell(self, to_client: Close, to_server: Close) -> None:
        if self.is_ending:
            return
        self._linger_until = self._connection.port.now + WEB_LINGER_S
        self._stop()
        for leg, close in ((self._client, to_client), (self._server, to_server)):
            leg.send_close(close, is_last=True)
            leg.wire.resume()
        self._connection.hasten(self._linger_until)
        if self._client.has_ended and self._server.has_ended:
            self.finish(abortive=False)

    def finish(self, *, abortive: bool) -> None:
        """Close both connections, and record the exchange."""
        if self._is_over:
            return
        self._is_abortive = abortive
        self._stop()
        # Whoever is in the middle of reading goes on before its exchange is gone.
        self._is_over = True
        self._connection.port.post(self._finish)

    def _finish(self) -> None:
        if not self._connection.is_closing:
            self._connection.end_websocket(abortive=self._is_abortive)

    def _stop(self) -> None:
        for way in self._ways.values():
            way.stop()
        self._connection.desk.message_bytes -= self._bytes_noted
        self._bytes_noted = 0

    def close(self) -> None:
        """Give everything back: the exchange is over."""
        is_abortive = self._is_abortive or not self._is_over
        self._stop()
        self._is_over = True
        facts, counts = self._exchange.facts, self._counts
        facts["messages_to_server"] = counts[Direction.UPLOAD]
        facts["messages_to_client"] = counts[Direction.DOWNLOAD]
        self._server.wire.close(abortive=is_abortive)
        # Whoever has it would be had by it: circles that only the collector would free.
        self._exchange.relay = None
        self._ways.clear()

    # -- deadlines -------------------------------------------------------------------------------

    def due(self) -> float:
        """Return when the first of its deadlines is reached if nothing happens."""
        if self._is_over:
            return self._connection.port.now + WEB_LINGER_S  # it is closed in the next turn
        if self._linger_until:
            return self._linger_until
        exchange, connection = self._exchange, self._connection
        limits, deadlines = connection.service.limits, connection.plan.deadlines
        legs = (self._client, self._server)
        due = find_deadline(limits, connection.started, exchange.last_active, legs)
        if self._closing_since:
            due = min(due, self._close_due)
        return due if deadlines is None else min(due, deadlines.due_for(exchange))

    @property
    def _close_due(self) -> float:
        """When the second close is given up: what is said before it may take its time."""
        return max(self._closing_since, self._exchange.last_active) + WEBSOCKET_CLOSE_S

    def on_expired(self) -> None:
        """Take a deadline: say which, and end."""
        exchange, connection = self._exchange, self._connection
        now, deadlines = connection.port.clock.monotonic(), connection.plan.deadlines
        if self._linger_until:
            self.finish(abortive=True)
        elif deadlines is not None and (limit := deadlines.reached_by(exchange, now)) is not None:
            exchange.on_limit(limit)
        elif self._closing_since and self._close_due <= now:
            exchange.note_end(Outcome.FAILED, "the close is not answered")
            self.end(GOING_AWAY)
        else:
            legs = (self._client, self._server)
            limits = connection.service.limits
            expiry = find_expiry(limits, now, connection.started, legs)
            exchange.note_end(expiry.outcome, expiry.reason)
            self.end(GOING_AWAY)


def _short(reason: str) -> str:
    """Return as much of a reason as fits into a close."""
    return reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")


_DIRECTIONS: Final = {Side.CLIENT: Direction.UPLOAD, Side.SERVER: Direction.DOWNLOAD}
_OTHER: Final = {
    Direction.UPLOAD: Direction.DOWNLOAD,
    Direction.DOWNLOAD: Direction.UPLOAD,
}
_REASON_BYTES_MAX: Final = 123
