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

from typing_extensions import override

from sluicegate.clock import Clock
from sluicegate.errors import ProtocolError
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
from .reach import ScannerSocket
from .reached_scanner import ReachedScanner, ReachedSettings

__all__ = ["ClamdScanner", "ClamdSettings"]


class ClamdSettings(ReachedSettings):
    """How one clamd is asked."""


class ClamdScanner(ReachedScanner[ClamdSettings]):
    """One clamd, for one worker."""

    kind = "clamd"

    def __init__(self, name: str, settings: ClamdSettings, clock: Clock) -> None:
        super().__init__(name, settings, clock)
        self._version = ""
        self._believed_until = float("-inf")
        #: Until then its word is taken; on the monotonic clock.

    @property
    @override
    def _signatures(self) -> str:
        return self._version

    @override
    async def _ask_version(self) -> str:
        """Return the number of the official signatures."""
        version = await self._read_version()
        return f"{version.engine}/{version.signatures}" if version.signatures else ""

    @override
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

    # -- whether it can be believed --------------------------------------------------------------

    async def _doubt(self) -> str:
        """Return why clamd's word cannot be taken; empty if it can.

        Raises:
            OSError: It cannot be reached.
            ProtocolError: What answers is no clamd.
        """
        if self._clock.monotonic() < self._believed_until:
            return ""
        version = await self._read_version()
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

    @override
    def _forget(self) -> None:
        self._believed_until = float("-inf")

    async def _read_version(self) -> ClamdVersion:
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
