"""On whose account a data filter's unsent bytes wait.

Sockets and links of a chain ask it (``port.stream.Account``) what may pin a shared slot; a
connection's chain owns one. The invariant: what ``keep`` took, ``give_up`` returns exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.buffer import Buffer
from sluicegate.errors import LimitExceeded

from .blockage import Kept

if TYPE_CHECKING:
    from .connection import GateConnection

__all__ = ["ConnectionAccount"]


class ConnectionAccount:
    """The account of one connection; satisfies ``port.stream.Account``."""

    __slots__ = ("_connection",)

    def __init__(self, connection: GateConnection) -> None:
        self._connection = connection

    def keep(self, buffer: Buffer, start: int, length: int) -> Kept | None:
        """Keep a range for a data filter, or a copy of it; None when that ended the connection."""
        connection = self._connection
        if connection.is_closing:
            buffer.release()
            return None
        try:
            return connection.blockage.keep(connection.session, buffer, start, length)
        except LimitExceeded as error:
            buffer.release()
            connection.on_limit(error)
            return None

    def give_up(self, buffer: Buffer) -> None:
        """End what ``keep`` began."""
        self._connection.blockage.give_up(self._connection.session, buffer)

    def on_send_blocked(self) -> None:
        """Take note that a side does not take what a data filter sends it."""
        self._connection.watch_stall()
