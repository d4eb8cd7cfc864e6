"""Filters that handle events, behind the wire: the samples, verdicts, and every failure refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from examples.filters.data_monitor import DataMonitor, DataMonitorSettings
from examples.filters.rate_limiter import RateLimiter, RateLimiterSettings
from sluicegate.audit import FilterFailureRecord
from sluicegate.filterapi import (
    Allow,
    Connection,
    ConnectRequested,
    DataFilter,
    DataSocket,
    Deny,
    Emulate,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    NameLookup,
    Pass,
    Session,
    SessionFilter,
)
from sluicegate.isolation.cell_events import _Announced
from sluicegate.testing import FaultPlan, Playbook, check_filter
from sluicegate.testing.inline_cell import InlineCell, isolated
from tests.unit.kit_filters import Relay

HTTP = [
    ("client", b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"),
    ("server", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
]

MAKERS: dict[str, Callable[[], Filter]] = {
    "data_monitor": lambda: DataMonitor(DataMonitorSettings(patterns={"mark": "CONFIDENTIAL"})),
    "rate_limiter": lambda: RateLimiter(RateLimiterSettings()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_isolated_sample_does_what_every_filter_must(name: str) -> None:
    check_filter(isolated(MAKERS[name]), HTTP, memory="16 MiB")


class Counting(DataFilter):
    """Is the server: counts."""

    name = "counting"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        total = 0
        while window := await client.receive():
            total += len(window)
            await client.send(b"%d\n" % total)


class Answers(Filter):
    """Answers what it was made with, and notes what it was told."""

    name = "answers"

    class RuleSettings(BaseModel):
        word: str = ""

    def __init__(self, answer: Callable[[Event], Any], *types: type[Event]) -> None:
        self.answer = answer
        self.types = types or (ConnectRequested,)
        self.told: list[str] = []

    def start(self, firewall: Firewall) -> Events:
        return Events.of(*self.types)

    def attach(self, session: Session) -> SessionFilter:
        self.told.append(f"attach {session.client_address.host}")
        return _Answering(session, self)

    def stop(self) -> None:
        self.told.append("stop")


class _Answering(SessionFilter):
    def __init__(self, session: Session, owner: Answers) -> None:
        super().__init__(session)
        self.owner = owner

    def on_event(self, event: Event) -> EventVerdict:
        assert isinstance(event, ConnectRequested)
        self.owner.told.append(f"{event.target} {event.rule_settings.word}".strip())
        return self.owner.answer(event)  # type: ignore[no-any-return]

    def detach(self) -> None:
        self.owner.told.append("detach")


def attach_twice(event: Event) -> EventVerdict:
    event.attach_data_filter(Relay())
    event.attach_data_filter(Relay())
    return Pass()


async def waits(_: Event) -> EventVerdict:
    await asyncio.Event().wait()
    return Pass()


WHERES = pytest.mark.parametrize(
    "where", [lambda make: make(), lambda make: isolated(make)()], ids=["in the gate", "in a cell"]
)


@WHERES
def test_allowed_connection_goes_on_and_the_filter_knows_all_of_it(
    where: Callable[[Any], Any],
) -> None:
    target = Answers(lambda _: Allow())
    with Playbook(where(lambda: target), rule_settings={"word": "hello"}) as play:
        play.client.sends(b"x")
        play.server.receives(b"x")
        play.client.ends()
        play.server.ends()
    assert target.told[0].startswith("attach 10.")
    assert target.told[1].endswith(" hello")
    assert target.told[2] == "detach"


@WHERES
def test_denied_connection_ends_with_the_reason(where: Callable[[Any], Any]) -> None:
    target = Answers(lambda _: Deny("not today"))
    with Playbook(where(lambda: target)) as play:
        play.client.receives_reset()
        play.expect_refused("not today")


@WHERES
def test_data_filters_that_are_attached_relay(where: Callable[[Any], Any]) -> None:
    target = Answers(attach_twice)
    with Playbook(where(lambda: target)) as play:
        play.client.sends(b"x" * 100_000)
        play.server.receives(b"x" * 100_000)
        play.server.sends(b"y")
        play.client.receives(b"y")
        play.client.ends()
        play.server.receives_end()
        play.server.ends()
        play.client.receives_end()
        assert play.server.received_count == 100_000


@WHERES
def test_emulating_filter_is_the_server(where: Callable[[Any], Any]) -> None:
    target = Answers(lambda _: Emulate(Counting()))
    with Playbook(where(lambda: target)) as play:
        play.client.sends(b"12345")
        play.client.receives(b"5\n")
        play.client.sends(b"678")
        play.client.receives(b"8\n")
        play.client.ends()
        play.client.receives_end()
        assert play.client.received_count == len(b"5\n8\n")


@WHERES
@pytest.mark.parametrize("answer", ["yes", None])
def test_answer_that_is_none_denies(where: Callable[[Any], Any], answer: Any) -> None:
    target = Answers(lambda _: answer)
    with Playbook(where(lambda: target)) as play:
        play.client.receives_reset()
        play.expect_refused("filter failure: answers")
        play.filter_errors.clear()


def test_event_that_is_not_answered_in_time_denies_and_is_given_up_in_the_cell() -> None:
    cell = InlineCell(lambda: Answers(waits))
    with Playbook(cell.stand_in) as play:
        assert play.client.is_connected
        play.settle()
        assert cell.launched[0].server.asked_count == 1
        play.wait(11)
        play.client.receives_reset()
        play.expect_refused("filter failure: answers")
        assert cell.launched[0].server.asked_count == 0
        play.filter_errors.clear()


def test_cell_killed_while_an_event_waits_denies_and_the_next_client_is_served() -> None:
    cell = InlineCell(lambda: Answers(waits))
    with Playbook(cell.stand_in) as play:
        assert play.client.is_connected
        play.settle()
        cell.use(lambda: Answers(lambda _: Pass()))
        cell.launched[0].kill()
        play.client.receives_reset()
        assert "was killed by SIGKILL" in play.records_of(FilterFailureRecord)[0].cause
        play.filter_errors.clear()
        after = play.connect()
        play.wait(0.5)
        after.client.sends(b"x")
        after.server.receives(b"x")
        after.client.ends()
        after.server.ends()


def test_filter_that_wants_events_that_do_not_reach_a_cell_has_failed() -> None:
    cell = InlineCell(lambda: Answers(lambda _: Pass(), NameLookup))
    with Playbook(cell.stand_in) as play:
        assert play.client.is_connected
        play.wait(11)
        play.client.receives_reset()
        play.expect_refused("filter failure: answers")
        assert "registers for NameLookup, of which a cell is not told" in str(cell.failures[0])
        play.filter_errors.clear()


def test_what_does_not_reach_out_of_a_cell_ends_the_connection_with_the_reason() -> None:
    def expect(event: Event) -> EventVerdict:
        event.session.create_network_socket()
        return Pass()

    target = Answers(expect)
    with Playbook(isolated(lambda: target)()) as play:
        play.client.receives_reset()
        play.expect_refused("filter failure: answers")
        cause = play.records_of(FilterFailureRecord)[0].cause
        assert "a session offers no 'create_network_socket' to a filter that runs in" in cause
        play.filter_errors.clear()


def test_filter_that_was_attached_before_its_process_was_replaced_is_no_others() -> None:
    cells: list[InlineCell] = []
    others = Relay()

    def announce_another() -> None:
        # The new process counts from one again, as the old one did.
        server = cells[0].launched[1].server
        server._events._announced[1] = _Announced(others, None)

    def answer(event: Event) -> Any:
        event.attach_data_filter(Relay())
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, cells[0].launched[0].kill)
        loop.call_later(0.5, announce_another)
        return Pass()

    cells.append(InlineCell(lambda: Answers(answer)))
    slow = FaultPlan(latency_s=(1.0, 1.0))
    with Playbook(lambda: cells[0].stand_in, faults=slow) as play:
        play.client.receives_reset()
        play.expect_failed("filter failure: relay")
        announced = cells[0].launched[1].server._events._announced
        assert announced[1].data_filter is others
