"""The reason phrases of statuses (RFC 9110 section 15), for responses that bring none.

The server's end writes them. The invariant: a status line never lacks the phrase that some clients
look for.
"""

from __future__ import annotations

import http
from typing import Final

__all__ = ["reason_of"]


def reason_of(status: int) -> bytes:
    """Return the phrase of a status; empty for one that nobody registered."""
    return _REASONS.get(status, b"")


_REASONS: Final = {status.value: status.phrase.encode() for status in http.HTTPStatus}
