"""Slow filters: data filters that have unfinished work when their connection has ended.

The connection hands each over at its end; sessions and the service ask before theirs. The
invariant: nobody waits for a filter longer than ``drain_timeout_s``, and one that took longer is
recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attached import Attached
    from .session import GateSession

__all__ = ["SlowFilters"]


class SlowFilters:
    """Filters of one service that outlive their connections."""

    __slots__ = ("_now", "_running", "_timeout_s", "_waiting")

    def __init__(self, now: Callable[[], float], timeout_s: float) -> None:
        self._now = now
        self._timeout_s = timeout_s
        self._running: dict[Attached, GateSession] = {}
        #: Coroutines that have not ended; the wheel of deadlines bounds them.
        self._waiting: dict[Attached, tuple[GateSession, float]] = {}
        #: Each with its session, and until when it is waited for.

    def add(self, attached: Attached, session: GateSession) -> None:
        """Take a filter whose connection has ended; one that has finished is not kept."""
        if attached.is_running:
            self._running[attached] = session
        elif not attached.is_drained:
            self._waiting[attached] = session, self._now() + self._timeout_s

    def on_returned(self, attached: Attached) -> None:
        """Take that a filter's coroutine has ended."""
        session = self._running.pop(attached, None)
        if session is not None:
            self.add(attached, session)

    def has(self, session: GateSession) -> bool:
        """Ask the filters of a session; True while one of them has unfinished work."""
        if self._waiting:
            self.ask()
        return any(whose is session for whose in self._running.values()) or any(
            whose is session for whose, _ in self._waiting.values()
        )

    def ask(self) -> bool:
        """Ask all of them; True while one has unfinished work and time for it."""
        now = self._now()
        for attached, (_, until) in list(self._waiting.items()):
            if attached.is_drained:
                del self._waiting[attached]
            elif until <= now:
                del self._waiting[attached]
                attached.give_up()
        return bool(self._running or self._waiting)
