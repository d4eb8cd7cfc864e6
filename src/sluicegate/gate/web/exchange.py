"""Exchange: one request and its response, whatever version of HTTP the two ends speak.

A client's end makes one when it has read a request; filters, held bodies and later HTTP/2 know only
this. The invariant: an exchange is decided on before anything of it leaves the gate, answered at
most once, and ends in exactly one record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sluicegate.protocols.http1 import Framing, Request, Response

if TYPE_CHECKING:
    from sluicegate.filterapi import Connection, User, WebOutcome
    from sluicegate.gate.transfer import TransferService
    from sluicegate.policy import AnyRule, DestinationDecision

    from .body_stage import ResponseSink

__all__ = ["Exchange", "HeldExchange"]


class Exchange(Protocol):
    """One request and its response, as filters' parts and stages see it."""

    id: str
    """The identifier in records; refusals quote it."""
    request: Request
    """As received, until a pipeline changes it; what goes on is made from it."""

    facts: dict[str, str | int]
    """What filters add to its record."""

    @property
    def response(self) -> Response | None:
        """The final one, once its head was read; filters change it where it is."""
        ...

    @property
    def path(self) -> str:
        """The canonical path, without the query; as it came where servers may read it differently.

        Empty where the target has none (``OPTIONS *``).
        """
        ...

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        ...

    @property
    def host(self) -> str:
        """The canonical host that was judged, without brackets."""
        ...

    @property
    def port(self) -> int:
        """The port that was judged."""
        ...

    @property
    def connection(self) -> Connection:
        """The client's connection; its ``rule`` is this exchange's while this lasts."""
        ...

    @property
    def user(self) -> User | None:
        """Who the client proved to be."""
        ...

    @property
    def rule(self) -> AnyRule:
        """Which rule lets it in."""
        ...

    @property
    def decision(self) -> DestinationDecision | None:
        """What policy decided; None on a published server, which has no rules of destinations."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether it has ended: nothing that is called on it has an effect any more."""
        ...

    @property
    def outcome(self) -> WebOutcome:
        """How it ended; when the pipeline is told of the end."""
        ...

    @property
    def is_answered(self) -> bool:
        """Whether anything of an answer was sent to the client."""
        ...

    def answer(self, response: Response, body: bytes = b"") -> None:
        """Answer in the server's place; the record says released, by the gate's own answer.

        The server's connection, if there is one, is given up; what the client still sends of its
        request is not read.

        Args:
            response: Its framing is set here, to the body's length.
            body: All of it.

        Raises:
            BadContext: Something of an answer was sent already.
        """
        ...

    def inform(self, response: Response) -> bool:
        """Send an informational response; False: an answer has begun, or the client takes none."""
        ...

    @property
    def client(self) -> ResponseSink:
        """Where its answer goes in the end."""
        ...

    @property
    def committed(self) -> Framing | None:
        """How a head that was promised to the client tells the end of its body; None: none was."""
        ...

    def comfort(self, head: Response | None) -> bool:
        """Send the client the next byte of the head that it will get; False: nothing is left.

        Args:
            head: The head that is promised with the first byte behind the version, which is the
                same in all; None: nothing is promised.
        """
        ...

    def refuse(self, status: int, reason: str, *, detail: str = "") -> None:
        """End it by a verdict: with a refusal page, or a reset where an answer has begun.

        Args:
            status: What the client is told, 400 or more.
            reason: For the record, and the code that a machine reads.
            detail: For the record alone.
        """
        ...

    def abort(self, reason: str) -> None:
        """End it as failed: 502 to the client, or a reset where an answer has begun."""
        ...


class HeldExchange(Exchange, Protocol):
    """The same, as held bodies see it."""

    held: object | None
    """What they know of it between its request and its response."""

    @property
    def transfers(self) -> TransferService[Any]:
        """Who holds objects."""
        ...
