"""RecordSender: records on their way to the audit writer's process.

Workers and the supervisor record through one each; ``app.processes`` gives it a socket, and another
when the writer had to be replaced. The invariant: a batch is kept until the writer has said that it
is in the file, so a writer that dies loses nothing of it, and what is kept has the bound of
``record_queue_bytes_max``; at half of it new traffic is refused.

While no writer is there records queue up to that bound. A batch that was in the file when its
writer died is not sent again: the next writer says how far the last one came (``journal``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from sluicegate.clock import Clock
from sluicegate.limits import (
    RECORD_FLUSH_DELAY_S,
    RECORD_WRITE_BYTES_MIN,
    RECORDS_ENCODED_LATER_MAX,
)

from .frames import Note, NoteKind, NoteReader, frame_batch
from .queue import RecordQueue
from .records import ConnectionRecord, DecisionRecord, LimitRecord, Record

__all__ = ["RecordSender"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries records, not traffic

_RECEIVE_BYTES = 4096


class RecordSender(RecordQueue):
    """Hands records to the audit writer; made in a running loop, ended by ``close``."""

    __slots__ = (
        "_allowed",
        "_clock",
        "_idle",
        "_is_greeted",
        "_kept",
        "_last_number",
        "_loop",
        "_notes",
        "_offset",
        "_on_trouble",
        "_sending",
        "_socket",
        "_tally",
        "_timer",
        "failure",
    )

    def __init__(
        self,
        bytes_max: int,
        clock: Clock,
        on_trouble: Callable[[str], None],
        tally: memoryview,
        *,
        goes_on: bool = False,
    ) -> None:
        """Begin without a writer.

        Args:
            bytes_max: Of records that are not known to be in the file.
            clock: For the time of a record of its own.
            on_trouble: Told, once each time, that writing fails or works again.
            tally: Its first item becomes the number of records made and not lost, the second that
                of connections that were let in and have not ended: shared memory, so that what a
                killed process took with it can be counted.
            goes_on: Whether traffic goes on while nothing can be written.
        """
        super().__init__(bytes_max, goes_on=goes_on)
        self.failure = ""
        #: Why the writer cannot write; empty while it can, or is being replaced.
        self._clock = clock
        self._on_trouble = on_trouble
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._socket: _Socket | None = None
        self._notes = NoteReader()
        self._is_greeted = False
        #: Whether the writer has said how far the last one came.
        self._kept: deque[tuple[int, bytes]] = deque()
        #: Batches that are not known to be in the file, in order.
        self._sending = 0
        #: Index in ``_kept`` of the batch that goes out next.
        self._offset = 0
        #: Bytes of it that are out.
        self._last_number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._allowed: set[str] = set()
        #: The connections that were let in and have not ended.

    # -- the recorder --------------------------------------------------------------------------

    @property
    def is_accepting(self) -> bool:
        """Whether what happens now can be recorded."""
        if self.goes_on:
            return True
        return not self.failure and len(self._queue) + self._passed_on < self._bytes_max >> 1

    def write(self, record: Record) -> None:
        """Queue a record; a full queue loses it, and says so when it is not full any more."""
        fresh = self._fresh
        fresh.append(record)
        tally = self._tally
        tally[0] += 1
        if isinstance(record, ConnectionRecord):
            # Never counted: one that was denied, and one of HTTP, where each request is decided on.
            self._allowed.discard(record.connection)
            tally[1] = len(self._allowed)
        elif isinstance(record, DecisionRecord) and record.verdict == "allowed":
            # One that is learned from is decided on several times.
            self._allowed.add(record.connection)
            tally[1] = len(self._allowed)
        if len(fresh) >= RECORDS_ENCODED_LATER_MAX:
            self._encode_counted()
            if len(self._queue) > RECORD_WRITE_BYTES_MIN:
                self.flush()
        if self._timer is None:
            self._timer = self._loop.call_later(RECORD_FLUSH_DELAY_S, self._on_time)

    @property
    def queued_bytes(self) -> int:
        """Bytes that are not known to be in the file."""
        self._encode_counted()
        return len(self._queue) + self._passed_on

    def _encode_counted(self) -> None:
        before = self.lost
        self._encode()
        self._tally[0] -= self.lost - before

    # -- the writer ----------------------------------------------------------------------------

    @property
    def is_attached(self) -> bool:
        """Whether there is a writer's socket."""
        return self._socket is not None

    def attach(self, connected: _Socket) -> None:
        """Go on with a new writer; its first note says what need not be sent again."""
        self.detach()
        self.failure = ""  # of the writer before: this one tells of its own
        connected.setblocking(False)
        self._socket = connected
        self._notes = NoteReader()
        self._loop.add_reader(connected, self._on_readable)

    def detach(self) -> None:
        """Give the writer's socket up; what it has not acknowledged is kept."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self._is_greeted = False
        self._sending = self._offset = 0

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        self._encode_counted()
        while self._queue:
            self._last_number += 1
            frame = frame_batch(self._last_number, self._take())
            self._kept.append((self._last_number, frame))
            self._passed_on += len(frame)
        self._send()

    async def close(self, timeout_s: float) -> bool:
        """Wait until everything is in the file, at most ``timeout_s``; True when it is."""
        self.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._kept:
                    waiter: asyncio.Future[None] = self._loop.create_future()
                    self._idle.append(waiter)
                    await waiter
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.detach()
        return not self._kept

    # -- private -------------------------------------------------------------------------------

    def _on_time(self) -> None:
        self._timer = None
        self.flush()

    def _send(self) -> None:
        if self._socket is None or not self._is_greeted:
            return
        try:
            while self._sending < len(self._kept):
                frame = self._kept[self._sending][1]
                with memoryview(frame) as view:
                    self._offset += self._socket.send(view[self._offset :])
                if self._offset == len(frame):
                    self._sending, self._offset = self._sending + 1, 0
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._on_writable)
        except OSError:
            self.detach()  # it is gone: whoever replaces it attaches us again

    def _on_writable(self) -> None:
        assert self._socket is not None, "a socket that was given up is not watched"
        self._loop.remove_writer(self._socket)
        self._send()

    def _on_readable(self) -> None:
        assert self._socket is not None, "a socket that was given up is not watched"
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.detach()
            return
        for note in self._notes.feed(received):
            self._take_note(note)

    def _take_note(self, note: Note) -> None:
        match note.kind:
            case NoteKind.WRITTEN:
                self._on_written(note.number)
            case NoteKind.FAILING:
                if not self.failure:
                    self._on_trouble(f"{note.text}; {self.consequence} until this works")
                self.failure = note.text
            case NoteKind.WORKING:
                self.failure = ""

    def _on_written(self, number: int) -> None:
        kept = self._kept
        while kept and kept[0][0] <= number:
            self._passed_on -= len(kept.popleft()[1])
            self._sending = max(self._sending - 1, 0)
        if not self._is_greeted:
            self._is_greeted = True
            self._sending = self._offset = 0
            self.flush()
        self._note_lost()
        if not kept:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _note_lost(self) -> None:
        if self._lost_untold:
            count, self._lost_untold = self._lost_untold, 0
            self.write(
                LimitRecord(
                    time=self._clock.wall(),
                    limit="record_queue_bytes_max",
                    bound=self._bytes_max,
                    count=count,
                )
            )
