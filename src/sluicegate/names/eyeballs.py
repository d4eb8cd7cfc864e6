"""Happy Eyeballs (RFC 8305): the addresses of one destination raced, each judged again first.

The connector calls ``race`` with how to dial one address. It reads no clock: the delays are those
of the running loop. The invariant: no address is dialled that a judge has not passed in this very
attempt, one connection is returned, and every other one that came about is discarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.errors import LimitExceeded, SluicegateError
from sluicegate.limits import DIAL_ATTEMPTS_MAX
from sluicegate.verdict import Deny

from .destination import Destination, JudgedAddress

__all__ = ["Attempt", "DialFailed", "Won", "interleave", "race"]

ConnectionT = TypeVar("ConnectionT")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One address that did not become the connection, and why."""

    address: SocketAddress
    failure: Deny | Exception


@dataclass(frozen=True, slots=True)
class Won(Generic[ConnectionT]):
    """The connection that came about first."""

    address: SocketAddress
    connection: ConnectionT
    failed: tuple[Attempt, ...] = ()
    """What was tried before and failed."""


class DialFailed(SluicegateError):
    """No address of a destination could be dialled: ``attempts`` says why, for each."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        super().__init__(attempts)
        self.attempts = tuple(attempts)

    @override
    def __str__(self) -> str:
        return "; ".join(f"{one.address}: {_why(one.failure)}" for one in self.attempts)


def interleave(addresses: Iterable[JudgedAddress]) -> list[JudgedAddress]:
    """Order addresses for a race: one family after the other in turn, IPv6 first (section 4).

    Within a family the servers' order stays: they rotate addresses to share load.
    """
    families: dict[int, list[JudgedAddress]] = {6: [], 4: []}
    for one in addresses:
        families[one.judgement.address.version].append(one)
    ordered: list[JudgedAddress] = []
    for rank in range(max(map(len, families.values()))):
        ordered += [family[rank] for family in families.values() if rank < len(family)]
    return ordered


async def race(
    destination: Destination,
    dial: Callable[[SocketAddress], Awaitable[ConnectionT]],
    judge_again: Callable[[JudgedAddress], Deny | None],
    discard: Callable[[ConnectionT], object],
    *,
    attempt_delay_s: float,
) -> Won[ConnectionT]:
    """Dial the addresses of a destination until one is connected.

    Args:
        destination: What the resolver returned.
        dial: Connects to one address; a failure is any ``Exception``, and it can be cancelled.
        judge_again: Asked right before each dial: the gate's own addresses, or the policy, may have
            changed since the lookup, and a retry may come much later.
        discard: Closes a connection that came about too late.
        attempt_delay_s: The next address is dialled after this, or when the last one failed.

    Raises:
        DialFailed: No address could be dialled; at most ``DIAL_ATTEMPTS_MAX`` are tried.
    """
    return await _Race(destination, dial, judge_again, discard).run(attempt_delay_s)


class _Race(Generic[ConnectionT]):
    """One race: what waits to be dialled, what is being dialled, what failed."""

    def __init__(
        self,
        destination: Destination,
        dial: Callable[[SocketAddress], Awaitable[ConnectionT]],
        judge_again: Callable[[JudgedAddress], Deny | None],
        discard: Callable[[ConnectionT], object],
    ) -> None:
        self._port = destination.port
        self._waiting = interleave(destination.dialable)
        self._dial = dial
        self._judge_again = judge_again
        self._discard = discard
        self._dialling: dict[asyncio.Task[ConnectionT], SocketAddress] = {}
        self._failed: list[Attempt] = []
        self._dials_left = DIAL_ATTEMPTS_MAX

    async def run(self, attempt_delay_s: float) -> Won[ConnectionT]:
        won: Won[ConnectionT] | None = None
        try:
            while won is None and (self._start_next() or self._dialling):
                won = await self._wait(attempt_delay_s if self._waiting else None)
        finally:
            try:
                await self._end_losers()
            except asyncio.CancelledError:
                if won is not None:
                    self._discard(won.connection)  # nobody is there to take it
                raise
        if won is None:
            raise DialFailed(self._failed)
        return won

    def _start_next(self) -> bool:
        """Start dialling the next address that passes; False when none is left."""
        while self._waiting:
            judged = self._waiting.pop(0)
            address = judged.socket_address(self._port)
            denial = judged.denial or self._judge_again(judged)
            if denial is not None:
                self._failed.append(Attempt(address, denial))
            elif self._dials_left == 0:
                limit = LimitExceeded("DIAL_ATTEMPTS_MAX", DIAL_ATTEMPTS_MAX)
                self._failed.append(Attempt(address, limit))
                self._waiting.clear()
            else:
                self._dials_left -= 1
                # Not in a group: one that fails must not end the others.
                task = asyncio.get_running_loop().create_task(self._dial_one(address))
                self._dialling[task] = address
                return True
        return False

    async def _dial_one(self, address: SocketAddress) -> ConnectionT:
        return await self._dial(address)

    async def _wait(self, delay_s: float | None) -> Won[ConnectionT] | None:
        """Wait for a connection, for a failure, or for the time of the next attempt."""
        await asyncio.wait(self._dialling, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._dialling if task.done()]:
            address = self._dialling[task]
            failure = _failure_of(task)
            if failure is None:
                del self._dialling[task]
                return Won(address, task.result(), tuple(self._failed))
            del self._dialling[task]
            self._failed.append(Attempt(address, failure))
        return None

    async def _end_losers(self) -> None:
        """Cancel what is still dialling, and wait for it; what connected is discarded."""
        for task in self._dialling:
            task.cancel()
            # A callback, so that it happens also when this wait is cut short.
            task.add_done_callback(self._discard_late)
        await asyncio.gather(*self._dialling, return_exceptions=True)

    def _discard_late(self, task: asyncio.Task[ConnectionT]) -> None:
        if _failure_of(task) is None:
            self._discard(task.result())


def _failure_of(task: asyncio.Task[ConnectionT]) -> Exception | None:
    """Return why a finished dial has no connection; None when it has one."""
    if task.cancelled():
        return ConnectionAbortedError("the dial was cancelled")
    error = task.exception()
    if error is not None and not isinstance(error, Exception):
        raise error  # an interpreter's exit is nobody's failed attempt
    return error


def _why(failure: Deny | Exception) -> str:
    return failure.reason if isinstance(failure, Deny) else str(failure) or repr(failure)
