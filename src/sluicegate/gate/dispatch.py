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
    CallbackDataFilter,
    ConnectRequested,
    DataFilter,
    Deny,
    Emulate,
    Event,
    EventVerdict,
    Pass,
    SessionFilter,
    TcpBindRequested,
)
from sluicegate.port.scope import entered

from .factories import attach_foreseen
from .registry import EventStep, Installed

if TYPE_CHECKING:
    from .connection import GateConnection
    from .service import FirewallService
    from .udp_connection import UdpConnection

__all__ = ["dispatch", "tell", "tell_one"]

_PASS = Pass()


def dispatch(
    service: FirewallService,
    connection: GateConnection | UdpConnection,
    event: Event,
    done: Callable[[EventVerdict], None],
    refusal: str = "",
) -> None:
    """Ask every filter of the connection's rule, then call ``done`` with the combined verdict.

    ``done`` runs inside this call when no filter answers with a coroutine.

    Args:
        service: The gate.
        connection: What the event is about.
        event: Closed when it has been handled.
        done: Takes the combined verdict.
        refusal: Why the built-in check refuses; an ``Allow`` overrides it.
    """
    session = connection.session
    if session.factories and not attach_foreseen(session, connection, event):
        event.close()
        done(Deny("a data filter factory failed"))
        return
    steps = [*connection.plan.events, *session.own_steps(connection.plan)]
    tally = _Tally(service, refusal)
    while steps:
        step = steps.pop(0)
        answer = _ask(service, connection, step, event)
        if inspect.isawaitable(answer):
            waiting = (step, answer)
            service.spawn(_go_on(service, connection, event, waiting, steps, (tally, done)))
            return
        tally.add(step, _checked(service, step, event, answer))
        if tally.is_denied:
            break
    event.close()
    done(tally.end())


async def _go_on(
    service: FirewallService,
    connection: GateConnection | UdpConnection,
    event: Event,
    waiting: tuple[EventStep, Awaitable[object]],
    steps: list[EventStep],
    so_far: tuple[_Tally, Callable[[EventVerdict], None]],
) -> None:
    """Carry a dispatch on from the first filter that answered with a coroutine."""
    step, answer = waiting
    tally, done = so_far
    tally.add(step, await _awaited(service, connection, step, event, answer))
    for step in steps:
        if tally.is_denied or connection.is_closing:
            break
        verdict = _ask(service, connection, step, event)
        if inspect.isawaitable(verdict):
            verdict = await _awaited(service, connection, step, event, verdict)
        tally.add(step, _checked(service, step, event, verdict))
    event.close()
    if connection.is_closing:
        tally.drop_emulation()
    done(tally.end())


class _Tally:
    """The answers to one event so far."""

    __slots__ = ("_emulation", "_emulator", "_refusal", "_service", "_verdict")

    def __init__(self, service: FirewallService, refusal: str) -> None:
        self._service = service
        self._refusal = refusal
        self._verdict: EventVerdict = _PASS
        self._emulation: Emulate | None = None
        self._emulator: EventStep | None = None

    @property
    def is_denied(self) -> bool:
        """Whether nothing can change it any more."""
        return isinstance(self._verdict, Deny)

    def add(self, step: EventStep, answer: EventVerdict) -> None:
        """Take one filter's answer."""
        if isinstance(answer, Emulate):
            if self._emulator is None:
                self._emulation, self._emulator = answer, step
                return
            first = self._emulator.installed.name
            drop_emulation(self._service, step.installed, answer)
            twice = RuntimeError(f"emulates what filter {first} emulates already: let one do it")
            answer = _failure(self._service, step, twice)
        if not isinstance(answer, Pass):
            self._verdict = answer

    def end(self) -> EventVerdict:
        """Return the combined verdict: deny before emulate before allow before pass."""
        verdict = self._verdict
        if self._refusal and isinstance(verdict, Pass):
            verdict = Deny(self._refusal)
        if isinstance(verdict, Deny):
            self.drop_emulation()
        return verdict if self._emulation is None else self._emulation

    def drop_emulation(self) -> None:
        """Let go of an emulating filter that will not run."""
        if self._emulation is not None and self._emulator is not None:
            drop_emulation(self._service, self._emulator.installed, self._emulation)
        self._emulation = None


def drop_emulation(service: FirewallService, installed: Installed, emulation: Emulate) -> None:
    """Detach an emulating filter that will not be run: exactly once, as every data filter."""
    if isinstance(emulation.data_filter, DataFilter | CallbackDataFilter):
        try:
            emulation.data_filter.detach()
        except FILTER_ERRORS as error:
            service.on_filter_error(installed, error)


