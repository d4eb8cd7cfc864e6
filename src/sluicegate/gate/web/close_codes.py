"""Close codes of WebSockets (RFC 6455 section 7.4.1) in the place of statuses of HTTP.

What ends an exchange says a status; the relay, and the kit for tests, say what it means behind a
101. The invariant: a verdict is 1008, and whatever has another cause has another code.
"""

from __future__ import annotations

from typing import Final

__all__ = ["GOING_AWAY", "POLICY", "close_code_of"]

GOING_AWAY: Final = 1001
POLICY: Final = 1008


def close_code_of(status: int) -> int:
    """Return the code that says what a status of HTTP says; a close code stands for itself."""
    return status if status >= _CODE_MIN else _CODES.get(status, POLICY)


_CODE_MIN: Final = 1000
_CODES: Final = {400: 1002, 413: 1009, 500: 1011, 502: 1011, 503: 1013, 504: 1011}
