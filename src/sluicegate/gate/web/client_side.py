"""ClientSide: what an exchange asks of the end that faces its client, whatever version it speaks.

``ClientEnd`` is HTTP/1's, ``StreamEnd`` one stream's of HTTP/2. The invariant: nothing behind it
knows which of them there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sluicegate.protocols.http1 import Fields, Framing, KnownResponse, Response

if TYPE_CHECKING:
    from sluicegate.gate.session import GateSession

    from .body_stage import BodySource, RequestSink
    from .gate_exchange import GateExchange
    from .origin_end import OriginEnd
    from .switched import Switched

__all__ = ["ClientSide", "ClientWire"]


class ClientWire(Protocol):
    """The bytes of one client: how many have moved, and whether it takes them."""

    session: GateSession | None
    """On whose account is what the client does not take."""
    bytes_sent: int
    bytes_received: int

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the client to take it."""
        ...

    def close(self, *, abortive: bool) -> None:
        """Close; ``on_wire_closed`` of the connection is told when that is done."""
        ...


class ClientSide(Protocol):
    """One client; a ``ResponseSink``, and the ``BodySource`` of requests."""

    exchange: GateExchange | None
    """The one that is going on."""
    head_began: float
    """When the first byte of a head came whose end has not come; 0 while there is none."""
    linger_until: float
    """Until when a client that was answered for good may read; 0 before."""
    is_corked: bool
    """Whether what is sent waits for more of the same turn."""
    source: BodySource | None
    """Where the response comes from."""

    @property
    def wire(self) -> ClientWire:
        """Its bytes."""
        ...

    @property
    def is_request_whole(self) -> bool:
        """Whether the end of the request was handed on, or there is no body."""
        ...

    @property
    def is_awaited(self) -> bool:
        """Whether the client is to send more of its request, and nothing keeps it from it."""
        ...

    @property
    def committed(self) -> Framing | None:
        """How a head that was promised tells the end of its body; None: none was."""
        ...

    @property
    def takes_whole(self) -> bool:
        """Whether an answer that is there as a whole may be sent at once, as one piece."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        ...

    @property
    def must_switch(self) -> bool:
        """Whether the client asks for another protocol alone (RFC 8441), and not beside."""
        ...

    def switch(self, response: Response) -> Switched:
        """Tell the client that its server has switched; what follows is another protocol's.

        Args:
            response: The 101.
        """
        ...

    # -- the request -----------------------------------------------------------------------------

    def open_request(self, sink: RequestSink) -> None:
        """Let the body of the request come."""
        ...

    def resume(self) -> None:
        """Read on: whoever takes the request's body has room again."""
        ...

    # -- the answer ------------------------------------------------------------------------------

    def inform(self, response: Response) -> bool:
        """Send an informational response; False: an answer has begun, or it takes none."""
        ...

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        ...

    def comfort(self, head: Response | None) -> bool:
        """Send something that keeps the client waiting; see ``Exchange.comfort``."""
        ...

    def begin(self, head: Response) -> None:
        """Send the head."""
        ...

    def feed(self, data: bytes | memoryview) -> bool:
        """Send bytes of the body; False while the client does not take them."""
        ...

    def finish(self, trailers: Fields) -> None:
        """Send the end."""
        ...

    def send_whole(
        self, known: KnownResponse, changed: Fields | None, body: bytes | memoryview, status: int
    ) -> None:
        """Send a whole answer.

        Args:
            known: Its head.
            changed: What filters have made of its fields; None: they are as they came.
            body: All of it.
            status: Of the head.
        """
        ...

    def take_splice(self, origin: OriginEnd, left: int | None) -> bool:
        """Have the rest of a response moved from its server's socket; False: it is to be fed.

        Args:
            origin: Whose socket it is; it is told how that goes (``SplicingEnd``).
            left: Bytes that are to come; None: all until the server ends the connection.
        """
        ...

    def skip_sent(self, count: int) -> None:
        """Take that bytes of the answer's body were sent past us."""
        ...

    def stop_splice(self) -> None:
        """Take that nobody wants what is left of a request that is moved past us, if it is."""
        ...

    def abort(self, reason: str) -> None:
        """Take that the response is not whole."""
        ...

    def uncork(self) -> None:
        """Send what has waited for more of the same turn."""
        ...

    def flush(self) -> bool:
        """Send what waits; False while the client does not take it."""
        ...

    # -- the end ---------------------------------------------------------------------------------

    def close_after_answer(self) -> None:
        """End the connection with the answer to the present request."""
        ...

    def close_when_answered(self) -> None:
        """Take no further request: the gate is being drained."""
        ...

    def hand_back(self) -> bool:
        """Give the connection to who serves CONNECT; False: it carries other requests, too.

        The present request, which is one, goes with it, and is no exchange any more.
        """
        ...

    def let_go(self) -> None:
        """Take that its connection has ended: nothing comes, and nobody is told of anything."""
        ...

    def drop_exchange(self) -> None:
        """End the present exchange, unanswered: the connection is closing."""
        ...

    def end_exchange(self) -> None:
        """End the present exchange: what follows is another protocol's."""
        ...

    def refuse_unread(self, status: int, reason: str, detail: str = "") -> None:
        """Refuse a request whose head could not be read, or never came whole."""
        ...
