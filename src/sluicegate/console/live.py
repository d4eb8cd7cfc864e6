"""Live: an answer that goes on, with a part of a page each time that something is new.

Pages give it to what htmx's extension for server-sent events asks (WHATWG HTML, section 9.2). The
invariant: it ends with its session, as soon as who began that is none any more, and when the gate
or the store cannot be asked; a session has a bounded number of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from sluicegate.console_limits import CONSOLE_STREAMS_PER_SESSION_MAX
from sluicegate.documents import ConfigRefused

from .asked import Asked
from .link import GateLost
from .past import PastUnknown

__all__ = ["Live", "as_event"]

_RETRY_MS: Final = 3000
_TOO_MANY: Final = 429


class Live(StreamingResponse):
    """Parts of a page, one after the other."""

    def __init__(self, asked: Asked, name: str, parts: AsyncGenerator[str]) -> None:
        """Prepare it.

        Args:
            asked: Whose.
            name: Of the events.
            parts: What is shown, each time whole; closed with the answer.
        """
        self._asked = asked
        self._name = name
        self._parts = parts
        self._is_one_too_many = asked.who.streams >= CONSOLE_STREAMS_PER_SESSION_MAX
        super().__init__(
            self._events(),
            _TOO_MANY if self._is_one_too_many else 200,
            media_type="text/event-stream",
        )

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, until the browser goes."""
        self._asked.who.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._asked.who.streams -= 1
            await self._parts.aclose()

    async def _events(self) -> AsyncGenerator[str]:
        if self._is_one_too_many:
            return
        yield f"retry: {_RETRY_MS}\n\n"
        # The page says that it is live no more, and its browser begins again.
        with contextlib.suppress(GateLost, PastUnknown, ConfigRefused):
            async for part in self._parts:
                console, who = self._asked.console, self._asked.who
                if not console.sessions.goes_on(who) or not console.stands(who):
                    return
                yield as_event(self._name, part)


def as_event(name: str, text: str) -> str:
    """Write one event; every line of its text is one of its data."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() if line.strip())
    return f"event: {name}\n{lines}\n"
