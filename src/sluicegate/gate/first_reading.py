"""FirstReading: collects what a client says first in its tunnel, all of it held.

``hello_reading`` and ``clear_reading`` stand on it. The invariant: what was read is kept byte for
byte, for whoever answers it, and is bounded; nothing of it goes anywhere.
"""

from __future__ import annotations

import abc
import errno
from typing import TYPE_CHECKING, Final

from sluicegate.errors import Side
from sluicegate.limits import ENTRY_AHEAD_BYTES_MAX
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT
from sluicegate.port.layer import driver_of

if TYPE_CHECKING:
    from .read_connection import ReadConnection

__all__ = ["FirstReading"]


class FirstReading(abc.ABC):
    """One client's first bytes."""

    __slots__ = ("_held", "_is_paused", "_owner")

    def __init__(self, connection: ReadConnection) -> None:
        self._owner = connection
        self._held: bytearray = bytearray()
        self._is_paused = False

    @abc.abstractmethod
    def _take(self, data: bytes) -> None:
        """Take what has come next."""

    @abc.abstractmethod
    def _on_end(self) -> None:
        """Take that the client has ended its direction."""

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._owner.on_internal_error(error)

    def begin(self, held: bytes = b"") -> None:
        """Read what was held before and what the handshake has left, and receive what follows."""
        connection = self._owner
        given = connection.client_given
        assert given is not None, "the client was taken over"
        connection.port.backend.redirect(given.receive_op, self._on_received)
        early = held + connection.take_ahead(given)
        if early:
            self._take(early)
        if given.ended and connection.client_given is given and not connection.is_closing:
            self._on_end()
        self._arm()

    @property
    def held(self) -> bytes:
        """Everything that has come."""
        return bytes(self._held)

    def _arm(self) -> None:
        connection = self._owner
        given = connection.client_given
        if given is None or connection.is_closing or self._is_paused or given.ended:
            return
        if not given.receive_op.in_flight:
            driver_of(given.raw, connection.port.backend).receive(given.receive_op, given.raw)

    def _on_received(self, result: int, flags: int) -> None:
        connection = self._owner
        given = connection.client_given
        assert given is not None, "whoever takes it over redirects its receive"
        if flags & BUFFER:
            pool = driver_of(given.raw, connection.port.backend).pool
            slot = pool.slots[flags >> SLOT_SHIFT]
            data = bytes(slot.view[: max(result, 0)])
            pool.give_back(slot)
            if data and not connection.is_closing:
                self._take(data)
        elif result == 0:
            given.ended = True
            self._on_end()
        elif result != -errno.ECANCELED:
            given.ended = True
            connection.on_transport_error(Side.CLIENT, -result)
        if not flags & MORE:
            self._arm()

    def _bound_ahead(self) -> None:
        """Let a client that sends more before it was answered wait (early data, or nonsense)."""
        given = self._owner.client_given
        if given is None or self._is_paused or len(self._held) <= _HELD_BYTES_MAX:
            return
        self._is_paused = True
        if given.receive_op.in_flight:
            driver_of(given.raw, self._owner.port.backend).cancel(given.receive_op)


_HELD_BYTES_MAX: Final = (96 << 10) + ENTRY_AHEAD_BYTES_MAX
"""The longest hello that is read, with the record that it ends in, and what may follow it."""
