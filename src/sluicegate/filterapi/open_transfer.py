"""Transfers that move inside a dialogue: a data filter takes an object out of the stream it reads.

``Connection.open_transfer`` makes one: a mail in SMTP, a body in HTTP. The filter feeds it, has it
judged by the content filters of the rule, and delivers it or says no in its protocol. The
invariant: nothing is delivered that is not released; what is not delivered is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from sluicegate.buffer import Buffer, Window

if TYPE_CHECKING:
    from .content_filter import TransferOffer, TransferOutcome
    from .data_socket import DataSocket

__all__ = ["OpenTransfer"]


class OpenTransfer(Protocol):
    """One object on its way through a data filter; use it in a ``with`` block.

    The block's end gives up what was not delivered, and gives back what it took. If the connection
    ends before, so does the transfer: it has failed.
    """

    @property
    def offer(self) -> TransferOffer:
        """Its metadata."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether a content filter asks for such objects; if not, ``pass_by`` spares the disk."""
        ...

    @property
    def size(self) -> int:
        """Bytes fed so far; after the verdict, bytes that are to be delivered."""
        ...

    async def feed(self, data: Buffer | Window | bytes) -> bool:
        """Take the next bytes of the object; awaiting it lets the disk keep up.

        False: nobody will get the object any more, so that the rest of it need not be fed, and what
        is fed is dropped. ``finish`` says why.

        Raises:
            BadContext: The object is finished.
            OperationPending: Another ``feed`` has not returned.
        """
        ...

    async def finish(self) -> TransferOutcome:
        """Say that the object is whole, and wait for the verdict.

        ``outcome`` is ``RELEASED``, ``REFUSED`` (a content filter, a limit, a full disk), or
        ``FAILED`` when it was given up meanwhile. Call it as often as you like.

        Raises:
            OperationPending: A ``feed`` has not returned.
        """
        ...

    async def deliver(
        self, socket: DataSocket, encode: Callable[[Window], bytes] | None = None
    ) -> TransferOutcome:
        """Send what was released; returns when ``socket`` took the last byte.

        Nothing else may be sent on that socket meanwhile.

        Args:
            socket: Who gets it.
            encode: Makes of each piece what is sent in its place (chunks of HTTP, the dots of a
                mail); pieces are cut anywhere.

        Raises:
            BadContext: It was not released, or was delivered before: nobody gets it.
            TransportError: The socket or the spool failed; a part may have been delivered.
            Exception: What ``encode`` raised.
        """
        ...

    def pass_by(self) -> None:
        """Say that the object goes by without being held, as nobody wants to see it.

        Raises:
            BadContext: A content filter asks for it, or it was fed.
        """
        ...

    def cancel(self, reason: str) -> None:
        """Give up: nothing more is delivered; harmless when it is over."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give up what was not delivered."""
        ...
