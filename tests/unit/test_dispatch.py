"""Events and verdicts: deny wins, what fails denies, and an event is over when its dispatch is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    Allow,
    ConnectionTerminating,
    ConnectRequested,
    Deny,
    Event,
    Events,
    EventVerdict,
    Filter,
    Pass,
    StreamFilter,
)
from sluicegate.gate.dispatch import dispatch, tell
from sluicegate.gate.settings import OnFailure
from tests.unit.gate_parts import Answers, Connection, Service, step_of

TARGET = SocketAddress.parse("192.0.2.1:80")


def ask(*answers: Any, service: Service | None = None, **limits: Any) -> EventVerdict:
    """Dispatch one event to filters with these answers and return the combined verdict."""
    service = service or Service(**limits)
    steps = [
        answer
        if not callable(answer) and not isinstance(answer, Allow | Deny | Pass)
        else step_of(Answers(answer if callable(answer) else _always(answer)), f"f{number}")
        for number, answer in enumerate(answers)
    ]
    return run(service, steps)


def run(service: Service, steps: list[Any]) -> EventVerdict:
    verdicts: list[EventVerdict] = []

    async def main() -> None:
        connection: Any = Connection(service, *steps)
        event = ConnectRequested(connection, TARGET)
        dispatch(service, connection, event, verdicts.append)  # type: ignore[arg-type]
        while not verdicts:
            await asyncio.sleep(0)
        with pytest.raises(BadContext):
            event.check_open()

    asyncio.run(main())
    (verdict,) = verdicts
    return verdict


def _always(answer: Any) -> Callable[[Event], Any]:
    return lambda event: answer


def _later(answer: Any) -> Callable[[Event], Any]:
    async def on_event(event: Event) -> Any:
        await asyncio.sleep(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return on_event


PASS, ALLOW, DENY, DENY_2 = Pass(), Allow(), Deny("no"), Deny("never")


@pytest.mark.parametrize("form", [_always, _later], ids=["at once", "by a coroutine"])
@pytest.mark.parametrize(
    ("answers", "combined"),
    [
        ([], PASS),
        ([PASS], PASS),
        ([ALLOW], ALLOW),
        ([DENY], DENY),
        ([PASS, ALLOW], ALLOW),
        ([ALLOW, PASS], ALLOW),
        ([ALLOW, DENY], DENY),
        ([DENY, ALLOW], DENY),
        ([PASS, PASS, DENY], DENY),
        ([DENY_2, DENY], DENY_2),
        ([ALLOW, ALLOW], ALLOW),
    ],
)
def test_verdicts_combine(form: Any, answers: list[Any], combined: EventVerdict) -> None:
    assert ask(*[form(answer) for answer in answers]) == combined


def test_coroutines_and_plain_answers_mix() -> None:
    assert ask(_always(PASS), _later(ALLOW), _always(PASS), _later(DENY)) == DENY
    assert ask(_always(PASS), _later(PASS), _always(DENY), _later(ALLOW)) == DENY


def test_nobody_is_asked_after_a_deny() -> None:
    for form in (_always, _later):
        asked = Answers()
        ask(form(DENY), step_of(asked))
        assert asked.log == ["start"]


def test_answer_without_coroutines_is_given_inside_the_call() -> None:
    service = Service()
    connection: Any = Connection(service, step_of(Answers(_always(ALLOW))))
    verdicts: list[EventVerdict] = []
    event = ConnectRequested(connection, TARGET)
    dispatch(service, connection, event, verdicts.append)  # type: ignore[arg-type]
    assert verdicts == [ALLOW]


# -- what fails -----------------------------------------------------------------------------------


def _raises(event: Event) -> Any:
    raise ValueError("boom")


def _exits(event: Event) -> Any:
    raise SystemExit(3)


async def _cancels_itself(event: Event) -> Any:
    raise asyncio.CancelledError


FAILING = {
    "raises": (_raises, "ValueError: boom"),
    "raises later": (_later(ValueError("boom")), "ValueError: boom"),
    "exits": (_exits, "SystemExit: 3"),
    "exits later": (_later(SystemExit(3)), "RuntimeError: it called sys.exit(3)"),
    "nonsense": (_always("yes"), "TypeError: answered 'yes', not a verdict"),
    "nothing": (_always(None), "TypeError: answered None, not a verdict"),
    "nonsense later": (_later(True), "TypeError: answered True, not a verdict"),
    "the class": (_always(Allow), "TypeError"),
    "cancels itself": (_cancels_itself, "RuntimeError: it was cancelled, not by the gate"),
    "its own time-out": (_later(TimeoutError("mine")), "TimeoutError: mine"),
}


@pytest.mark.parametrize("kind", sorted(FAILING))
def test_filter_that_fails_denies_and_is_recorded(kind: str) -> None:
    answer, cause = FAILING[kind]
    service = Service()
    assert ask(_always(ALLOW), answer, service=service) == Deny("filter failure: f1")
    ((name, told),) = service.failures
    assert name == "f1"
    assert told.startswith(cause)


@pytest.mark.parametrize("kind", sorted(FAILING))
def test_filter_that_fails_is_passed_by_where_the_operator_said_so(kind: str) -> None:
    service = Service()
    failing = step_of(Answers(FAILING[kind][0]), "bypassed", OnFailure.BYPASS)
    assert run(service, [failing, step_of(Answers(_always(ALLOW)), "next")]) == ALLOW
    assert [name for name, _ in service.failures] == ["bypassed"]


def test_filter_that_fails_to_attach_denies() -> None:
    class Faulty(Answers):
        def attach(self, session: Any) -> Any:
            raise ValueError("no session for you")

    service = Service()
    assert run(service, [step_of(Faulty())]) == Deny("filter failure: one")


def test_filter_that_attaches_nonsense_denies() -> None:
    class Faulty(Answers):
        def attach(self, session: Any) -> Any:
            return "nonsense"

    assert run(Service(), [step_of(Faulty())]) == Deny("filter failure: one")


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_late_filter_denies_even_when_it_swallows_its_cancellation(is_stubborn: bool) -> None:
    released = asyncio.Event()

    async def late(event: Event) -> Any:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                if not is_stubborn:
                    raise
        return ALLOW

    service = Service(filter_event_timeout_s=0.01)
    verdicts: list[EventVerdict] = []

    async def main() -> None:
        connection: Any = Connection(service, step_of(Answers(late)))
        event = ConnectRequested(connection, TARGET)
        dispatch(service, connection, event, verdicts.append)  # type: ignore[arg-type]
        while not verdicts:
            await asyncio.sleep(0.001)
        released.set()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert verdicts == [Deny("filter failure: one")]
    assert service.failures == [
        ("one", "TimeoutError: no answer within 0.01 s (filter_event_timeout_s)")
    ]


# -- what an event allows -------------------------------------------------------------------------


class Looks(StreamFilter):
    pass


def test_data_filters_are_attached_while_the_event_is_handled_and_not_after() -> None:
    kept: list[Event] = []

    async def on_event(event: Event) -> Any:
        event.attach_data_filter(Looks())
        await asyncio.sleep(0)
        event.attach_data_filter(Looks())
        kept.append(event)
        return PASS

    assert ask(on_event) == PASS
    with pytest.raises(BadContext):
        kept[0].attach_data_filter(Looks())
    assert len(kept[0].connection.attached) == 2  # type: ignore[attr-defined]


def test_filter_sees_its_own_rules_settings() -> None:
    seen: list[Any] = []

    def note(event: Event) -> Any:
        seen.append(dict(event.rule_settings))
        return PASS

    steps = [step_of(Answers(note), f"f{n}", settings={"n": n}) for n in range(2)]
    run(Service(), steps)
    assert seen == [{"n": 0}, {"n": 1}]


def test_filter_is_not_told_of_what_it_did_not_register_for() -> None:
    uninterested = Answers(_always(DENY), events=Events.of(ConnectionTerminating))
    narrowed = Answers(_always(DENY), narrowed=Events())
    assert run(Service(), [step_of(uninterested), step_of(narrowed, "two")]) == PASS
    assert uninterested.log == narrowed.log == ["start"]


def test_first_event_attaches_and_reaches_the_new_session_filter() -> None:
    target = Answers(_always(PASS))
    run(Service(), [step_of(target)])
    assert target.log == ["start", "ConnectRequested"]
    assert len(target.attached) == 1


def test_filter_that_takes_no_interest_in_a_session_is_asked_once() -> None:
    class Uninterested(Answers):
        def attach(self, session: Any) -> Any:
            self.attached.append(session)

    target = Uninterested()
    service = Service()
    step = step_of(target)
    connection: Any = Connection(service, step)
    for _ in range(3):
        event = ConnectRequested(connection, TARGET)
        dispatch(service, connection, event, lambda verdict: None)  # type: ignore[arg-type]
    assert len(target.attached) == 1


def test_no_further_filter_is_asked_about_a_connection_that_has_ended() -> None:
    service = Service()
    second = Answers(_always(ALLOW))
    verdicts: list[EventVerdict] = []

    async def main() -> None:
        connection: Any = Connection(service)

        async def first(event: Event) -> Any:
            connection.is_closing = True
            return PASS

        steps = (step_of(Answers(first)), step_of(second, "second"))
        connection.plan = type(connection.plan)(connection.plan.rule, events=steps)
        event = ConnectRequested(connection, TARGET)
        dispatch(service, connection, event, verdicts.append)  # type: ignore[arg-type]
        while not verdicts:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert second.log == ["start"]


# -- telling of an end ----------------------------------------------------------------------------


def tell_end(target: Filter, *, is_known: bool = True, times: int = 3) -> Service:
    service = Service()

    async def main() -> None:
        step = step_of(target)
        connection: Any = Connection(service, step)
        if is_known:
            connection.session.attached(step)
        tell(service, connection, ConnectionTerminating(connection))  # type: ignore[arg-type]
        for _ in range(times):
            await asyncio.sleep(0)
        await asyncio.gather(*service.tasks)

    asyncio.run(main())
    return service


TERMINATING = Events.of(ConnectionTerminating)


def test_session_filters_are_told_of_the_end() -> None:
    target = Answers(events=TERMINATING)
    assert tell_end(target).failures == []
    assert target.log == ["start", "ConnectionTerminating"]


def test_end_reaches_nobody_whose_session_filter_never_was() -> None:
    target = Answers(events=TERMINATING)
    tell_end(target, is_known=False)
    assert target.attached == []


def test_coroutine_that_is_told_of_the_end_is_run() -> None:
    done: list[int] = []

    async def on_event(event: Event) -> None:
        await asyncio.sleep(0)
        done.append(1)

    tell_end(Answers(on_event, events=TERMINATING))
    assert done == [1]


@pytest.mark.parametrize("answer", [_raises, _later(ValueError("boom"))])
def test_failure_while_being_told_of_the_end_is_recorded(answer: Any) -> None:
    service = tell_end(Answers(answer, events=TERMINATING))
    assert service.failures == [("one", "ValueError: boom")]
