"""A chunk stage: one web filter that sees a body piece by piece, as it passes.

``filtered_exchange`` puts it between the ends. The invariant: the bytes that go on are exactly
those that the filter let go on, in order; what it holds is shown to it again, and never lost.

The head of a response waits for the first bytes that go on: a filter that refuses before that is
answered with a page, and not with a reset. Readers of endless streams have it at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.filterapi import Direction, Forward, Refuse, Rewrite
from sluicegate.filterapi.stream_filter import Leave
from sluicegate.protocols.http1 import Fields, Request, Response

from .altered_body import mend_trailers
from .body_stage import BodySink, BodySource, HeadT
from .endless import is_endless
from .hook import HookFailed, call_hook, when_answered

if TYPE_CHECKING:
    from .filtered_exchange import FilteredExchange, Wanted

__all__ = ["ChunkStage"]


class ChunkStage(Generic[HeadT]):
    """One filter's look at one body (``BodyStage``)."""

    __slots__ = (
        "_has_left",
        "_head",
        "_held",
        "_hook",
        "_is_asking",
        "_is_blocked",
        "_is_last_asked",
        "_owes",
        "_part",
        "_trailers",
        "_wanted",
        "sink",
        "source",
    )

    source: BodySource
    sink: BodySink[HeadT]

    def __init__(self, part: FilteredExchange, wanted: Wanted, direction: Direction) -> None:
        web_filter = part.pipeline.steps[wanted.index].filter
        is_upload = direction is Direction.UPLOAD
        self._hook = web_filter.on_request_chunk if is_upload else web_filter.on_response_chunk
        self._part = part
        self._wanted = wanted
        self._head: HeadT | None = None
        #: While it waits.
        self._held = b""
        self._is_asking = False
        #: Whether a coroutine is waited for.
        self._is_blocked = False
        #: Whether the sink has no room.
        self._owes = False
        #: Whether the source waits to be told to send on.
        self._has_left = False
        self._trailers: Fields | None = None
        #: Of a body that has come to its end.
        self._is_last_asked = False

    def begin(self, head: HeadT) -> None:
        """As ``BodyStage.begin``."""
        if _may_wait(head):
            self._head = head
        else:
            self.sink.begin(head)

    def feed(self, data: bytes | memoryview) -> bool:
        """As ``BodyStage.feed``."""
        if self._has_left:
            self._release(data)
        else:
            self._held = self._held + data if self._held else bytes(data)
            bound = self._part.service.limits.stream_hold_bytes_max
            if len(self._held) > bound + len(data):
                name = self._part.pipeline.steps[self._wanted.index].installed.name
                reason = f"filter {name} holds more than stream_hold_bytes_max"
                self._part.exchange.refuse(_CONTENT_TOO_LARGE, reason)
                return False
            self._ask(is_last=False)
        self._owes = self._is_asking or self._is_blocked
        return not self._owes

    def finish(self, trailers: Fields) -> None:
        """As ``BodyStage.finish``."""
        self._trailers = mend_trailers(trailers) if self._wanted.alters else trailers
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
        self._held = b""
        self._trailers = None

    def _go_on(self) -> None:
        """Do what was waited with: the last question, the end, or asking for more."""
        while not (self._is_asking or self._is_blocked or self._part.is_over):
            if self._trailers is None:
                if self._owes:
                    self._owes = False
                    self.source.resume()
                return
            if self._has_left or self._is_last_asked:
                self._begin()
                trailers, self._trailers = self._trailers, None
                self._owes = False
                self.sink.finish(trailers)
                return
            self._is_last_asked = True
            self._ask(is_last=True)

    def _ask(self, *, is_last: bool) -> None:
        part, index = self._part, self._wanted.index
        window = Window(ConstBuffer(self._held), 0, len(self._held))
        installed = part.pipeline.steps[index].installed
        answer = call_hook(part, installed, self._hook, part.view(index), window, is_last)
        if when_answered(part, answer, partial(self._take_late, is_last=is_last)):
            self._is_asking = True
        else:
            self._take(answer, is_last=is_last)

    def _take_late(self, answer: object, *, is_last: bool) -> None:
        self._is_asking = False
        self._take(answer, is_last=is_last)
        self._go_on()

    def _take(self, answer: object, *, is_last: bool) -> None:
        if isinstance(answer, Refuse):
            self._part.end_by(answer)
            return
        released = self._released_by(answer, is_last=is_last)
        if isinstance(released, HookFailed):
            if not self._part.fail(self._wanted.index, released):
                return
            # The operator lets bodies pass without it.
            self._has_left = True
            released, self._held = self._held, b""
        self._release(released)

    def _released_by(self, answer: object, *, is_last: bool) -> bytes | HookFailed:
        """Return what an answer lets go on, and keep the rest."""
        held = self._held
        match answer:
            case Forward(count):
                released = held if count is None else held[:count]
            case Rewrite(data, count):
                if not self._wanted.alters:
                    return HookFailed("changed a body without saying that it does (alters)")
                released = bytes(data)
            case Leave():
                self._has_left = True
                self._held = b""
                return held
            case HookFailed():
                return answer
            case _:
                return HookFailed(f"answered {answer!r}, which is no verdict about a chunk")
        if count is not None and not 0 <= count <= len(held):
            return HookFailed(f"let {count} of {len(held)} bytes go on")
        rest = b"" if count is None else held[count:]
        if rest and is_last:
            return HookFailed(f"holds {len(rest)} bytes behind the end of the body")
        self._held = rest
        return released

    def _release(self, data: bytes | memoryview) -> None:
        if len(data) and not self._part.is_over:
            self._begin()
            if not self.sink.feed(data):
                self._is_blocked = True

    def _begin(self) -> None:
        """Let the head go on, once."""
        head, self._head = self._head, None
        if head is not None:
            self.sink.begin(head)


def _may_wait(head: Request | Response) -> bool:
    return isinstance(head, Response) and not is_endless(head)


_CONTENT_TOO_LARGE = 413
