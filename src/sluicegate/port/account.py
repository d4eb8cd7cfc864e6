"""Account: who answers for shared slots that wait.

A socket tells its account of every slot that waits for a reader, or for a peer that takes it; the
gate gives one to each socket of a chain. The invariant: what is kept is given up exactly once, and
the lease on it is never the account's.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from sluicegate.buffer import Buffer

__all__ = ["Account", "Kept"]

Kept: TypeAlias = tuple[Buffer, int, int]
"""A leased range that waits: buffer, start, length."""


class Account(Protocol):
    """Who answers for shared slots that wait for a reader, or for a peer that takes them.

    A socket without one (a program's own) keeps slots as long as it likes.
    """

    def keep(self, buffer: Buffer, start: int, length: int) -> Kept | None:
        """Keep a leased range, or a leased private copy in its place.

        None when there is no room for either: the lease is gone, and so is the connection.
        """
        ...

    def give_up(self, buffer: Buffer) -> None:
        """End what ``keep`` began; the lease stays the caller's."""
        ...

    def on_send_blocked(self) -> None:
        """Take note that a peer does not take what it is sent."""
        ...