def tell(
    service: FirewallService, connection: GateConnection | UdpConnection, event: Event
) -> None:
    """Tell the session filters that know a connection of its end; answers are ignored."""
    for step in (*connection.plan.events, *connection.session.own_steps(connection.plan)):
        if step.installed.events.has(event):
            session_filter = connection.session.find_attached(step)
            if session_filter is not None and _is_wanted(session_filter, event):
                tell_one(
                    service, connection, session_filter, event, partial(_failure, service, step)
                )
    event.close()


def tell_one(
    service: FirewallService,
    connection: GateConnection | UdpConnection,
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
    connection: GateConnection | UdpConnection,
    answer: Awaitable[object],
    on_failure: Callable[[BaseException], object],
) -> None:
    _, failure = await _in_time(service, connection, answer)
    if failure is not None:
        on_failure(failure)


def _ask(
    service: FirewallService,
    connection: GateConnection | UdpConnection,
    step: EventStep,
    event: Event,
) -> object:
    """Return what one filter answers at once: a verdict, an awaitable, or nonsense."""
    try:
        if not step.installed.events.has(event):
            return _PASS
        session_filter = connection.session.attached(step)
        if session_filter is None or not _is_wanted(session_filter, event):
            return _PASS
        event.rule_settings = step.settings
        step.installed.calls += 1
        begun = service.clock.monotonic()
        with entered(connection):
            answer: object = session_filter.on_event(event)
        if not inspect.isawaitable(answer):
            _count(service, connection, step, begun)
        return answer
    except FILTER_ERRORS as error:
        return _failure(service, step, error)


async def _awaited(
    service: FirewallService,
    connection: GateConnection | UdpConnection,
    step: EventStep,
    event: Event,
    answer: Awaitable[object],
) -> EventVerdict:
    begun = service.clock.monotonic()
    verdict, failure = await _in_time(service, connection, answer)
    _count(service, connection, step, begun)
    return (
        _checked(service, step, event, verdict)
        if failure is None
        else _failure(service, step, failure)
    )


def _count(
    service: FirewallService,
    connection: GateConnection | UdpConnection,
    step: EventStep,
    begun: float,
) -> None:
    """Count how long a filter has taken to answer."""
    taken_s = service.clock.monotonic() - begun
    step.installed.time.observe(taken_s)
    service.records.steps.write(connection.id, "filter", taken_s, filter_name=step.installed.name)


async def _in_time(
    service: FirewallService, connection: GateConnection | UdpConnection, answer: Awaitable[object]
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


def _checked(
    service: FirewallService, step: EventStep, event: Event, answer: object
) -> EventVerdict:
    if isinstance(answer, Allow | Deny | Pass | Emulate):
        wrong = _misfit(event, answer)
        if not wrong:
            return answer
        if isinstance(answer, Emulate):
            drop_emulation(service, step.installed, answer)
        return _failure(service, step, TypeError(wrong))
    return _failure(service, step, TypeError(f"answered {answer!r}, not a verdict"))


def _misfit(event: Event, answer: EventVerdict) -> str:
    """Say why an event does not take an answer; empty when it does."""
    name = type(event).__name__
    if not isinstance(answer, event.verdicts):
        kinds = ", ".join(kind.__name__ for kind in event.verdicts)
        return f"answered {answer!r} to {name}, which takes {kinds}"
    if isinstance(answer, Emulate):
        is_player = isinstance(answer.data_filter, DataFilter | CallbackDataFilter)
        if isinstance(event, ConnectRequested) and not is_player:
            return f"emulates a server with {answer.data_filter!r}: a DataFilter or a callback one"
        if isinstance(event, TcpBindRequested) and answer.data_filter is not None:
            return "emulates a bind with a data filter: give it to bind.emulate_connection"
    return ""


def _failure(service: FirewallService, step: EventStep, error: BaseException) -> EventVerdict:
    """Note a filter's failure; the traffic is refused unless the operator said bypass."""
    service.on_filter_error(step.installed, error, is_refused=step.must_work)
    if step.is_bypassed_on_failure:
        return _PASS
    return Deny(f"filter failure: {step.installed.name}")


def _is_wanted(session_filter: SessionFilter, event: Event) -> bool:
    narrowed = session_filter.events
    return narrowed is None or narrowed.has(event)
