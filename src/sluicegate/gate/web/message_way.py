"""A message way: one direction of a WebSocket through the filters of its rule, in order.

``websocket_relay`` has two; the kit for tests drives one by itself. The invariant: a message goes
on when every filter let it, never before one that came before it, and what a filter holds is
bounded and goes on or is lost with a reason.

Behind the web filters stand the content filters: each message is an object that is held for them.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sluicegate.filterapi import (
    Direction,
    Drop,
    Forward,
    MessageKind,
    Refuse,
    Rewrite,
    WebMessage,
)
from sluicegate.filterapi.stream_filter import Leave
from sluicegate.protocols.websocket import CLOSE_REASON_BYTES_MAX
from sluicegate.web_limits import WEBSOCKET_HELD_MAX

from .held_message import HeldMessage
from .hook import HookFailed, call_hook, when_answered

if TYPE_CHECKING:
    from sluicegate.gate.registry import ContentStep

    from .filtered_exchange import FilteredExchange

__all__ = ["MessageOwner", "MessageWay"]


class MessageOwner(Protocol):
    """Who gets what is let go on."""

    def on_released(self, message: WebMessage) -> None:
        """Send it on."""
        ...

    def on_way_ready(self, direction: Direction) -> None:
        """Take that the next message may be pushed; called after an answer that was waited for."""
        ...


class MessageWay:
    """One direction of one WebSocket."""

    __slots__ = (
        "_content",
        "_direction",
        "_held",
        "_held_bytes",
        "_held_count",
        "_indices",
        "_is_asking",
        "_is_over",
        "_left",
        "_object",
        "_owner",
        "_part",
        "_tail",
        "_work",
        "_work_bytes",
    )

    def __init__(
        self,
        part: FilteredExchange,
        direction: Direction,
        indices: Sequence[int],
        content: Sequence[ContentStep],
        owner: MessageOwner,
    ) -> None:
        """Make one.

        Args:
            part: The exchange's web filters.
            direction: Which way it leads.
            indices: Of those that judge messages, in the order in which they are asked.
            content: The content filters behind them.
            owner: Who gets what is let go on.
        """
        self._part = part
        self._direction = direction
        self._indices = indices
        self._content = content
        self._owner = owner
        self._work: deque[tuple[WebMessage, int]] = deque()
        #: Messages, each with the place of the filter that is asked next.
        self._held: list[list[WebMessage]] = [[] for _ in indices]
        #: What each filter keeps back.
        self._held_bytes = self._held_count = self._work_bytes = 0
        self._left: set[int] = set()
        #: Places of filters that have left.
        self._is_asking = self._is_over = False
        self._object: HeldMessage | None = None
        #: What is held for content filters.
        self._tail = b""
        #: The end of what has gone on.

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return self._is_asking

    @property
    def bytes_kept(self) -> int:
        """What waits here, or is held by filters."""
        return self._held_bytes + self._work_bytes

    def push(self, message: WebMessage) -> None:
        """Have the next message judged; not while it is busy."""
        assert not self._is_asking, "one message after the other"
        if not self._is_over:
            self._add(message, 0)
            self._go_on()

    def stop(self) -> None:
        """Judge nothing any more, and forget what waits; once and again is harmless."""
        self._is_over = True
        self._work.clear()
        self._held = []
        self._held_bytes = self._work_bytes = 0
        held, self._object = self._object, None
        if held is not None:
            held.stop()

    # -- private -------------------------------------------------------------------------------

    def _add(self, message: WebMessage, place: int) -> None:
        self._work.append((message, place))
        self._work_bytes += len(message.payload)

    def _go_on(self) -> None:
        """Ask about what waits, until an answer has to be waited for."""
        while self._work and not (self._is_asking or self._is_over):
            message, place = self._work.popleft()
            self._work_bytes -= len(message.payload)
            if place == len(self._indices):
                self._hand_on(message)
            elif place in self._left:
                self._work.appendleft((message, place + 1))
                self._work_bytes += len(message.payload)
            else:
                self._ask(message, place)

    def _ask(self, message: WebMessage, place: int) -> None:
        part, index = self._part, self._indices[place]
        step = part.pipeline.steps[index]
        hook = step.filter.on_message
        answer = call_hook(part, step.installed, hook, part.view(index), message)

        def take_late(late: object) -> None:
            self._is_asking = False
            if not self._is_over:
                self._take(late, message, place)
                self._go_on_late()

        if when_answered(part, answer, take_late):
            self._is_asking = True
        else:
            self._take(answer, message, place)

    def _go_on_late(self) -> None:
        self._go_on()
        if not (self._is_asking or self._is_over):
            self._owner.on_way_ready(self._direction)

    def _take(self, answer: object, message: WebMessage, place: int) -> None:
        is_close = message.kind is MessageKind.CLOSE
        match answer:
            case Forward(None):
                self._release(message, place)
            case Forward(0) if not is_close:
                self._hold(message, place)
            case Rewrite(data, None):
                altered = _altered(message, data)
                if altered is None:
                    self._fail(HookFailed("wrote what such a message cannot carry"), message, place)
                else:
                    self._release(altered, place)
            case Drop() if not is_close:
                pass
            case Leave():
                self._left.add(place)
                self._release(message, place)
            case Refuse():
                self._part.end_by(answer)
            case HookFailed():
                self._fail(answer, message, place)
            case _:
                what = "a close" if is_close else "a message"
                failure = HookFailed(f"answered {answer!r}, which is no verdict about {what}")
                self._fail(failure, message, place)

    def _fail(self, failure: HookFailed, message: WebMessage, place: int) -> None:
        if self._part.fail(self._indices[place], failure) and not self._is_over:
            # The operator lets messages pass without it.
            self._left.add(place)
            self._release(message, place)

    def _release(self, message: WebMessage, place: int) -> None:
        """Let a message go to the next filter, behind what this one has held."""
        held, self._held[place] = self._held[place], []
        self._held_count -= len(held)
        for one in reversed([*held, message]):
            self._work.appendleft((one, place + 1))
            self._work_bytes += len(one.payload)
        self._held_bytes -= sum(len(one.payload) for one in held)

    def _hold(self, message: WebMessage, place: int) -> None:
        self._held[place].append(message)
        self._held_bytes += len(message.payload)
        self._held_count += 1
        bound = self._part.service.limits.web_message_bytes_max
        if self._held_count > WEBSOCKET_HELD_MAX or self._held_bytes > bound:
            name = self._part.pipeline.steps[self._indices[place]].installed.name
            what = "web_message_bytes_max" if self._held_bytes > bound else "WEBSOCKET_HELD_MAX"
            self._part.exchange.refuse(_CONTENT_TOO_LARGE, f"filter {name} holds more than {what}")

    # -- content filters -------------------------------------------------------------------------

    def _hand_on(self, message: WebMessage) -> None:
        """Have content filters judge what web filters let go on."""
        if not self._content or not message.payload:
            self._deliver(message)
            return
        self._is_asking = True
        self._object = HeldMessage(self._part, message, self._content, self._tail, self._on_judged)
        self._object.start()

    def _on_judged(self, message: WebMessage, replaced: bytes | None) -> None:
        """Take that the content filters let it go on, or something in its place."""
        self._is_asking, self._object = False, None
        if self._is_over:
            return
        altered = message if replaced is None else _altered(message, replaced)
        if altered is None:
            self._part.exchange.refuse(
                _INTERNAL_ERROR, "filter failure: wrote what such a message cannot carry"
            )
            return
        self._deliver(altered)
        self._go_on_late()

    def _deliver(self, message: WebMessage) -> None:
        if self._content:
            self._tail = (self._tail + message.data)[-_TAIL_BYTES:]
        self._owner.on_released(message)


def _altered(message: WebMessage, data: bytes) -> WebMessage | None:
    """Return a message with something else in it; None: it cannot carry that."""
    if message.kind is MessageKind.BINARY:
        return dataclasses.replace(message, payload=bytes(data))
    try:
        text = bytes(data).decode()
    except UnicodeDecodeError:
        return None
    if message.kind is MessageKind.CLOSE and len(data) > CLOSE_REASON_BYTES_MAX:
        return None
    return dataclasses.replace(message, payload=text)


_CONTENT_TOO_LARGE = 413
_INTERNAL_ERROR = 500

_TAIL_BYTES = 4096
"""What content filters are shown of the messages before one: a secret that was cut into several,
in base 64 or escaped (``SECRET_SPAN_BYTES_MAX`` several times over)."""
