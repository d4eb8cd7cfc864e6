"""An exchange of the web in memory: a request and a response through a rule's web filters.

``web_play`` makes one for each exchange it plays. It drives the gate's own pipeline and stages as
the engine does, between two ends that are lists. The invariant: every promise that ``body_stage``
makes to a stage is kept, and every one that a stage makes is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from sluicegate.gate.web.body_stage import BodySink, BodyStage, HeadT, join_stages
from sluicegate.gate.web.pipeline import ExchangePart, Pipeline
from sluicegate.protocols.http1 import (
    Body,
    EndOfMessage,
    Fields,
    Framing,
    Http1Client,
    Http1Server,
    Request,
    Response,
    Target,
    to_server,
)

if TYPE_CHECKING:
    from sluicegate.filterapi import Connection, User
    from sluicegate.policy import AnyRule, DestinationDecision
    from sluicegate.port import CompletionPort

__all__ = ["MemoryExchange", "PlayedOutcome", "SentMessage"]


@dataclass(slots=True)
class SentMessage(Generic[HeadT]):
    """What one end got."""

    head: HeadT | None = None
    body: bytearray = field(default_factory=bytearray)
    trailers: Fields | None = None
    """Set when the message came to its end."""

    @property
    def is_whole(self) -> bool:
        """Whether it ended as a message ends."""
        return self.trailers is not None


@dataclass(slots=True)
class PlayedOutcome:
    """How an exchange ended (``filterapi.WebOutcome``)."""

    verdict: str = ""
    reason: str = ""
    detail: str = ""
    status: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0


class _Source(Generic[HeadT]):
    """One end that sends a message in pieces, as fast as it may (``BodySource``)."""

    def __init__(
        self,
        exchange: MemoryExchange,
        pieces: Sequence[bytes],
        trailers: Fields,
        stall_s: float,
    ) -> None:
        self._exchange = exchange
        self._stall_s = stall_s
        self._pieces = iter(pieces)
        self._trailers = trailers
        self._is_waiting = False
        self._is_sending = False
        self._has_ended = False
        self.sink: BodySink[HeadT]

    def send(self, head: HeadT) -> None:
        """Begin."""
        self.sink.begin(head)
        self._send_rest()

    def resume(self) -> None:
        """As ``BodySource.resume``."""
        assert self._is_waiting, "resume answers a feed that returned False, once"
        self._is_waiting = False
        if not self._is_sending:
            self._send_rest()

    def _send_rest(self) -> None:
        self._is_sending = True
        while not (self._exchange.is_over or self._is_waiting or self._has_ended):
            piece = next(self._pieces, None)
            if piece is None:
                self._has_ended = True
                if self._stall_s:
                    self._exchange.call_after(self._stall_s, self._finish)
                else:
                    self._finish()
                break
            memory = bytearray(piece)
            self._is_waiting = True
            view = memoryview(memory)
            if self.sink.feed(view):
                self._is_waiting = False
            view.release()
            # It is somebody else's now.
            memory[:] = b"\xdb" * len(memory)
        self._is_sending = False

    def _finish(self) -> None:
        if not self._exchange.is_over:
            self.sink.finish(self._trailers)


class _End(Generic[HeadT]):
    """The other end: keeps what it gets, and may be slow (``BodySink``)."""

    def __init__(self, exchange: MemoryExchange, source: _Source[HeadT], *, is_slow: bool) -> None:
        self.got: SentMessage[HeadT] = SentMessage()
        self.stage: BodyStage[HeadT] | _Source[HeadT] = source
        #: Who is told that there is room.
        self._exchange = exchange
        self._is_slow = is_slow
        self._is_full = False

    def begin(self, head: HeadT) -> None:
        """As ``BodySink.begin``."""
        assert self.got.head is None, "a message begins once"
        assert not self._exchange.is_over, "nothing begins behind the end"
        self.got.head = head

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``BodySink.feed``."""
        assert self.got.head is not None, "a message begins with its head"
        assert not self.got.is_whole, "nothing follows the end of a message"
        assert not self._is_full, "nothing is fed before there is room"
        assert len(data), "an empty piece is never fed"
        self.got.body += data
        if self._is_slow:
            self._is_full = True
            self._exchange.post(self._have_room)
        return not self._is_full

    def finish(self, trailers: Fields) -> None:
        """As ``BodySink.finish``."""
        assert self.got.head is not None, "a message begins with its head"
        assert not self.got.is_whole, "a message ends once"
        self.got.trailers = trailers
        self._exchange.on_whole(self.got.head)

    def abort(self, reason: str) -> None:
        """As ``BodySink.abort``."""
        self._exchange.abort(reason)

    def _have_room(self) -> None:
        self._is_full = False
        if not self._exchange.is_over:
            self.stage.resume()


