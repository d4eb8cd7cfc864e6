"""SpoolFile: the descriptor of one unlinked file, and who may still open it again.

A body owns one once it outgrew memory. The invariant: the descriptor is closed once, off the port's
thread (freeing the pages of a gigabyte takes a tenth of a second), and nobody who looks at the
object from another thread ever opens a number that means something else by then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

from sluicegate.errors import BadContext, LimitExceeded

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort, Handle

__all__ = ["SpoolFile"]

_FREE_BYTES: Final = 8 << 20
"""What is freed at a time: about half a millisecond."""


class SpoolFile:
    """One open spool file; made when the pool opened it, ended by ``close``."""

    __slots__ = ("_descriptor", "_lock", "_on_closed", "_port", "handle")

    def __init__(
        self, port: CompletionPort, descriptor: int, on_closed: Callable[[], None]
    ) -> None:
        self._on_closed = on_closed
        self.handle: Handle = port.hook(descriptor, owns=False)
        self._port = port
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def reopen(self) -> BinaryIO:
        """Open the file once more, read-only, with a position of its own; from any thread.

        Raises:
            BadContext: The object is gone.
            OSError: No descriptor left, or no ``/proc``.
        """
        with self._lock:
            if self._descriptor < 0:
                raise BadContext("the held object is gone: its transfer has ended")
            flags = os.O_RDONLY | os.O_CLOEXEC
            descriptor = os.open(f"/proc/self/fd/{self._descriptor}", flags)
        return open(descriptor, "rb")  # noqa: PTH123 - a descriptor; the caller closes it

    def cancel(self) -> None:
        """Ask for an early end of what is in flight; nothing can be started any more."""
        self.handle.close()

    def close(self) -> None:
        """Give the file up; no operation may be in flight on it."""
        assert not self.handle.in_flight, "close joins: the body waits for its operations"
        self.handle.close()
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        try:
            self._port.submit_blocking(lambda: _close_politely(descriptor), self._finish_close)
        except LimitExceeded:
            os.close(descriptor)  # the port has ended, so nobody waits for its thread
            self._on_closed()

    def _finish_close(self, _result: None, error: BaseException | None) -> None:
        self._on_closed()
        if error is not None:
            raise error


def _close_politely(descriptor: int) -> None:
    """Free a file step by step; whoever waits for this core has it in between."""
    try:
        size = os.fstat(descriptor).st_size
        while size > _FREE_BYTES:
            size -= _FREE_BYTES
            os.ftruncate(descriptor, size)
            os.sched_yield()
    finally:
        os.close(descriptor)
