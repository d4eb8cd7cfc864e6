"""Errors of ours: whoever was in hand is ended, wherever the port was at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, PortEventLoop
from sluicegate.port.answerable import in_hand
from sluicegate.port.backend import Operation
from sluicegate.testing import SimulatedBackend, simulated_completion_port


class Work:
    """Somebody whose work fails."""

    def __init__(self) -> None:
        self.ended_by: list[BaseException] = []

    def on_internal_error(self, error: BaseException) -> None:
        self.ended_by.append(error)

    def fail(self, *_: object) -> None:
        raise LookupError("ours")

    def work_for(self, other: Work) -> None:
        other.fail()

    async def fail_later(self) -> None:
        await asyncio.sleep(0.1)
        self.fail()


class Unsound(Work):
    """Cannot even end."""

    def on_internal_error(self, error: BaseException) -> None:
        super().on_internal_error(error)
        raise ArithmeticError("again")


def error_of(work: Callable[[], None]) -> BaseException:
    with pytest.raises(LookupError) as raised:
        work()
    return raised.value


def test_everybody_in_hand_is_found_once_the_innermost_first() -> None:
    outer, inner, bystander = Work(), Work(), Work()
    assert list(in_hand(error_of(lambda: outer.work_for(inner)), outer)) == [inner, outer]
    assert list(in_hand(LookupError("never raised"))) == []
    assert bystander.ended_by == []


def test_whoever_was_to_be_told_is_in_hand() -> None:
    waits = Work()

    def tell(_then: Callable[[], None]) -> None:
        raise LookupError("ours")

    assert list(in_hand(error_of(lambda: tell(waits.fail)))) == [waits]


def test_what_an_error_was_raised_over_is_in_hand_too() -> None:
    first, second = Work(), Work()

    def both() -> None:
        try:
            first.fail()
        finally:
            second.fail()

    assert list(in_hand(error_of(both))) == [second, first]


def run(begin: Callable[[CompletionPort], object]) -> tuple[CompletionPort, list[BaseException]]:
    """Let something begin on a port, and turn it for a while."""
    backend = SimulatedBackend(0)
    port = simulated_completion_port(backend, Limits())
    told: list[BaseException] = []
    port.on_error = told.append

    async def main() -> None:
        begin(port)
        await asyncio.sleep(1)

    with asyncio.Runner(loop_factory=lambda: PortEventLoop(port)) as runner:
        runner.run(main())
    return port, told


KINDS: dict[str, Callable[[CompletionPort, Work], object]] = {
    "a posted task": lambda port, work: port.post(work.fail),
    "a posted task of a closure": lambda port, work: port.post(lambda: work.work_for(work)),
    "a task from another thread": lambda port, work: port.post_threadsafe(work.fail),
    "a timer": lambda port, work: port.call_after(0.1, work.fail),
    "a completion": lambda port, work: port.backend.poll(Operation(work.fail), 0, 1),
    "a step of asyncio": lambda _port, work: asyncio.get_running_loop().call_soon(work.fail),
    "a blocking call that is done": lambda port, work: port.submit_blocking(int, work.fail),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_ends_whoever_it_was_raised_for(kind: str) -> None:
    work = Work()
    port, told = run(lambda port: KINDS[kind](port, work))
    assert [type(one) for one in work.ended_by] == [LookupError]
    assert told == work.ended_by
    assert port.statistics().unhandled_errors == 1


def test_an_error_of_a_coroutine_that_nobody_awaits_ends_whom_it_worked_for() -> None:
    work = Work()
    port, told = run(lambda _port: asyncio.get_running_loop().create_task(work.fail_later()))
    assert told == work.ended_by != []
    assert port.statistics().unhandled_errors == 1


def test_one_that_cannot_end_does_not_keep_others_from_it() -> None:
    outer, inner = Work(), Unsound()
    port, told = run(lambda port: port.post(lambda: outer.work_for(inner)))
    assert [type(one) for one in told] == [LookupError, ArithmeticError]
    assert len(outer.ended_by) == len(inner.ended_by) == 1
    assert port.statistics().unhandled_errors == 2