class MemoryExchange:
    """One exchange (``gate.web.exchange.Exchange``)."""

    def __init__(
        self, identifier: str, connection: Connection, rule: AnyRule, port: CompletionPort
    ) -> None:
        self.id = identifier
        self.connection = connection
        self.rule = rule
        self.user: User | None = None
        self.decision: DestinationDecision | None = None
        self.request = Request(b"GET", Target.origin(b"/"))
        self.response: Response | None = None
        self.path = "/"
        self.scheme, self.host, self.port = "http", "", 80
        self.facts: dict[str, str | int] = {}
        self.outcome = PlayedOutcome()
        self.is_over = False
        self.to_server: SentMessage[Request] = SentMessage()
        self.to_client: SentMessage[Response] = SentMessage()
        self.client: BodySink[Response]
        #: Set when the response begins.
        self.committed: Framing | None = None
        self.interims: list[Response] = []
        #: What filters sent the client before its answer.
        self.piece_bytes = 0
        #: The size of the pieces in which bodies come; 0: as they are given.
        self.is_slow = False
        #: Whether the ends have room for one piece at a time.
        self.stall_s = 0.0
        #: How long the server waits before it ends its response's body.
        self.post, self.call_after = port.post, port.call_after
        self._stages: list[BodyStage[Request] | BodyStage[Response]] = []
        self._part: ExchangePart | None = None
        self._request_body: list[bytes] = []
        self._request_trailers = Fields()
        self._answer = b""

    @property
    def is_answered(self) -> bool:
        """As ``Exchange.is_answered``."""
        return self.to_client.head is not None

    def play(self, pipeline: Pipeline | None, request: bytes, answer: bytes) -> None:
        """Send a request, and this answer when the server has it.

        Raises:
            HttpProtocolError: What is sent is no message.
        """
        self._answer = answer
        server = Http1Server()
        server.receive_data(request)
        events = list(_events(server))
        head = events.pop(0)
        assert isinstance(head, Request), "a request comes first"
        self.take_request(head)
        self._request_body, self._request_trailers = _body_of(events)
        self._part = pipeline.open(self) if pipeline is not None else None
        if self._part is None or self._part.on_request(self._forward):
            self._forward()

    def take_request(self, head: Request) -> None:
        """Take what is asked for, and of whom."""
        self.request = head
        authority = head.authority
        if authority is not None:
            self.host, self.port = authority.host.decode().lower(), authority.port or 80
        self.path = bytes(head.target.as_origin()).decode().partition("?")[0]

    # -- what stages and filters ask for (Exchange) -----------------------------------------------

    def inform(self, response: Response) -> bool:
        """As ``Exchange.inform``."""
        if self.is_over or self.is_answered:
            return False
        self.interims.append(response)
        return True

    def comfort(self, head: Response | None) -> bool:
        """As ``Exchange.comfort``: whoever plays has no time-outs to be kept alive."""
        del head
        return False

    def answer(self, response: Response, body: bytes = b"") -> None:
        """As ``Exchange.answer``."""
        if self.is_over:
            return
        assert self.to_client.head is None, "an answer has begun already"
        self.to_client.head = response
        self.to_client.body += body
        self.to_client.trailers = Fields()
        self._end("answered", "", response.status)

    def refuse(self, status: int, reason: str, *, detail: str = "") -> None:
        """As ``Exchange.refuse``."""
        self.outcome.detail = self.outcome.detail or detail
        self._end("refused", reason, 0 if self.is_answered else status)

    def abort(self, reason: str) -> None:
        """As ``Exchange.abort``."""
        self._end("failed", reason, 0 if self.is_answered else _BAD_GATEWAY)

    def on_whole(self, head: Request | Response) -> None:
        """Take that one end has a whole message."""
        if isinstance(head, Request):
            self._respond(head)
        else:
            self._end("passed", "", head.status)

    # -- private -------------------------------------------------------------------------------

    def _forward(self) -> None:
        stages = list(self._part.request_stages()) if self._part is not None else []
        self._stages += stages
        self.to_server = self._send(
            self.request, (self._request_body, self._request_trailers), stages
        ).got

    def _respond(self, request: Request) -> None:
        client = Http1Client()
        client.send(to_server(request, b"test"))
        client.send(Body(bytes(self.to_server.body)))
        client.send(EndOfMessage())
        client.receive_data(self._answer)
        client.receive_end()
        events = list(_events(client))
        finals = [one for one in events if isinstance(one, Response) and not one.is_informational]
        if not finals:
            self.abort("the server sent no response")
            return
        self.response = finals[0]
        events = events[events.index(finals[0]) + 1 :]
        if self._part is None or self._part.on_response(lambda: self._return(events)):
            self._return(events)

    def _return(self, events: list[object]) -> None:
        assert self.response is not None, "a response has a head"
        stages = list(self._part.response_stages()) if self._part is not None else []
        self._stages += stages
        end = self._send(self.response, _body_of(events), stages, self.stall_s)
        self.client, self.to_client = end, end.got

    def _send(
        self,
        head: HeadT,
        body: tuple[list[bytes], Fields],
        stages: list[BodyStage[HeadT]],
        stall_s: float = 0.0,
    ) -> _End[HeadT]:
        pieces, trailers = list(_cut(body[0], self.piece_bytes)), body[1]
        source: _Source[HeadT] = _Source(self, pieces, trailers, stall_s)
        end: _End[HeadT] = _End(self, source, is_slow=self.is_slow)
        if stages:
            end.stage = stages[-1]
        source.sink = join_stages(source, stages, end)
        self.post(lambda: source.send(head))
        return end

    def _end(self, verdict: str, reason: str, status: int) -> None:
        if self.is_over:
            return
        self.is_over = True
        outcome = self.outcome
        outcome.verdict, outcome.reason, outcome.status = verdict, reason, status
        outcome.bytes_to_server = len(self.to_server.body)
        outcome.bytes_to_client = len(self.to_client.body)
        if self._part is not None:
            self._part.on_end()
        for stage in self._stages:
            stage.close()


def _events(codec: Http1Server | Http1Client) -> Iterator[object]:
    while (event := codec.next_event()) is not None:
        if isinstance(event, Body):
            yield Body(bytes(event.data))
        else:
            yield event


def _body_of(events: list[object]) -> tuple[list[bytes], Fields]:
    pieces = [bytes(one.data) for one in events if isinstance(one, Body)]
    ends = [one for one in events if isinstance(one, EndOfMessage)]
    assert ends, "a message that is played is whole"
    return pieces, ends[0].trailers


def _cut(pieces: list[bytes], size: int) -> Iterator[bytes]:
    if not size:
        yield from pieces
        return
    whole = b"".join(pieces)
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


_BAD_GATEWAY = 502
