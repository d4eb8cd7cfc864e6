"""WebDeadlines: how long each part of an exchange may take, and what is said when it took longer.

Each web connection has one, asked when the wheel comes to it. The invariant: whoever is waited for
has a deadline: a client for its head, its body and its reading, a server for its answer, for a body
whose length it has said and for taking the request, both for the whole.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from sluicegate.errors import LimitExceeded, Side
from sluicegate.filterapi import Outcome

if TYPE_CHECKING:
    from .client_side import ClientSide
    from .connection import WebConnection
    from .gate_exchange import GateExchange
    from .server_side import ServerSide

__all__ = ["WebDeadlines"]


class WebDeadlines:
    """The deadlines of one client's connection, which says itself: it has them, not they it.

    (Else both were a circle, which only the collector of garbage would free.)
    """

    __slots__ = (
        "_server_began",
        "_server_bytes",
        "_server_stops",
        "_window_began",
        "_window_bytes",
    )

    def __init__(self) -> None:
        self._window_began = 0.0
        self._window_bytes = 0
        #: What the client had sent and taken when the window began.
        self._server_began = 0.0
        self._server_bytes = self._server_stops = 0
        #: What the server had, and how often it had been told to wait.

    def begin_window(self, connection: WebConnection) -> None:
        """Measure from now on how fast the client sends, or takes what it is sent."""
        self._window_began = now = connection.port.now
        self._window_bytes = _moved_by(connection.client)
        connection.hasten(now + connection.service.limits.web_window_s)

    def begin_server_window(self, connection: WebConnection, origin: ServerSide) -> None:
        """Measure from now on how fast the server sends, or takes what it is sent."""
        self._server_began = now = connection.port.now
        self._server_bytes, self._server_stops = _moved_by(origin), origin.stops
        connection.hasten(now + connection.service.limits.web_window_s)

    def due(self, connection: WebConnection) -> float:
        """Return when the first of them is reached if nothing happens."""
        client, limits = connection.client, connection.service.limits
        if client.linger_until:
            return client.linger_until
        exchange = client.exchange
        if exchange is None:
            total = connection.started + limits.connection_total_s
            if client.head_began:
                return min(total, client.head_began + limits.web_head_timeout_s)
            return min(total, connection.last_active + limits.web_idle_timeout_s)
        now = connection.port.now
        due = exchange.started + limits.web_exchange_s
        if exchange.is_dialling:
            due = min(due, exchange.last_active + limits.connect_timeout_s)
        elif _is_awaited(client):
            due = min(due, self._window_began + limits.web_window_s)
        elif exchange.is_server_measured:
            # (One that began before this exchange is another server's, and due at once.)
            began = self._server_began if self._server_began >= exchange.started else now
            due = min(due, began + limits.web_window_s)
        elif exchange.is_server_awaited:
            of_rule = connection.plan.response_timeout_s
            silent_s = limits.web_response_timeout_s if of_rule is None else of_rule
            due = min(due, exchange.last_active + silent_s)
        if connection.half_closed:
            due = min(due, connection.half_closed + limits.half_closed_timeout_s)
        deadlines = connection.plan.deadlines
        return due if deadlines is None else min(due, deadlines.due_for(exchange))

    def on_expired(self, connection: WebConnection) -> None:
        """End what has taken too long."""
        client, now = connection.client, connection.port.clock.monotonic()
        exchange = client.exchange
        if client.linger_until:
            connection.close(abortive=True)
        elif exchange is not None:
            self._end_exchange(connection, exchange, now)
        elif client.head_began:
            client.refuse_unread(408, "limit web_head_timeout_s")
        else:
            connection.close(abortive=False)

    def _end_exchange(self, connection: WebConnection, exchange: GateExchange, now: float) -> None:
        limits, plan = connection.service.limits, connection.plan
        limit = plan.deadlines.reached_by(exchange, now) if plan.deadlines is not None else None
        if limit is None and exchange.started + limits.web_exchange_s <= now:
            limit = LimitExceeded("web_exchange_s", limits.web_exchange_s)
        if limit is not None:
            exchange.on_limit(limit)
        elif exchange.is_dialling:
            doing = "wait for a descriptor" if exchange.waits_for_descriptor else "connect"
            exchange.fail(504, f"server {doing} ETIMEDOUT")
        elif _is_awaited(connection.client):
            self._judge_client(connection, exchange)
        elif connection.half_closed and (
            connection.half_closed + limits.half_closed_timeout_s <= now
        ):
            connection.fail("half-closed time-out", errno.ETIMEDOUT, Side.CLIENT)
        elif exchange.is_server_measured and exchange.origin is not None:
            self._judge_server(connection, exchange, exchange.origin)
        elif exchange.origin is not None:
            is_gates = plan.response_timeout_s is None
            of_rule = "" if is_gates else f": rule {plan.rule.name} response_timeout_s"
            exchange.on_origin_failed(f"server silent{of_rule}", exchange.origin, _TIMED_OUT)
        else:
            exchange.fail(504, "limit web_response_timeout_s")

    def _judge_client(self, connection: WebConnection, exchange: GateExchange) -> None:
        """End an exchange whose client is too slow; one that is not has another window."""
        if _moved_by(connection.client) - self._window_bytes >= _bytes_min(connection):
            self.begin_window(connection)
        elif connection.client.wire.is_blocked:
            # Its answer has begun, so it can only be reset.
            connection.end_exchange(Outcome.FAILED, "client takes its answer too slowly")
        else:
            exchange.refuse(408, "limit web_window_bytes_min")

    def _judge_server(
        self, connection: WebConnection, exchange: GateExchange, origin: ServerSide
    ) -> None:
        """End an exchange whose server is too slow; one that had to wait for its client is not."""
        is_new = self._server_began < exchange.started or origin.stops != self._server_stops
        if is_new or _moved_by(origin) - self._server_bytes >= _bytes_min(connection):
            self.begin_server_window(connection, origin)
        else:
            exchange.on_origin_failed("server too slow: web_window_bytes_min", origin, _TIMED_OUT)


def _moved_by(end: ClientSide | ServerSide) -> int:
    return end.wire.bytes_received + end.wire.bytes_sent


def _is_awaited(client: ClientSide) -> bool:
    return client.is_awaited or client.wire.is_blocked


def _bytes_min(connection: WebConnection) -> int:
    of_rule = connection.plan.rule.limits.window_bytes_min
    return connection.service.limits.web_window_bytes_min if of_rule is None else of_rule


_TIMED_OUT: Final = errno.ETIMEDOUT
