"""What a stream socket hands over when its descriptor gets a new owner.

The gate takes it when the last data filter has left a chain. The invariant: whoever holds one owns
the receive operation and every slot in it.
"""

from __future__ import annotations

from collections import deque

from sluicegate.buffer import Buffer

from .backend import Operation

__all__ = ["GivenAway"]


class GivenAway:
    """What a stream socket hands to the new owner of its descriptor."""

    __slots__ = ("ahead", "ended", "error", "receive_op", "shut")

    def __init__(
        self,
        receive_op: Operation,
        ahead: deque[tuple[Buffer, int, int]],
        *,
        ended: bool,
        error: int,
        shut: bool,
    ) -> None:
        self.receive_op = receive_op
        #: In flight or not; to be redirected.
        self.ahead = ahead
        #: Received and not read: leased, on the account.
        self.ended = ended
        #: The peer's end of stream has come.
        self.error = error
        #: An errno when receiving has failed.
        self.shut = shut
        #: Our stream to the peer was ended.
