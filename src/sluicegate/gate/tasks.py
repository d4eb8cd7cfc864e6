"""Tasks: the coroutines that a service runs as its own.

Filters' answers, look-ups and log-ins that wait are some. The invariant: none ends unseen: a
failure is told, and what still runs at the end is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["Tasks"]

_CANCELLED_WITHIN_S: Final = 1.0
"""What a filter's coroutine may take to end after it was cancelled."""


class Tasks:
    """Those that run."""

    __slots__ = ("_port", "_running")

    def __init__(self, port: CompletionPort) -> None:
        """Have none yet.

        Args:
            port: Reports each failure.
        """
        self._port = port
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._port.take_error(error)

    async def end(self) -> None:
        """Cancel what still runs, once; one that goes on all the same is left behind."""
        # Those that were told of the end go first: most coroutines return by themselves.
        await asyncio.sleep(0)
        tasks = set(self._running)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCELLED_WITHIN_S)
