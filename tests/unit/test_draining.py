"""The end of a drain may be asked for at any moment."""

from __future__ import annotations

import asyncio

import pytest

from sluicegate.app.draining import Draining

LONG_S = 1000.0


def test_drain_ends_with_what_it_waits_for() -> None:
    done: list[bool] = []

    async def work() -> None:
        done.append(True)

    async def check() -> None:
        draining = Draining()
        await draining.wait(work(), LONG_S)
        draining.end_in(0)  # nobody is left to hear it

    asyncio.run(check())
    assert done == [True]


def test_drain_that_is_not_over_is_given_up_at_once_when_asked() -> None:
    given_up: list[bool] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    async def check() -> None:
        draining = Draining()
        draining.end_in(0)  # not begun
        asyncio.get_running_loop().call_soon(draining.end_in, 0)
        await draining.wait(never(), LONG_S)

    asyncio.run(check())
    assert given_up == [True]


def test_drain_that_is_being_given_up_may_be_asked_again() -> None:
    asked: list[bool] = []

    async def check() -> None:
        draining = Draining()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                draining.end_in(LONG_S)
                asked.append(True)

        await draining.wait(work(), 0.0)

    asyncio.run(check())
    assert asked == [True]


@pytest.mark.parametrize("kind", [OSError, TimeoutError])
def test_failure_of_what_is_waited_for_is_not_kept_back(kind: type[OSError]) -> None:
    async def fail() -> None:
        raise kind("no more")

    with pytest.raises(kind, match="no more"):
        asyncio.run(Draining().wait(fail(), LONG_S))
