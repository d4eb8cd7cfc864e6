"""Dials that wait for a descriptor, and the listeners that rest meanwhile.

A burst of clients may take every descriptor before the first of them has a server; ``connection``
puts itself here when its dial finds none. The invariant: a dial waits only while a connection is
there whose end frees descriptors, so nobody waits for nothing; the first one gets a reserved one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .reserve import DescriptorReserve

if TYPE_CHECKING:
    from .connection import GateConnection
    from .listener import EntryListener

__all__ = ["DialQueue"]


class DialQueue:
    """The waiting dials of one worker, in the order in which they came."""

    __slots__ = ("_listeners", "_post", "_reserve", "_retried", "_waiting")

    def __init__(
        self,
        listeners: Callable[[], Sequence[EntryListener]],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._listeners = listeners
        self._post = post
        self._reserve = DescriptorReserve()
        self._waiting: deque[GateConnection] = deque()
        self._retried: GateConnection | None = None
        #: Whose turn it is: should it have to wait again, it stays the first.

    def add(self, connection: GateConnection, connections: int) -> bool:
        """Let a dial wait, and new clients in the backlog; False when no end would help it.

        Args:
            connection: Whose dial it is.
            connections: All that have not ended, this one among them.
        """
        waiting = sum(not other.is_closing for other in self._waiting)
        if connections <= waiting + 1:
            if not self._reserve.is_there:
                return False
            self._reserve.close()
            self._post(self._go_on)
        if connection is self._retried:
            self._waiting.appendleft(connection)
        else:
            self._waiting.append(connection)
        for entry in self._listeners():
            entry.pause()
        return True

    def on_ended(self) -> None:
        """Take that a connection has ended: its descriptors are free."""
        if self._waiting:
            # Later: a dial that fails ends its connection, which comes here again.
            self._post(self._go_on)

    def _go_on(self) -> None:
        """Dial for those that wait, until there is no descriptor again."""
        while self._waiting:
            connection = self._waiting.popleft()
            left = len(self._waiting)
            if not connection.is_closing:
                self._retried = connection
                connection.dial_again()
                self._retried = None
            if len(self._waiting) > left:
                return
        self._reserve.fill()
        for entry in self._listeners():
            entry.open()

    def close(self) -> None:
        """Give the reserve up, at the end of the service."""
        self._reserve.close()
