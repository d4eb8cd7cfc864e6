"""Wishes: what signals and commands ask of a running gate, for its life to look at.

``run`` and ``supervise`` have one each. The invariant: SIGTERM drains, SIGINT ends at once, a
second signal ends a drain, SIGHUP reloads and opens the log again; the same for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator

__all__ = ["Wishes"]


class Wishes:
    """What was asked for, of one gate; made in a running loop."""

    def __init__(self, drain_timeout_s: float) -> None:
        self.stop_asked = asyncio.Event()
        self.reload_asked = asyncio.Event()
        self.is_hurried = False
        #: Whether to end without waiting for connections.
        self.drain_timeout_s = drain_timeout_s
        self.on_hurried: Callable[[], None] = _do_nothing
        #: Told when a drain is to end now.

    def stop(self, timeout_s: float | None = None) -> None:
        """Ask for the end, with another time for connections to end by themselves."""
        if timeout_s is not None:
            self.drain_timeout_s = timeout_s
        self.stop_asked.set()

    @contextlib.contextmanager
    def taken_from_signals(self) -> Generator[None]:
        """Take signals as wishes, for the length of the block."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop_signal, False)
        loop.add_signal_handler(signal.SIGINT, self._on_stop_signal, True)
        loop.add_signal_handler(signal.SIGHUP, self.reload_asked.set)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _on_stop_signal(self, is_hurried: bool) -> None:
        if self.stop_asked.is_set() or is_hurried:
            self.is_hurried = True
            self.on_hurried()
        self.stop_asked.set()


def _do_nothing() -> None:
    return
