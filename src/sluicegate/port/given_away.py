"""GivenAway: what a stream socket hands over when its descriptor goes on under another owner.

``StreamSocket.give_away`` makes it; the gate's pump goes on with it. The invariant: every byte that
was received and not read is in it, in order.
"""

from __future__ import annotations

from collections import deque

from .account import Kept
from .answerable import end_both_ways
from .backend import Operation, RawSocket

__all__ = ["GivenAway"]


class GivenAway:
    """What a stream socket hands to the new owner of its descriptor."""

    __slots__ = ("ahead", "ended", "error", "raw", "receive_op", "shut")

    def __init__(
        self,
        raw: RawSocket,
        receive_op: Operation,
        ahead: deque[Kept],
        *,
        ended: bool,
        error: int,
        shut: bool,
    ) -> None:
        self.raw = raw
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

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours came between two owners (``Answerable``).

        Whoever has the socket by now, the new owner or the old one, sees its end and closes it.
        """
        del error
        end_both_ways(self.raw)
