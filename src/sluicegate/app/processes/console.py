"""The console's process: pages and an API, far from traffic, keys and the control socket.

The supervisor starts it where the configuration has a console. The invariant: it has a listening
socket and a channel on which it may ask the few things of ``console_post``; it reads its
users and writes nowhere but among the queries that they save.
"""

from __future__ import annotations

import asyncio
import itertools
import pathlib
import socket
import ssl
from typing import TypeAlias

from sluicegate.app.confinement import confine_process
from sluicegate.audit.records import OperatorRecord
from sluicegate.audit.store.place import load_driver
from sluicegate.clock import SystemClock
from sluicegate.console.link import Explained, GateLost
from sluicegate.console.saved_queries import queries_folder
from sluicegate.console.server import ConsoleServer
from sluicegate.console_limits import CONSOLE_ANSWER_TIMEOUT_S, CONSOLE_ORDER_TIMEOUT_S
from sluicegate.gate.control_messages import AnyReply, AnyRequest, PolicyRequest, ReloadRequest
from sluicegate.version import VERSION

from .channel import Channel, FrameReader, send_last
from .orders import (
    PROTOCOL,
    Acted,
    AddedFirst,
    AddFirst,
    Answer,
    AnyMessage,
    AskFor,
    BeginConsole,
    Explain,
    ExplainedLine,
    Failed,
    Message,
    Prove,
    Proved,
    Ready,
    Said,
    StoreAt,
)
from .start import arrive

__all__ = ["confine", "main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders and pages, not traffic


def main(channel: int) -> None:
    """Be the console.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    # It ends by its channel.
    arrived = arrive(channel, BeginConsole, "sluice-console")
    if arrived is None:
        return
    _, connected, begin, descriptors, reader = arrived
    if begin.settings.store is not None:
        load_driver(begin.settings.store)
    confine(pathlib.Path(begin.settings.folder), has_sandbox=begin.has_sandbox)
    listening = _Socket(fileno=descriptors[0])
    try:
        asyncio.run(_Life(connected, reader).live(begin, listening))
    except (OSError, ssl.SSLError) as error:
        send_last(connected, Failed(causes=[f"the console cannot work: {error}"]))


def confine(folder: pathlib.Path, *, has_sandbox: bool) -> None:
    """Give up writing, but for saved queries: users made here would have passwords made here.

    Args:
        folder: The console's; made, if it is not there.
        has_sandbox: False leaves it at that, because the operator said so.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    queries = queries_folder(folder)
    queries.mkdir(mode=0o700, exist_ok=True)
    confine_process([queries], has_sandbox=has_sandbox)


class _Life:
    """The process's life; satisfies ``GateLink``."""

    def __init__(self, connected: _Socket, reader: FrameReader) -> None:
        self._connected = connected
        self._reader = reader
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[AnyMessage]] = {}

    async def live(self, begin: BeginConsole, listening: _Socket) -> None:
        """Serve until the supervisor lets go."""
        self._server = server = ConsoleServer(begin.settings, listening, self, SystemClock())
        await server.load_all()
        self._channel = Channel(self._connected, self._on_message, self._on_left, self._reader)
        self._channel.send(Ready(protocol=PROTOCOL, version=VERSION))
        link = server.make_first_link()
        self._channel.send(Said(line=f"console on {server.origin}"))
        if link:
            self._channel.send(Said(line=f"the console has no users; for the first one: {link}"))
        self._channel.deliver()
        await server.serve()
        self._channel.close()

    async def ask(self, request: AnyRequest, by: str, ticket: str = "") -> AnyReply:
        """Ask the supervisor."""
        number = next(self._numbers)
        question = AskFor(number=number, request=request, by=by, ticket=ticket)
        answer = await self._wait(number, question)
        assert isinstance(answer, Answer), "each question has its own kind of answer"
        return answer.reply

    async def prove(self, name: str, password: str) -> str:
        """Have the supervisor check a password."""
        number = next(self._numbers)
        question = Prove(number=number, name=name, password=password)
        answer = await self._wait(number, question)
        assert isinstance(answer, Proved), "each question has its own kind of answer"
        return answer.ticket

    async def add_first(self, name: str, password: str) -> str:
        """Have the supervisor make the first user."""
        number = next(self._numbers)
        question = AddFirst(number=number, name=name, password=password)
        answer = await self._wait(number, question)
        assert isinstance(answer, AddedFirst), "each question has its own kind of answer"
        return answer.fault

    async def explain(self, line: str) -> Explained:
        """Ask what the policy says of a record."""
        number = next(self._numbers)
        answer = await self._wait(number, Explain(number=number, line=line))
        assert isinstance(answer, ExplainedLine), "each question has its own kind of answer"
        return answer.explained

    async def _wait(self, number: int, question: Message) -> AnyMessage:
        """Ask, and return the answer of the same number."""
        answered: asyncio.Future[AnyMessage] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        self._channel.send(question)
        is_order = isinstance(question, AskFor) and isinstance(
            question.request, PolicyRequest | ReloadRequest
        )
        timeout_s = CONSOLE_ORDER_TIMEOUT_S if is_order else CONSOLE_ANSWER_TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            raise GateLost(f"no answer within {timeout_s:g} s") from None
        finally:
            del self._waiting[number]

    def record(self, record: OperatorRecord) -> None:
        """Have something recorded."""
        self._channel.send(Acted(record=record))

    def _on_message(self, message: AnyMessage, _descriptors: list[int]) -> None:
        if isinstance(message, StoreAt):
            self._server.console.past.move(message.place)
            return
        assert isinstance(message, Answer | ExplainedLine | Proved | AddedFirst), (
            f"{type(message).__name__} is for another process"
        )
        waiting = self._waiting.get(message.number)
        if waiting is not None and not waiting.done():  # else it came too late
            waiting.set_result(message)

    def _on_left(self, _cause: str) -> None:
        self._server.end()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(GateLost("the gate is gone"))
