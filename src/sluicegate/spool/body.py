"""SpooledBody: one held object, from its first byte to its removal.

A transfer appends what it receives; small objects stay in one buffer, larger ones go to an unlinked
file through the port, straight from the buffer they were received in. The invariants: at most
``spool_writes_in_flight_max`` writes are in flight and the source waits for them; every byte is
hashed once, in order; whatever happens, ``close`` joins all operations, and then the leases, the
quota, the memory and the file are given back, once.

The life of a body::

    append* -> finish -> on_body_finished -> read* -> close
       |          |
       +----------+----> on_body_failed -> close

``append`` tells whether more may come at once; if not, ``on_body_ready`` says when. Pieces of at
least ``_DIRECT_BYTES_MIN`` are written from where they are; smaller ones are collected in the
body's own buffer first, because an operation costs more than copying them.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sluicegate.buffer import Buffer, Window
from sluicegate.errors import BadContext, LimitExceeded, SluicegateError, TransportError
from sluicegate.limits import SPOOL_HASH_BACKLOG_BYTES_MAX
from sluicegate.port.scope import current_scope

from .buffers import SPOOL_BUFFER_SIZE, ShelfBuffer
from .digest import StreamDigest
from .directory import OpenedFile
from .file import SpoolFile

if TYPE_CHECKING:
    from sluicegate.port import Overlapped

    from .store import SpoolStore

__all__ = ["BodyOwner", "SpooledBody"]

_HEAD_BYTES: Final = 4096
"""What stays in memory for a first look: every magic number, and the headers of most formats."""

_FIRST_SIZE: Final = 16 << 10
"""Room for the first bytes; most held objects are smaller than a large buffer."""

_DIRECT_BYTES_MIN: Final = 64 << 10
"""Copying less than this (10 µs) is cheaper than a write of its own (20 µs and a completion)."""

_BULKY_BYTES: Final = 2 << 20
"""An object that has grown this large is likely to grow on; only then large buffers pay."""

_WRITE_BACK_BYTES: Final = 32 << 20
"""Dirty bytes with which the disk is set to work at a time, so that no flush is long."""


class BodyOwner(Protocol):
    """Who is told of a body's progress; never inside a call to the body."""

    def on_body_ready(self) -> None:
        """Take that ``append`` may be called again."""
        ...

    def on_body_finished(self) -> None:
        """Take that everything is stored and hashed."""
        ...

    def on_body_failed(self, error: SluicegateError) -> None:
        """Take that the object cannot be held: ``TransportError`` or ``LimitExceeded``."""
        ...


class _Write:
    """Bytes on their way to the file; their buffer is leased until all of them arrived."""

    __slots__ = ("buffer", "length", "offset", "start")

    def __init__(self, buffer: Buffer, start: int, length: int, offset: int) -> None:
        self.buffer = buffer
        self.start = start
        self.length = length
        self.offset = offset


