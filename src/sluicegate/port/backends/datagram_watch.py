"""DatagramWatch: the datagram sockets of one ring, in a set that is asked at once.

``uring`` has one, and polls the set instead of each socket. The invariant: a socket is told of as
long as something waits in it, so whoever takes a part of it is told again.

A poll of the ring ends with each datagram and is written anew for the next, which costs Python and
the kernel about 2 µs; a set is asked once in a turn, for all sockets that have something.
"""

from __future__ import annotations

import select
from typing import Final

from sluicegate.port.backend import Operation

__all__ = ["DatagramWatch"]

_TOLD_PER_TURN_MAX: Final = 1024
"""Sockets that are told of in one turn; the kernel begins with others in the next."""


class DatagramWatch:
    """Sockets and whom to tell; lives as long as its ring."""

    __slots__ = ("_operations", "_set")

    def __init__(self) -> None:
        self._set = select.epoll()
        self._operations: dict[int, Operation] = {}

    def __len__(self) -> int:
        return len(self._operations)

    def fileno(self) -> int:
        """Return the descriptor that is readable while a socket has something."""
        return self._set.fileno()

    def add(self, fd: int, operation: Operation) -> None:
        """Tell of a socket from now on."""
        self._set.register(fd, select.EPOLLIN)
        self._operations[fd] = operation

    def remove(self, fd: int) -> None:
        """Tell no more of a socket, which is still open."""
        del self._operations[fd]
        self._set.unregister(fd)

    def ready(self) -> list[tuple[int, int]]:
        """Return which sockets have something, and the mask of each."""
        return self._set.poll(0, _TOLD_PER_TURN_MAX)

    def operation_of(self, fd: int) -> Operation | None:
        """Return whom to tell; None of a socket that was removed meanwhile."""
        return self._operations.get(fd)

    def take_all(self) -> list[Operation]:
        """Forget all sockets, and return whom they told."""
        operations = list(self._operations.values())
        for fd in list(self._operations):
            self.remove(fd)
        return operations

    def close(self) -> None:
        """Give the set up."""
        self._set.close()
