"""Filters of datagrams behind the wire: as in the gate, and every failure ends its connection."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.audit import ConnectionRecord
from sluicegate.filterapi import (
    DROP,
    FORWARD,
    LEAVE,
    CallbackDataFilter,
    Connection,
    Cut,
    DataFilter,
    DatagramFilter,
    Deny,
    Event,
    Events,
    Filter,
    Firewall,
    Pass,
    Rewrite,
    Session,
    SessionFilter,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.isolation.messages import Dropped, StartSend
from sluicegate.testing import FaultPlan, Playbook
from sluicegate.testing.inline_cell import InlineCell, isolated

PEER = ("10.9.9.9", 53, 0)


class Judge(DatagramFilter):
    """Answers by the datagram's first letter."""

    name = "judge"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []

    def on_start(self, connection: Connection) -> None:
        self.connection = connection

    def on_datagram(self, side: Any, peer: Any, window: Any) -> Any:
        data = bytes(window)
        self.seen.append((side, str(peer), data))
        match data[:1]:
            case b"r":
                return Rewrite(b"rewritten")
            case b"d":
                return DROP
            case b"c":
                return Cut("cut")
            case b"l":
                return LEAVE
            case b"!":
                raise ValueError("boom")
            case b"?":
                return "nonsense"
            case _:
                return FORWARD


@pytest.mark.parametrize("seed", range(4))
def test_datagrams_pass_are_rewritten_and_dropped_and_counted(seed: int) -> None:
    with Playbook(isolated(Judge), faults=FaultPlan.disorder(), seed=seed) as play:
        talk = play.connect_udp()
        for data in (b"pass", b"r", b"d", b"", b"x" * 8000):
            talk.client.sends(data)
        talk.server.receives(b"pass", b"rewritten", b"", b"x" * 8000)
        talk.server.sends(b"answer")
        talk.client.receives(b"answer")
        talk.expect_open()
    (record,) = play.records_of(ConnectionRecord)
    assert record.dropped == {"filter": 1}


def test_filter_that_leaves_sees_no_more_and_nothing_is_lost() -> None:
    made: list[Judge] = []

    def make() -> Judge:
        made.append(Judge())
        return made[-1]

    with Playbook(isolated(make)) as play:
        talk = play.connect_udp()
        talk.client.sends(b"first", b"leave", b"d", b"r")
        talk.server.receives(b"first", b"leave", b"d", b"r")
        talk.client.sends(b"d")
        talk.server.receives(b"d")
    assert [data for _, _, data in made[-1].seen][:2] == [b"first", b"leave"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"cut", "cut"), (b"!", "filter failure: judge"), (b"?", "filter failure: judge")],
)
def test_filter_that_cuts_raises_or_answers_nonsense_ends_its_connection_alone(
    data: bytes, reason: str
) -> None:
    with Playbook(isolated(Judge)) as play:
        one, two = play.connect_udp(), play.connect_udp(client="10.1.1.2:0")
        one.client.sends(b"x")
        two.client.sends(b"x")
        one.server.reads()
        one.client.sends(data)
        one.server.receives_nothing()
        one.expect_refused(reason)
        two.client.sends(b"y")
        two.server.receives(b"y")
        play.filter_errors.clear()


class Bracketed(DataFilter):
    """A coroutine on both ends."""

    name = "bracketed"

    async def run(self, client: Any, server: Any, connection: Connection) -> None:
        while True:
            window, peer = await client.receive_from()
            await server.send_to(b"<" + bytes(window) + b">", peer)


class Counting(CallbackDataFilter):
    """Callbacks that are told peers."""

    name = "counting"

    def set_sockets(self, client: Any, server: Any, connection: Any, context: Any) -> None:
        self.client, self.server = client, server
        client.start_receive(None, self)
        server.start_receive(None, self)

    def complete_socket_io(
        self, success: bool, error: int, buffer: Any, user_data: Any, address: Any
    ) -> None:
        if success and user_data is None:
            assert address is not None
            self.server.start_send(bytes(buffer) + str(address).encode(), self, "sent")
            self.client.start_receive(None, self)

    def detach(self) -> None:
        return


@pytest.mark.parametrize(("make", "arrives"), [(Bracketed, b"<x>"), (Counting, b"x10.9.9.9:53")])
def test_filter_with_sockets_keeps_datagrams_and_their_peers(
    make: Callable[[], Any], arrives: bytes
) -> None:
    with Playbook(isolated(make)) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        talk.server.receives(arrives)
        talk.client.sends(b"x")
        talk.server.receives(arrives)
        assert talk.server.received_count == 2


def test_datagram_filter_on_a_stream_fails_it() -> None:
    with Playbook(isolated(Judge)) as play:
        play.client.receives_reset()
        play.expect_failed("filter failure: judge")


# -- events ----------------------------------------------------------------------------------------


class Telling(Filter):
    """Answers events as a function says."""

    name = "telling"

    def __init__(self, answer: Callable[[Any], Any], *kinds: type[Event]) -> None:
        self.answer = answer
        self.kinds = kinds
        self.told: list[str] = []

    def start(self, firewall: Firewall) -> Events:
        return Events.of(*self.kinds)

    def attach(self, session: Session) -> SessionFilter:
        return TellingSession(session, self)


