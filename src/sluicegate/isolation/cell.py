"""Cell: the process of one isolated filter, through all its incarnations.

The registry starts and stops it with the filter; the stand-ins of the filter (``content`` and its
kin) ask it. The invariant: whatever the process does or fails to do, every question is answered or
fails, the process is replaced unless it was to stop, and none is ever left behind.

An incarnation goes STARTING -> READY -> (gone); between two lies a delay that grows while they die
young. One that ends, breaks the wire or lets its loop stand for ``isolated_hang_s`` is killed: all
that it was asked fails at once, and that filter's mode of failure says what becomes of the traffic.
"""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sluicegate.errors import SluicegateError
from sluicegate.filterapi import Position
from sluicegate.limits import Limits
from sluicegate.process_limits import (
    CELL_RESTART_DELAY_MAX_S,
    CELL_RESTART_DELAY_S,
    CELL_STEADY_S,
    CELL_STOP_S,
)
from sluicegate.sandbox.launch import Launched, Launcher
from sluicegate.sandbox.wire import WireBroken

from .calls import Call
from .known import Known
from .messages import (
    EndConnection,
    FromCell,
    Manifest,
    Message,
    Note,
    Ping,
    Pong,
    Ready,
    Registration,
    Start,
    Stop,
    Unusable,
    end_connection,
)

if TYPE_CHECKING:
    from sluicegate.filterapi import Firewall
    from sluicegate.port import CompletionPort, Timer

    from .reach import Reach

__all__ = ["Asked", "Cell", "CellFailed", "Phase"]


class CellFailed(SluicegateError):
    """The filter's process cannot answer: it ended, hung, or cannot be had."""


class Phase(enum.Enum):
    """Where a cell stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """It failed, and the next incarnation comes after a delay."""


class Asked:
    """A question that a cell has not answered; ``take`` is told of what belongs to it."""

    def take(self, message: FromCell, descriptors: list[int]) -> bool:
        """Take a message with this question's number; True when it was the last."""
        raise NotImplementedError

    def fail(self, error: CellFailed) -> None:
        """Take that no answer will come."""
        raise NotImplementedError


