"""The processes of one scanner: who is free takes the next object, and rules change in turn.

``content_scanner`` asks it. The invariant: an object is given to one idle process, in the order in
which objects came, and no two processes compile rules at once as long as one of them can work.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .process import Question, ScanProcess, ScanProcessFailed, Stage

if TYPE_CHECKING:
    from sluicegate.sandbox.launch import Launcher

    from .messages import Begin, Examined, FromProcess
    from .rule_files import RuleSet

__all__ = ["ScanPool"]


class ScanPool:
    """Some processes that are alike."""

    def __init__(
        self,
        launch: Launcher[FromProcess],
        begin: Begin,
        count: int,
        on_failure: Callable[[str], None],
    ) -> None:
        """Make processes that are not started.

        Args:
            launch: How a process is had.
            begin: What each is told first.
            count: How many.
            on_failure: Told why one was given up, or rules were not taken.
        """
        self.processes = [
            ScanProcess(launch, begin, self._on_change, on_failure) for _ in range(count)
        ]
        self.problem = ""
        #: Why the rules in use are not those that are wanted; empty if they are.
        self._on_failure = on_failure
        self._rules: RuleSet | None = None
        self._before: RuleSet | None = None
        #: What is in use while other rules are being tried.
        self._jobs: deque[_Job] = deque()
        self._is_retired = False

    # -- life ----------------------------------------------------------------------------------

    def start(self, rules: RuleSet) -> None:
        """Launch all of them."""
        self._rules = rules
        for one in self.processes:
            one.start(rules)

    def retire(self) -> None:
        """End each when nothing waits for it; objects that come later are not looked at."""
        self._is_retired = True
        self._end_idle()

    def _end_idle(self) -> None:
        """End what is not needed any more: a process that works finishes first."""
        for one in self.processes:
            if not self._jobs and one.stage is not Stage.BUSY:
                one.stop()

    def stop(self) -> None:
        """End all of them now; what they were asked fails."""
        for one in self.processes:
            one.stop()
        self._fail_jobs("the scanner is being stopped")

    async def wait_ended(self) -> None:
        """Wait until the processes of a stopped pool are gone."""
        for one in self.processes:
            await one.wait_ended()

    @property
    def version(self) -> str:
        """Of the rules by which the next object is looked at; empty while that cannot be told."""
        in_use = {one.version for one in self.processes} - {""}
        if self._before is not None or self._rules is None or in_use != {self._rules.version}:
            return ""
        return self._rules.version

    @property
    def waiting(self) -> int:
        """How many objects wait for a process, or are with one."""
        return len(self._jobs) + sum(one.stage is Stage.BUSY for one in self.processes)

    @property
    def version_shown(self) -> str:
        """Of rules that some process uses, for people."""
        return next((one.version for one in self.processes if one.version), "")

    # -- asking --------------------------------------------------------------------------------

    def use(self, rules: RuleSet) -> None:
        """Have each process use other rules as soon as it is free; wrong ones change nothing."""
        if self._rules is not None and rules.version == self._rules.version:
            self.problem = ""
            return
        # What was tried and not yet taken is no better than what it was to replace.
        self._before, self._rules = self._before or self._rules, rules
        self._load_next()

    async def examine(self, question: Question, descriptor: int, timeout_s: float) -> Examined:
        """Have one of them look at an object; ``question.version`` says by which rules.

        Args:
            question: What is known of it.
            descriptor: The object, open for reading; stays the caller's.
            timeout_s: When a process is killed that has begun and not answered.

        Raises:
            ScanProcessFailed: It was not looked at.
        """
        if self._is_retired:
            raise ScanProcessFailed("the scanner is being stopped")
        self._check_expected()
        job = _Job(question, os.dup(descriptor), timeout_s)
        self._jobs.append(job)
        try:
            self._serve()
            return await question.answer
        finally:
            self._drop(job)

    def _drop(self, job: _Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
            os.close(job.descriptor)

    def _check_expected(self) -> None:
        if not any(one.is_expected for one in self.processes):
            causes = [one.cause for one in self.processes if one.cause]
            raise ScanProcessFailed(causes[0] if causes else "the scanner is not running")

    # -- the processes tell --------------------------------------------------------------------

    def _on_change(self, process: ScanProcess) -> None:
        if process.stage is Stage.IDLE:
            self._on_idle(process)
            if self._is_retired:
                self._end_idle()
        elif process.stage is Stage.WAITING:
            try:
                self._check_expected()
            except ScanProcessFailed as error:
                self._fail_jobs(str(error))

    def _on_idle(self, process: ScanProcess) -> None:
        if self._rules is not None:
            self._note_rules(process, self._rules)
        self._load_next()
        self._serve()

    def _note_rules(self, process: ScanProcess, wanted: RuleSet) -> None:
        """Take what became of rules that are being tried, or of a process that lags behind."""
        if process.refused_version == wanted.version:
            causes = process.refused_causes or ["no cause told"]
            if self._before is None:
                process.replace(f"it cannot use the rules that others use: {causes[0]}")
                return
            self.problem = f"rules that changed are wrong, those before stay in use: {causes[0]}"
            self._rules, self._before = self._before, None
            self._on_failure(self.problem)
        elif process.version == wanted.version and self._before is not None:
            self._before = None
            self.problem = ""
            for one in self.processes:
                one.begin_with(wanted)

    def _load_next(self) -> None:
        """Have one process compile the rules that are wanted, unless one does already."""
        rules = self._rules
        if rules is None or any(one.stage is Stage.LOADING for one in self.processes):
            return
        for one in self.processes:
            if one.stage is Stage.IDLE and one.version != rules.version:
                one.load(rules)
                return

    def _serve(self) -> None:
        for one in self.processes:
            while self._jobs and one.stage is Stage.IDLE:
                job = self._jobs.popleft()
                try:
                    if not job.question.answer.done():
                        one.examine(job.question, job.descriptor, job.timeout_s)
                finally:
                    os.close(job.descriptor)

    def _fail_jobs(self, cause: str) -> None:
        for job in tuple(self._jobs):
            self._drop(job)
            if not job.question.answer.done():
                job.question.answer.set_exception(ScanProcessFailed(cause))


@dataclass(slots=True, eq=False)
class _Job:
    """An object that no process has begun with."""

    question: Question
    descriptor: int
    timeout_s: float
