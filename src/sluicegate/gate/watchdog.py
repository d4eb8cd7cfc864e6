"""Watchdog: notices that the loop does not turn, and says whose code it is in.

``app`` starts one for each worker. A timer of the port beats while the loop turns; a thread looks
at the last beat, and when it is old, at what the loop's thread executes. The invariant: the thread
only looks and speaks; it touches nothing that the blocked loop may be in the middle of, and what it
saw counts only for the silence in which it looked.

A filter that blocks is named while it blocks, in the gate's own output, and in a record and in
``status`` as soon as the loop turns again. The thread may come too late: it looks every
``WATCHDOG_BEAT_S`` only, and needs the interpreter's lock for it. Then the beat that ends the
silence notes it, without a name. One that blocks for ``loop_block_kill_s`` ends the process: nobody
is served by a loop that does not turn, and whoever started the gate replaces it. The thread writes
the loop's stack and does that. It cannot while the filter is in a call that keeps the interpreter's
lock (a regular expression that backtracks forever); then ``faulthandler``'s timer, a thread in C,
does the same a little later without asking Python. It comes second because it reads the stacks of
threads while they run, and may crash over one that moves.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final

from sluicegate.audit import LoopBlockedRecord, Recorder
from sluicegate.clock import Clock
from sluicegate.limits import WATCHDOG_BEAT_S, Limits
from sluicegate.port import CompletionPort

from .attached import Attached
from .connection import GateConnection
from .registry import ConnectionStep, ContentStep, EventStep, WebStep
from .settings import Installation, PerConnection, PerRule

if TYPE_CHECKING:
    from sluicegate.port.timers import Timer

__all__ = ["Blocking", "LoopWatchdog", "find_blocking"]

_OUTPUT: Final = 2
"""Where the stacks go at a forced end: the gate's own output."""

_SECOND_END_S: Final = 2.0
"""So much later than the first attempt comes the one that does not need Python."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """Who keeps the loop from turning."""

    filter_name: str
    """The installed filter, or several that share their code; empty when it is none's."""
    where: str
    """``file:line in function``: of the filter's own code, or the innermost line."""
    connection: str
    """The connection it was called for; empty when that cannot be seen."""


_UNSEEN: Final = Blocking("", "gone when the watchdog looked", "")
"""What the loop has left before the thread could look at it."""


