"""A WebSocket in memory: messages of both ends through a rule's web filters, without a network.

``web_play`` makes one for each that it plays. It drives the gate's own ways of messages as the
relay does. The invariant: a message is judged when those before it in its direction were, and what
goes on is what the gate would send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.filterapi import Direction, MessageKind, WebMessage
from sluicegate.gate.web.close_codes import close_code_of
from sluicegate.gate.web.filtered_exchange import FilteredExchange
from sluicegate.gate.web.message_way import MessageWay
from sluicegate.protocols.http1 import Http1Server, Request, Response

from .web_exchange import MemoryExchange

if TYPE_CHECKING:
    from sluicegate.gate.web.pipeline import Pipeline

__all__ = ["MemoryTalk"]


class MemoryTalk(MemoryExchange):
    """One WebSocket (``gate.web.exchange.Exchange`` and ``MessageOwner``)."""

    close_code = 0
    """With which the gate has closed it; 0: it has not."""

    def talk(self, pipeline: Pipeline | None, request: bytes, said: Sequence[WebMessage]) -> None:
        """Switch, and say everything; a close follows from whoever has not said one.

        Raises:
            HttpProtocolError: The request is no message.
        """
        self.sent: dict[Direction, list[WebMessage]] = {one: [] for one in Direction}
        self._said = deque(said)
        for direction in Direction:
            closes = [one for one in said if one.kind is MessageKind.CLOSE]
            if not any(one.direction is direction for one in closes):
                self._said.append(WebMessage(direction, MessageKind.CLOSE, "", 0, 1000))
        self._numbers = dict.fromkeys(Direction, 0)
        self._ways: dict[Direction, MessageWay] = {}
        self._is_saying = False
        server = Http1Server()
        server.receive_data(request)
        head = server.next_event()
        assert isinstance(head, Request), "a request comes first"
        self.take_request(head)
        part = self._part = pipeline.open(self) if pipeline is not None else None
        assert isinstance(part, FilteredExchange), "there are filters to be tried"
        if part.on_request(self._switch):
            self._switch()

    def _switch(self) -> None:
        if self.is_over:
            return
        part = self._part
        assert part is not None, "there are filters to be tried"
        self.response = Response(101, upgrade=(b"websocket",))
        if part.on_response(self._begin):
            self._begin()

    def _begin(self) -> None:
        part = self._part
        if self.is_over:
            return
        assert isinstance(part, FilteredExchange), "there are filters to be tried"
        assert self.response is not None, "the server has switched"
        self.to_client.head = self.response
        for direction in Direction:
            indices = part.message_judges(direction)
            self._ways[direction] = MessageWay(part, direction, indices, (), self)
        self._say()

    def _say(self) -> None:
        """Say what comes next, until somebody thinks about it."""
        if self._is_saying:
            return
        self._is_saying = True
        while self._said and not self.is_over:
            message = self._said[0]
            way = self._ways[message.direction]
            if way.is_busy:
                break
            self._said.popleft()
            self._numbers[message.direction] += 1
            way.push(_numbered(message, self._numbers[message.direction]))
        self._is_saying = False
        is_thinking = any(way.is_busy for way in self._ways.values())
        if not (self._said or is_thinking or self.is_over):
            self._end("passed", "", 101)

    def on_released(self, message: WebMessage) -> None:
        """As ``MessageOwner.on_released``."""
        self.sent[message.direction].append(message)

    def on_way_ready(self, direction: Direction) -> None:
        """As ``MessageOwner.on_way_ready``."""
        del direction
        self._say()

    @override
    def refuse(self, status: int, reason: str, *, detail: str = "") -> None:
        """As ``Exchange.refuse``."""
        if self._ways and not self.is_over:
            self.close_code = close_code_of(status)
            for way in self._ways.values():
                way.stop()
        super().refuse(status, reason, detail=detail)


def _numbered(message: WebMessage, number: int) -> WebMessage:
    return WebMessage(
        message.direction,
        message.kind,
        message.payload,
        number,
        message.close_code,
        message.is_compressed,
    )