class TellingSession(SessionFilter):
    def __init__(self, session: Session, parent: Telling) -> None:
        super().__init__(session)
        self.parent = parent

    def on_event(self, event: Any) -> Any:
        self.parent.told.append(f"{type(event).__name__} {event.address}")
        return self.parent.answer(event)


def test_events_of_datagrams_reach_a_cell() -> None:
    filters = Telling(lambda event: Pass(), UdpBindRequested, UdpDestination)
    with Playbook(isolated(lambda: filters)) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        talk.server.receives(b"x")
    assert filters.told == ["UdpBindRequested 10.0.0.1:3000", "UdpDestination 10.9.9.9:53"]


@pytest.mark.parametrize("by", ["verdict", "peer"])
def test_peer_is_denied_from_a_cell(by: str) -> None:
    def answer(event: Any) -> Any:
        if event.address.host != "93.184.216.35":
            return Pass()
        if by == "verdict":
            return Deny("not that one")
        event.peer.deny("not that one")
        return Pass()

    with Playbook(isolated(lambda: Telling(answer, UdpDestination))) as play:
        good = play.datagram_server("93.184.216.34:53")
        bad = play.datagram_server("93.184.216.35:53")
        client = play.associate()
        client.sends(b"one", to=good.address)
        client.sends(b"two", to=bad.address)
        good.receives(b"one")
        bad.receives_nothing()
        client.ends()
        dropped = [one.dropped for one in play.records_of(ConnectionRecord) if one.dropped]
        assert dropped == [{"peer-denied": 1}]


def test_filter_is_attached_for_a_peer_from_a_cell() -> None:
    def answer(event: Any) -> Any:
        event.attach_data_filter(Judge(), peer=event.address)
        return Pass()

    with Playbook(isolated(lambda: Telling(answer, UdpDestination))) as play:
        talk = play.connect_udp()
        talk.client.sends(b"r")
        talk.server.receives(b"rewritten")
        assert talk.server.received_count == 1


# -- a cell that lies, or dies ---------------------------------------------------------------------


def cell_in(play_filter: InlineCell) -> Any:
    return play_filter.launched[-1].server


@pytest.mark.parametrize(
    "lie",
    [
        lambda number: StartSend(number, True, b"x" * 70_000, True, PEER),
        lambda number: StartSend(number, True, b"x", True, ("not an address", 53, 0)),
        lambda number: StartSend(number, True, b"x", True, ("10.9.9.9", 70_000, 0)),
    ],
)
def test_lie_about_a_datagram_ends_its_connection(lie: Callable[[int], Any]) -> None:
    cell = InlineCell(Judge)
    with Playbook(lambda: cell.stand_in.make(cell.stand_in.rule_settings())) as play:  # type: ignore[union-attr,misc]
        talk = play.connect_udp()
        talk.client.sends(b"x")
        talk.server.receives(b"x")
        number = next(iter(cell_in(cell)._places))
        cell_in(cell).tell(lie(number))
        play.settle()
        talk.server.receives_nothing()
        play.filter_errors.clear()
        talk.expect_refused(re.compile("filter failure: .*"))


@pytest.mark.parametrize("lie", [Dropped, lambda n: StartSend(n, True, b"x", True, PEER)])
def test_talk_of_datagrams_on_a_stream_ends_it(lie: Callable[[int], Any]) -> None:
    class Passing(DataFilter):
        name = "passing"

        async def run(self, client: Any, server: Any, connection: Any) -> None:
            await client.receive()

    cell = InlineCell(Passing)
    with Playbook(lambda: cell.stand_in.make(cell.stand_in.rule_settings())) as play:  # type: ignore[union-attr,misc]
        play.expect_open()
        number = next(iter(cell_in(cell)._places))
        cell_in(cell).tell(lie(number))
        play.client.receives_reset()
        play.expect_failed(re.compile("filter failure: .*"))


def test_death_of_the_process_ends_its_udp_connections_and_new_ones_are_served() -> None:
    cell = InlineCell(Judge)
    with Playbook(lambda: cell.stand_in.make(cell.stand_in.rule_settings())) as play:  # type: ignore[union-attr,misc]
        one = play.connect_udp()
        one.client.sends(b"x")
        one.server.receives(b"x")
        cell.launched[-1].kill()
        play.wait(1)
        play.filter_errors.clear()
        one.expect_refused(re.compile("filter failure: .*"))
        two = play.connect_udp(client="10.1.1.2:0")
        two.client.sends(b"y")
        two.server.receives(b"y")
    assert len(cell.launched) == 2


def test_peer_is_not_denied_when_its_event_is_over() -> None:
    kept: list[Any] = []

    def answer(event: Any) -> Any:
        kept.append(event.peer)
        return Pass()

    with Playbook(isolated(lambda: Telling(answer, UdpDestination))) as play:
        play.connect_udp().client.sends(b"x")
        with pytest.raises(Exception, match="while its UdpDestination is handled"):
            kept[0].deny("late")
