"""The states of a connection, from the client's knock to the closed descriptors.

``connection`` moves through them in this order; any state may go to CLOSING. The invariant: there
is no way back.
"""

from __future__ import annotations

import enum

__all__ = ["State"]


class State(enum.Enum):
    """Where a connection is in its life."""

    ASKED = "asked"
    DIALLING = "dialling"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
