"""ContentScanner: held objects, looked at in processes that can do nothing else.

``app/scanners`` makes one per worker and ``[[scanner]]`` of kind ``yara``; content filters await
``scan`` or ``examine``. A process gets a read-only descriptor and answers what YARA rules found,
and what the object and everything inside it is. The invariant: an object is clean only if one
process has looked at all of it under the rules that the answer names; whatever else happens is a
reason not to let it through.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pathlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sluicegate.errors import SluicegateError
from sluicegate.filterapi import (
    Contents,
    FoundPart,
    Scanner,
    ScanOutcome,
    ScanResult,
    Transfer,
    Unpacked,
    lend_descriptor,
)
from sluicegate.metrics import CATALOGUE, Histogram
from sluicegate.scan_limits import RULES_LOOK_S, SCAN_ANSWERS_KEPT_MAX, SCAN_PARTS_MAX

from .member import HeldMember
from .messages import ArchiveBounds, Begin, Examined, FromProcess
from .pool import ScanPool
from .process import Question, ScanProcessFailed, Stage
from .rule_files import Fingerprint, RuleFilesError, RuleSet, fingerprint, read_rules
from .view import ScannerView

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort
    from sluicegate.sandbox.launch import Launcher

__all__ = ["ContentScannerSettings", "ProcessContentScanner"]

_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class ContentScannerSettings:
    """How objects are looked at."""

    rules_folder: pathlib.Path | None
    """Whose rules are used; None: no others than those that are shipped."""
    has_shipped_rules: bool
    processes: int
    """Objects that one worker has looked at side by side; more wait."""
    timeout_s: float
    """From the question to the answer, waiting included."""
    cpu_s: float
    """CPU time for one object."""
    object_bytes_max: int
    """What is larger is not looked at."""
    memory_bytes_max: int
    """Address space of one process."""
    bounds: ArchiveBounds
    passes_closed: tuple[str, ...] = ()
    """Kinds of containers that may stay closed."""
    members_to: tuple[Scanner, ...] = ()
    """Who else is asked about each file inside an object."""


class ProcessContentScanner:
    """One pool of processes, for one worker; satisfies ``filterapi.ContentScanner``."""

    kind = "yara"

    def __init__(
        self,
        name: str,
        settings: ContentScannerSettings,
        launch: Launcher[FromProcess],
        rules: RuleSet,
        seen: Fingerprint,
    ) -> None:
        """Make one that is not started.

        Args:
            name: As the operator calls it.
            settings: The operator's.
            launch: How a process is had.
            rules: What it begins with.
            seen: The files that they were read from, as they were.
        """
        self.name = name
        self.settings = settings
        self.rules = rules
        #: What was read last.
        self._asked = self._found = self._unfinished = self._remembered = 0
        self._time = Histogram(CATALOGUE["sluicegate_scanner_seconds"].bounds)
        self._seen = seen
        self._tell: Callable[[str], None] = lambda _: None
        begin = Begin(settings.bounds, settings.cpu_s, list(settings.passes_closed))
        self._pool = ScanPool(launch, begin, settings.processes, self._on_trouble)
        self._files_problem = ""
        self._known: OrderedDict[_Key, Contents] = OrderedDict()
        self._asking: dict[tuple[str, str, str], asyncio.Future[Contents | None]] = {}
        #: Objects that are being looked at.
        self._watcher: asyncio.Task[None] | None = None

    # -- life (gate.scanners.ManagedScanner) -----------------------------------------------------

    def start(self, port: CompletionPort, tell: Callable[[str], None]) -> None:
        """Launch the processes, and follow the files; troubles are told."""
        self._tell = tell
        self._pool.start(self.rules)
        if self.settings.rules_folder is not None:
            loop = asyncio.get_running_loop()
            self._watcher = loop.create_task(self._watch(port))
            self._watcher.add_done_callback(lambda task: _on_watcher_done(task, port))

    def retire(self) -> None:
        """End each process when it has nothing to do any more."""
        self._stop_watching()
        self._pool.retire()

    def stop(self) -> None:
        """End the processes; what is asked now is not scanned."""
        self._stop_watching()
        self._pool.stop()

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    @property
    def is_idle(self) -> bool:
        """Whether no process is left."""
        return not any(one.pid for one in self._pool.processes)

    async def wait_ended(self) -> None:
        """Wait until the processes are gone."""
        await self._pool.wait_ended()

    def view(self) -> ScannerView:
        """Return a copy of this moment, for people."""
        processes = self._pool.processes
        causes = [one.cause for one in processes if one.cause]
        is_working = any(one.stage in _AT_WORK for one in processes)
        return ScannerView(
            name=self.name,
            kind=self.kind,
            state="working" if is_working else "failed",
            problem=self.rules_problem or (causes[0] if causes else ""),
            signatures=_signatures(self._pool.version_shown),
            rules=max((one.rules for one in processes), default=0),
            processes=sum(one.pid != 0 for one in processes),
            pids=[one.pid for one in processes if one.pid],
            waiting=self._pool.waiting,
            restarts=sum(one.restarts for one in processes),
            memory_bytes=sum(one.memory_bytes() for one in processes),
            asked=self._asked,
            found=self._found,
            unfinished=self._unfinished,
            remembered=self._remembered,
            answer_s=self._time.total,
            answer_buckets=list(self._time.buckets),
        )

    @property
    def rules_problem(self) -> str:
        """Why the rules in use are not those on the disk; empty if they are, as far as is known."""
        return self._files_problem or self._pool.problem

    def is_using(self, rules: RuleSet) -> bool:
        """Tell whether these are the rules that were read last, and nothing was wrong with them."""
        return self.rules.version == rules.version and not self.rules_problem

    # -- asking --------------------------------------------------------------------------------

    async def version(self) -> str:
        """As ``filterapi.Scanner.version``: that of the rules, and of everybody who is asked."""
        others = [await one.version() for one in self.settings.members_to]
        rules = self._pool.version
        if not rules or not all(others):
            return ""
        bounds = hashlib.sha256(repr(self.settings.bounds).encode()).hexdigest()[:8]
        return " ".join([_signatures(rules), bounds, *self.settings.passes_closed, *others])

    @property
    def signatures(self) -> str:
        """The engine and the version of the rules in use, as answers name them."""
        return _signatures(self._pool.version)

    async def scan(self, transfer: Transfer) -> ScanResult:
        """As ``filterapi.Scanner.scan``."""
        return (await self.examine(transfer)).result

    async def examine(self, transfer: Transfer) -> Contents:
        """As ``filterapi.ContentScanner.examine``."""
        self._asked += 1
        began = asyncio.get_running_loop().time()
        contents = await self._examine(transfer)
        self._time.observe(asyncio.get_running_loop().time() - began)
        if contents.result.outcome is ScanOutcome.FOUND:
            self._found += 1
        elif contents.result.outcome is not ScanOutcome.CLEAN:
            self._unfinished += 1
        return contents

    async def unpack(self, transfer: Transfer) -> Unpacked:
        """As ``filterapi.ContentScanner.unpack``; nothing of it is kept."""
        self._asked += 1
        began = asyncio.get_running_loop().time()
        question = self._question(transfer)
        question.is_shown = question.has_texts = True
        try:
            if transfer.size > self.settings.object_bytes_max:
                result = self._over_limit(transfer).result
            else:
                async with asyncio.timeout(self.settings.timeout_s):
                    result = (await self._put(question, transfer)).result
        except TimeoutError:
            reason = f"no answer within {self.settings.timeout_s:g} s"
            result = self._without(ScanOutcome.NOT_SCANNED, reason).result
        except (SluicegateError, OSError) as error:
            result = self._without(ScanOutcome.NOT_SCANNED, str(error)).result
        self._time.observe(asyncio.get_running_loop().time() - began)
        self._found += result.outcome is ScanOutcome.FOUND
        self._unfinished += result.outcome not in {ScanOutcome.CLEAN, ScanOutcome.FOUND}
        return Unpacked(result, tuple((path, bytes(data)) for path, data in question.members))

    async def _examine(self, transfer: Transfer) -> Contents:
        if transfer.size > self.settings.object_bytes_max:
            return self._over_limit(transfer)
        offer = transfer.offer
        content_type = f"{offer.content_type}, text" if offer.is_text else offer.content_type
        key = (transfer.sha256, self.signatures, offer.name, content_type)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            self._remembered += 1
            return known
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                return await self._ask_once(key, transfer)
        except TimeoutError:
            reason = f"no answer within {self.settings.timeout_s:g} s"
            return self._without(ScanOutcome.NOT_SCANNED, reason)
        except (SluicegateError, OSError) as error:
            return self._without(ScanOutcome.NOT_SCANNED, str(error))

    async def _ask_once(self, key: _Key, transfer: Transfer) -> Contents:
        """Ask, unless another filter is asking about the same object: take its answer."""
        place = (key[0], *key[2:])
        while (asking := self._asking.get(place)) is not None:
            known = await asyncio.shield(asking)
            if known is not None:
                self._remembered += 1
                return known
        answer = self._asking[place] = asyncio.get_running_loop().create_future()
        contents = None
        try:
            contents = await self._ask(transfer)
            if contents.result.outcome is not ScanOutcome.NOT_SCANNED:
                self._remember((key[0], contents.result.signatures, *key[2:]), contents)
            return contents
        finally:
            del self._asking[place]
            answer.set_result(contents)

    async def _ask(self, transfer: Transfer) -> Contents:
        question = self._question(transfer)
        question.is_shown = bool(self.settings.members_to)
        contents = await self._put(question, transfer)
        if contents.result.outcome is ScanOutcome.CLEAN and self.settings.members_to:
            return await self._ask_others(transfer, question, contents)
        return contents

    def _question(self, transfer: Transfer) -> Question:
        return Question(
            transfer.size,
            transfer.offer.name[:_NAME_CHARACTERS_MAX],
            transfer.offer.content_type[:_NAME_CHARACTERS_MAX],
            is_text=transfer.offer.is_text,
        )

    async def _put(self, question: Question, transfer: Transfer) -> Contents:
        """Have a process answer a question about an object.

        Raises:
            OSError: The object cannot be lent.
            SluicegateError: No process has answered.
        """
        async with transfer.open() as file:
            with file.blocking_file() as opened:
                descriptor = lend_descriptor(opened)
        try:
            answer = await self._pool.examine(question, descriptor, self.settings.timeout_s)
        finally:
            os.close(descriptor)
        return _contents(answer, _signatures(question.version))

    async def _ask_others(
        self, transfer: Transfer, question: Question, contents: Contents
    ) -> Contents:
        """Have each member looked at by the other scanners, too."""
        for path, data in question.members:
            member = HeldMember(transfer, path, bytes(data))
            for scanner in self.settings.members_to:
                result = await scanner.scan(member)
                if result.outcome is not ScanOutcome.CLEAN:
                    reason = f"{result.reason} in {path} ({scanner.name})"
                    return Contents(
                        ScanResult(result.outcome, reason, contents.result.signatures),
                        contents.parts,
                    )
        return contents

    def _over_limit(self, transfer: Transfer) -> Contents:
        bound = self.settings.object_bytes_max
        reason = f"{transfer.size} bytes, above object_bytes_max ({bound})"
        return self._without(ScanOutcome.OVER_LIMIT, reason)

    def _without(self, outcome: ScanOutcome, reason: str) -> Contents:
        return Contents(ScanResult(outcome, reason, self.signatures))

    def _remember(self, key: _Key, contents: Contents) -> None:
        """Keep an answer for the next filter that asks about the same object."""
        self._known[key] = contents
        while len(self._known) > SCAN_ANSWERS_KEPT_MAX:
            self._known.popitem(last=False)

    def _on_trouble(self, cause: str) -> None:
        self._tell(cause)

    # -- the files -----------------------------------------------------------------------------

    async def _watch(self, port: CompletionPort) -> None:
        while True:
            await asyncio.sleep(RULES_LOOK_S)
            await self.look_at_files(port)

    async def look_at_files(self, port: CompletionPort) -> None:
        """Take rules whose files have changed; wrong ones are told of, and change nothing."""
        folder = self.settings.rules_folder
        try:
            seen = await port.run_blocking(fingerprint, folder)
            if seen == self._seen and not self._files_problem:
                return
            rules = await port.run_blocking(self._read)
        except RuleFilesError as error:
            if str(error) != self._files_problem:
                self._files_problem = str(error)
                self._tell(f"rules cannot be read again, those before stay in use: {error}")
            return
        self._seen = seen
        self._files_problem = ""
        self.rules = rules
        self._pool.use(rules)

    def _read(self) -> RuleSet:
        settings = self.settings
        return read_rules(settings.rules_folder, with_shipped=settings.has_shipped_rules)


def _on_watcher_done(task: asyncio.Task[None], port: CompletionPort) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        port.on_error(error)


def _signatures(version: str) -> str:
    return f"yara {version[:16]}" if version else "yara"


def _contents(answer: Examined, signatures: str) -> Contents:
    """Read what a process says; nonsense counts as not looked at."""
    try:
        outcome = ScanOutcome(answer.outcome)
    except ValueError as error:
        raise ScanProcessFailed("its process answered what is no outcome") from error
    if len(answer.parts) > SCAN_PARTS_MAX:
        raise ScanProcessFailed("its process told of more parts than SCAN_PARTS_MAX")
    parts = tuple(
        FoundPart(
            _fit(one.path), _fit(one.kind), _fit(one.named), _fit(one.within), one.size, one.count,
            tuple(map(_fit, one.traits)),
        )
        for one in answer.parts
    )  # fmt: skip
    return Contents(ScanResult(outcome, _fit(answer.reason), signatures), parts)


def _fit(text: str) -> str:
    cut = text if len(text) <= _NAME_CHARACTERS_MAX else text[:_NAME_CHARACTERS_MAX] + "…"
    return "".join(one if one.isprintable() else " " for one in cut)


_NAME_CHARACTERS_MAX: Final = 1000
_AT_WORK: Final = frozenset({Stage.IDLE, Stage.BUSY, Stage.LOADING, Stage.STARTING})
