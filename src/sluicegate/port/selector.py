"""asyncio's selector on the port: one wait point for asyncio and for native operations.

``PortEventLoop`` waits here. asyncio's descriptors stay in an epoll set of their own, and that set
is one descriptor which the port polls. The invariant: that poll is one-shot and is in flight
whenever the port waits; a multishot one would not fire again for a descriptor that is still ready,
and asyncio would stall.
"""

from __future__ import annotations

import selectors
from typing import Final

from typing_extensions import override

from .backend import POLL_IN, Operation
from .port import CompletionPort

__all__ = ["PortSelector"]

_CLOSE_TURNS_MAX: Final = 100


class PortSelector(selectors.EpollSelector):
    """Waits on a port; lives as long as its loop. Its own epoll set is only asked, never waited on.

    While only native operations complete, ``select`` stays inside and turns the port again: a turn
    of asyncio's loop would cost more than theirs. Setting ``is_due`` ends that.
    """

    def __init__(self, port: CompletionPort) -> None:
        super().__init__()
        self._port = port
        self._operation = Operation(self._on_polled)
        self.is_due = False
        #: Whether asyncio has something to do: a descriptor is ready, or the loop has set this.
        self._is_ready = False

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Turn the port until asyncio has something to do or ``timeout`` seconds have passed."""
        port = self._port
        deadline = None if timeout is None else port.clock.monotonic() + timeout
        self.is_due = False
        while True:
            if not self._operation.in_flight:
                port.backend.poll(self._operation, self.fileno(), POLL_IN)
            port.turn(timeout)
            if self.is_due:
                break
            if deadline is not None:
                timeout = deadline - port.now
                if timeout <= 0:
                    break
        if not self._is_ready:
            return []
        self._is_ready = False
        return super().select(0)

    def _on_polled(self, result: int, _flags: int) -> None:
        if result >= 0:
            self.is_due = self._is_ready = True

    @override
    def close(self) -> None:
        """Withdraw the poll, if the port is still open, and close the epoll set."""
        backend = self._port.backend
        for _ in range(_CLOSE_TURNS_MAX):
            if not self._operation.in_flight:
                break
            backend.cancel(self._operation)
            backend.turn(0)
        super().close()
