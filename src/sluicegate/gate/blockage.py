"""Blockage: what clients and servers that do not read may pin.

Every direction of every connection of a worker keeps its unsent rest through one ``Blockage``. The
invariant: blocked directions together never pin more than half of a group of shared slots, so
receivers of other connections always find some; the rest is private memory, on a client's account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.buffer import Buffer
from sluicegate.errors import LimitExceeded
from sluicegate.limits import Limits
from sluicegate.port.account import Kept
from sluicegate.port.pool import Slot

if TYPE_CHECKING:
    from .connection import GateConnection
    from .session import GateSession

__all__ = ["Blockage", "ChainAccount", "keep_for"]


class Blockage:
    """The account of pinned slots and private copies of one worker."""

    __slots__ = (
        "_bulk_max",
        "_limits",
        "_small_max",
        "copied",
        "pinned_bulk",
        "pinned_small",
        "private_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        self.pinned_small = 0
        self.pinned_bulk = 0
        self.private_bytes = 0
        self.copied = 0
        #: Rests that were copied, for statistics.
        self._limits = limits
        self._small_max = limits.interactive_buffers_max // 2
        self._bulk_max = limits.bulk_buffers_max // 2

    def keep(self, session: GateSession, buffer: Buffer, start: int, length: int) -> Kept:
        """Keep a leased range; returns it, or a leased private copy in its place.

        Raises:
            LimitExceeded: The client's or everybody's private memory is used up.
        """
        if isinstance(buffer, Slot) and self._may_pin(session, buffer):
            return buffer, start, length
        if isinstance(buffer, PrivateCopy):
            # A part of it was sent; copying the rest again would save nothing worth the time.
            self._charge(session, buffer.allocated)
            return buffer, start, length
        self._charge(session, length)
        self.copied += 1
        private = PrivateCopy(length)
        private.append(buffer.view[start : start + length])
        private.lease()
        buffer.release()
        return private, 0, length

    def keep_bytes(self, session: GateSession, data: bytes | memoryview) -> Kept:
        """Keep a leased private copy of bytes.

        Raises:
            LimitExceeded: The client's or everybody's private memory is used up.
        """
        length = len(data)
        self._charge(session, length)
        self.copied += 1
        private = PrivateCopy(length)
        private.append(data)
        private.lease()
        return private, 0, length

    def give_up(self, session: GateSession, buffer: Buffer) -> None:
        """End what ``keep`` began; the lease stays the caller's."""
        if isinstance(buffer, Slot):
            session.pinned_slots -= 1
            if buffer.is_bulk:
                self.pinned_bulk -= 1
            else:
                self.pinned_small -= 1
        else:
            session.private_bytes -= buffer.allocated
            self.private_bytes -= buffer.allocated

    def _may_pin(self, session: GateSession, slot: Slot) -> bool:
        if session.pinned_slots >= self._limits.client_buffers_max:
            return False
        if slot.is_bulk:
            if self.pinned_bulk >= self._bulk_max:
                return False
            self.pinned_bulk += 1
        else:
            if self.pinned_small >= self._small_max:
                return False
            self.pinned_small += 1
        session.pinned_slots += 1
        return True

    def _charge(self, session: GateSession, length: int) -> None:
        limits = self._limits
        if session.private_bytes + length > limits.client_private_bytes_max:
            raise LimitExceeded("client_private_bytes_max", limits.client_private_bytes_max)
        if self.private_bytes + length > limits.private_bytes_max:
            raise LimitExceeded("private_bytes_max", limits.private_bytes_max)
        session.private_bytes += length
        self.private_bytes += length


class PrivateCopy(Buffer):
    """A rest in memory of its own, charged to its client."""

    __slots__ = ()


def keep_for(connection: GateConnection, buffer: Buffer, start: int, length: int) -> Kept | None:
    """Keep a leased range of what a connection has not sent, or a copy; None when that ended it."""
    if connection.is_closing:
        buffer.release()
        return None
    try:
        return connection.blockage.keep(connection.session, buffer, start, length)
    except LimitExceeded as error:
        buffer.release()
        connection.on_limit(error)
        return None


class ChainAccount:
    """The account of one connection's data filters; satisfies ``port.account.Account``."""

    __slots__ = ("_connection",)

    def __init__(self, connection: GateConnection) -> None:
        self._connection = connection

    def keep(self, buffer: Buffer, start: int, length: int) -> Kept | None:
        """Keep a leased range, or a copy of it; None when that ended the connection."""
        return keep_for(self._connection, buffer, start, length)

    def give_up(self, buffer: Buffer) -> None:
        """End what ``keep`` began."""
        self._connection.blockage.give_up(self._connection.session, buffer)

    def on_send_blocked(self) -> None:
        """Take note that a side does not take what a data filter sends it."""
        self._connection.watch_stall()
