"""IcapScanner: held objects, shown to an ICAP service (RFC 3507).

``app/scanners`` makes one per worker and ``[[scanner]]``, content filters await ``scan``. A
download is shown as a response (RESPMOD), an upload as a request (REQMOD), if the service takes
both. The invariant: an object is clean only if the service said so after it had all of it: what it
did not want to see, had no time for, or broke off, was not scanned.

An ICAP service has no way to say that a limit of its own kept it from looking: c-icap's
``virus_scan`` answers ``204`` for what is above ``MaxObjectSize``. Two things give it away. It does
so on the preview, so an answer before the rest was asked for is no scan. And, as ``scan/clamd``
does, it is shown an archive nested deeper than any scanner looks, and must not call that unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sluicegate.clock import Clock
from sluicegate.errors import (
    ProtocolError,
    SluicegateError,
    TransportError,
    errno_name,
)
from sluicegate.filterapi import Direction, ScanOutcome, ScanResult, Transfer
from sluicegate.port import CompletionPort
from sluicegate.protocols.icap import (
    IcapMethod,
    IcapOptions,
    IcapTarget,
    InnerMessage,
    options_of,
    url_of,
)
from sluicegate.protocols.text import printable
from sluicegate.scan_limits import ICAP_IDLE_S, ICAP_OPTIONS_S

from .icap_answer import IcapAnswer, IcapVerdict, Source, Verdict
from .icap_connection import IcapConnection
from .nested_archive import nested_archive
from .reach import Place, Reach
from .view import ScannerView

__all__ = ["IcapScanner", "IcapSettings"]


@dataclass(frozen=True, slots=True)
class IcapSettings:
    """How one service is asked."""

    place: Place
    """The path of a Unix socket, or an address."""
    target: IcapTarget
    """The service, as its URL names it."""
    connections_max: int
    """Scans at once, of one worker; more wait their turn, which counts as time."""
    timeout_s: float
    """From the question to the answer, waiting included."""
    wait_s: float
    """How long a server that cannot be reached is waited for: it may be restarting."""
    object_bytes_max: int
    """What is larger is not shown."""
    modified_bytes_max: int
    """The largest body that a service may put in an object's place."""
    trusts_limits: bool
    """Whether it is believed although it does not say when it reaches a limit."""
    refusal: str = ""
    """Why it must not be reached; empty: it may."""


