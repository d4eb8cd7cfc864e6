"""A few threads that run blocking file calls for the epoll backend.

``epoll.py`` hands jobs in and takes results out on the port's thread; nothing else uses this
module. The one invariant: a job is claimed exactly once, by the thread that runs it or by whoever
cancels it, so it has exactly one result.
"""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from sluicegate.port.backend import Operation

__all__ = ["FileThreads", "Job", "splice_some", "start_write_back"]

_SPLICE_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_SYNC_FILE_RANGE_WRITE: Final = 2

_sync_file_range = ctypes.CDLL(None, use_errno=True).sync_file_range
_sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


class Job:
    """One blocking call for one operation."""

    __slots__ = ("call", "claim", "operation")

    def __init__(self, operation: Operation, call: Callable[[], int | None]) -> None:
        self.operation = operation
        self.call = call
        self.claim = threading.Lock()
        #: Taken for good by the thread that runs the job, or by the cancellation.


class FileThreads:
    """A bounded set of threads, started as jobs come; owned by one backend."""

    __slots__ = ("_jobs", "_outstanding", "_results", "_threads", "_threads_max", "_wake")

    def __init__(self, threads_max: int, wake: Callable[[], None]) -> None:
        self._threads_max = threads_max
        self._wake = wake
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0
        #: Jobs without a result taken; changed on the port's thread only.
        self._results: deque[tuple[Operation, int]] = deque()
        #: Filled by the threads, emptied by the port's thread; both ends are atomic.

    def start(self, job: Job) -> None:
        """Queue a job; the port's thread only."""
        self._outstanding += 1
        if self._outstanding > len(self._threads) < self._threads_max:
            thread = threading.Thread(target=self._work, name="sluicegate-file", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def cancel(self, job: Job) -> bool:
        """Take back a job that no thread has begun; tell whether that was so."""
        if not job.claim.acquire(blocking=False):
            return False
        self._outstanding -= 1
        return True

    def take(self) -> tuple[Operation, int] | None:
        """Take the next result; None when there is none now."""
        if not self._results:
            return None
        self._outstanding -= 1
        return self._results.popleft()

    def stop(self) -> None:
        """Wait for the jobs that were not cancelled, and end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.claim.acquire(blocking=False):
                continue  # cancelled while it waited
            try:
                result = job.call() or 0
            except OSError as error:
                result = -(error.errno or errno.EIO)
            self._results.append((job.operation, result))
            # Else a thread that waits would keep the last one alive, with all that it leads to.
            del job
            self._wake()


def start_write_back(fd: int, offset: int, length: int) -> int:
    """Run ``sync_file_range`` for writing; 0 or a negative errno."""
    if _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE) < 0:
        return -ctypes.get_errno()
    return 0


def splice_some(fd_in: int, offset_in: int, fd_out: int, offset_out: int, length: int) -> int:
    """Move bytes between a file and a pipe, whose offset is -1."""
    return os.splice(
        fd_in,
        fd_out,
        length,
        offset_src=None if offset_in < 0 else offset_in,
        offset_dst=None if offset_out < 0 else offset_out,
        flags=_SPLICE_FLAGS,
    )
