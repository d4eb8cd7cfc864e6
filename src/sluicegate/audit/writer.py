"""The writer of records: a bounded queue in memory, appended to a file by the completion port.

The gate writes to a ``Recorder`` and asks it whether new traffic may be let in. The invariant: at
most one write is in flight, no record is lost without being counted, and while records cannot be
written the answer is no: an unrecorded decision is not allowed, unless the operator wants to go on.

Half of the queue's bound is a reserve: at the first half new connections are refused, the second is
for the ends of those that are already there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

from sluicegate.errors import ConfigError, errno_name
from sluicegate.limits import (
    RECORD_FLUSH_DELAY_S,
    RECORD_RETRY_DELAY_S,
    RECORD_WRITE_BYTES_MIN,
    RECORDS_ENCODED_LATER_MAX,
)
from sluicegate.port import CompletionPort, Handle, Overlapped, Timer

from .queue import RecordQueue
from .records import LimitRecord, Record

__all__ = ["RecordWriter", "Recorder"]


class Recorder(Protocol):
    """Where the gate's records go."""

    @property
    def is_accepting(self) -> bool:
        """Whether what happens now can be recorded; if not, new traffic is refused."""
        ...

    def write(self, record: Record) -> None:
        """Take a record; never blocks, never raises for the world's reasons."""
        ...


class RecordWriter(RecordQueue):
    """Appends records to one file; made by ``app``, ended by ``close``."""

    __slots__ = (
        "_handle",
        "_idle",
        "_is_reopening",
        "_on_trouble",
        "_overlapped",
        "_pending",
        "_port",
        "_timer",
        "_written",
        "failure",
        "path",
    )

    def __init__(
        self,
        port: CompletionPort,
        path: pathlib.Path,
        on_trouble: Callable[[str], None],
        *,
        goes_on: bool = False,
    ) -> None:
        """Open the file.

        Args:
            port: Writes the file.
            path: Made with mode 0640 when it does not exist; its folder must.
            on_trouble: Told, once each time, that writing fails or works again.
            goes_on: Whether traffic goes on while writing fails.

        Raises:
            ConfigError: The file cannot be opened.
        """
        super().__init__(port.limits.record_queue_bytes_max, goes_on=goes_on)
        self.path = path
        self.failure = ""
        #: Why the last write failed; empty while writing works.
        self._port = port
        self._on_trouble = on_trouble
        self._pending = b""
        self._written = 0
        self._timer: Timer | None = None
        self._is_reopening = False
        self._idle: list[asyncio.Future[None]] = []
        self._overlapped: Overlapped = port.create_overlapped()
        self._overlapped.set_notification(self)
        self._handle = self._open()

    # -- the recorder --------------------------------------------------------------------------

    @property
    def is_accepting(self) -> bool:
        """Whether what happens now can be recorded."""
        return self.goes_on or (not self.failure and len(self._queue) < self._bytes_max >> 1)

    def write(self, record: Record) -> None:
        """Queue a record; a full queue loses it, and says so when it is not full any more."""
        fresh = self._fresh
        fresh.append(record)
        if len(fresh) >= RECORDS_ENCODED_LATER_MAX:
            self._encode()
            if len(self._queue) > RECORD_WRITE_BYTES_MIN and not self._pending:
                self.flush()
        if self._timer is None and not self._pending:
            self._timer = self._port.call_after(RECORD_FLUSH_DELAY_S, self.flush)

    # -- what app asks -------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """Bytes that are not in the file."""
        self._encode()
        return len(self._queue) + len(self._pending) - self._written

    def flush(self) -> None:
        """Start writing what is queued, unless a write is in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._overlapped.is_busy:
            return
        if self._is_reopening and (self.failure or not self._pending):
            self._reopen_now()
        if not self._pending:
            self._encode()
            self._pending = self._take()
        if self._pending:
            self._start()

    def reopen(self) -> None:
        """Open the path again, after a log rotation moved the file."""
        self._is_reopening = True
        self.flush()

    async def close(self) -> None:
        """Write what is queued, as long as writing works, and close the file."""
        self.flush()
        while self._overlapped.is_busy or (self.queued_bytes and not self.failure):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.queued_bytes:
            self._on_trouble(f"{self.path}: {self.queued_bytes} bytes of records are lost")
        self._handle.close()
        await self._handle.wait_closed()

    # -- writing -------------------------------------------------------------------------------

    def complete_async_io(
        self,
        success: bool,
        bytes_transferred: int,
        error: int,
        overlapped: Overlapped,
        user_data: Any,
    ) -> None:
        """Take the result of a write: go on, or keep what is left for another attempt."""
        del overlapped, user_data
        if not success or not bytes_transferred:
            self._fail(errno_name(error or errno.EIO))
        else:
            self._written += bytes_transferred
            if self.failure:
                self.failure = ""
                self._on_trouble(f"{self.path}: records are written again")
            if self._written == len(self._pending):
                self._pending, self._written = b"", 0
                self._note_lost()
            self._go_on()
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _go_on(self) -> None:
        self._encode()
        if self._pending or self._is_reopening or len(self._queue) > RECORD_WRITE_BYTES_MIN:
            self.flush()
        elif self._queue and self._idle:
            self.flush()  # somebody waits for the end
        elif self._queue and self._timer is None:
            self._timer = self._port.call_after(RECORD_FLUSH_DELAY_S, self.flush)

    def _start(self) -> None:
        rest = self._pending[self._written :] if self._written else self._pending
        self._handle.start_write(rest, self._overlapped)

    def _fail(self, cause: str) -> None:
        if not self.failure:
            self._on_trouble(f"{self.path}: {cause}; {self.consequence} until this works")
        self.failure = cause
        self._timer = self._port.call_after(RECORD_RETRY_DELAY_S, self.flush)

    def _note_lost(self) -> None:
        if self._lost_untold:
            count, self._lost_untold = self._lost_untold, 0
            self.write(
                LimitRecord(
                    time=self._port.clock.wall(),
                    limit="record_queue_bytes_max",
                    bound=self._bytes_max,
                    count=count,
                )
            )

    # -- the file ------------------------------------------------------------------------------

    def _open(self) -> Handle:
        try:
            descriptor = os.open(
                self.path,
                os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                0o640,
            )
        except OSError as error:
            raise ConfigError(
                str(self.path),
                f"the log cannot be opened: {error.strerror}",
                'set "path" in [log] to a file that the gate may write',
            ) from error
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A crash or a full disk cut the last line: end it, so that ours begins a line.
            if self._pending:
                self._pending = b"\n" + self._pending
            else:
                self._queue[:0] = b"\n"
        return self._port.hook(descriptor)

    def _reopen_now(self) -> None:
        """Change to the file that the path names now; the old one goes on if that fails."""
        self._is_reopening = False
        # A line that was cut by a failure is written again, whole.
        begin = self._pending.rfind(b"\n", 0, self._written) + 1
        self._pending, self._written = self._pending[begin:], 0
        before = self._handle
        try:
            self._handle = self._open()
        except ConfigError as error:
            self._on_trouble(f"{error}; records go on to the file that was open")
        else:
            before.close()
