"""ClamdScanner: held objects, looked at by ClamAV's daemon.

``app/scanners`` makes one per worker and ``[[scanner]]``, content filters await ``scan``. Where
clamd is on this machine (a Unix socket) it is given a read-only descriptor and no byte is copied;
elsewhere the object is streamed to it. The invariant: an object is clean only if clamd said so of
all of it: what it left out for a limit, could not be asked about, or took too long for, was not
scanned.

By default clamd answers ``OK`` for what it skipped because of its own limits (``MaxFileSize``,
``MaxScanSize``, ``MaxRecursion`` and kin); only with ``AlertExceedsMax yes`` does it say so
(clamd.conf(5)). So before its word is believed it is shown an archive nested deeper than it can be
told to look, and must say that this was too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from dataclasses import dataclass

from sluicegate.clock import Clock
from sluicegate.errors import ProtocolError, TransportError, errno_name
from sluicegate.filterapi import ScanOutcome, ScanResult, Transfer, TransferFile, lend_descriptor
from sluicegate.protocols.clamd import (
    END_OF_STREAM,
    FILDES,
    INSTREAM,
    VERSION,
    ClamdReply,
    ClamdVerdict,
    ClamdVersion,
    ReplyReader,
    chunk_header,
    parse_scan_reply,
    parse_version,
)
from sluicegate.scan_limits import (
    CLAMD_CHUNK_BYTES,
    CLAMD_PROBE_S,
    CLAMD_REPLY_BYTES_MAX,
)

from .nested_archive import nested_archive
from .reach import Place, Reach, ScannerSocket

__all__ = ["ClamdScanner", "ClamdSettings"]


@dataclass(frozen=True, slots=True)
class ClamdSettings:
    """How one clamd is asked."""

    place: Place
    """The path of its Unix socket, or its address."""
    connections_max: int
    """Scans at once, of one worker; more wait their turn, which counts as time."""
    timeout_s: float
    """From the question to the answer, waiting included."""
    wait_s: float
    """How long a clamd that cannot be reached is waited for: it may be restarting."""
    object_bytes_max: int
    """What is larger is not scanned."""
    trusts_limits: bool
    """Whether an answer is believed although clamd does not say when it reaches a limit."""
    refusal: str = ""
    """Why it must not be reached; empty: it may."""


class ClamdScanner:
    """One clamd, for one worker; satisfies ``filterapi.Scanner``."""

    def __init__(self, name: str, settings: ClamdSettings, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(settings.connections_max)
        self._version = ""
        self._believed_until = float("-inf")
        #: Until then its word is taken; on the monotonic clock.
        self._reach = Reach(
            settings.place, settings.wait_s, settings.refusal, clock, self._disbelieve
        )

    async def version(self) -> str:
        """As ``filterapi.Scanner.version``, by the number of the official signatures."""
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                version = await self._ask_version()
        except (ProtocolError, OSError, TransportError):
            # TimeoutError is an OSError. The scan that follows says what is wrong.
            return ""
        return f"{version.engine}/{version.signatures}" if version.signatures else ""

    async def scan(self, transfer: Transfer) -> ScanResult:
        """As ``filterapi.Scanner.scan``."""
        bound = self.settings.object_bytes_max
        if transfer.size > bound:
            return self._not_scanned(f"{transfer.size} bytes, above object_bytes_max ({bound})")
        try:
            async with asyncio.timeout(self.settings.timeout_s), self._turns:
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
            except TransportError as error:
                # The spool, or this process: another attempt fares no better.
                return self._not_scanned(str(error))
            self._disbelieve()
            if is_last or self._reach.away_since is not None:
                return self._not_scanned(cause)
        raise AssertionError("the last attempt returns")

    async def _scan_once(self, transfer: Transfer) -> ScanResult:
        doubt = await self._doubt()
        if doubt:
            return self._not_scanned(doubt)
        async with transfer.open() as file:
            with contextlib.closing(await self._reach.connect()) as connected:
                if isinstance(self.settings.place, str):
                    reply = await self._lend(connected, file)
                else:
                    reply = await _stream(connected, file)
        return self._result(reply)

    def _result(self, reply: ClamdReply) -> ScanResult:
        match reply.verdict:
            case ClamdVerdict.CLEAN:
                return ScanResult(ScanOutcome.CLEAN, "", self._version)
            case ClamdVerdict.FOUND:
                return ScanResult(ScanOutcome.FOUND, reply.text, self._version)
            case ClamdVerdict.ENCRYPTED:
                return ScanResult(ScanOutcome.ENCRYPTED, reply.text, self._version)
            case ClamdVerdict.LIMIT:
                return self._not_scanned(f"clamd reached a limit: {reply.text}")
            case ClamdVerdict.ERROR:
                return self._not_scanned(f"clamd says: {reply.text}")

    def _not_scanned(self, reason: str) -> ScanResult:
        return ScanResult(ScanOutcome.NOT_SCANNED, reason, self._version)

    # -- whether it can be believed --------------------------------------------------------------

    async def _doubt(self) -> str:
        """Return why clamd's word cannot be taken; empty if it can.

        Raises:
            OSError: It cannot be reached.
            ProtocolError: What answers is no clamd.
        """
        if self._clock.monotonic() < self._believed_until:
            return ""
        version = await self._ask_version()
        self._version = "/".join(filter(None, (version.engine, version.signatures)))
        if not self.settings.trusts_limits:
            with contextlib.closing(await self._reach.connect()) as connected:
                reply = await _stream_bytes(connected, nested_archive())
            if reply.verdict is not ClamdVerdict.LIMIT:
                return (
                    "clamd does not say when it reaches a limit, so what it calls clean may not "
                    'have been looked at: set "AlertExceedsMax yes" in clamd.conf, or '
                    "trust_limits = true here"
                )
        self._believed_until = self._clock.monotonic() + CLAMD_PROBE_S
        return ""

    def _disbelieve(self) -> None:
        self._believed_until = float("-inf")

    async def _ask_version(self) -> ClamdVersion:
        with contextlib.closing(await self._reach.connect()) as connected:
            await _loop().sock_sendall(connected, VERSION)
            return parse_version(await _reply(connected))

    # -- the exchange ----------------------------------------------------------------------------

    async def _lend(self, connected: ScannerSocket, file: TransferFile) -> ClamdReply:
        """Let clamd read the object itself."""
        with file.blocking_file() as opened:
            descriptor = lend_descriptor(opened)
        try:
            await _loop().sock_sendall(connected, FILDES)
            socket.send_fds(connected, [b"\0"], [descriptor])
        finally:
            os.close(descriptor)
        return parse_scan_reply(await _reply(connected))


async def _stream(connected: ScannerSocket, file: TransferFile) -> ClamdReply:
    """Send an object piece by piece; clamd may answer before it has all of it."""
    loop = _loop()
    is_whole = False
    try:
        await loop.sock_sendall(connected, INSTREAM)
        while piece := await file.read(CLAMD_CHUNK_BYTES):
            await loop.sock_sendall(connected, chunk_header(len(piece)))
            await loop.sock_sendall(connected, piece)
        await loop.sock_sendall(connected, END_OF_STREAM)
        is_whole = True
    except (BrokenPipeError, ConnectionResetError):
        # It has refused to read on; what it says of that is there to be read.
        pass
    reply = parse_scan_reply(await _reply(connected))
    if reply.verdict is ClamdVerdict.CLEAN and not is_whole:
        raise ProtocolError("clamd calls clean what it did not have to its end")
    return reply


async def _stream_bytes(connected: ScannerSocket, data: bytes) -> ClamdReply:
    stream = INSTREAM + chunk_header(len(data)) + data + END_OF_STREAM
    await _loop().sock_sendall(connected, stream)
    return parse_scan_reply(await _reply(connected))


async def _reply(connected: ScannerSocket) -> bytes:
    reader = ReplyReader()
    while True:
        try:
            data = await _loop().sock_recv(connected, CLAMD_REPLY_BYTES_MAX)
        except ConnectionResetError as error:
            raise OSError(errno.ECONNRESET, "clamd went away") from error
        reply = reader.receive_data(data)
        if reply is not None:
            return reply


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
