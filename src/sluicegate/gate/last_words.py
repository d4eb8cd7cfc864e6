"""Last words: what a side is told before its connection is refused.

A connection that ends for a reason hands a socket over for it; the connection's end is the end of
its last words. The invariant: what is told begins on a clean line, for nothing was waiting to be
sent there, and goes out whole or is followed by a reset; and it takes ``LAST_WORDS_S`` at most.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from sluicegate.buffer import ConstBuffer
from sluicegate.errors import Side
from sluicegate.filterapi import Cut
from sluicegate.limits import LAST_WORDS_BYTES_MAX, LAST_WORDS_S
from sluicegate.port.backend import MORE, SEND_FLAGS, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.layer import driver_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluicegate.port import CompletionPort, Timer

    from .chain import FilterChain
    from .connection import GateConnection

__all__ = ["Farewell", "LastWords", "refuse_by"]

_SHUT_WR: Final = 1
_SIDES: Final = (Side.CLIENT, Side.SERVER)
_HEARD_BYTES_MAX: Final = 1 << 20
"""What a peer may send meanwhile before it is reset; nobody reads it."""


def refuse_by(connection: GateConnection, cut: Cut) -> None:
    """End a connection as a stream filter answered."""
    connection.refuse(cut.reason, to_client=cut.to_client, to_server=cut.to_server)


class Farewell:
    """The last words of one connection, to one side or both."""

    __slots__ = ("_connection", "_due", "_said", "_untold")

    def __init__(
        self,
        connection: GateConnection,
        chain: FilterChain | None,
        ways: tuple[tuple[RawSocket | None, bytes], tuple[RawSocket | None, bytes]],
    ) -> None:
        """Take each side's socket and message, the client's first.

        Raises:
            ValueError: A message is longer than ``LAST_WORDS_BYTES_MAX``.
        """
        if max(len(message) for _, message in ways) > LAST_WORDS_BYTES_MAX:
            raise ValueError(f"last words have at most {LAST_WORDS_BYTES_MAX} bytes")
        self._connection = connection
        self._due: list[tuple[RawSocket, bytes]] = []
        #: What is said when nothing is in flight on the connection any more.
        self._said: list[LastWords] = []
        self._untold: list[RawSocket] = []
        #: Sockets of those who are reset.
        directions = (connection.from_server, connection.from_client)
        for side, (raw, message), direction in zip(_SIDES, ways, directions, strict=True):
            if chain is not None:
                if message:
                    self._say_in_chain(side, message, chain)
            elif raw is not None and message and direction is not None and direction.is_clear:
                self._due.append((raw, message))
            elif raw is not None:
                self._untold.append(raw)

    def _say_in_chain(self, side: Side, message: bytes, chain: FilterChain) -> None:
        given = chain.give_away(side)
        if given is None:
            return
        words = LastWords(
            self._connection.port,
            given.raw,
            message,
            self._connection.join,
            given.receive_op,
            has_heard_end=given.ended,
        )
        self._said.append(words)
        words.start()

    def is_over(self) -> bool:
        """Begin what is due, and tell whether all of it is said."""
        untold, self._untold = self._untold, []
        for raw in untold:
            driver_of(raw, self._connection.port.backend).abort(raw)
        due, self._due = self._due, []
        for raw, message in due:
            words = LastWords(self._connection.port, raw, message, self._connection.join)
            self._said.append(words)
            words.start()
        return not any(words.is_busy for words in self._said)


class LastWords:
    """One message to one side: send it, end the stream, wait for the peer's end, close.

    A peer whose receive queue is not empty when it is closed would be reset, and might lose the
    message: that is why its bytes are taken and dropped until it closes.
    """

    __slots__ = (
        "_driver",
        "_has_heard_end",
        "_heard",
        "_is_over",
        "_is_told",
        "_message",
        "_on_over",
        "_port",
        "_raw",
        "_receive_op",
        "_send_op",
        "_timer",
    )

    def __init__(
        self,
        port: CompletionPort,
        raw: RawSocket,
        message: bytes,
        on_over: Callable[[], None],
        receive_op: Operation | None = None,
        *,
        has_heard_end: bool = False,
    ) -> None:
        """Take a socket on which nothing is in flight, but perhaps a receive.

        Args:
            port: Its port.
            raw: The socket; closed at the end.
            message: Not empty.
            on_over: Told when the descriptor is closed and nothing is in flight.
            receive_op: A receive that is, or was, in flight there.
            has_heard_end: Whether the peer's stream has ended.
        """
        self._port = port
        self._raw = raw
        self._driver = driver_of(raw, port.backend)
        self._message = ConstBuffer(message)
        self._on_over = on_over
        self._heard = 0
        self._has_heard_end = has_heard_end
        self._is_told = False
        #: The whole message is with the kernel, and our stream has ended.
        self._is_over = False
        self._send_op = port.operations.take(self._on_sent)
        if receive_op is None:
            receive_op = port.operations.take(self._on_received)
        else:
            port.backend.redirect(receive_op, self._on_received)
        self._receive_op = receive_op
        self._timer: Timer | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the descriptor is open."""
        return self._raw.fileno() >= 0

    def start(self) -> None:
        """Say it."""
        self._timer = self._port.call_after(LAST_WORDS_S, lambda: self._end(-errno.ETIMEDOUT))
        driver, message = self._driver, self._message
        message.lease()
        try:
            sent = self._raw.send(message.view, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            message.release()
            self._end(-(error.errno or errno.EIO))
            return
        if sent == message.used:
            self._on_sent(0, 0)
        else:
            driver.send(self._send_op, self._raw, message, sent, message.used - sent)
        if not (self._receive_op.in_flight or self._is_over or self._has_heard_end):
            driver.receive(self._receive_op, self._raw)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        del error
        if self._is_over:
            self._join()
        else:
            self._end(-errno.EIO)

    def _on_sent(self, result: int, _flags: int) -> None:
        self._message.release()
        if self._is_over:
            self._join()
            return
        if result < 0:
            self._end(result)
            return
        self._is_told = True
        try:
            self._raw.shutdown(_SHUT_WR)
        except OSError as error:
            self._end(-(error.errno or errno.EIO))
            return
        if self._has_heard_end:
            self._end(0)

    def _on_received(self, result: int, flags: int) -> None:
        if result > 0:
            pool = self._driver.pool
            pool.give_back(pool.slots[flags >> SLOT_SHIFT])
            self._heard += result
        if self._is_over:
            if not flags & MORE:
                self._join()
        elif result == 0:
            self._has_heard_end = True
            if self._is_told:
                self._end(0)
        elif self._is_hopeless(result):
            self._end(result)
        elif not flags & MORE:
            self._driver.receive(self._receive_op, self._raw)

    def _is_hopeless(self, result: int) -> bool:
        is_failed = result < 0 and (result != -errno.ECANCELED or self._port.is_closing)
        return is_failed or self._heard > _HEARD_BYTES_MAX

    def _end(self, result: int) -> None:
        """Close: with a reset unless both streams have ended."""
        if self._is_over:
            return
        self._is_over = True
        self._is_told = self._is_told and result == 0
        if self._timer is not None:
            self._timer.cancel()
        for operation in (self._send_op, self._receive_op):
            if operation.in_flight:
                self._driver.cancel(operation)
        self._join()

    def _join(self) -> None:
        if self._send_op.in_flight or self._receive_op.in_flight or not self.is_busy:
            return
        if self._is_told:
            self._raw.close()
        else:
            self._driver.abort(self._raw)
        self._port.operations.give(self._send_op)
        self._port.operations.give(self._receive_op)
        self._on_over()
