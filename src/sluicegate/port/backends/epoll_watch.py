"""What the epoll backend knows of one descriptor, and the event masks it uses.

``epoll.py`` makes one ``Watch`` per descriptor and nobody else sees it. The invariant: at most one
reader and one writer at a time; ``readable`` is never false while bytes wait without a coming edge.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Final, cast

from sluicegate.port.backend import Operation
from sluicegate.port.pool import Slot

__all__ = [
    "BROKEN",
    "EDGE",
    "LISTEN",
    "NO_SOCKET",
    "READABLE",
    "UNUSUAL",
    "WATCH_BOTH",
    "WATCH_READS",
    "WRITABLE",
    "Watch",
]

EDGE: Final = select.EPOLLET
BROKEN: Final = select.EPOLLERR | select.EPOLLHUP
EAGER: Final = BROKEN | select.EPOLLPRI
UNUSUAL: Final = EAGER | select.EPOLLRDHUP
READABLE: Final = select.EPOLLIN | UNUSUAL
WRITABLE: Final = select.EPOLLOUT | BROKEN
WATCH_READS: Final = EDGE | select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI
LISTEN: Final = select.EPOLLIN
"""Level-triggered: listeners and datagram sockets are not drained at once. They leave the set with
their reader."""

WATCH_BOTH: Final = WATCH_READS | select.EPOLLOUT

NO_SOCKET: Final = cast("socket.SocketType", None)
"""The socket of a watch that is polled as a bare descriptor only: it has neither reader nor writer,
so nobody uses it, and the hot path needs no test for None."""


class Watch:
    """What the backend knows of one descriptor; renewed when the number changes hands."""

    __slots__ = (
        "accept_turn",
        "accepts",
        "born",
        "eager",
        "fd",
        "granted",
        "has_ended",
        "is_parked",
        "mask",
        "pollers",
        "read",
        "readable",
        "reader",
        "sock",
        "target",
        "unsent",
        "write",
        "writer",
    )

    def __init__(self, fd: int, born: int) -> None:
        self.fd = fd
        self.sock = NO_SOCKET
        self.born = born
        #: The turn that made it: events of that turn's batch are about an earlier owner.
        self.mask = 0
        #: What is registered; 0 for nothing yet.
        self.readable = False
        self.eager = False
        #: A short receive does not prove that nothing is left.
        self.has_ended = False
        #: The peer's FIN was there at the last event: nothing comes behind what is there.
        self.reader: Operation | None = None
        self.read: Callable[[Watch], None] = _read_nothing
        self.accepts = 1
        #: How many connections the last event brought at most,
        self.accept_turn = -1
        #: and in which turn that was.
        self.target: memoryview | None = None
        #: Where ``receive_into`` puts its bytes.
        self.granted: Slot | None = None
        #: A slot that came back while this receiver was parked.
        self.is_parked = False
        #: Whether this receiver waits for a slot.
        self.writer: Operation | None = None
        self.write: Callable[[Watch, int], None] = _write_nothing
        self.unsent: tuple[memoryview, int] | None = None
        #: What is left of a send, and its whole length.
        self.pollers: list[tuple[Operation, int]] | None = None

    def renew(self, sock: socket.SocketType, born: int) -> None:
        """Serve another socket that got the same number; cheaper than a new watch."""
        assert self.reader is None, "a socket was closed under an operation in flight"
        assert self.writer is None, "a socket was closed under an operation in flight"
        if self.sock is NO_SOCKET:
            # Polled as a bare descriptor before it was known as this socket; or a number that was
            # polled and closed, which is why the next start registers in any case.
            self.sock = sock
            self.mask = self.mask if self.pollers else 0
            return
        self.sock = sock
        self.born = born
        self.mask = 0
        self.readable = self.eager = self.has_ended = False
        self.pollers = None

    def note(self, mask: int) -> None:
        """Remember what an event said of the stream's end, of errors and of urgent data."""
        if mask & EAGER:
            self.eager = True
        if mask & select.EPOLLRDHUP:
            self.has_ended = True


def _read_nothing(_watch: Watch) -> None:
    raise AssertionError("an event reached a watch without a reader")


def _write_nothing(_watch: Watch, _mask: int) -> None:
    raise AssertionError("an event reached a watch without a writer")
