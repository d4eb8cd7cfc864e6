"""Hooks: one call of a web filter, plain or a coroutine, within its time.

Heads, stages and objects call web filters through it alone. The invariant: whoever asked is told
exactly once, with an answer or with why there is none, unless the exchange is over by then; a plain
function costs a call, only a coroutine a task.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from sluicegate.errors import FILTER_ERRORS
from sluicegate.port.scope import enter, entered, leave

if TYPE_CHECKING:
    from sluicegate.filterapi import WebExchange
    from sluicegate.gate.registry import Installed

    from .filtered_exchange import FilteredExchange

__all__ = ["HookFailed", "LateAnswer", "call_hook", "describe", "when_answered"]


class LateAnswer:
    """A hook's coroutine, whose time is counted when it has answered or is given up."""

    __slots__ = ("_asked", "_begun", "_installed", "_part")

    def __init__(
        self,
        part: FilteredExchange,
        installed: Installed,
        asked: Coroutine[Any, Any, object],
        begun: float,
    ) -> None:
        self._part = part
        self._installed = installed
        self._asked = asked
        self._begun = begun

    def __await__(self) -> Generator[Any, Any, object]:
        """Wait for it."""
        try:
            return (yield from self._asked.__await__())
        finally:
            _count(self._part, self._installed, self._begun)

    def close(self) -> None:
        """Give it up: nobody waits for it."""
        self._asked.close()


class HookFailed:
    """Stands for an answer that did not come; ``cause`` is for the record."""

    __slots__ = ("cause",)

    def __init__(self, cause: str) -> None:
        self.cause = cause


def call_hook(
    part: FilteredExchange,
    installed: Installed,
    hook: Callable[..., object],
    view: WebExchange,
    *more: object,
) -> object:
    """Return a hook's answer, an awaitable of one, or why there is none."""
    installed.calls += 1
    begun = part.service.clock.monotonic()
    before = enter(part)
    try:
        answer = hook(view, *more) if more else hook(view)
    except FILTER_ERRORS as error:
        return HookFailed(describe(error))
    finally:
        leave(before)
    if isinstance(answer, CoroutineType):
        return LateAnswer(part, installed, cast("Coroutine[Any, Any, object]", answer), begun)
    _count(part, installed, begun)
    return answer


def _count(part: FilteredExchange, installed: Installed, begun: float) -> None:
    """Count how long a filter has taken to answer."""
    service, exchange = part.service, part.exchange
    taken_s = service.clock.monotonic() - begun
    installed.time.observe(taken_s)
    service.records.steps.write(
        exchange.connection.id,
        "filter",
        taken_s,
        filter_name=installed.name,
        request=exchange.id,
    )


def when_answered(part: FilteredExchange, asked: object, done: Callable[[object], None]) -> bool:
    """Have ``done`` called with what a coroutine answers; False: it is no coroutine.

    It is not called once the exchange is over.
    """
    if not inspect.isawaitable(asked):
        return False
    with entered(part):
        part.service.spawn(_wait(part, asked, done))
    return True


async def _wait(
    part: FilteredExchange, asked: Awaitable[object], done: Callable[[object], None]
) -> None:
    timeout_s = part.service.limits.filter_event_timeout_s
    task = asyncio.get_running_loop().create_task(_awaited(asked))
    part.tasks.add(task)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        # Not awaited: a filter that swallows its cancellation must not hold the client up.
        task.cancel()
        part.tasks.discard(task)
    answer: object
    if not task.done():
        task.add_done_callback(_forget)
        answer = HookFailed(f"gave no answer for {timeout_s:g} s (filter_event_timeout_s)")
    elif task.cancelled():
        answer = HookFailed("its coroutine was cancelled")
    elif (failure := task.exception()) is not None:
        answer = HookFailed(describe(failure))
    else:
        answer = task.result()
    if not part.is_over:
        done(answer)


async def _awaited(asked: Awaitable[object]) -> object:
    try:
        return await asked
    except SystemExit as error:
        # Out of a task it would end the loop.
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error


def _forget(task: asyncio.Task[object]) -> None:
    """Take a late end: its answer was given without it, and its failure is recorded."""
    if not task.cancelled():
        task.exception()


def describe(error: BaseException) -> str:
    """Return an error in one line, for a record."""
    return f"{type(error).__name__}: {error}"
