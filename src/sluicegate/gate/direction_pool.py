"""DirectionPool: the directions of connections that have ended, for those that come.

The service owns one; connections take two of it and give them back. The invariant: what is given
out has nothing in flight and nothing of the connection that it served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.limits import DIRECTIONS_KEPT_MAX

from .pump import Direction

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort

__all__ = ["DirectionPool"]


class DirectionPool:
    """Directions between two connections; the service owns one pool.

    Only plain ones come back: those that were bulky, blocked or stopped are left to the collector.
    """

    __slots__ = ("_free", "_port")

    def __init__(self, port: CompletionPort) -> None:
        self._port = port
        self._free: list[Direction] = []

    def take(self) -> Direction:
        """Return a direction to be opened."""
        free = self._free
        return free.pop() if free else Direction(self._port)

    def give(self, direction: Direction) -> None:
        """Take a direction back from a connection that has ended."""
        if direction.retire():
            if len(self._free) < DIRECTIONS_KEPT_MAX:
                self._free.append(direction)
            else:
                self._port.backend.forget(direction.receive_op)
