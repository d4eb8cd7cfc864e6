"""Dials that wait for a descriptor, and the listeners that rest meanwhile.

A burst of clients may take every descriptor before the first of them has a server; whoever dials
(a connection, an exchange) puts itself here when its dial finds none. The invariant: a dial waits
only while something is there whose end frees descriptors, so nobody waits for nothing; connections
that only wait to be used again are closed for it, and the first one gets a reserved one.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from .reserve import DescriptorReserve

if TYPE_CHECKING:
    from .listener import EntryListener

__all__ = ["NO_DESCRIPTOR", "DialQueue", "WaitingDial"]

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""What a dial fails with that may be tried again once something else has ended."""


class WaitingDial(Protocol):
    """Whoever dials."""

    @property
    def is_closing(self) -> bool:
        """Whether nobody wants the dial any more."""
        ...

    def dial_again(self) -> None:
        """Dial now that there may be a descriptor; ``DialQueue.add`` again if there is none."""
        ...


class DialQueue:
    """The waiting dials of one worker, in the order in which they came."""

    __slots__ = ("_listeners", "_post", "_reserve", "_retried", "_spare", "_waiting")

    def __init__(
        self,
        listeners: Callable[[], Sequence[EntryListener]],
        post: Callable[[Callable[[], None]], None],
        spare: Callable[[], bool],
    ) -> None:
        """Make it.

        Args:
            listeners: Those that rest while a dial waits.
            post: Calls what it is given, later.
            spare: Closes one connection that only waits to be used again; False: there is none.
        """
        self._listeners = listeners
        self._post = post
        self._spare = spare
        self._reserve = DescriptorReserve()
        self._waiting: deque[WaitingDial] = deque()
        self._retried: WaitingDial | None = None
        #: Whose turn it is: should it have to wait again, it stays the first.

    def add(self, dial: WaitingDial, connections: int) -> bool:
        """Let a dial wait, and new clients in the backlog; False when no end would help it.

        Args:
            dial: Whose it is.
            connections: All that have not ended, the one that dials among them.
        """
        waiting = sum(not other.is_closing for other in self._waiting)
        if dial is self._retried:
            self._waiting.appendleft(dial)
        else:
            self._waiting.append(dial)
        # (What is closed here may be free at once, and tells whoever waits.)
        if not self._spare() and connections <= waiting + 1:
            if not self._reserve.is_there:
                self._waiting.remove(dial)
                return False
            self._reserve.close()
            self._post(self._go_on)
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
            dial = self._waiting.popleft()
            left = len(self._waiting)
            if not dial.is_closing:
                self._retried = dial
                dial.dial_again()
                self._retried = None
            if len(self._waiting) > left:
                return
        self._reserve.fill()
        for entry in self._listeners():
            entry.open()

    def close(self) -> None:
        """Give the reserve up, at the end of the service."""
        self._reserve.close()
