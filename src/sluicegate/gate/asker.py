"""Asker: who wants something of the rules of a proxy listener.

Handshakes, connections and associations say it of themselves, ``entry`` decides on it. The
invariant: it is all that a decision depends on beside what is asked for, and the time.
"""

from __future__ import annotations

from typing import NamedTuple

from sluicegate.address import SocketAddress
from sluicegate.filterapi import User

__all__ = ["Asker"]


class Asker(NamedTuple):
    """One client, as far as rules see it."""

    listener_name: str
    """Whose rules count."""
    client: SocketAddress
    user: User | None
    """Who the client proved to be."""
