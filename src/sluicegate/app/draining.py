"""Draining: the time that connections are given to end by themselves.

A gate's life has one (``run``, ``processes.worker``). The invariant: its end may be asked for at
any moment, before, while and after it lasts, and is never later than was asked last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

__all__ = ["Draining"]


class Draining:
    """A wait whose bound may be moved while it lasts."""

    def __init__(self) -> None:
        self._bound: asyncio.Timeout | None = None
        #: While it lasts.

    async def wait(self, ended: Awaitable[None], timeout_s: float) -> None:
        """Wait for what ends by itself, and give it up after ``timeout_s`` seconds."""
        bound = asyncio.timeout(timeout_s)
        try:
            async with bound:
                self._bound = bound
                await ended
        except TimeoutError:
            if not bound.expired():
                raise
        finally:
            self._bound = None

    def end_in(self, seconds: float) -> None:
        """Move the bound; harmless when nothing is waited for, or the wait is being given up."""
        if self._bound is not None and not self._bound.expired():
            self._bound.reschedule(asyncio.get_running_loop().time() + seconds)
