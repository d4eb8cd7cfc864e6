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

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from sluicegate.clock import Clock
from sluicegate.errors import ProtocolError
from sluicegate.filterapi import Direction, ScanOutcome, ScanResult, Transfer
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
from .reached_scanner import ReachedScanner, ReachedSettings
from .scanner_link import PlainLink, ScannerLink, ScannerTls, TlsLink

__all__ = ["IcapScanner", "IcapSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IcapSettings(ReachedSettings):
    """How one service is asked."""

    target: IcapTarget
    """The service, as its URL names it."""
    modified_bytes_max: int
    """The largest body that a service may put in an object's place."""
    encryption: ScannerTls | None = None
    """None: the way to it is not encrypted."""


class IcapScanner(ReachedScanner[IcapSettings]):
    """One service, for one worker."""

    kind = "icap"

    def __init__(self, name: str, settings: IcapSettings, clock: Clock) -> None:
        super().__init__(name, settings, clock)
        self._known = _Known()
        self._idle: list[tuple[IcapConnection, float]] = []
        #: Connections that may be used again, and since when nobody does; on the monotonic clock.
        self._tls = settings.encryption.context() if settings.encryption is not None else None

    @property
    @override
    def _signatures(self) -> str:
        return _version(self._known.options) if self._known.options else ""

    @override
    async def _ask_version(self) -> str:
        """Return the ISTag."""
        options = await self._options()
        return _version(options) if options.istag else ""

    @override
    def retire(self) -> None:
        super().retire()
        self._close_idle()

    @override
    def _forget(self) -> None:
        self._known.forget()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    @override
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
        version = self._signatures
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
        connection = self._take_idle() or IcapConnection(await self._link())
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable and not self._is_stopped:
            self._idle.append((connection, self._clock.monotonic()))
        else:
            connection.close()

    async def _link(self) -> ScannerLink:
        connected = await self._reach.connect()
        encryption = self.settings.encryption
        if self._tls is None or encryption is None:
            return PlainLink(connected)
        link = TlsLink(connected, self._tls, encryption.name)
        try:
            await link.shake_hands()
        except BaseException:
            link.close()
            raise
        return link

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
