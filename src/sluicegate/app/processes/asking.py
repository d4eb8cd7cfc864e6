"""Asking: a process of the gate asks the supervisor, and waits for the answer.

Those that an ``AttendantPost`` keeps have one each. The invariant: who asks has an answer in time,
or is told that there is none.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import TypeAlias

from sluicegate.errors import SluicegateError
from sluicegate.gate.control_messages import AnyReply, AnyRequest
from sluicegate.process_limits import METRICS_TIMEOUT_S

from .channel import Channel, FrameReader
from .orders import Answer, AnyMessage, AskFor, Message

__all__ = ["Asking", "GateSilent"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic


class GateSilent(SluicegateError):
    """The supervisor does not answer."""


class Asking:
    """The channel to the supervisor, for a process that asks."""

    def __init__(
        self,
        connected: _Socket,
        reader: FrameReader,
        by: str,
        on_message: Callable[[AnyMessage], None],
    ) -> None:
        """Take the channel.

        Args:
            connected: To the supervisor.
            reader: What was read of it already.
            by: Who asks.
            on_message: Told what is no answer.
        """
        self.over = asyncio.Event()
        #: The supervisor has let go.
        self._by = by
        self._on_other = on_message
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[AnyReply]] = {}
        self._channel = Channel(connected, self._on_message, self._on_left, reader)

    def say(self, message: Message) -> None:
        """Tell the supervisor something."""
        self._channel.send(message)

    def deliver(self) -> None:
        """Take what has come already."""
        self._channel.deliver()

    async def ask(self, request: AnyRequest) -> AnyReply:
        """Return the answer.

        Raises:
            GateSilent: There is none.
        """
        number = next(self._numbers)
        answered: asyncio.Future[AnyReply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        self._channel.send(AskFor(number=number, request=request, by=self._by))
        try:
            async with asyncio.timeout(METRICS_TIMEOUT_S):
                return await answered
        except TimeoutError:
            raise GateSilent(f"no answer within {METRICS_TIMEOUT_S:g} s") from None
        finally:
            del self._waiting[number]

    def close(self) -> None:
        """Let go of the supervisor."""
        self._channel.close()

    def _on_message(self, message: AnyMessage, _descriptors: list[int]) -> None:
        if not isinstance(message, Answer):
            self._on_other(message)
            return
        waiting = self._waiting.get(message.number)
        if waiting is not None and not waiting.done():  # else it came too late
            waiting.set_result(message.reply)

    def _on_left(self, _cause: str) -> None:
        self.over.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(GateSilent("the gate is gone"))