class LoopWatchdog:
    """Watches the loop of one worker; made, started and stopped on the loop's thread."""

    def __init__(
        self,
        port: CompletionPort,
        recorder: Recorder,
        installations: Callable[[], Iterable[Installation]],
        *,
        say: Callable[[str], None],
        on_beat: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            port: Whose loop it is.
            recorder: Takes a record of each time.
            installations: The filters that may be to blame.
            say: Shows a line to whoever started the gate; called from either thread.
            on_beat: Told that the loop turns, every ``WATCHDOG_BEAT_S``.
        """
        self.times = 0
        #: How often the loop was blocked.
        self.longest_s = 0.0
        self.last: Blocking | None = None
        self._port = port
        self._clock: Clock = port.clock
        self._limits: Limits = port.limits
        self._recorder = recorder
        self._installations = installations
        self._say = say
        self._on_beat = on_beat
        self._timer: Timer | None = None
        self._loop_thread = threading.get_ident()
        self._beaten = self._clock.monotonic()
        self._seen: tuple[float, Blocking] | None = None
        #: What the thread saw, and after which beat.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()
        self._thread.join()

    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        if self.last is None:
            return []
        often = f"{self.times} times, for {self.longest_s:.1f} s at most"
        return [f"the loop was blocked {often}, the last time by {_describe(self.last)}"]

    # -- on the loop ---------------------------------------------------------------------------

    def _beat(self) -> None:
        now = self._clock.monotonic()
        last, self._beaten = self._beaten, now
        blocked_s = now - last - WATCHDOG_BEAT_S
        seen = self._seen
        if seen is not None and seen[0] == last:
            self._note(seen[1], blocked_s)
        elif blocked_s >= self._limits.loop_block_s:
            self._say(f"warning: the loop did not turn for {blocked_s:.1f} s: {_describe(_UNSEEN)}")
            self._note(_UNSEEN, blocked_s)
        if self._limits.loop_block_kill_s:
            latest_s = 2 * WATCHDOG_BEAT_S + self._limits.loop_block_kill_s + _SECOND_END_S
            faulthandler.dump_traceback_later(latest_s, exit=True, file=_OUTPUT)
        self._timer = self._port.call_after(WATCHDOG_BEAT_S, self._beat)
        self._on_beat()

    def _note(self, seen: Blocking, blocked_s: float) -> None:
        self.times += 1
        self.longest_s = max(self.longest_s, blocked_s)
        self.last = seen
        self._recorder.write(
            LoopBlockedRecord(
                time=self._clock.wall(),
                filter=seen.filter_name,
                where=seen.where,
                blocked_s=round(blocked_s, 3),
                connection=seen.connection,
            )
        )

    # -- on the watchdog's thread --------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended.wait(WATCHDOG_BEAT_S):
            last = self._beaten
            blocked_s = self._clock.monotonic() - last - WATCHDOG_BEAT_S
            is_seen = self._seen is not None and self._seen[0] == last
            if blocked_s >= self._limits.loop_block_s and not is_seen:
                self._look(last, blocked_s)
            if blocked_s >= self._limits.loop_block_kill_s > 0:
                self._end_process(blocked_s)

    def _loop_frame(self) -> FrameType | None:
        # Documented, and the only way to look at another thread.
        frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
        return frames.get(self._loop_thread)

    def _end_process(self, blocked_s: float) -> None:
        frame = self._loop_frame()
        stack = "".join(traceback.format_stack(frame))
        self._say(
            f"error: the loop has not turned for {blocked_s:.1f} s: this process ends\n{stack}"
        )
        # Nothing that waits for the loop can be waited for.
        os._exit(os.EX_SOFTWARE)

    def _look(self, last: float, blocked_s: float) -> None:
        frame = self._loop_frame()
        seen = find_blocking(frame, self._installations())
        del frame
        if self._beaten != last:
            return  # it turned meanwhile: what was seen may be somebody else's
        self._seen = last, seen
        kill_s = self._limits.loop_block_kill_s
        end = f"; at {kill_s:g} s this process is ended" if kill_s else ""
        self._say(f"warning: the loop has not turned for {blocked_s:.1f} s: {_describe(seen)}{end}")


def find_blocking(frame: FrameType | None, installations: Iterable[Installation]) -> Blocking:
    """Find out whose code a thread executes.

    The outermost frame of a filter's module is the one that the gate called; the innermost one of
    the same module is the line that its author knows. A filter whose data filters are in other
    modules is told by what the gate's own frame around them holds.

    Args:
        frame: The innermost frame of the thread; None when it has ended.
        installations: The filters.
    """
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    modules: dict[str, list[Installation]] = {}
    for item in installations:
        modules.setdefault(_class_of(item).__module__, []).append(item)
    for place in reversed(range(len(stack))):
        found = modules.get(_module_of(stack[place]))
        if found is not None:
            own = next(one for one in stack if _module_of(one) == _module_of(stack[place]))
            return Blocking(
                _name(found, stack[place]), _where(own), _connection(stack[: place + 1])
            )
    name = next((name for frame in stack if (name := _name_at_hand(frame))), "")
    return Blocking(name, _where(stack[0]) if stack else "", _connection(stack))


def _class_of(item: Installation) -> type[object]:
    target = item.filter_object
    if not isinstance(target, PerConnection | PerRule):
        return type(target)
    made: object = target.make
    # With settings it is a ``functools.partial`` of the class.
    made = getattr(made, "func", made)
    return made if isinstance(made, type) else type(made)


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _name(found: list[Installation], frame: FrameType) -> str:
    """Return the filter's name; where several have their code in one module, whose object it is."""
    owner = frame.f_locals.get("self")
    narrowed = [item for item in found if item.filter_object is owner]
    narrowed = narrowed or [item for item in found if isinstance(owner, _class_of(item))]
    return " or ".join(item.name for item in narrowed or found)


def _name_at_hand(frame: FrameType) -> str:
    """Return the filter that a frame of the gate is about to call, or is calling."""
    for value in frame.f_locals.values():
        if isinstance(value, Attached):
            return value.name
        if isinstance(value, EventStep | ConnectionStep | ContentStep | WebStep):
            return value.installed.name
    return ""


def _connection(frames: list[FrameType]) -> str:
    """Return the connection that is at hand in the frames, the innermost first."""
    for frame in frames:
        for value in frame.f_locals.values():
            if isinstance(value, GateConnection):
                return value.id
    return ""


def _where(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"


def _describe(seen: Blocking) -> str:
    if seen is _UNSEEN:
        return f"code that was {seen.where}"
    who = f"filter {seen.filter_name!r}" if seen.filter_name else "no filter's code"
    served = f" for connection {seen.connection}" if seen.connection else ""
    return f"{who} ({seen.where}){served}"
