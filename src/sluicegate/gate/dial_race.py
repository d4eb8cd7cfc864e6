"""DialRace: the addresses of one destination dialled in turn, a little apart, until one connects.

``entry_connection`` runs one for a name with several addresses. It is RFC 8305's second half on the
port's own callbacks: nothing is awaited, so a cached name costs no task. The invariant: no address
is dialled that was not judged in this very attempt, one socket is handed out, and every other one
is closed when its connect has completed.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.limits import DIAL_ATTEMPTS_MAX
from sluicegate.names import JudgedAddress
from sluicegate.port.answerable import end_both_ways
from sluicegate.port.backend import Operation, RawSocket
from sluicegate.verdict import Deny

from .dial_queue import NO_DESCRIPTOR

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort, Timer

    from .network_source import NoSource

__all__ = ["DialRace", "RaceEnd"]

RaceEnd = Callable[[RawSocket | None, SocketAddress, int], None]
"""Told once: the socket that connected and its address; or None, the last address, and its errno
(``EACCES`` when every address was refused by its judge; one of ``NO_DESCRIPTOR`` when there was
none, and the race may be run again)."""
PrepareDial = Callable[[RawSocket, SocketAddress], "NoSource | None"]


class DialRace:
    """One race; lives until the last of its attempts has completed."""

    __slots__ = (
        "_attempts",
        "_delay_s",
        "_done",
        "_error",
        "_is_over",
        "_judge",
        "_last",
        "_left",
        "_port",
        "_prepare",
        "_target_port",
        "_timer",
        "_waiting",
        "refusal",
    )

    def __init__(
        self,
        port: CompletionPort,
        addresses: Sequence[JudgedAddress],
        target_port: int,
        judge: Callable[[JudgedAddress], Deny | None],
        done: RaceEnd,
        prepare: PrepareDial | None = None,
    ) -> None:
        """Make it; ``start`` begins.

        Args:
            port: Dials.
            addresses: In the order in which they are tried.
            target_port: Of all of them.
            judge: Judges each right before it is dialled.
            done: Told how it ended.
            prepare: Prepares the socket for each, or says why it is not dialled.
        """
        self._port = port
        self._waiting = deque(addresses)
        self._target_port = target_port
        self._judge = judge
        self._done: RaceEnd | None = done
        self._prepare = prepare
        self.refusal: NoSource | None = None
        #: Why the last one that could not be prepared was not dialled.
        self._delay_s = port.limits.dial_attempt_delay_s
        self._left = DIAL_ATTEMPTS_MAX
        self._attempts: dict[Operation, tuple[RawSocket, SocketAddress]] = {}
        self._timer: Timer | None = None
        self._is_over = False
        self._error = errno.EACCES
        self._last = addresses[0].socket_address(target_port)

    def start(self) -> None:
        """Dial the first address; ``done`` is told later."""
        if not self._dial_next():
            self._port.post(self._fail)

    def stop(self) -> None:
        """Give up: ``done`` is told nothing, and what connects is closed."""
        self._is_over, self._done = True, None
        self._end_attempts()

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        del error
        if self._done is not None:
            self._is_over = True
            self._end_attempts()
            self._tell(None, self._last, errno.EIO)

    def _dial_next(self) -> bool:
        """Dial the next address that passes; False when none is left."""
        while self._waiting and self._left:
            judged = self._waiting.popleft()
            if self._judge(judged) is not None:
                continue
            address = self._last = judged.socket_address(self._target_port)
            self._left -= 1
            try:
                raw = self._port.backend.create_socket(address.family)
            except OSError as error:
                self._error = error.errno or errno.EMFILE
                if self._error in NO_DESCRIPTOR:
                    # The others would find none either, before what is under way gives one back.
                    self._waiting.appendleft(judged)
                    self._left += 1
                    return False
                continue
            refusal = self._prepare(raw, address) if self._prepare is not None else None
            if refusal is not None:
                raw.close()
                self.refusal = refusal
                continue
            operation = self._port.operations.take(_ignore)
            attempt = _Attempt(self, operation)
            self._port.backend.redirect(operation, attempt.on_connected)
            self._attempts[operation] = raw, address
            self._port.backend.connect(operation, raw, address)
            if self._waiting:
                self._timer = self._port.call_after(self._delay_s, self._on_delay)
            return True
        return False

    def _on_delay(self) -> None:
        self._timer = None
        if not self._is_over:
            self._dial_next()

    def on_connected(self, operation: Operation, result: int) -> None:
        """Take the end of one attempt."""
        raw, address = self._attempts.pop(operation)
        self._port.operations.give(operation)
        if result < 0:
            raw.close()
        if self._is_over:
            if result >= 0:
                self._port.backend.abort(raw)
            return
        if result >= 0:
            self._is_over = True
            try:
                self._end_attempts()
                self._tell(raw, address, 0)
            except BaseException:
                end_both_ways(raw)  # whoever has it by now closes it
                raise
            return
        self._error, self._last = -result, address
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._dial_next() and not self._attempts:
            self._fail()

    def _fail(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._tell(None, self._last, self._error)

    def _tell(self, raw: RawSocket | None, address: SocketAddress, error: int) -> None:
        done, self._done = self._done, None
        assert done is not None, "it is told once"
        done(raw, address, error)

    def _end_attempts(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for operation in list(self._attempts):
            if operation.in_flight:
                self._port.backend.cancel(operation)
            else:
                self._attempts.pop(operation)[0].close()  # of a completion that failed


class _Attempt:
    """Whose completion a connect is."""

    __slots__ = ("_operation", "_race")

    def __init__(self, race: DialRace, operation: Operation) -> None:
        self._race = race
        self._operation = operation

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._race.on_internal_error(error)

    def on_connected(self, result: int, _flags: int) -> None:
        self._race.on_connected(self._operation, result)


def _ignore(_result: int, _flags: int) -> None:
    """Stand in until the attempt is there."""