class SpooledBody:
    """One held object; made by ``SpoolStore.create_body``, ended by ``close``."""

    __slots__ = (
        "_arrived",
        "_arriving",
        "_arriving_offset",
        "_client",
        "_collected",
        "_digest",
        "_failed",
        "_file",
        "_finished",
        "_finishing",
        "_free",
        "_head",
        "_in_flight",
        "_memory",
        "_memory_offset",
        "_opening",
        "_owner",
        "_pending",
        "_released",
        "_scope",
        "_spilled",
        "_store",
        "_unsynced",
        "_waiting",
        "_write_back",
        "backlog_bytes_max",
        "closed",
        "sha256",
        "size",
    )

    def __init__(self, store: SpoolStore, owner: BodyOwner, client: str) -> None:
        self.size = 0
        #: Bytes accepted so far.
        self.sha256 = ""
        #: Hexadecimal, once finished.
        self.closed = False
        self.backlog_bytes_max = SPOOL_HASH_BACKLOG_BYTES_MAX
        #: Bytes that may wait for the hash before the source does; less, where they are copies
        #: that nobody else counts.
        self._store = store
        self._owner = owner
        self._client = client
        self._digest = StreamDigest(store.port, self._on_hashed)
        self._head = b""
        self._memory: ShelfBuffer | None = None
        #: The whole object, or what is collected for the next write.
        self._collected = 0
        #: Bytes in it that no write and no hash was given yet.
        self._memory_offset = 0
        #: Where in the object they begin.
        self._spilled = False
        #: The object outgrew memory.
        self._arriving: ShelfBuffer | None = None
        #: A large buffer that a bulky source is received into, piece behind piece.
        self._arrived = 0
        #: Bytes in it; no write and no hash was given them yet.
        self._arriving_offset = 0
        #: Where in the object they begin.
        self._file: SpoolFile | None = None
        self._opening = False
        self._pending: deque[_Write] = deque()
        self._free: list[Overlapped] = []
        self._in_flight = 0
        self._write_back: Overlapped | None = None
        self._unsynced = 0
        self._waiting = False
        #: The owner was told to wait for ``on_body_ready``.
        self._finishing = False
        self._finished = False
        self._failed = False
        self._released = False
        self._scope = current_scope()
        #: Whose failure an exception out of the owner is.

    # -- filling -------------------------------------------------------------------------------

    def append(self, window: Window) -> bool:
        """Take the next bytes; tell whether more may be appended at once.

        Raises:
            LimitExceeded: The object, its client or the spool has reached a limit; nothing taken.
            BadContext: The body is finishing or closed.
            WindowExpired: The window's bytes belong to somebody else by now.
        """
        if self._finishing or self.closed:
            raise BadContext("the body takes no more")
        if self._failed:
            # The owner is about to be told.
            return False
        window.check()
        length = window.length
        self._store.quota.charge(self._client, self.size, length)
        buffer, start, offset = window.buffer, window.start, self.size
        self.size += length
        if len(self._head) < _HEAD_BYTES:
            rest = min(length, _HEAD_BYTES - len(self._head))
            self._head += buffer.view[start : start + rest].tobytes()
        if length and buffer is self._arriving:
            self._arrive(length, offset)
        elif length:
            self._flush_arrived()
            self._take(buffer, start, length, offset)
        if self._pending:
            self._advance()
        self._waiting = not self._has_room()
        return not self._waiting

    def receive_buffer(self) -> Buffer | None:
        """Return a large buffer to receive the next piece into, behind what is in it.

        None while the object is not worth one, or enough others have one. It stays the body's;
        what came is appended like any other piece, but without a copy.
        """
        if not self._spilled or self.size < _BULKY_BYTES or self._finishing or self.closed:
            return None
        if self._arriving is None:
            self._arriving = self._store.shelf.take_for_receiving()
        return self._arriving

    def finish(self) -> None:
        """Say that the object is complete; ``on_body_finished`` follows, never inside this call."""
        if self._finishing or self.closed:
            raise BadContext("the body takes no more")
        self._finishing = True
        if self._failed:
            return
        if self._spilled:
            self._flush_arrived()
            self._flush()
        elif self._memory is not None:
            self._digest.add(self._memory, 0, self._memory.used)
        self._store.port.post(self._advance)

    def _take(self, buffer: Buffer, start: int, length: int, offset: int) -> None:
        """Keep a piece where it belongs: in memory, for a later write, or in a write of its own."""
        if not self._spilled or length < _DIRECT_BYTES_MIN:
            if self._collect(buffer, start, length, offset):
                return
            self._spilled = True
            self._flush()
            if self._collect(buffer, start, length, offset):
                return
        elif self._collected:
            self._flush()
        self._queue(buffer, start, length, offset)

    def _arrive(self, length: int, offset: int) -> None:
        """Take what the kernel put into the large buffer; write it when that is full."""
        buffer = self._arriving
        assert buffer is not None
        if not self._arrived:
            self._flush()
            self._arriving_offset = offset
        self._arrived += length
        assert self._arrived == buffer.used, "a piece of the large buffer was left out"
        if buffer.allocated - buffer.used < _DIRECT_BYTES_MIN:
            self._flush_arrived()

    def _flush_arrived(self) -> None:
        """Hand what arrived in the large buffer to the disk and to the hash, and the buffer too."""
        buffer, self._arriving = self._arriving, None
        if buffer is None:
            return
        if self._arrived:
            self._queue(buffer, 0, self._arrived, self._arriving_offset)
            self._arrived = 0
        buffer.give_back()

    def _collect(self, buffer: Buffer, start: int, length: int, offset: int) -> bool:
        """Copy a piece into the body's own buffer, if it belongs there and fits."""
        if not self._spilled:
            if not self._grow(offset + length):
                return False
        elif length >= _DIRECT_BYTES_MIN:
            return False
        memory = self._memory
        if memory is None or memory.leases:
            return False
        if not self._collected:
            memory.set_size(0)
            self._memory_offset = offset
        if memory.used + length > memory.allocated:
            return False
        memory.append(buffer.view[start : start + length])
        self._collected += length
        return True

    def _grow(self, size: int) -> bool:
        """Make the object's memory hold ``size`` bytes, if it may still be held there."""
        memory, quota = self._memory, self._store.quota
        allocated = 0 if memory is None else memory.allocated
        if size <= allocated:
            return True
        wanted = _memory_size(size, self._store.limits.spool_memory_bytes_max)
        if size > wanted or not quota.take_memory(wanted - allocated):
            return False
        grown = self._store.shelf.take(wanted)
        if memory is not None:
            grown.append(memory.view[: memory.used])
            memory.give_back()
        self._memory = grown
        return True

    def _flush(self) -> None:
        """Hand what was collected to the disk and to the hash."""
        if self._collected:
            assert self._memory is not None
            self._queue(self._memory, 0, self._collected, self._memory_offset)
            self._collected = 0

    def _queue(self, buffer: Buffer, start: int, length: int, offset: int) -> None:
        buffer.lease()
        self._pending.append(_Write(buffer, start, length, offset))
        self._digest.add(buffer, start, length)

    def _has_room(self) -> bool:
        return (
            not self._pending
            and self._in_flight < self._store.limits.spool_writes_in_flight_max
            and self._digest.backlog_bytes <= self.backlog_bytes_max
        )

    # -- working -------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Start whatever can be started now, and tell the owner what has come true."""
        if self.closed:
            self._release()
            return
        if self._failed:
            return
        try:
            if self._pending:
                self._write_pending()
            self._digest.push(at_once=self._finishing)
        except LimitExceeded as error:  # the port is closing
            self._fail(error)
            return
        if self._finishing:
            self._check_finished()

    def _write_pending(self) -> None:
        if self._file is None:
            if not self._opening:
                self._store.open_file(self._on_opened)
                self._opening = True
            return
        while self._pending and self._free:
            self._start_write(self._pending.popleft(), self._free.pop())

    def _start_write(self, write: _Write, overlapped: Overlapped) -> None:
        assert self._file is not None
        overlapped.offset = write.offset
        overlapped.set_notification(self, write)
        self._in_flight += 1
        window = Window(write.buffer, write.start, write.length)
        self._file.handle.start_write(window, overlapped)

    def _on_opened(self, opened: OpenedFile | None, error: BaseException | None) -> None:
        self._opening = False
        if opened is not None:
            count = self._store.limits.spool_writes_in_flight_max
            self._store.quota.note_free(opened.free_bytes)
            self._file = self._store.adopt_file(opened.descriptor)
            self._free = [self._create_overlapped() for _ in range(count)]
            self._write_back = self._create_overlapped()
        if isinstance(error, SluicegateError):
            self._fail(error)
        elif error is not None:
            self._fail(TransportError(errno.EIO, doing="create a spool file"))
            raise error
        self._advance()

    def _create_overlapped(self) -> Overlapped:
        overlapped = self._store.port.create_overlapped()
        overlapped.scope = self._scope
        return overlapped

    def complete_async_io(
        self,
        success: bool,
        bytes_transferred: int,
        error: int,
        overlapped: Overlapped,
        user_data: Any,
    ) -> None:
        """Take the result of a write, a write-back or a read (the port only)."""
        if overlapped is not self._write_back:
            self._in_flight -= 1
        if isinstance(user_data, _Write):
            self._on_written(user_data, bytes_transferred if success else -error, overlapped)
        elif user_data is not None:
            on_read: Callable[[int], None] = user_data
            self._free.append(overlapped)
            overlapped.set_notification(None)
            on_read(bytes_transferred if success else -error)
        # A failed write-back is no failure yet: the page cache still has the bytes.
        if self.closed:
            self._release()

    def _on_written(self, write: _Write, result: int, overlapped: Overlapped) -> None:
        if 0 < result < write.length and not self.closed and not self._failed:
            write.start += result
            write.offset += result
            write.length -= result
            self._start_write(write, overlapped)
            return
        self._free.append(overlapped)
        write.buffer.release()
        if self.closed or self._failed:
            return
        if result <= 0:
            # A write that takes nothing has no room; pwrite(2) promises no errno then.
            self._fail(TransportError(-result or errno.ENOSPC, doing="write the spool file"))
            return
        self._advance()
        self._note_written(result)
        self._tell_ready()

    def _note_written(self, length: int) -> None:
        self._unsynced += length
        if self._unsynced < _WRITE_BACK_BYTES:
            return
        overlapped, file = self._write_back, self._file
        assert overlapped is not None
        assert file is not None
        if overlapped.is_busy or not self._store.is_write_back_due:
            self._unsynced = 0
            return
        # Writes complete in any order; what a range misses, the next one or the kernel takes.
        overlapped.offset = max(0, self.size - self._unsynced)
        overlapped.set_notification(self, None)
        file.handle.start_write_back(self._unsynced, overlapped)
        self._unsynced = 0

    def _on_hashed(self, error: BaseException | None) -> None:
        if error is not None and not self.closed:
            self._fail(TransportError(errno.EIO, doing="hash the object"))
            raise error
        self._advance()
        if not self.closed and not self._failed:
            self._tell_ready()

    def _tell_ready(self) -> None:
        if self._waiting and not self._finishing and not self._failed and self._has_room():
            self._waiting = False
            self._owner.on_body_ready()

    def _check_finished(self) -> None:
        idle = not self._in_flight and not self._pending and not self._opening
        if self._finished or not idle or not self._digest.is_idle:
            return
        self._finished = True
        self.sha256 = self._digest.hexdigest()
        if self._file is not None and self._memory is not None:
            self._give_memory_back()
        self._owner.on_body_finished()

    # -- reading -------------------------------------------------------------------------------

    @property
    def is_in_memory(self) -> bool:
        """Whether the object needs no file so far."""
        return not self._spilled

    @property
    def head(self) -> bytes:
        """The first bytes, up to 4 KiB."""
        return self._head

    def memory_window(self) -> Window:
        """Return the whole object, if it is in memory; valid until the body is closed."""
        self._check_readable()
        memory = self._memory
        assert self.is_in_memory, "the object is in a file"
        return Window(memory, 0, memory.used) if memory is not None else Window(_NOTHING, 0, 0)

    def start_read(
        self, buffer: Buffer, offset: int, length: int, on_read: Callable[[int], None]
    ) -> None:
        """Read from the file; ``on_read`` gets the count, 0 at the end, or a negative errno.

        Raises:
            BadContext: The body is not finished, or closed.
        """
        self._check_readable()
        file = self._file
        assert file is not None, "the object is in memory"
        overlapped = self._free.pop() if self._free else self._create_overlapped()
        overlapped.offset = offset
        overlapped.set_notification(self, on_read)
        self._in_flight += 1
        file.handle.start_read(buffer, overlapped, length)

    def reopen(self) -> SpoolFile | bytes:
        """Return what a reader on another thread may use: the file, or a copy of the bytes."""
        self._check_readable()
        return bytes(self.memory_window()) if self._file is None else self._file

    def _check_readable(self) -> None:
        if self.closed:
            raise BadContext("the held object is gone: its transfer has ended")
        if not self._finished:
            raise BadContext("the object is not complete")

    # -- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove the object; what it took is given back when its operations have completed."""
        if self.closed:
            return
        self.closed = True
        self._drop_pending()
        if self._file is not None:
            self._file.cancel()
        self._release()

    def _fail(self, error: SluicegateError) -> None:
        if self._failed or self.closed:
            return
        self._failed = True
        self._drop_pending()
        self._store.port.post(lambda: self._tell_failed(error))

    def _tell_failed(self, error: SluicegateError) -> None:
        if not self.closed:
            self._owner.on_body_failed(error)

    def _drop_pending(self) -> None:
        while self._pending:
            self._pending.popleft().buffer.release()
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.give_back()
        self._digest.drop()

    def _release(self) -> None:
        """Give everything back, when nothing is in flight any more."""
        file = self._file
        is_busy = self._opening or self._digest.is_running
        if self._released or is_busy or (file is not None and file.handle.in_flight):
            return
        self._released = True
        if self._memory is not None:
            self._give_memory_back()
        if file is not None:
            file.close()
        # Else circles would keep all of it until the collector looks.
        self._free.clear()
        self._write_back = None
        self._digest.let_go()
        self._store.on_body_released(self, self._client)

    def _give_memory_back(self) -> None:
        memory, self._memory = self._memory, None
        assert memory is not None
        self._store.quota.return_memory(memory.allocated)
        memory.give_back()


def _memory_size(size: int, size_max: int) -> int:
    """Return the buffer size for ``size`` bytes: small, then one large buffer, then doubling."""
    wanted = _FIRST_SIZE if size <= _FIRST_SIZE else SPOOL_BUFFER_SIZE
    while wanted < size:
        wanted *= 2
    return min(wanted, size_max)


_NOTHING: Final = Buffer(0)
