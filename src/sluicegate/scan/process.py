"""One of a scanner's processes, through all its incarnations.

``pool`` owns several. The invariant: it works on one object at a time, and whatever it does or
fails to do, who asked is answered or told why not, and the process is replaced unless it was to
stop.

An incarnation goes STARTING -> LOADING -> IDLE <-> BUSY (or LOADING) -> (gone). One that ends,
breaks the wire, talks nonsense or is late is killed. Those that die before they take objects are
replaced after a delay that grows; those that die of an object at once, as the object came from
outside and the next one shall not wait for it.
"""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sluicegate.errors import SluicegateError
from sluicegate.process_limits import CELL_RESTART_DELAY_MAX_S, CELL_RESTART_DELAY_S
from sluicegate.scan_limits import SCAN_START_TIMEOUT_S

from .messages import (
    Begin,
    Begun,
    Examine,
    Examined,
    FromProcess,
    Load,
    Loaded,
    LoadFailed,
    Member,
    MemberEnd,
    Unable,
)

if TYPE_CHECKING:
    from sluicegate.sandbox.launch import Launched, Launcher
    from sluicegate.sandbox.wire import WireBroken

    from .rule_files import RuleSet

__all__ = ["Question", "ScanProcess", "ScanProcessFailed", "Stage"]


class ScanProcessFailed(SluicegateError):
    """An object was not looked at: its process ended, was late, or cannot be had."""


