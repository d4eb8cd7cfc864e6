"""FirstLink: the way in to a console that has no users yet.

The gate prints it where the operator sees it. The invariant: it lets in once, for a bounded time,
and only while there is no user.
"""

from __future__ import annotations

import hmac
import secrets

from sluicegate.clock import Clock
from sluicegate.console_limits import FIRST_LINK_S

__all__ = ["FIRST_PATH", "FirstLink"]

FIRST_PATH = "/first"


class FirstLink:
    """One link, good or spent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._token = ""
        self._until = 0.0

    def make(self, origin: str) -> str:
        """Return a fresh link; one made before is worth nothing any more."""
        self._token = secrets.token_urlsafe(32)
        self._until = self._clock.monotonic() + FIRST_LINK_S
        return f"{origin}{FIRST_PATH}?token={self._token}"

    def is_good(self, token: str) -> bool:
        """Tell whether a token would let in."""
        is_same = hmac.compare_digest(token.encode(), self._token.encode())
        return bool(self._token) and is_same and self._clock.monotonic() <= self._until

    def spend(self, token: str) -> bool:
        """Take a token, which lets in once; tell whether it did."""
        if not self.is_good(token):
            return False
        self._token = ""
        return True