class Cell:
    """One filter's process; satisfies ``gate.settings.FilterProcess``."""

    def __init__(
        self,
        name: str,
        launcher: Launcher[FromCell],
        start: Start,
        limits: Limits,
        manifest: Manifest,
    ) -> None:
        """Make one that is not started.

        Args:
            name: What the filter is installed as.
            launcher: How a process is had.
            start: What each incarnation is told first.
            limits: The gate's.
            manifest: What the filter's class says.
        """
        self.name = name
        self.phase = Phase.STOPPED
        self.cause = ""
        #: Why the last incarnation is gone; empty while none has failed or the next one is ready.
        self.known = Known()
        #: What the filter was told of.
        self.reach: Reach | None = None
        #: Does what the filter calls for; whoever makes the filter's stand-in sets it.
        self.registration: Registration | None = None
        #: What the filter registered for; known once an incarnation was ready.
        self.restarts = 0
        self.hangs = 0
        self.tier = manifest.tier
        self.position = ""
        if manifest.tier not in {"filter", "content"}:
            self.position = Position(manifest.position).name.lower()
        self._launcher = launcher
        self._start = start
        self.limits = limits
        self.port: CompletionPort
        #: The gate's; known from the start on.
        self._on_failure: Callable[[BaseException], None]
        self._note: Callable[[str, dict[str, str | int]], None] | None = None
        self._launched: Launched | None = None
        self._asked: dict[int, Asked] = {}
        self._numbers = 0
        self._waiting: list[asyncio.Future[None]] = []
        #: Who waits for an incarnation that is ready.
        self._ended: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None
        self._watch: Timer | None = None
        self._pinged = 0
        self._ponged = 0
        self._delay_s = CELL_RESTART_DELAY_S
        self._ready_since = 0.0
        self._is_to_stop = False

    # -- life (gate.settings.FilterProcess) ------------------------------------------------------

    def start(self, firewall: Firewall, on_failure: Callable[[BaseException], None]) -> None:
        """Launch the first incarnation; failures are told, here and later."""
        self.start_on(
            firewall.port, on_failure, lambda text, facts: firewall.note(self.name, text, facts)
        )

    def start_on(
        self,
        port: CompletionPort,
        on_failure: Callable[[BaseException], None],
        note: Callable[[str, dict[str, str | int]], None] | None = None,
    ) -> None:
        """As ``start``, on a port."""
        self.port = port
        self._note = note
        self._on_failure = on_failure
        self._is_to_stop = False
        self._launch()

    def stop(self) -> None:
        """Have the filter stopped and the process ended; what is asked now fails."""
        self._is_to_stop = True
        self._cancel_timers()
        self._fail_all("is being stopped")
        launched = self._launched
        if launched is None:
            self._settle()
            return
        launched.wire.send(Stop())
        self._timer = self.port.call_after(CELL_STOP_S, launched.kill)

    async def wait_ended(self) -> None:
        """Wait until the process of a stopped cell is gone."""
        if self._launched is not None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._ended.append(future)
            await future

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._launched.pid if self._launched is not None else 0

    def memory_bytes(self) -> int:
        """Return the resident memory of the process."""
        return self._launched.memory_bytes() if self._launched is not None else 0

    # -- asking --------------------------------------------------------------------------------

    async def wait_ready(self) -> None:
        """Wait for an incarnation that is ready; the caller bounds how long.

        Raises:
            CellFailed: The last one failed before it was ready, or the cell is stopped.
        """
        if self.phase is Phase.READY:
            return
        self.check_expected()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def check_expected(self) -> None:
        """Refuse to wait for a process that is not there and will not be soon.

        Raises:
            CellFailed: It failed, or is stopped.
        """
        if self.phase is Phase.STOPPED:
            raise CellFailed(self.cause or "its process is not running")
        if self.phase is Phase.WAITING and self._delay_s > _WORTH_WAITING_S:
            raise CellFailed(self.cause)

    def ask(
        self, asked: Asked, message: Callable[[int], Message], descriptors: Sequence[int] = ()
    ) -> int:
        """Ask the incarnation that is ready; returns the question's number.

        Raises:
            CellFailed: None is.
        """
        launched = self._launched
        if self.phase is not Phase.READY or launched is None:
            raise CellFailed(self.cause or "its process is not ready")
        self._numbers += 1
        number = self._numbers
        self._asked[number] = asked
        launched.wire.send(message(number), descriptors)
        self._watch_over()
        return number

    def find_asked(self, number: int) -> Asked | None:
        """Return a question that is not answered."""
        return self._asked.get(number)

    def forget(self, number: int) -> None:
        """Take that nobody waits for an answer any more."""
        self._asked.pop(number, None)

    @property
    def is_congested(self) -> bool:
        """Whether much waits for the process to read it."""
        return self._launched is not None and self._launched.wire.is_congested

    def call_when_drained(self, action: Callable[[], None]) -> None:
        """Call ``action`` later, when nothing waits, or nobody will read it any more."""
        if self._launched is not None:
            self._launched.wire.call_when_drained(action)
        else:
            self.port.post(action)

    def tell(self, message: Message) -> None:
        """Tell the incarnation something that has no answer; nobody hears it when there is none."""
        if self.phase is Phase.READY and self._launched is not None:
            self._launched.wire.send(message)

    # -- incarnations --------------------------------------------------------------------------

    def _launch(self) -> None:
        self._timer = None
        self.phase = Phase.STARTING
        try:
            self._launched = self._launcher(self._on_message, self._on_broken, self._on_ended)
        except OSError as error:
            self._fail(f"its process cannot be started: {error}")
            self._settle()
            return
        self._launched.wire.send(self._start)
        self._timer = self.port.call_after(
            self.limits.isolated_start_timeout_s, self._on_start_timeout
        )

    def _on_start_timeout(self) -> None:
        timeout_s = self.limits.isolated_start_timeout_s
        self._fail(f"its process was not ready after {timeout_s:g} s (isolated_start_timeout_s)")

    def _on_message(self, message: FromCell, descriptors: list[int]) -> None:
        match message:
            case Ready() if self.phase is Phase.STARTING:
                self.registration = message.registration
                self._on_ready()
            case Unusable(cause, cure):
                self._fail(f"{cause} ({cure})" if cure else cause)
            case Pong(number):
                self._ponged = number
            case Note(connection, text, facts):
                self._on_note(connection, text, facts)
            case Call() if self.reach is not None:
                self.reach.take(message)
            case EndConnection():
                self._on_end_connection(message)
            case Ready():
                self._fail("its process said twice that it is ready")
            case _:
                self._on_answer(message, descriptors)

    def _on_note(self, connection: str, text: str, facts: dict[str, str | int]) -> None:
        about = {"connection": connection} if connection else {}
        if self._note is not None:
            self._note(text, {**about, **facts})

    def _on_end_connection(self, message: EndConnection) -> None:
        connection = self.known.find(message.connection)
        try:
            # It may be over for the filter by now.
            if connection is not None:
                end_connection(connection, message)
        except ValueError as error:
            self._fail(f"its process said what it must not: {error}")

    def _on_answer(self, message: FromCell, descriptors: list[int]) -> None:
        number: int = getattr(message, "number", 0)
        asked = self._asked.get(number)
        # One that nobody waits for any more may cross its cancellation.
        if asked is not None:
            if asked.take(message, descriptors):
                self._asked.pop(number, None)
        else:
            for one in descriptors:
                os.close(one)

    def _on_ready(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.phase = Phase.READY
        self.cause = ""
        self._ready_since = self.port.clock.monotonic()
        self._pinged = self._ponged = 0
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def give_up(self, cause: str) -> None:
        """End the incarnation: it did what it must not."""
        self._fail(cause)

    def _on_broken(self, error: WireBroken) -> None:
        # How the process ended says more, and is known in a moment if it did.
        self.port.call_after(_END_FOLLOWS_S, lambda: self._fail(f"its process {error}"))

    def _fail(self, cause: str) -> None:
        """Give an incarnation up: what it was asked fails, the process is killed."""
        if self.phase not in {Phase.STARTING, Phase.READY} or self._is_to_stop:
            return
        was_ready = self.phase is Phase.READY
        self.phase = Phase.WAITING
        self._cancel_timers()
        if was_ready and self.port.clock.monotonic() - self._ready_since >= CELL_STEADY_S:
            self._delay_s = CELL_RESTART_DELAY_S
        pid = f" (pid {self.pid})" if self.pid else ""
        self.cause = f"{cause}{pid}"
        self._on_failure(CellFailed(f"{self.cause}; the next one starts in {self._delay_s:g} s"))
        self._fail_all(self.cause, only_asked=was_ready)
        if self._launched is not None:
            self._launched.kill()

    def _fail_all(self, cause: str, *, only_asked: bool = False) -> None:
        asked, self._asked = self._asked, {}
        for one in asked.values():
            one.fail(CellFailed(cause))
        if self.reach is not None:
            self.reach.end(cause)
        if only_asked:
            return
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(CellFailed(cause))

    def _on_ended(self, how: str) -> None:
        self._fail(f"its process {how}")
        self._launched = None
        self._settle()

    def _settle(self) -> None:
        """Go on without a process: launch the next one in time, or be stopped."""
        if not self._is_to_stop:
            self.restarts += 1
            self._timer = self.port.call_after(self._delay_s, self._launch)
            self._delay_s = min(self._delay_s * 2, CELL_RESTART_DELAY_MAX_S)
            return
        self.phase = Phase.STOPPED
        self._cancel_timers()
        ended, self._ended = self._ended, []
        for future in ended:
            if not future.done():
                future.set_result(None)

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._watch):
            if timer is not None:
                timer.cancel()
        self._timer = self._watch = None

    # -- the watchdog --------------------------------------------------------------------------

    def _watch_over(self) -> None:
        """See to it that the loop turns while something is asked."""
        if self._watch is None and self._launched is not None:
            self._pinged += 1
            self._launched.wire.send(Ping(self._pinged))
            self._watch = self.port.call_after(self.limits.isolated_hang_s, self._on_watch)

    def _on_watch(self) -> None:
        self._watch = None
        if self._ponged < self._pinged:
            self.hangs += 1
            bound = self.limits.isolated_hang_s
            self._fail(f"its process did not react for {bound:g} s (isolated_hang_s): it blocks")
        elif self._asked:
            self._watch_over()


_WORTH_WAITING_S: Final = 1.0
"""Questions wait for the next incarnation if it comes this soon; beyond it they fail at once."""

_END_FOLLOWS_S: Final = 0.05
"""A broken wire is nearly always the end of the process."""
