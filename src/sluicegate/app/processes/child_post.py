"""ChildPost: the place of a process that has no work for clients, and its replacements.

Base of the places of the store's keeper, the forwarder, and those that look after the gate
(``attendant_post``). The invariant: whatever becomes of the process, the gate goes on; one that
ends is started again, later each time, and its end is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from sluicegate.audit.records import AnyRecord, ProcessRecord
from sluicegate.clock import Clock
from sluicegate.process_limits import WORKER_GRACE_S

from .backoff import Backoff
from .child import Child, Role
from .orders import PROTOCOL, AnyMessage, Failed, Message, Ready, Said

__all__ = ["Begin", "ChildPost", "Upkeep"]

Begin: TypeAlias = tuple[Message, list[int]]
"""What a process is told first, and the descriptors that it is given."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What every such place needs to keep its process."""

    record: Callable[[AnyRecord], None]
    """Writes how a process ended."""
    clock: Clock
    """For delays between attempts."""
    say: Callable[[str], None]
    """Shows a line to whoever started the gate."""


class ChildPost:
    """One such process, and its replacements."""

    end_s: ClassVar[float] = WORKER_GRACE_S
    """How long it may take to end when it is let go, in seconds."""

    def __init__(self, role: Role, name: str, upkeep: Upkeep) -> None:
        """Have none yet.

        Args:
            role: Which process.
            name: What people call it.
            upkeep: What it needs.
        """
        self.name = name
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self._role: Role = role
        self._clock = upkeep.clock
        self._say = upkeep.say
        self._record = upkeep.record
        self._backoff = Backoff()
        self._child: Child | None = None
        self._gone = asyncio.Event()
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None

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

    def start(self) -> None:
        """Start it, if the configuration has it."""
        self._is_closing = False
        self._start()

    async def close(self) -> None:
        """Let it finish what it must, and end."""
        self._is_closing = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        child = self._child
        if child is None:
            return
        child.let_go()
        try:
            async with asyncio.timeout(self.end_s):
                await self._gone.wait()
        except TimeoutError:
            self._say(f"the {self.name} does not end: killed")
            child.kill()
            await self._gone.wait()

    # -- who keeps one says --------------------------------------------------------------------

    def _begin(self) -> Begin | None:
        """Return what the process is told first, and given; None: there is to be none."""
        raise NotImplementedError

    def _on_said(self, child: Child, message: AnyMessage) -> None:
        """Take what only this kind of process says."""
        raise AssertionError(f"{message} is not what the {self.name} (pid {child.pid}) says")

    # -- private -------------------------------------------------------------------------------

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
            case _:
                self._on_said(child, message)

    def _on_ended(self, child: Child, how: str) -> None:
        self._child = None
        self._gone.set()
        if not self._is_closing:
            self._say(f"the {self.name} (pid {child.pid}) ended: {how}; it is started again")
            self._try_again()
            self._record(
                ProcessRecord(
                    time=self._clock.wall(),
                    process=self.name,
                    pid=child.pid,
                    cause=how,
                    restarts=self.restarts,
                )
            )

    def _try_again(self) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start)
