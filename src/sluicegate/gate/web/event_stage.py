"""An event stage: one web filter that sees a stream of server-sent events, one by one.

``filtered_exchange`` puts it between the ends; codings were taken off before. The invariant: what
goes on is whole events that the filter let go on, written anew; of the rest the client has no byte.

The head of the response goes on at once, as every reader of an endless stream expects it; an event
that is refused resets the client, which may come again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.filterapi import (
    Drop,
    Forward,
    Refuse,
    ReplaceEvent,
    ServerSentEvent,
)
from sluicegate.filterapi.stream_filter import Leave
from sluicegate.protocols.http1 import Fields, Response
from sluicegate.protocols.server_sent_events import EventStreamError, EventStreamReader

from .altered_body import mend_trailers
from .body_stage import BodySink, BodySource
from .hook import HookFailed, call_hook, when_answered

if TYPE_CHECKING:
    from .filtered_exchange import FilteredExchange, Wanted

__all__ = ["EventStage", "is_event_stream"]


def is_event_stream(head: Response) -> bool:
    """Tell whether a response is a stream of server-sent events."""
    content_type = (head.fields.first(b"content-type") or b"").partition(b";")[0]
    return content_type.strip(b" \t").lower() == b"text/event-stream"


class EventStage:
    """One filter's look at one stream (``BodyStage[Response]``)."""

    __slots__ = (
        "_has_left",
        "_is_asking",
        "_is_blocked",
        "_out",
        "_owes",
        "_part",
        "_reader",
        "_trailers",
        "_wanted",
        "sink",
        "source",
    )

    source: BodySource
    sink: BodySink[Response]

    def __init__(self, part: FilteredExchange, wanted: Wanted) -> None:
        self._part = part
        self._wanted = wanted
        self._reader = EventStreamReader(part.service.limits.web_event_bytes_max)
        self._out: list[bytes] = []
        #: What goes on at the end of this turn.
        self._is_asking = False
        #: Whether a coroutine is waited for.
        self._is_blocked = False
        #: Whether the sink has no room.
        self._owes = False
        #: Whether the source waits to be told to send on.
        self._has_left = False
        self._trailers: Fields | None = None
        #: Of a stream that has come to its end.

    def begin(self, head: Response) -> None:
        """As ``BodyStage.begin``."""
        self.sink.begin(head)

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``BodyStage.feed``."""
        self._reader.receive_data(data)
        is_done = self._read()
        self._owes = not is_done
        return is_done

    def finish(self, trailers: Fields) -> None:
        """As ``BodyStage.finish``; an event without its end is dispatched by no browser."""
        self._trailers = mend_trailers(trailers)
        self._go_on()

    def abort(self, reason: str) -> None:
        """As ``BodyStage.abort``."""
        self.sink.abort(reason)

    def resume(self) -> None:
        """As ``BodyStage.resume``."""
        self._is_blocked = False
        self._go_on()

    def close(self) -> None:
        """As ``BodyStage.close``."""
        self._trailers = None
        self._out.clear()

    def _go_on(self) -> None:
        if self._is_asking or self._is_blocked or not self._read():
            return
        if self._trailers is not None:
            trailers, self._trailers = self._trailers, None
            self._owes = False
            self.sink.finish(trailers)
        elif self._owes:
            self._owes = False
            self.source.resume()

    def _read(self) -> bool:
        """Ask about what there is; False: something is left, or the exchange is over."""
        part = self._part
        while not part.is_over:
            try:
                event = self._reader.next_event()
            except EventStreamError as error:
                part.exchange.refuse(_BAD_GATEWAY, error.code, detail=str(error))
                return False
            if event is None:
                break
            if self._has_left:
                self._out.append(event.to_bytes())
                continue
            answer = self._ask(event)

            def take_late(late: object, event: ServerSentEvent = event) -> None:
                self._is_asking = False
                self._take(late, event)
                self._go_on()

            if when_answered(part, answer, take_late):
                self._is_asking = True
                break
            self._take(answer, event)
        self._send()
        return not (self._is_asking or self._is_blocked or part.is_over)

    def _ask(self, event: ServerSentEvent) -> object:
        part, index = self._part, self._wanted.index
        step = part.pipeline.steps[index]
        return call_hook(part, step.installed, step.filter.on_event, part.view(index), event)

    def _take(self, answer: object, event: ServerSentEvent) -> None:
        match answer:
            case Forward(None):
                self._out.append(event.to_bytes())
            case ReplaceEvent(other):
                self._out.append(other.to_bytes())
            case Drop():
                pass
            case Leave():
                self._has_left = True
                self._out.append(event.to_bytes())
            case _:
                # What was let go on before goes on, whatever becomes of this one.
                self._send()
                if not self._part.is_over:
                    self._take_end(answer, event)

    def _take_end(self, answer: object, event: ServerSentEvent) -> None:
        part = self._part
        if isinstance(answer, Refuse):
            part.end_by(answer)
            return
        if not isinstance(answer, HookFailed):
            answer = HookFailed(f"answered {answer!r}, which is no verdict about an event")
        if part.fail(self._wanted.index, answer):
            # The operator lets streams pass without it.
            self._has_left = True
            self._out.append(event.to_bytes())

    def _send(self) -> None:
        if self._out and not self._part.is_over:
            data = b"".join(self._out)
            self._out.clear()
            if not self.sink.feed(data):
                self._is_blocked = True


_BAD_GATEWAY = 502