class IcapScanner:
    """One service, for one worker; satisfies ``filterapi.Scanner``."""

    def __init__(self, name: str, settings: IcapSettings, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._known = _Known()
        self._reach = Reach(
            settings.place, settings.wait_s, settings.refusal, clock, self._known.forget
        )
        self._turns = _Turns(settings.connections_max)
        self._idle: list[tuple[IcapConnection, float]] = []
        #: Connections that may be used again, and since when nobody does; on the monotonic clock.
        self._running: set[asyncio.Task[ScanResult]] = set()
        self._is_stopped = False
        self._tell: Callable[[str], None] | None = None
        self._problem = ""
        self._asked = self._found = self._unfinished = 0

    async def version(self) -> str:
        """As ``filterapi.Scanner.version``, by the ISTag."""
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                options = await self._options()
        except (ProtocolError, OSError, TransportError):
            # TimeoutError is an OSError. The scan that follows says what is wrong.
            return ""
        return _version(options) if options.istag else ""

    async def scan(self, transfer: Transfer) -> ScanResult:
        """As ``filterapi.Scanner.scan``."""
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

    # -- its life (gate.scanners.ManagedScanner) -------------------------------------------------

    @property
    def kind(self) -> str:
        """As ``[[scanner]]`` calls it."""
        return "icap"

    def start(self, port: CompletionPort, tell: Callable[[str], None]) -> None:
        """Begin: connections are kept from now on."""
        del port
        self._tell = tell
        self._is_stopped = False

    def retire(self) -> None:
        """Finish what it was asked; no connection is kept any more."""
        self._is_stopped = True
        self._close_idle()

    def stop(self) -> None:
        """End now: what it was asked is not scanned."""
        self.retire()
        for task in self._running:
            task.cancel()

    async def wait_ended(self) -> None:
        """Wait until nothing is on its way."""
        if self._running:
            await asyncio.wait(self._running)

    def view(self) -> ScannerView:
        """Return a copy of this moment, for people."""
        options = self._known.options
        return ScannerView(
            name=self.name,
            kind=self.kind,
            state="failed" if self._problem else "working",
            problem=self._problem,
            signatures=_version(options) if options is not None else "",
            asked=self._asked,
            found=self._found,
            unfinished=self._unfinished,
        )

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

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

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
                # A bound, the spool, or this process: another attempt fares no better.
                return self._not_scanned(str(error))
            # It may be another one by now.
            self._known.forget()
            self._close_idle()
            if is_last or self._reach.away_since is not None:
                return self._not_scanned(cause)
        raise AssertionError("the last attempt returns")

    async def _scan_once(self, transfer: Transfer) -> ScanResult:
        options = await self._options()
        doubt = await self._doubt(options)
        if doubt:
            return self._not_scanned(doubt)
        message = _message_of(transfer, options.methods)
        async with transfer.open() as file:
            verdict, is_whole = await self._show(message, file, options)
        return self._result(verdict, is_whole=is_whole)

    def _result(self, verdict: Verdict, *, is_whole: bool) -> ScanResult:
        version = _version(self._known.options) if self._known.options else ""
        match verdict.verdict:
            case IcapVerdict.FOUND:
                for prefix, outcome in _HEURISTICS:
                    if verdict.reason.startswith(prefix):
                        return ScanResult(outcome, verdict.reason, version)
                return ScanResult(ScanOutcome.FOUND, verdict.reason, version)
            case IcapVerdict.BLOCKED:
                return ScanResult(ScanOutcome.FOUND, f"blocked: {verdict.reason}", version)
            case IcapVerdict.FAILED:
                return self._not_scanned(f"the ICAP service answers {verdict.reason}")
            case IcapVerdict.BROKEN_OFF:
                return self._not_scanned(
                    f"the ICAP service began to send it back and broke off ({verdict.reason}): it "
                    "may have found something, and could not say so any more"
                )
            case IcapVerdict.UNCHANGED | IcapVerdict.MODIFIED if not (
                is_whole or self.settings.trusts_limits
            ):
                return self._not_scanned("the ICAP service did not want to see all of it")
            case IcapVerdict.UNCHANGED:
                return ScanResult(ScanOutcome.CLEAN, "", version)
            case IcapVerdict.MODIFIED:
                reason = f"the ICAP service has {len(verdict.body)} other bytes for it"
                return ScanResult(ScanOutcome.MODIFIED, reason, version, verdict.body)
        raise AssertionError("every verdict has a result")

    def _not_scanned(self, reason: str) -> ScanResult:
        version = _version(self._known.options) if self._known.options else ""
        return ScanResult(ScanOutcome.NOT_SCANNED, reason, version)

    # -- what is known of the service ------------------------------------------------------------

    async def _options(self) -> IcapOptions:
        """Return what the service is like; asked for anew when that is no longer sure.

        Raises:
            OSError: It cannot be reached.
            ProtocolError: What answers is no such service.
        """
        known = self._known
        if known.options is not None and self._clock.monotonic() < known.options_until:
            return known.options
        async with self._connection() as connection:
            head = await connection.ask_options(self.settings.target)
        if head.status != _OK:
            reason = printable(head.reason.encode("latin-1"))
            raise ProtocolError(f"the ICAP service answers OPTIONS by {head.status} {reason}")
        options = options_of(head.fields)
        known.learn(options, self._clock.monotonic())
        self._turns.limit(options.connections_max)
        return options

    async def _doubt(self, options: IcapOptions) -> str:
        """Return why the service's word cannot be taken; empty if it can.

        Raises:
            OSError: It cannot be reached.
            ProtocolError: What it says makes no sense.
        """
        known = self._known
        if self.settings.trusts_limits or self._clock.monotonic() < known.believed_until:
            return ""
        probe = _Bytes(nested_archive())
        method = min(options.methods, key=[IcapMethod.RESPMOD, IcapMethod.REQMOD].index)
        url = url_of("probe", "localhost", "nested.zip")
        message = InnerMessage(method, url, "PUT", "application/zip", len(probe.data))
        verdict, _ = await self._show(message, probe, options)
        if verdict.verdict in {IcapVerdict.UNCHANGED, IcapVerdict.MODIFIED}:
            return (
                "the ICAP service does not say when it reaches a limit, so what it calls unchanged "
                "may not have been looked at: have its scanner report limits (of clamd: "
                '"AlertExceedsMax yes"), or set trust_limits = true here'
            )
        if verdict.verdict is IcapVerdict.FAILED:
            return f"the ICAP service answers {verdict.reason}"
        known.believed_until = self._clock.monotonic() + ICAP_OPTIONS_S
        return ""

    # -- the exchange ----------------------------------------------------------------------------

    async def _show(
        self, message: InnerMessage, source: Source, options: IcapOptions
    ) -> tuple[Verdict, bool]:
        """Show bytes; return what was said of them, and whether of all of them."""
        preview = _preview(message, options)
        allows = tuple(
            status
            for status, is_allowed in ((204, options.allows_204), (206, options.allows_206))
            if is_allowed
        )
        async with self._connection() as connection:
            answer = IcapAnswer(
                message.method,
                source,
                message.size,
                bytes_max=self.settings.modified_bytes_max,
                is_204_allowed=options.allows_204 or preview is not None,
            )
            is_whole = await connection.exchange(
                self.settings.target,
                message,
                source,
                answer,
                preview_bytes=preview,
                allows=allows,
            )
            verdict = answer.verdict()
        assert answer.head is not None, "an answer that is over had a head"
        istag = answer.head.fields.get("istag", "").strip('"')
        if istag and istag != options.istag:
            # Other signatures: what is known of it, and the verdicts kept under it, are of before.
            self._known.forget()
        return verdict, is_whole

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncGenerator[IcapConnection]:
        """Lend a connection, one that was used before if there is one."""
        connection = self._take_idle() or IcapConnection(await self._reach.connect())
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable and not self._is_stopped:
            self._idle.append((connection, self._clock.monotonic()))
        else:
            connection.close()

    def _take_idle(self) -> IcapConnection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_reusable and self._clock.monotonic() - since < ICAP_IDLE_S:
                return connection
            connection.close()
        return None


@dataclass(slots=True)
class _Known:
    """What a worker knows of a service."""

    options: IcapOptions | None = None
    options_until: float = field(default=float("-inf"))
    """Until then it is taken for right; on the monotonic clock."""
    believed_until: float = field(default=float("-inf"))
    """Until then it is believed that it says when it reaches a limit."""

    def learn(self, options: IcapOptions, now: float) -> None:
        """Take what it says of itself."""
        if self.options is not None and self.options.istag != options.istag:
            self.believed_until = float("-inf")
        self.options = options
        ttl_s = ICAP_OPTIONS_S if options.ttl_s is None else min(options.ttl_s, ICAP_OPTIONS_S)
        self.options_until = now + ttl_s

    def forget(self) -> None:
        """Take that it may be another one."""
        self.options_until = self.believed_until = float("-inf")


class _Turns:
    """As many at once as may be: what the operator says, and no more than the service does."""

    def __init__(self, most: int) -> None:
        self._most = self._limit = most
        self._taken = 0
        self._freed = asyncio.Condition()

    def limit(self, most: int | None) -> None:
        """Take how many the service lets in; None: it does not say."""
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


class _Bytes:
    """Bytes in memory, as a source."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read_at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``."""
        return self.data[offset : offset + count]


def _message_of(transfer: Transfer, methods: frozenset[IcapMethod]) -> InnerMessage:
    """Put an object into an HTTP message, of the kind that fits if the service takes it."""
    offer = transfer.offer
    is_upload = offer.direction is Direction.UPLOAD
    wanted = IcapMethod.REQMOD if is_upload else IcapMethod.RESPMOD
    method = wanted if wanted in methods else next(iter(methods))
    host = _host_of(transfer)
    url = url_of(offer.protocol, host, offer.name)
    return InnerMessage(
        method, url, "PUT" if is_upload else "GET", offer.content_type, transfer.size
    )


def _host_of(transfer: Transfer) -> str:
    host = transfer.connection.server_address.host
    return f"[{host}]" if ":" in host else host


def _preview(message: InnerMessage, options: IcapOptions) -> int | None:
    """Return how much is shown first; None: all at once.

    What a service would rather not see (Transfer-Ignore) is shown as well: whoever sends an object
    chooses its name.
    """
    extension = message.url.rpartition("/")[2].rpartition(".")[2].lower()
    if options.preview_bytes is None or extension in options.complete_extensions:
        return None
    return options.preview_bytes


def _version(options: IcapOptions) -> str:
    return printable(f"{options.service or 'ICAP'}/{options.istag}".encode())


#: Under which names ClamAV says, behind a service, that it did not look.
_HEURISTICS: Final[Sequence[tuple[str, ScanOutcome]]] = (
    ("Heuristics.Limits.Exceeded", ScanOutcome.NOT_SCANNED),
    ("Heuristics.Encrypted", ScanOutcome.ENCRYPTED),
)
_OK: Final = 200
