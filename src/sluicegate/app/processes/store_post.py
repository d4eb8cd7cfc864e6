"""StorePost: the place that the store's keeper fills, in the supervisor.

The invariant: nobody waits for the keeper but the end of the gate, and that not for long; what it
has not stored is in the log, and the next one stores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from sluicegate.app.config import Configuration
from sluicegate.app.log_config import StoreSettings
from sluicegate.clock import Clock
from sluicegate.log_limits import LOG_ROTATION_LOOK_S
from sluicegate.process_limits import WORKER_START_TIMEOUT_S

from .backoff import Backoff
from .child import Child
from .forward_post import ForwardPost
from .log_rotation import LogRotation
from .orders import PROTOCOL, AnyMessage, BeginStore, Ready, Said, Stored

__all__ = ["LogKeeper", "StorePost"]

_BEHIND_BYTES = 64 << 20
"""So much of the log not being stored is worth a warning: some hundred thousand records."""


class LogKeeper(Protocol):
    """Who has the log's file open."""

    def reopen(self) -> None:
        """Open the log's path again, after a rotation."""
        ...

    def hold(self, cause: str) -> None:
        """Have nothing written, as if the file could not be; for no cause, go on."""
        ...


class StorePost:
    """The store's keeper of one gate, and its replacements."""

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        say: Callable[[str], None],
        audit: LogKeeper,
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says where the log is, and the store; without one nothing is started.
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
            audit: Has the log's files, which are rotated here as they are stored.
        """
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self.settings: StoreSettings | None = configuration.store
        self.stored = Stored(last=0, bytes_behind=0)
        #: What the keeper said last.
        self._log = log = configuration.log_path
        self._rotation: LogRotation | None = None
        if self.settings is not None:
            self._rotation = LogRotation(
                log, self.settings, clock, say, reopen=audit.reopen, hold=audit.hold
            )
        self.forward = ForwardPost(configuration, clock, say)
        #: Who sends records on, and follows the log as the keeper does.
        self._turning: asyncio.TimerHandle | None = None
        self._clock = clock
        self._say = say
        self._backoff = Backoff()
        self._child: Child | None = None
        self._gone = asyncio.Event()
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """The keeper's process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        found = self.forward.warnings()
        if self.settings is None:
            return found
        if self._child is None or self._backoff.is_holding_back:
            found.append(f"the store's keeper had to be started again {self.restarts} times")
        if self.stored.failure:
            found.append(f"records are not stored, and wait in the log: {self.stored.failure}")
        elif self.stored.bytes_behind > _BEHIND_BYTES:
            found.append(f"the store is {self.stored.bytes_behind >> 20} MiB behind the log")
        return found

    def start(self) -> None:
        """Start the keeper, if there is a store."""
        self._is_closing = False
        self.forward.start()
        if self.settings is not None:
            self._start(self.settings)
            self._turn()

    def _start(self, settings: StoreSettings) -> None:
        self._retry = None
        self._backoff.on_started(self._clock.monotonic())
        self.started = self._clock.wall()
        self._gone.clear()
        try:
            self._child = Child.start(
                "store_keeper", str(settings.folder), self._on_message, self._on_ended
            )
        except OSError as error:
            self._say(f"the store's keeper cannot be started: {error.strerror}")
            self._try_again(settings)
            return
        begin = BeginStore(
            log=str(self._log),
            folder=str(settings.folder),
            keep_days=settings.keep_days,
            keep_bytes=settings.keep_bytes,
        )
        self._child.send(begin)

    def _turn(self) -> None:
        """Rotate the log when that is due, now and from now on."""
        if self._rotation is not None:
            self._rotation.turn(self.stored)
            loop = asyncio.get_running_loop()
            self._turning = loop.call_later(LOG_ROTATION_LOOK_S, self._turn)

    async def close(self) -> None:
        """Let the keeper store what is in the log, and end; the log's writer has ended before."""
        self._is_closing = True
        if self._turning is not None:
            self._turning.cancel()
        await self.forward.close()
        if self._retry is not None:
            self._retry.cancel()
        child = self._child
        if child is None:
            return
        child.let_go()
        try:
            async with asyncio.timeout(WORKER_START_TIMEOUT_S):
                await self._gone.wait()
        except TimeoutError:
            self._say("the store's keeper does not end: killed; the next one goes on from there")
            child.kill()
            await self._gone.wait()

    def _on_message(self, child: Child, message: AnyMessage, _descriptors: list[int]) -> None:
        match message:
            case Ready(version=version, protocol=protocol):
                self.version = version
                if protocol != PROTOCOL:
                    child.kill()  # the program on disk is another one: it is started again
            case Said(line=line):
                self._say(line)
            case Stored():
                self.stored = message
            case _:
                raise AssertionError(f"{message} is no keeper's")

    def _on_ended(self, child: Child, how: str) -> None:
        self._child = None
        self._gone.set()
        if not self._is_closing:
            self._say(f"the store's keeper (pid {child.pid}) ended: {how}; it is started again")
            assert self.settings is not None, "it kept a store"
            self._try_again(self.settings)

    def _try_again(self, settings: StoreSettings) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start, settings)
