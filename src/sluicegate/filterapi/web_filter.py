"""Web filters: HTTP by its phases, the same for HTTP/1.1 and HTTP/2.

The gate compiles what the web filters of a rule need into one pipeline when a policy is loaded
(``gate/web/pipeline``), and runs it for each exchange. The invariant: no filter sees more of a
message than the filters before it let go on; one that raises, is late or answers nonsense refuses
the exchange.

Requests pass the filters of a rule in its order, responses the other way round: the first one is
nearest to the client. A head passes all of them, then the body does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sluicegate.buffer import Window
from sluicegate.protocols.server_sent_events import ServerSentEvent
from sluicegate.verdict import Refuse

from .content_filter import Direction, Transfer
from .datagram_filter import Drop
from .isolation import Isolation
from .stream_filter import FORWARD
from .web_messages import WebRequest, WebResponse
from .web_streams import MessageVerdict, SentEventVerdict, WebMessage
from .web_verdicts import (
    GO_ON,
    BodyVerdict,
    ChunkVerdict,
    GoOn,
    HeadVerdict,
    Needs,
    RouteVerdict,
)

if TYPE_CHECKING:
    from .user import User
    from .views import Connection

__all__ = ["WebExchange", "WebFilter", "WebOutcome"]


class WebExchange(Protocol):
    """One request and its response, as one filter sees them."""

    state: Any
    """The filter's own, for this exchange; None at first."""

    @property
    def id(self) -> str:
        """The identifier in records; clients that are refused are told it."""
        ...

    @property
    def connection(self) -> Connection:
        """The client's connection."""
        ...

    @property
    def user(self) -> User | None:
        """Who asks; None for nobody in particular."""
        ...

    @property
    def rule(self) -> str:
        """The rule that let the request pass."""
        ...

    @property
    def request(self) -> WebRequest:
        """What the client asks for."""
        ...

    @property
    def response(self) -> WebResponse | None:
        """What the server answers; None before it does."""
        ...

    def inform(self, status: int, headers: Mapping[str, str | Sequence[str]]) -> bool:
        """Send the client an informational response, before its answer: early hints (103), say.

        Returns:
            Whether it was sent; not to clients of HTTP/1.0, nor once an answer has begun.

        Raises:
            ValueError: The status is not from 102 to 199, or the headers cannot be sent.
        """
        ...

    def note(self, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """Write a record about this exchange, in the filter's name.

        Args:
            message: For people; facts belong into ``facts``, so that records can be searched.
            facts: More of the record; ``connection`` and ``exchange`` are added.
        """
        ...


class WebOutcome(Protocol):
    """How an exchange ended."""

    @property
    def verdict(self) -> str:
        """``passed``, ``refused``, ``answered`` (by a filter) or ``failed``."""
        ...

    @property
    def reason(self) -> str:
        """Why: what refused or failed; else the reason code by which policy let it in."""
        ...

    @property
    def status(self) -> int:
        """What the client was told; 0 for nothing."""
        ...

    @property
    def bytes_to_server(self) -> int:
        """Of the request's body."""
        ...

    @property
    def bytes_to_client(self) -> int:
        """Of the response's body."""
        ...


class WebFilter:
    """Judges HTTP; override the hooks that matter, each a plain function or a coroutine.

    A plain function costs one call and no task. One instance serves all exchanges: what belongs to
    one of them is kept in ``exchange.state``. A class that declares ``RuleSettings`` is made anew
    for each rule, with that rule's settings in place of ``[filter.settings]``.
    """

    name: ClassVar[str] = ""
    isolation: ClassVar[Isolation] = "none"
    needs: Needs = Needs()
    """What it needs to see; read once, when a policy is loaded."""

    def on_request(self, exchange: WebExchange) -> HeadVerdict | Awaitable[HeadVerdict]:
        """Judge the head of a request, before its server is asked for anything."""
        del exchange
        return GO_ON

    def on_request_chunk(
        self, exchange: WebExchange, chunk: Window, is_last: bool
    ) -> ChunkVerdict | Awaitable[ChunkVerdict]:
        """Judge the next bytes of a request's body (``Need.STREAM``).

        What was held is shown again, in front of what comes next. A window is valid in this call; a
        coroutine copies it before it awaits anything. Content codings are taken off. The last call
        may show nothing; what it would hold then goes nowhere, so the exchange is refused.
        Messages without a body are not shown here.
        """
        del exchange, chunk, is_last
        return FORWARD

    def on_request_body(
        self, exchange: WebExchange, body: Transfer
    ) -> BodyVerdict | Awaitable[BodyVerdict]:
        """Judge the whole body of a request (``Need.OBJECT``).

        Its headers have not gone and can be changed; other filters' ``on_request`` is over.
        """
        raise NotImplementedError

    def on_route(self, exchange: WebExchange) -> RouteVerdict | Awaitable[RouteVerdict]:
        """Say which server is asked, when every filter has let the head of a request go on."""
        del exchange
        return GO_ON

    def on_interim(self, exchange: WebExchange, interim: WebResponse) -> GoOn | Drop | Refuse:
        """Judge an informational response of the server on its way to the client: 102, 103.

        Its headers can be changed (early hints are ``Link``). ``DROP``: the client is not sent it.
        What no filter has this hook for passes; 100 and 101 are not shown. Not a coroutine.
        """
        del exchange, interim
        return GO_ON

    def on_response(self, exchange: WebExchange) -> HeadVerdict | Awaitable[HeadVerdict]:
        """Judge the head of the final response."""
        del exchange
        return GO_ON

    def on_response_chunk(
        self, exchange: WebExchange, chunk: Window, is_last: bool
    ) -> ChunkVerdict | Awaitable[ChunkVerdict]:
        """Judge the next bytes of a response's body, as ``on_request_chunk``."""
        del exchange, chunk, is_last
        return FORWARD

    def on_response_body(
        self, exchange: WebExchange, body: Transfer
    ) -> BodyVerdict | Awaitable[BodyVerdict]:
        """Judge the whole body of a response, as ``on_request_body``."""
        raise NotImplementedError

    def on_message(
        self, exchange: WebExchange, message: WebMessage
    ) -> MessageVerdict | Awaitable[MessageVerdict]:
        """Judge one message of a WebSocket, or the close that ends one way (``needs.messages``).

        Messages from the client pass the filters in the rule's order, those from the server the
        other way round. While a coroutine thinks, nothing that follows in that direction is read.
        The other direction goes on. A close lets what is held go on, or refuses it.
        """
        raise NotImplementedError

    def on_event(
        self, exchange: WebExchange, event: ServerSentEvent
    ) -> SentEventVerdict | Awaitable[SentEventVerdict]:
        """Judge one server-sent event of a response (``needs.events``).

        Of an event that is refused nothing goes on, and the client is reset: it may come again.
        """
        raise NotImplementedError

    def on_unmet(self, exchange: WebExchange, direction: Direction, cause: str) -> GoOn | Refuse:
        """Say what becomes of a body that it cannot be shown as it needs; refused by default.

        Endless streams are no objects, some bodies are larger than ``object_bytes_max``, some are
        a part of an object (206), some have an unknown content coding. ``GoOn(Need.STREAM)`` takes
        it piece by piece, as it travels; ``SKIP_BODY`` lets it pass unseen. Not a coroutine.
        """
        del exchange, direction
        return Refuse(cause)

    def on_log(self, exchange: WebExchange) -> Mapping[str, str | int]:
        """Return facts for the record of an exchange that has ended, before it is written."""
        del exchange
        return {}

    def on_end(self, exchange: WebExchange, outcome: WebOutcome) -> None:
        """Take the end of an exchange: exactly once for each whose request it was shown."""
