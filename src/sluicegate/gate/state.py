"""State: where a connection is in its life.

``connection`` goes through them, views and deadlines read them. The invariant: a connection goes
forward only, and from any state to CLOSING.
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
