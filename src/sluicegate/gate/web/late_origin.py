"""LateOrigin: the server of an exchange whose request goes through stages, until it is dialled.

It is the last sink behind the stages: a connection is found when the first of the request is to be
sent, which for an upload that is held is after its verdict. The invariant: no server is dialled for
a request whose stages have not let it go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.protocols.http1 import Fields, Request

if TYPE_CHECKING:
    from .body_stage import BodySource
    from .gate_exchange import GateExchange
    from .server_side import ServerSide

__all__ = ["LateOrigin"]


class LateOrigin:
    """A ``RequestSink`` that takes what comes before there is a connection."""

    __slots__ = ("_exchange", "_is_full", "_origin", "_pieces", "_trailers", "source")

    def __init__(self, exchange: GateExchange) -> None:
        self.source: BodySource | None = None
        #: The last stage.
        self._exchange = exchange
        self._origin: ServerSide | None = None
        self._pieces: list[bytes] = []
        self._trailers: Fields | None = None
        self._is_full = False

    def begin(self, head: Request) -> None:
        """Take the head as the stages have made it, and find a connection."""
        self._exchange.request = head
        self._exchange.route()

    def feed(self, data: bytes | memoryview) -> bool:
        """Send on, or keep one piece until there is a connection."""
        if self._origin is not None:
            return self._origin.feed(data)
        self._pieces.append(bytes(data))
        self._is_full = True
        return False

    def finish(self, trailers: Fields) -> None:
        """Send the end, as soon as it may be sent."""
        if self._origin is not None:
            self._origin.finish(trailers)
        else:
            self._trailers = trailers

    def abort(self, reason: str) -> None:
        """Take that the request is not whole."""
        self._exchange.abort(reason)

    def resume(self) -> None:
        """Let the stages go on: the server takes more."""
        if self.source is not None:
            self.source.resume()

    def open(self, origin: ServerSide) -> None:
        """Send what has come: there is a connection."""
        self._origin = origin
        exchange = self._exchange
        origin.source = self
        origin.begin(exchange.connection.desk.to_server(exchange))
        has_room = True
        for piece in self._pieces:
            has_room = origin.feed(piece)
        self._pieces.clear()
        if self._trailers is not None:
            origin.finish(self._trailers)
        elif self._is_full and has_room:
            self._is_full = False
            self.resume()
        self._is_full = False
