"""Session filters: one per (filter, session), told of the session's events.

``gate/dispatch`` calls ``on_event``; the first matching event of a session reaches the new session
filter too. The invariant: ``detach`` comes exactly once, when the session ends.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from .emulate import EventVerdict
from .events import Event
from .registration import Events

if TYPE_CHECKING:
    from .views import Session

__all__ = ["SessionFilter"]


class SessionFilter(abc.ABC):
    """A filter's presence in one session."""

    def __init__(self, session: Session, events: Events | None = None) -> None:
        self.session = session
        self.events = events
        #: Narrower registration for this session; None keeps the filter's.

    @abc.abstractmethod
    def on_event(self, event: Event) -> EventVerdict | Awaitable[EventVerdict]:
        """Judge an event; a coroutine is awaited up to ``filter_event_timeout_s``."""

    def detach(self) -> None:
        """Take the session's end."""
