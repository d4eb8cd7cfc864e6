"""AttendantPost: the place of a process that looks after the gate and meets no traffic of clients.

Base of who keeps the process that is asked for metrics and the one that raises alerts. The
invariant: such a process may ask what its ``may`` lists, and nothing else; whatever becomes of it,
the gate goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from sluicegate.clock import Clock
from sluicegate.documents import ConfigRefused
from sluicegate.gate.control import ControlTarget, answer
from sluicegate.gate.control_messages import AnyReply, RefusedReply, Request
from sluicegate.process_limits import WORKER_GRACE_S

from .backoff import Backoff
from .child import Child, Role
from .orders import PROTOCOL, Answer, AnyMessage, AskFor, Failed, Message, Ready, Said

__all__ = ["AttendantPost"]

_Begin: TypeAlias = tuple[Message, list[int]]


class AttendantPost:
    """One such process, and its replacements."""

    def __init__(
        self,
        role: Role,
        name: str,
        may: tuple[type[Request], ...],
        target: ControlTarget,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Have none yet.

        Args:
            role: Which process.
            name: What people call it.
            may: What it may ask.
            target: Who answers it.
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
        """
        self.name = name
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self._role: Role = role
        self._may = may
        self._target = target
        self._clock = clock
        self._say = say
        self._backoff = Backoff()
        self._child: Child | None = None
        self._gone = asyncio.Event()
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_wanted(self) -> bool:
        """Whether the configuration has it."""
        return self._begin() is not None

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        if self.is_wanted and (self._child is None or self._backoff.is_holding_back):
            return [f"the {self.name} had to be started again {self.restarts} times"]
        return []

    def listen(self) -> None:
        """Open its address, if it has one.

        Raises:
            ConfigError: It cannot be opened.
        """

    def start(self) -> None:
        """Start it, if the configuration has it."""
        self._is_closing = False
        self._start()

    async def close(self) -> None:
        """End it."""
        self._is_closing = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._child is None:
            return
        self._child.let_go()
        try:
            async with asyncio.timeout(WORKER_GRACE_S):
                await self._gone.wait()
        except TimeoutError:
            self._say(f"the {self.name} does not end: killed")
            self._child.kill()
            await self._gone.wait()

    # -- who keeps one says --------------------------------------------------------------------

    def _begin(self) -> _Begin | None:
        """Return what the process is told first, and given; None: there is to be none."""
        raise NotImplementedError

    def _on_said(self, message: AnyMessage) -> None:
        """Take what only this kind of process says."""
        raise AssertionError(f"{message} is not what {self.name} says")

    # -- private -------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        """Say something to the process, if it is there."""
        if self._child is not None and not self._child.has_ended:
            self._child.send(message)

    def _start(self) -> None:
        self._retry = None
        begin = self._begin()
        if begin is None:
            return
        self._backoff.on_started(self._clock.monotonic())
        self.started = self._clock.wall()
        self._gone.clear()
        try:
            self._child = Child.start(self._role, self.name, self._on_message, self._on_ended)
        except OSError as error:
            self._say(f"the {self.name} cannot be started: {error.strerror}")
            self._try_again()
            return
        self._child.send(*begin)

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
            case AskFor():
                task = asyncio.get_running_loop().create_task(self._answer(child, message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case _:
                self._on_said(message)

    async def _answer(self, child: Child, asked: AskFor) -> None:
        reply: AnyReply
        if isinstance(asked.request, self._may):
            try:
                reply = await answer(self._target, asked.request, asked.by)
            except ConfigRefused as error:
                reply = RefusedReply(causes=[str(one) for one in error.errors])
        else:
            reply = RefusedReply(causes=[f"the {self.name} may not ask that"])
        if not child.has_ended:
            child.send(Answer(number=asked.number, reply=reply))

    def _on_ended(self, child: Child, how: str) -> None:
        self._child = None
        self._gone.set()
        if not self._is_closing:
            self._say(f"the {self.name} (pid {child.pid}) ended: {how}; it is started again")
            self._try_again()

    def _try_again(self) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start)
