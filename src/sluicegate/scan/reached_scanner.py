"""ReachedScanner: what scanners have in common that are servers of their own, reached by a socket.

``clamd`` and ``icap`` are made on it; each says how one question is put. The invariant: whatever
fails, is late, is down or is too much is an answer, and that answer is *not scanned*.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from sluicegate.errors import ProtocolError, SluicegateError, TransportError, errno_name
from sluicegate.filterapi import ScanOutcome, ScanResult, Transfer
from sluicegate.metrics import CATALOGUE, Histogram

from .reach import Place, Reach
from .view import ScannerView

if TYPE_CHECKING:
    from sluicegate.clock import Clock
    from sluicegate.port import CompletionPort

__all__ = ["ReachedScanner", "ReachedSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedSettings:
    """How one is asked."""

    place: Place
    """The path of a Unix socket, or an address."""
    connections_max: int
    """Scans at once, of one worker; more wait their turn, which counts as time."""
    timeout_s: float
    """From the question to the answer, waiting included."""
    wait_s: float
    """How long one that cannot be reached is waited for: it may be restarting."""
    object_bytes_max: int
    """What is larger is not shown."""
    trusts_limits: bool
    """Whether it is believed although it does not say when it reaches a limit."""
    refusal: str = ""
    """Why it must not be reached; empty: it may."""


SettingsT = TypeVar("SettingsT", bound=ReachedSettings)


class ReachedScanner(abc.ABC, Generic[SettingsT]):
    """One server, for one worker; satisfies ``filterapi.Scanner`` and ``ManagedScanner``."""

    kind: ClassVar[str]
    """As ``[[scanner]]`` calls it."""

    def __init__(self, name: str, settings: SettingsT, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._reach = Reach(settings.place, settings.wait_s, settings.refusal, clock, self._forget)
        self._turns = Turns(settings.connections_max)
        self._running: set[asyncio.Task[ScanResult]] = set()
        self._is_stopped = False
        self._tell: Callable[[str], None] | None = None
        self._problem = ""
        self._asked = self._found = self._unfinished = 0
        self._time = Histogram(CATALOGUE["sluicegate_scanner_seconds"].bounds)

    # -- what each is ----------------------------------------------------------------------------

    @abc.abstractmethod
    async def _ask_version(self) -> str:
        """Return the version under which verdicts may be kept; empty: under none.

        Raises:
            OSError: It cannot be reached.
            ProtocolError: What answers is no such scanner.
            TransportError: It must not be reached.
        """

    @abc.abstractmethod
    async def _scan_once(self, transfer: Transfer) -> ScanResult:
        """Ask about one object.

        Raises:
            OSError: The connection broke.
            ProtocolError: What came is no answer.
            SluicegateError: A bound, the spool, or this process: another attempt fares no better.
        """

    @abc.abstractmethod
    def _forget(self) -> None:
        """Take that whoever answers next may be another one."""

    @property
    @abc.abstractmethod
    def _signatures(self) -> str:
        """Engine and version, as answers and people are told; empty while unknown."""

    # -- asking (filterapi.Scanner) --------------------------------------------------------------

    async def version(self) -> str:
        """As ``filterapi.Scanner.version``."""
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                return await self._ask_version()
        except (ProtocolError, OSError, TransportError):
            # TimeoutError is an OSError. The scan that follows says what is wrong.
            return ""

    async def scan(self, transfer: Transfer) -> ScanResult:
        """As ``filterapi.Scanner.scan``."""
        began = self._clock.monotonic()
        task = asyncio.get_running_loop().create_task(self._scan(transfer))
        self._running.add(task)
        try:
            await asyncio.wait({task})
        finally:
            # Also when who asked was cancelled: its connection is closed before anybody goes on.
            task.cancel()
            await asyncio.wait({task})
            self._running.discard(task)
        result = self._not_scanned("the scanner was stopped") if task.cancelled() else task.result()
        self._time.observe(self._clock.monotonic() - began)
        self._count(result)
        return result

    async def _scan(self, transfer: Transfer) -> ScanResult:
        bound = self.settings.object_bytes_max
        if transfer.size > bound:
            return self._not_scanned(f"{transfer.size} bytes, above object_bytes_max ({bound})")
        try:
            async with asyncio.timeout(self.settings.timeout_s), self._turns.turn():
                return await self._scan_patiently(transfer)
        except TimeoutError:
            return self._not_scanned(f"no answer within {self.settings.timeout_s:g} s")

    async def _scan_patiently(self, transfer: Transfer) -> ScanResult:
        """Ask; once more if it went away in the middle."""
        for is_last in (False, True):
            try:
                return await self._scan_once(transfer)
            except ProtocolError as error:
                cause = error.hint
            except OSError as error:
                cause = f"it cannot be asked: {errno_name(error.errno or 0)}"
            except SluicegateError as error:
                return self._not_scanned(str(error))
            self._forget()
            if is_last or self._reach.away_since is not None:
                return self._not_scanned(cause)
        raise AssertionError("the last attempt returns")

    def _not_scanned(self, reason: str) -> ScanResult:
        return ScanResult(ScanOutcome.NOT_SCANNED, reason, self._signatures)

    def _count(self, result: ScanResult) -> None:
        """Keep what people want to know: how many, and what is wrong now."""
        self._asked += 1
        self._found += result.outcome is ScanOutcome.FOUND
        is_unfinished = result.outcome is ScanOutcome.NOT_SCANNED
        self._unfinished += is_unfinished
        problem = result.reason if is_unfinished and self._reach.away_since is not None else ""
        if problem and problem != self._problem and self._tell is not None:
            self._tell(problem)
        self._problem = problem

    # -- its life (gate.scanners.ManagedScanner) -------------------------------------------------

    def start(self, port: CompletionPort, tell: Callable[[str], None]) -> None:
        """Begin: connections may be kept from now on; troubles are told."""
        del port
        self._tell = tell
        self._is_stopped = False

    def retire(self) -> None:
        """Finish what it was asked; no connection is kept any more."""
        self._is_stopped = True

    def stop(self) -> None:
        """End now: what it was asked is not scanned."""
        self.retire()
        for task in self._running:
            task.cancel()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return all(task.done() for task in self._running)

    async def wait_ended(self) -> None:
        """Wait until nothing is on its way."""
        if self._running:
            await asyncio.wait(self._running)

    def view(self) -> ScannerView:
        """Return a copy of this moment, for people."""
        return ScannerView(
            name=self.name,
            kind=self.kind,
            state="failed" if self._problem else "working",
            problem=self._problem,
            signatures=self._signatures,
            waiting=len(self._running),
            asked=self._asked,
            found=self._found,
            unfinished=self._unfinished,
            answer_s=self._time.total,
            answer_buckets=list(self._time.buckets),
        )


class Turns:
    """As many at once as may be: what the operator says, and no more than the server does."""

    def __init__(self, most: int) -> None:
        self._most = self._limit = most
        self._taken = 0
        self._freed = asyncio.Condition()

    def limit(self, most: int | None) -> None:
        """Take how many the server lets in; None: it does not say."""
        self._limit = self._most if most is None else max(1, min(self._most, most))

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a turn, and have it."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._taken < self._limit)
            self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            async with self._freed:
                self._freed.notify_all()
