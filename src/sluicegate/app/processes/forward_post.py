"""ForwardPost: the place that the forwarder fills, in the supervisor.

``store_post`` has it, for both follow the log. The invariant: nobody waits for the forwarder but
the end of the gate, and that not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sluicegate.app.config import Configuration
from sluicegate.clock import Clock
from sluicegate.log_limits import SINK_END_S
from sluicegate.process_limits import WORKER_GRACE_S

from .backoff import Backoff
from .child import Child
from .orders import PROTOCOL, AnyMessage, BeginForward, Forwarded, Ready, Said, SinkState

__all__ = ["ForwardPost"]


class ForwardPost:
    """The forwarder of one gate, and its replacements."""

    def __init__(
        self, configuration: Configuration, clock: Clock, say: Callable[[str], None]
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says where the log is, and the sinks; without any nothing is started.
            clock: For delays between attempts.
            say: Shows a line to whoever started the gate.
        """
        self.restarts = 0
        self.started = 0.0
        self.version = ""
        self.sinks: list[SinkState] = []
        #: What the forwarder said last.
        self.begin = BeginForward(
            log=str(configuration.log_path),
            folder=str(configuration.state_dir / _FOLDER),
            sinks=list(configuration.sinks),
        )
        self._clock = clock
        self._say = say
        self._backoff = Backoff()
        self._child: Child | None = None
        self._gone = asyncio.Event()
        self._is_closing = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """The forwarder's process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        found: list[str] = []
        if self.begin.sinks and (self._child is None or self._backoff.is_holding_back):
            found.append(f"the forwarder had to be started again {self.restarts} times")
        for sink in self.sinks:
            if sink.failure:
                waiting = f"{sink.bytes_behind >> 10} KiB wait"
                found.append(f"the sink {sink.name} takes no records: {sink.failure}; {waiting}")
            if sink.lost:
                found.append(f"{sink.lost} records did not get to the sink {sink.name}")
        return found

    def start(self) -> None:
        """Start the forwarder, if there are sinks."""
        self._is_closing = False
        if self.begin.sinks:
            self._start()

    def _start(self) -> None:
        self._retry = None
        self._backoff.on_started(self._clock.monotonic())
        self.started = self._clock.wall()
        self._gone.clear()
        try:
            self._child = Child.start("forwarder", self.begin.log, self._on_message, self._on_ended)
        except OSError as error:
            self._say(f"the forwarder cannot be started: {error.strerror}")
            self._try_again()
            return
        self._child.send(self.begin)

    async def close(self) -> None:
        """Let the forwarder send what it can in a moment, and end."""
        self._is_closing = True
        if self._retry is not None:
            self._retry.cancel()
        child = self._child
        if child is None:
            return
        child.let_go()
        try:
            async with asyncio.timeout(SINK_END_S + WORKER_GRACE_S):
                await self._gone.wait()
        except TimeoutError:
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
            case Forwarded(sinks=sinks):
                self.sinks = sinks
            case _:
                raise AssertionError(f"{message} is no forwarder's")

    def _on_ended(self, child: Child, how: str) -> None:
        self._child = None
        self._gone.set()
        if not self._is_closing:
            self._say(f"the forwarder (pid {child.pid}) ended: {how}; it is started again")
            self._try_again()

    def _try_again(self) -> None:
        self.restarts += 1
        delay_s = self._backoff.on_ended(self._clock.monotonic())
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._start)


_FOLDER = "sinks"
