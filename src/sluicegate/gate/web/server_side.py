"""ServerSide: what an exchange asks of the end that faces its server, whatever version it speaks.

``OriginEnd`` is a connection of HTTP/1, ``OriginStream`` one stream of HTTP/2. The invariant:
nothing before it knows which of them there is, but for upgrades, which are HTTP/1's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sluicegate.protocols.http1 import Fields, Request

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress

    from .body_stage import BodySource, ResponseSink
    from .gate_exchange import GateExchange
    from .switched import Switched

__all__ = ["ServerSide", "ServerWire"]


class ServerWire(Protocol):
    """The bytes of one server: how many have moved, and whether it takes them."""

    bytes_sent: int
    bytes_received: int
    is_watched: bool
    """Whether what comes is shown to code that might keep it."""

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the server to take it."""
        ...


class ServerSide(Protocol):
    """One server; a ``RequestSink``, and the ``BodySource`` of responses."""

    address: SocketAddress
    """The judged address that was dialled."""
    has_length: bool
    """Whether it has said how long the body is that it sends now."""
    stops: int
    """How often it was not read because somebody else was not ready."""
    is_corked: bool
    is_stopped: bool
    sink: ResponseSink | None
    source: BodySource | None

    @property
    def wire(self) -> ServerWire:
        """Its bytes."""
        ...

    @property
    def uses(self) -> int:
        """Exchanges that its connection has had."""
        ...

    @property
    def has_answered(self) -> bool:
        """Whether anything came since the request."""
        ...

    @property
    def was_not_looked_at(self) -> bool:
        """Whether the server has said that it has not looked at the request."""
        ...

    def has_gone(self) -> bool:
        """Tell whether its connection has ended by now, though nobody was told so far."""
        ...

    def begin_exchange(self, exchange: GateExchange) -> None:
        """Serve an exchange from now on."""
        ...

    def bind_to(self, client: object) -> None:
        """Let nobody but one client's connection use its connection from here on."""
        ...

    def switch(self) -> Switched:
        """Return what carries another protocol from here on, behind its 101."""
        ...

    def give_away(self) -> None:
        """End the service of an exchange that has switched: its wire is somebody else's."""
        ...

    def let_go(self) -> None:
        """End the service of an exchange: its answer is whole."""
        ...

    def close(self) -> None:
        """End it, whatever it is about."""
        ...

    def begin(self, head: Request) -> None:
        """Send the head; it may wait for what follows it in the same turn."""
        ...

    def send_whole(self, request: Request, head: bytes) -> None:
        """Send a request without a body, as one piece.

        Args:
            request: As it came, or as filters made it.
            head: How HTTP/1 says it.
        """
        ...

    def feed(self, data: bytes | memoryview) -> bool:
        """Send bytes of the body; False while the server does not take them."""
        ...

    def finish(self, trailers: Fields) -> None:
        """Send the end of the request."""
        ...

    def abort(self, reason: str) -> None:
        """Take that the request is not whole."""
        ...

    def flush(self) -> bool:
        """Send what waits; False while the server does not take it."""
        ...

    def resume(self) -> None:
        """Read on: the sink has room again, or the exchange has decided on the head."""
        ...
