"""ConsolePost: the place that the console fills, in the supervisor or in a gate of one process.

The invariant: the console may ask what ``_MAY`` lists, and nothing else; whatever becomes of it,
the gate goes on.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import Callable, Coroutine
from typing import Final, Protocol, TypeAlias

import msgspec

from sluicegate.address import SocketAddress
from sluicegate.app.config import Configuration
from sluicegate.app.inquiry.past import Unanswerable
from sluicegate.app.inquiry.record_explanation import explain_record
from sluicegate.app.load import Loaded
from sluicegate.audit.records import AnyRecord
from sluicegate.clock import Clock
from sluicegate.console.link import ConsoleSettings, Explained
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.gate.control import ControlTarget, answer
from sluicegate.gate.control_messages import (
    AnyReply,
    ConnectionsRequest,
    FiltersRequest,
    KillRequest,
    PolicyRequest,
    RefusedReply,
    ReloadRequest,
    SessionsRequest,
    StatusRequest,
    TransfersRequest,
)
from sluicegate.process_limits import WORKER_START_TIMEOUT_S

from .backoff import Backoff
from .child import Child
from .orders import (
    PROTOCOL,
    Acted,
    Answer,
    AnyMessage,
    AskFor,
    BeginConsole,
    Explain,
    ExplainedLine,
    Failed,
    Ready,
    Said,
)

__all__ = ["ConsolePost", "ConsoleTarget"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries pages, not traffic

_BACKLOG: Final = 128
_LIBRARIES: Final = ("jinja2", "starlette", "uvicorn")
_OIDC_LIBRARIES: Final = ("httpx", "joserfc")

_MAY: Final = (
    ConnectionsRequest,
    FiltersRequest,
    KillRequest,
    PolicyRequest,
    ReloadRequest,
    SessionsRequest,
    StatusRequest,
    TransfersRequest,
)


class ConsoleTarget(ControlTarget, Protocol):
    """A running gate, and what it works by."""

    @property
    def loaded(self) -> Loaded:
        """The operator's files, as they are in force."""
        ...


class ConsolePost:
    """The console of one gate, and its replacements."""

    def __init__(
        self,
        configuration: Configuration,
        target: ConsoleTarget,
        record: Callable[[AnyRecord], None],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says whether there is a console, and what the operator wants of it.
            target: Who answers it.
            record: Writes what was done there.
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
        """
        self.name = "console"
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self.settings = configuration.console
        self._target = target
        self._record = record
        self._clock = clock
        self._say = say
        self._has_sandbox = configuration.has_sandbox
        self._backoff = Backoff()
        self._listening: _Socket | None = None
        self._child: Child | None = None
        self._gone = asyncio.Event()
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """The console's process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    @property
    def address(self) -> SocketAddress | None:
        """Where it listens; None: nowhere."""
        if self._listening is None:
            return None
        return SocketAddress.from_kernel(self._listening.getsockname())

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        if self.settings is not None and (self._child is None or self._backoff.is_holding_back):
            return [f"the console had to be started again {self.restarts} times"]
        return []

    def listen(self) -> None:
        """Open the console's address, if there is a console.

        Raises:
            ConfigError: It cannot be opened.
        """
        if self.settings is None:
            return
        _check_libraries("[console]", "console", _LIBRARIES)
        if self.settings.oidc is not None:
            _check_libraries("[console.oidc]", "oidc", _OIDC_LIBRARIES)
        address = SocketAddress.parse(self.settings.listen)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = _Socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address.host, address.port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise ConfigError(
                '"listen" in [console]',
                f"{address} cannot be listened on: {error.strerror}",
                "choose another port, or leave [console] out",
            ) from error
        self._listening = listening

    def start(self) -> None:
        """Start the console, if there is one."""
        self._is_closing = False
        if self.settings is not None:
            self._start(self.settings)

    def _start(self, settings: ConsoleSettings) -> None:
        assert self._listening is not None, "its address was opened before"
        self._retry = None
        self._backoff.on_started(self._clock.monotonic())
        self.started = self._clock.wall()
        self._gone.clear()
        try:
            self._child = Child.start("console", settings.listen, self._on_message, self._on_ended)
        except OSError as error:
            self._say(f"the console cannot be started: {error.strerror}")
            self._try_again(settings)
            return
        begin = BeginConsole(settings=settings, has_sandbox=self._has_sandbox)
        self._child.send(begin, [self._listening.fileno()])

    async def close(self) -> None:
        """End the console, and close its address."""
        self._is_closing = True
        if self._retry is not None:
            self._retry.cancel()
        if self._child is not None:
            self._child.let_go()
            try:
                async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                    await self._gone.wait()
            except TimeoutError:
                self._say("the console does not end: killed")
                self._child.kill()
                await self._gone.wait()
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def _on_message(self, child: Child, message: AnyMessage, _descriptors: list[int]) -> None:
        match message:
            case Ready(version=version, protocol=protocol):
                self.version = version
                if protocol != PROTOCOL:
                    child.kill()  # the program on disk is another one: it is started again
            case Said(line=line):
                self._say(line)
            case Failed(causes=causes):
                for cause in causes:
                    self._say(f"error: {cause}")
            case Acted(record=record):
                self._record(record)
            case AskFor():
                self._begin(self._answer(child, message))
            case Explain():
                self._begin(self._explain(child, message))
            case _:
                raise AssertionError(f"{message} is no console's")

    def _begin(self, answering: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _explain(self, child: Child, asked: Explain) -> None:
        # Beside the loop: a policy of thousands of rules takes tens of milliseconds.
        found = await asyncio.to_thread(explain_record, asked.line, self._target.loaded)
        if isinstance(found, Unanswerable):
            explained = Explained(why_not=found.why)
        else:
            explained = Explained(tree=msgspec.to_builtins(found))
        if not child.has_ended:
            child.send(ExplainedLine(number=asked.number, explained=explained))

    async def _answer(self, child: Child, asked: AskFor) -> None:
        reply: AnyReply
        if isinstance(asked.request, _MAY):
            try:
                reply = await answer(self._target, asked.request, asked.by)
            except ConfigRefused as error:
                reply = RefusedReply(causes=[str(one) for one in error.errors])
        else:
            reply = RefusedReply(causes=["a console may not ask that"])
        if not child.has_ended:
            child.send(Answer(number=asked.number, reply=reply))

    def _on_ended(self, child: Child, how: str) -> None:
        self._child = None
        self._gone.set()
        if not self._is_closing:
            self._say(f"the console (pid {child.pid}) ended: {how}; it is started again")
            assert self.settings is not None, "it is a console"
            self._try_again(self.settings)

    def _try_again(self, settings: ConsoleSettings) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start, settings)


def _check_libraries(table: str, extra: str, libraries: tuple[str, ...]) -> None:
    """Refuse to start what lacks a library.

    Raises:
        ConfigError: One is missing.
    """
    missing = [one for one in libraries if importlib.util.find_spec(one) is None]
    if missing:
        cure = f"pip install 'sluicegate[{extra}]'"
        raise ConfigError(table, f"{', '.join(missing)} is missing", cure)