class Stage(enum.Enum):
    """Where a process stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    """It compiles rules."""
    IDLE = "idle"
    BUSY = "busy"
    WAITING = "waiting"
    """It failed, and the next incarnation comes after a delay."""


class Question:
    """One object that is to be looked at."""

    def __init__(self, size: int, name: str, content_type: str, *, is_text: bool = False) -> None:
        self.is_text = is_text
        self.is_shown = self.has_texts = False
        #: As ``messages.Examine`` has them.
        self.size = size
        self.name = name
        self.content_type = content_type
        self.version = ""
        #: Of the rules by which it is looked at; known when it is.
        self.answer: asyncio.Future[Examined] = asyncio.get_running_loop().create_future()
        self.members: list[tuple[str, bytearray]] = []
        #: What other scanners shall see, as far as it has come.
        self.member_bytes = 0
        self.is_open = False
        #: Whether the last member goes on.


class ScanProcess:
    """One process; ``on_change`` is told whenever it may have become idle, or its rules changed."""

    def __init__(
        self,
        launch: Launcher[FromProcess],
        begin: Begin,
        on_change: Callable[[ScanProcess], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """Make one that is not started.

        Args:
            launch: How a process is had.
            begin: What each incarnation is told first.
            on_change: Told of each change of ``stage``.
            on_failure: Told why an incarnation was given up.
        """
        self.stage = Stage.STOPPED
        self.cause = ""
        #: Why the last incarnation is gone; empty while the present one works.
        self.version = ""
        #: Of the rules that it uses.
        self.refused_version = ""
        #: Of rules that it could not compile,
        self.refused_causes: list[str] = []
        #: and why.
        self.rules = 0
        self.warnings: list[str] = []
        self.restarts = 0
        self._launch_one = launch
        self._begin = begin
        self._on_change = on_change
        self._on_failure = on_failure
        self._launched: Launched | None = None
        self._rule_set: RuleSet | None = None
        #: What each incarnation begins with.
        self._loading: RuleSet | None = None
        self._question: Question | None = None
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._delay_s = CELL_RESTART_DELAY_S
        self._ended: asyncio.Future[None] | None = None

    # -- life ----------------------------------------------------------------------------------

    def start(self, rule_set: RuleSet) -> None:
        """Launch the first incarnation with these rules; failures are told, here and later."""
        self._rule_set = rule_set
        self._launch()

    def stop(self) -> None:
        """End it now; what it was asked fails."""
        self.stage = Stage.STOPPED
        self._cancel_timer()
        self._fail_question("the scanner is being stopped")
        if self._launched is not None:
            self._launched.kill()

    async def wait_ended(self) -> None:
        """Wait until the process of a stopped one is gone."""
        if self._launched is not None:
            self._ended = asyncio.get_running_loop().create_future()
            await self._ended

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._launched.pid if self._launched is not None else 0

    def memory_bytes(self) -> int:
        """Return its resident memory."""
        return self._launched.memory_bytes() if self._launched is not None else 0

    @property
    def is_expected(self) -> bool:
        """Whether it takes objects, or will soon."""
        if self.stage is Stage.WAITING:
            return self._delay_s <= _WORTH_WAITING_S
        return self.stage is not Stage.STOPPED

    # -- asking --------------------------------------------------------------------------------

    def load(self, rule_set: RuleSet) -> None:
        """Have an idle process use other rules; those before stay in use if they are wrong."""
        assert self.stage is Stage.IDLE, "one thing at a time"
        self._send_rules(rule_set)

    def begin_with(self, rule_set: RuleSet) -> None:
        """Let the next incarnation begin with other rules."""
        self._rule_set = rule_set

    def replace(self, cause: str) -> None:
        """Give the incarnation up; the next one follows."""
        self._fail(cause)

    def examine(self, question: Question, descriptor: int, timeout_s: float) -> None:
        """Have an idle process look at an object; ``question.answer`` says what came of it.

        Args:
            question: What is known of it.
            descriptor: The object, open for reading; stays the caller's.
            timeout_s: When the process is killed that has not answered.
        """
        launched = self._launched
        assert self.stage is Stage.IDLE, "one object at a time"
        assert launched is not None, "an idle process is there"
        self._number += 1
        self._question = question
        question.version = self.version
        self.stage = Stage.BUSY
        launched.wire.send(
            Examine(
                self._number,
                question.size,
                question.name,
                question.content_type,
                question.is_text,
                question.is_shown,
                question.has_texts,
            ),
            (descriptor,),
        )
        self._expect(timeout_s, f"its process had no answer after {timeout_s:g} s")

    # -- incarnations --------------------------------------------------------------------------

    def _launch(self) -> None:
        self._timer = None
        self.stage = Stage.STARTING
        try:
            self._launched = self._launch_one(self._on_message, self._on_broken, self._on_ended)
        except OSError as error:
            self._fail(f"its process cannot be started: {error}")
            self._settle()
            return
        self._launched.wire.send(self._begin)
        self._expect(
            SCAN_START_TIMEOUT_S,
            f"its process was not ready after SCAN_START_TIMEOUT_S ({SCAN_START_TIMEOUT_S:g} s)",
        )

    def _send_rules(self, rule_set: RuleSet) -> None:
        assert self._launched is not None, "a process that loads is there"
        self.stage = Stage.LOADING
        self._loading = rule_set
        try:
            descriptor, size = rule_set.lend()
        except OSError as error:
            self._fail(f"the rules cannot be handed over: {error}")
            return
        try:
            self._launched.wire.send(Load(rule_set.version, size), (descriptor,))
        finally:
            os.close(descriptor)
        self._expect(
            SCAN_START_TIMEOUT_S,
            f"rules took longer than SCAN_START_TIMEOUT_S ({SCAN_START_TIMEOUT_S:g} s)",
        )

    def _expect(self, timeout_s: float, cause: str) -> None:
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(timeout_s, self._fail, cause)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_message(self, message: FromProcess, descriptors: list[int]) -> None:
        for one in descriptors:
            os.close(one)
        match self.stage, message:
            case (Stage.STARTING, Begun()):
                assert self._rule_set is not None, "a process is started with rules"
                self._send_rules(self._rule_set)
            case (Stage.STARTING, Unable(cause)):
                self._fail(cause)
            case (Stage.LOADING, Loaded() | LoadFailed()):
                self._on_rules(message)
            case (Stage.BUSY, Member() | MemberEnd()):
                self._on_member(message)
            case (Stage.BUSY, Examined(number)) if number == self._number:
                self._on_examined(message)
            case _:
                self._fail(f"its process said {type(message).__name__} while {self.stage.value}")

    def _on_rules(self, message: Loaded | LoadFailed) -> None:
        loading = self._loading
        assert loading is not None, "a process that loads was given rules"
        if message.version != loading.version:
            self._fail("its process speaks of other rules")
            return
        self._cancel_timer()
        if isinstance(message, LoadFailed):
            self.refused_version = message.version
            self.refused_causes = [_shortened(one) for one in message.causes[:_CAUSES_MAX]]
            if not self.version:
                first = self.refused_causes[0] if self.refused_causes else "no cause told"
                self._fail(f"its rules are wrong: {first}")
                return
        else:
            self._rule_set = loading
            self.version = message.version
            self.rules = message.rules
            self.warnings = [_shortened(one) for one in message.warnings[:_CAUSES_MAX]]
            self.cause = ""
            self._delay_s = CELL_RESTART_DELAY_S
        self.stage = Stage.IDLE
        self._on_change(self)

    def _on_member(self, message: Member | MemberEnd) -> None:
        question = self._question
        if question is None or message.number != self._number:
            self._fail("its process speaks of another object")
            return
        if not question.is_shown:
            self._fail("its process sends what it was not asked for")
            return
        if isinstance(message, MemberEnd):
            question.is_open = False
            return
        if not question.is_open:
            question.members.append((_shortened(message.path), bytearray()))
            question.is_open = True
        bound = self._begin.bounds.forwarded_bytes_max
        question.members[-1][1].extend(message.data)
        question.member_bytes += len(message.data)
        if question.member_bytes > bound:
            self._fail("its process sends more of an object than it was told to")

    def _on_examined(self, message: Examined) -> None:
        self._cancel_timer()
        question, self._question = self._question, None
        self.stage = Stage.IDLE
        if question is not None and not question.answer.done():
            question.answer.set_result(message)
        self._on_change(self)

    def _on_broken(self, error: WireBroken) -> None:
        # How the process ended says more, and is known in a moment if it did.
        asyncio.get_running_loop().call_later(
            _END_FOLLOWS_S, self._fail_launched, self._launched, f"its process {error}"
        )

    def _fail_launched(self, launched: Launched | None, cause: str) -> None:
        if launched is self._launched:
            self._fail(cause)

    def _fail(self, cause: str) -> None:
        """Give an incarnation up: what it was asked fails, the process is killed."""
        if self.stage in {Stage.STOPPED, Stage.WAITING}:
            return
        died_at_work = self.stage is Stage.BUSY
        self.stage = Stage.WAITING
        self._cancel_timer()
        self.version = self.refused_version = ""
        pid = f" (pid {self.pid})" if self.pid else ""
        self.cause = f"{cause}{pid}"
        if died_at_work:
            self._delay_s = CELL_RESTART_DELAY_S
        self._on_failure(self.cause)
        self._fail_question(self.cause)
        if self._launched is not None:
            self._launched.kill()
        self._on_change(self)

    def _fail_question(self, cause: str) -> None:
        question, self._question = self._question, None
        if question is not None and not question.answer.done():
            question.answer.set_exception(ScanProcessFailed(cause))

    def _on_ended(self, how: str) -> None:
        if how.endswith("SIGXCPU"):
            how = f"took more than {self._begin.cpu_s:g} s of CPU time (cpu_s)"
        self._fail(f"its process {how}")
        self._launched = None
        self._settle()

    def _settle(self) -> None:
        """Go on without a process: launch the next one in time, or be stopped."""
        if self.stage is not Stage.STOPPED:
            self.restarts += 1
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._delay_s, self._launch)
            self._delay_s = min(self._delay_s * 2, CELL_RESTART_DELAY_MAX_S)
        elif self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def _shortened(text: str) -> str:
    """Make what a process said fit for a record."""
    cut = text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "…"
    return "".join(one if one.isprintable() else " " for one in cut)


_TEXT_CHARACTERS_MAX: Final = 400
_CAUSES_MAX: Final = 20

_WORTH_WAITING_S: Final = 1.0
"""Objects wait for the next incarnation if it comes this soon; beyond it they fail at once."""

_END_FOLLOWS_S: Final = 0.05
"""A broken wire is nearly always the end of the process."""
