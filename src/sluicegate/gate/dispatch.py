"""Dispatch: events go to session filters, their verdicts are combined.

The one place where a filter's answer to an event is awaited, bounded and judged. The invariant:
any deny wins, a filter that raises, is late or answers nonsense denies (fail closed), and an event
is over when its dispatch is.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import (
    Allow,
    Deny,
    Event,
    EventVerdict,
    Pass,
    SessionFilter,
)
from sluicegate.port.scope import entered

from .registry import EventStep

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService

__all__ = ["dispatch", "tell", "tell_one"]

_PASS = Pass()


def dispatch(
    service: FirewallService,
    connection: GateConnection,
    event: Event,
    done: Callable[[EventVerdict], None],
) -> None:
    """Ask every filter of the connection's rule, then call ``done`` with the combined verdict.

    ``done`` runs inside this call when no filter answers with a coroutine.
    """
    steps = list(connection.plan.events)
    combined: EventVerdict = _PASS
    while steps:
        step = steps.pop(0)
        answer = _ask(service, connection, step, event)
        if inspect.isawaitable(answer):
            waiting = (step, answer)
            service.spawn(_go_on(service, connection, event, waiting, steps, (combined, done)))
            return
        combined = _combine(combined, _checked(service, step, answer))
        if isinstance(combined, Deny):
            break
    event.close()
    done(combined)


async def _go_on(
    service: FirewallService,
    connection: GateConnection,
    event: Event,
    waiting: tuple[EventStep, Awaitable[object]],
    steps: list[EventStep],
    so_far: tuple[EventVerdict, Callable[[EventVerdict], None]],
) -> None:
    """Carry a dispatch on from the first filter that answered with a coroutine."""
    step, answer = waiting
    combined, done = so_far
    combined = _combine(combined, await _awaited(service, connection, step, answer))
    for step in steps:
        if isinstance(combined, Deny) or connection.is_closing:
            break
        verdict = _ask(service, connection, step, event)
        if inspect.isawaitable(verdict):
            verdict = await _awaited(service, connection, step, verdict)
        combined = _combine(combined, _checked(service, step, verdict))
    event.close()
    done(combined)


def tell(service: FirewallService, connection: GateConnection, event: Event) -> None:
    """Tell the session filters that know a connection of its end; answers are ignored."""
    for step in connection.plan.events:
        if step.installed.events.has(type(event), is_secondary=connection.is_secondary):
            session_filter = connection.session.find_attached(step)
            if session_filter is not None and _is_wanted(session_filter, event):
                tell_one(
                    service, connection, session_filter, event, partial(_failure, service, step)
                )
    event.close()


def tell_one(
    service: FirewallService,
    connection: GateConnection,
    session_filter: SessionFilter,
    event: Event,
    on_failure: Callable[[BaseException], object],
) -> None:
    """Tell one session filter of something that it cannot change."""
    try:
        with entered(connection):
            answer: object = session_filter.on_event(event)
    except FILTER_ERRORS as error:
        on_failure(error)
        return
    if inspect.isawaitable(answer):
        service.spawn(_run_out(service, connection, answer, on_failure))


async def _run_out(
    service: FirewallService,
    connection: GateConnection,
    answer: Awaitable[object],
    on_failure: Callable[[BaseException], object],
) -> None:
    _, failure = await _in_time(service, connection, answer)
    if failure is not None:
        on_failure(failure)


def _ask(
    service: FirewallService, connection: GateConnection, step: EventStep, event: Event
) -> object:
    """Return what one filter answers at once: a verdict, an awaitable, or nonsense."""
    try:
        if not step.installed.events.has(type(event), is_secondary=event.is_secondary):
            return _PASS
        session_filter = connection.session.attached(step)
        if session_filter is None or not _is_wanted(session_filter, event):
            return _PASS
        event.rule_settings = step.settings
        step.installed.calls += 1
        with entered(connection):
            return session_filter.on_event(event)
    except FILTER_ERRORS as error:
        return _failure(service, step, error)


async def _awaited(
    service: FirewallService,
    connection: GateConnection,
    step: EventStep,
    answer: Awaitable[object],
) -> EventVerdict:
    verdict, failure = await _in_time(service, connection, answer)
    return _checked(service, step, verdict) if failure is None else _failure(service, step, failure)


async def _in_time(
    service: FirewallService, connection: GateConnection, answer: Awaitable[object]
) -> tuple[object, Exception | None]:
    """Return what a filter's coroutine answered, or how it failed to."""
    timeout_s = service.limits.filter_event_timeout_s
    with entered(connection):
        task = asyncio.get_running_loop().create_task(_value_of(answer))
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        # Not awaited: a filter that swallows its cancellation must not hold the client up.
        task.cancel()
    if not task.done():
        task.add_done_callback(_forget)
        return None, TimeoutError(f"no answer within {timeout_s:g} s (filter_event_timeout_s)")
    if task.cancelled():
        return None, RuntimeError("it was cancelled, not by the gate")
    error = task.exception()
    if isinstance(error, Exception):
        return None, error
    return task.result(), None


async def _value_of(answer: Awaitable[object]) -> object:
    try:
        return await answer
    except SystemExit as error:
        # Out of a task it would end the loop.
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error


def _forget(task: asyncio.Task[object]) -> None:
    """Take a late end: the verdict was given without it, and its failure is recorded."""
    if not task.cancelled():
        task.exception()


def _checked(service: FirewallService, step: EventStep, answer: object) -> EventVerdict:
    if isinstance(answer, Allow | Deny | Pass):
        return answer
    return _failure(service, step, TypeError(f"answered {answer!r}, not a verdict"))


def _failure(service: FirewallService, step: EventStep, error: BaseException) -> EventVerdict:
    """Note a filter's failure; the traffic is refused unless the operator said bypass."""
    service.on_filter_error(step.installed, error)
    if step.installed.is_bypassed_on_failure:
        return _PASS
    return Deny(f"filter failure: {step.installed.name}")


def _is_wanted(session_filter: SessionFilter, event: Event) -> bool:
    narrowed = session_filter.events
    return narrowed is None or narrowed.has(type(event), is_secondary=event.is_secondary)


def _combine(first: EventVerdict, second: EventVerdict) -> EventVerdict:
    if isinstance(first, Deny):
        return first
    if isinstance(second, Deny) or isinstance(first, Pass):
        return second
    return first
