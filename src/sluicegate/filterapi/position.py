"""Where in a chain a data filter stands, from the client's end to the server's.

The classes are the SDK's; inside one class the order is the policy's. The invariant: order is a
property of position and policy, never of who registered first.
"""

from __future__ import annotations

import enum

__all__ = ["Position"]


class Position(enum.IntEnum):
    """Position classes from client to server."""

    NAT = 0
    """Editors of addresses inside the protocol's data."""
    INTERNAL = 1
    """Nearest to the client for everything else."""
    POST_TRUST = 2
    """Near the client side."""
    MIDDLE = 3
    """Scanners."""
    PRE_TRUST = 4
    """Near the server side."""
    EXTERNAL = 5
    """Nearest to the server."""
    EMULATION = 6
    """The filter is the server."""
