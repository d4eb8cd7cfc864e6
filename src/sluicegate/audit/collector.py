"""Collector: takes batches of records from all processes and appends them to the log.

It is all that the audit writer's process does (``app.processes.audit_writer`` is around it). The
invariant: it is the only one who writes the file; a batch is acknowledged when it is in the file;
and while the file cannot be written every sender is told so, and nothing more is read from them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from sluicegate.errors import errno_name
from sluicegate.limits import RECORD_RETRY_DELAY_S, RECORD_WRITE_BYTES_MAX

from .frames import Batch, BatchReader, Note, NoteKind, frame_note
from .journal import Journal

__all__ = ["Collector"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries records, not traffic

_RECEIVE_BYTES = 1 << 18


@dataclass(eq=False, slots=True)
class _Stream:
    """One sender."""

    row: int
    connected: _Socket
    reader: BatchReader = field(default_factory=BatchReader)
    is_over: bool = False
    owed: bytearray = field(default_factory=bytearray)
    """Notes that its socket had no room for."""


class Collector:
    """Writes what its streams send; lives as long as its process, on asyncio's loop.

    Writing blocks: nothing else is to be done here meanwhile.
    """

    def __init__(
        self,
        journal: Journal,
        log: int,
        *,
        on_ended: Callable[[int], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        """Take over from whoever wrote before.

        Args:
            journal: How far they came.
            log: Descriptor of the log, open for reading and appending; owned from now on.
            on_ended: Told the row of a sender that is gone, when all it sent is in the file.
            on_trouble: Told, once each time, that writing fails or works again.

        Raises:
            OSError: The file cannot be repaired.
        """
        self._journal = journal
        self._log = log
        self._on_ended = on_ended
        self._on_trouble = on_trouble
        self._streams: set[_Stream] = set()
        self._waiting: list[tuple[_Stream, Batch]] = []
        self._waiting_bytes = 0
        self._failure = ""
        self._held = ""
        #: Why nothing is to be written, though it could be.
        self._is_posted = False
        self._retry: asyncio.TimerHandle | None = None
        journal.recover(log)
        _end_last_line(log)

    # -- what the process is told ----------------------------------------------------------------

    def add_stream(self, row: int, connected: _Socket) -> None:
        """Begin to take batches from a sender, and tell it where to begin."""
        connected.setblocking(False)
        stream = _Stream(row, connected)
        self._streams.add(stream)
        self._tell(stream, Note(NoteKind.WRITTEN, self._journal.number(row)))
        if self._failure:
            self._tell(stream, Note(NoteKind.FAILING, text=self._failure))
        self._watch(stream)

    def change_log(self, log: int) -> None:
        """Go on in another file: the path was moved by a rotation."""
        before, self._log = self._log, log
        os.close(before)
        _end_last_line(log)

    def hold(self, cause: str) -> None:
        """Write nothing from now on, as if the file could not be written; for no cause, go on."""
        self._held = cause

    @property
    def is_done(self) -> bool:
        """Whether every sender is gone and all is written."""
        return not self._streams and not self._waiting

    def close(self) -> None:
        """Let go of everything, at the end of the process."""
        if self._retry is not None:
            self._retry.cancel()
        for stream in list(self._streams):
            self._unwatch(stream)
            stream.connected.close()
        os.close(self._log)

    # -- streams -------------------------------------------------------------------------------

    def _watch(self, stream: _Stream) -> None:
        asyncio.get_running_loop().add_reader(stream.connected, self._on_readable, stream)

    def _unwatch(self, stream: _Stream) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(stream.connected)
        loop.remove_writer(stream.connected)

    def _on_readable(self, stream: _Stream) -> None:
        try:
            received = stream.connected.recv(_RECEIVE_BYTES)
            batches = stream.reader.feed(received)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._on_trouble(f"a sender of records broke off: {error}")
            received, batches = b"", []
        if not received:
            self._unwatch(stream)
            stream.is_over = True
        for batch in batches:
            self._waiting.append((stream, batch))
            self._waiting_bytes += len(batch.lines)
        if self._waiting_bytes > RECORD_WRITE_BYTES_MAX:
            self._write()
        elif not self._is_posted:
            # Once for all that is readable now.
            self._is_posted = True
            asyncio.get_running_loop().call_soon(self._on_posted)

    def _on_posted(self) -> None:
        self._is_posted = False
        self._write()

    def _tell(self, stream: _Stream, note: Note) -> None:
        stream.owed += frame_note(note)
        self._pay(stream)

    def _pay(self, stream: _Stream) -> None:
        """Send what a sender is owed; the bound is what it may have unacknowledged."""
        loop = asyncio.get_running_loop()
        if stream.is_over:
            return
        try:
            del stream.owed[: stream.connected.send(stream.owed)]
        except BlockingIOError:
            loop.add_writer(stream.connected, self._pay, stream)
            return
        except OSError:
            stream.owed.clear()  # it has gone: the end of its stream says so
        loop.remove_writer(stream.connected)

    # -- writing -------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._retry is not None:
            return
        if self._waiting and not self._append():
            return
        for stream in [one for one in self._streams if one.is_over]:
            self._streams.discard(stream)
            stream.connected.close()
            self._on_ended(stream.row)

    def _append(self) -> bool:
        """Put everything that waits into the file; False, with nothing of it there, if not."""
        if self._held:
            self._fail(self._held)
            return False
        lines = b"".join(batch.lines for _, batch in self._waiting)
        last: dict[int, tuple[int, int]] = {}
        for stream, batch in self._waiting:
            records = last.get(stream.row, (0, 0))[1] + batch.records
            last[stream.row] = batch.number, records
        self._journal.intend(self._log, len(lines), last)
        begin = os.fstat(self._log).st_size
        try:
            _write_all(self._log, lines)
        except OSError as error:
            if os.fstat(self._log).st_size > begin:
                os.ftruncate(self._log, begin)
            self._journal.abandon()
            self._fail(errno_name(error.errno or 0))
            return False
        self._journal.settle()
        streams = {stream.row: stream for stream, _ in self._waiting}
        self._waiting, self._waiting_bytes = [], 0
        for row, stream in streams.items():
            self._tell(stream, Note(NoteKind.WRITTEN, last[row][0]))
        if self._failure:
            self._recover()
        return True

    def _fail(self, cause: str) -> None:
        if not self._failure:
            self._on_trouble(f"records cannot be written: {cause}")
            for stream in self._streams:
                asyncio.get_running_loop().remove_reader(stream.connected)
        self._failure = cause
        for stream in self._streams:
            self._tell(stream, Note(NoteKind.FAILING, text=cause))
        self._retry = asyncio.get_running_loop().call_later(RECORD_RETRY_DELAY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._write()

    def _recover(self) -> None:
        self._failure = ""
        self._on_trouble("records are written again")
        for stream in self._streams:
            self._tell(stream, Note(NoteKind.WORKING))
            if not stream.is_over:
                self._watch(stream)


def _write_all(descriptor: int, lines: bytes) -> None:
    with memoryview(lines) as view:
        at = 0
        while at < len(lines):
            at += os.write(descriptor, view[at:])


def _end_last_line(log: int) -> None:
    """End a line that a crash of the machine has cut, so that ours begins a line."""
    size = os.fstat(log).st_size
    if size and os.pread(log, 1, size - 1) != b"\n":
        os.write(log, b"\n")
