"""What spares authors of data filters the rest: ConnectionFilter, rule settings, relay, note."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from sluicegate.audit import NoteRecord
from sluicegate.filterapi import (
    FORWARD,
    AnyDataFilter,
    Connection,
    ConnectionFilter,
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
    Pass,
    Session,
    SessionFilter,
    Side,
    SocketAddress,
    StreamFilter,
    StreamVerdict,
    TransportError,
    Window,
    relay,
)
from sluicegate.testing import Playbook
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import (
    CLIENT,
    ENTRY,
    SERVER,
    Gate,
    installation,
    play,
    publication,
    settings,
    what_comes,
)


class GreetingSettings(BaseModel):
    word: str = "hello"
    times: int = 1


class Greeting(ConnectionFilter[GreetingSettings]):
    name = "greeting"
    RuleSettings = GreetingSettings

    def make(self, connection: Connection, settings: GreetingSettings) -> Any:
        self.asked_about = connection.client_address.host
        answers: dict[str, Any] = {"deny": Deny("not here"), "none": None, "nonsense": 42}
        if settings.word in answers:
            return answers[settings.word]
        if settings.word == "emulate":
            return Emulate(Answers())
        return Greets((settings.word * settings.times).encode())


class Answers(DataFilter):
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is None
        await client.send(b"nobody is there")


class Greets(DataFilter):
    name = "greets"

    def __init__(self, word: bytes) -> None:
        self.word = word

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        await client.send(self.word)
        connection.note(self, "greeted", {"bytes": len(self.word)})


def greeting(**own: Any) -> Greeting:
    return Greeting(GreetingSettings(**own))


@pytest.mark.parametrize(
    ("own", "rule", "greets"),
    [
        ({}, {}, b"hello"),
        ({"word": "hi", "times": 2}, {}, b"hihi"),
        ({"word": "hi", "times": 2}, {"word": "ho"}, b"hoho"),
        ({"word": "hi"}, {"word": "ho", "times": 3}, b"hohoho"),
    ],
)
def test_filter_is_made_with_the_rules_settings_and_its_own_for_the_rest(
    own: Mapping[str, Any], rule: Mapping[str, Any], greets: bytes
) -> None:
    with Playbook(greeting(**own), rule_settings=rule) as play:
        play.client.receives(greets)
        play.client.sends(b"x")
        play.server.receives(b"x")  # returning has left the chain
        assert [note.facts["bytes"] for note in play.records_of(NoteRecord)] == [len(greets)]


def test_rule_whose_settings_do_not_fit_the_model_is_blocked() -> None:
    with Playbook(greeting(), rule_settings={"times": "many"}) as play:
        play.expect_refused(re.compile("filter greeting has wrong settings.*times.*", re.DOTALL))


def test_answers_other_than_a_data_filter_are_verdicts() -> None:
    with Playbook(greeting(), rule_settings={"word": "deny"}) as play:
        play.expect_refused("not here")
    with Playbook(greeting(), rule_settings={"word": "none"}) as play:
        play.client.sends(b"x")
        play.server.receives(b"x")
    with Playbook(greeting(), rule_settings={"word": "emulate"}) as play:
        play.client.receives(b"nobody is there")
        play.client.ends()
    with Playbook(greeting(), rule_settings={"word": "nonsense"}) as play:
        play.expect_refused("filter failure: greeting")
        play.expect_filter_failure()


def test_class_that_declares_rule_settings_is_made_with_them_for_each_connection() -> None:
    class Prefix(StreamFilter):
        name = "prefix"

        @dataclasses.dataclass
        class RuleSettings:
            prefix: str = "> "

        def __init__(self, settings: RuleSettings) -> None:
            self._prefix = settings.prefix.encode()

        def on_start(self, connection: Connection) -> None:
            connection.note(self, f"with {self._prefix!r}")

        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            return FORWARD

    with Playbook(Prefix, rule_settings={"prefix": "# "}) as play:
        play.client.sends(b"x")
        second = play.connect()
        second.client.sends(b"y")
        notes = play.records_of(NoteRecord)
        assert [note.message for note in notes] == ["with b'# '"] * 2
        assert {note.filter for note in notes} == {"prefix"}
        assert len({note.facts["connection"] for note in notes}) == 2


def test_events_deliver_the_typed_settings_and_a_table_where_nothing_is_declared() -> None:
    seen: list[object] = []

    class Looks(SessionFilter):
        def on_event(self, event: Event) -> EventVerdict:
            seen.append(event.rule_settings)
            return Pass()

    class Plain(Filter):
        name = "plain"

        def start(self, firewall: Firewall) -> Events:
            return Events.of(ConnectRequested)

        def attach(self, session: Session) -> SessionFilter:
            return Looks(session)

    class Typed(Plain):
        name = "typed"
        RuleSettings = GreetingSettings

    with Playbook(Plain(), Typed(), rule_settings={"word": "ho"}) as play:
        play.client.sends(b"x")
        assert seen == [{"word": "ho"}, GreetingSettings(word="ho")]


# -- relay -----------------------------------------------------------------------------------------


class Relays(DataFilter):
    def __init__(self, seen: list[BaseException] | None = None) -> None:
        self.seen = [] if seen is None else seen

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        try:
            await relay(client, server, from_server=shout)
        except Exception as error:
            self.seen.append(error)
            raise


async def shout(source: DataSocket, sink: DataSocket) -> None:
    while len(window := await source.receive()):
        if b"bad" in bytes(window):
            raise ValueError("bad")
        await sink.send(bytes(window).upper())
    sink.shutdown()


def test_relay_moves_both_directions_and_passes_each_end_on() -> None:
    with Playbook(Relays) as play:
        play.client.sends(b"question")
        play.client.ends()
        play.server.receives(b"question")
        play.server.receives_end()
        play.server.sends(b"answer")
        play.client.receives(b"ANSWER")
        play.server.ends()
        play.client.receives_end()
        play.expect_released()


def test_relay_raises_what_failed_and_not_a_group() -> None:
    seen: list[BaseException] = []
    makes: list[AnyDataFilter] = []

    def make() -> AnyDataFilter:
        makes.append(Relays(seen))
        return makes[-1]

    with Playbook(make) as play:
        play.client.sends(b"x")
        play.server.sends(b"bad")
        play.expect_failed()
    assert [type(error) for error in seen] == [ValueError]
    seen.clear()
    with Playbook(make) as play:
        play.client.sends(b"x")
        play.client.resets()
        assert play.outcome == "failed"
        assert play.reason == "client ECONNRESET"
    assert [type(error) for error in seen] in ([TransportError], [])


class Names(DataFilter):
    """Notes what it is told of the ends of its connection."""

    name = "names"
    seen: ClassVar[dict[str, SocketAddress]] = {}

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        Names.seen = {
            "client": connection.client_address,
            "client side": connection.client_side_address,
            "server side": connection.server_side_address,
            "server": connection.server_address,
            "session": connection.session.client_address,
        }


def test_filter_knows_all_four_ends_and_the_server_sees_the_gates_own_address() -> None:
    at_server: list[SocketAddress] = []
    at_client: list[tuple[SocketAddress, SocketAddress]] = []

    async def scenario(gate: Gate) -> None:
        async def serve(stream: PeerStream) -> bytes:
            at_server.append(stream.remote)
            return await what_comes(stream)

        async def call(stream: PeerStream) -> None:
            at_client.append((stream.local, stream.remote))
            await stream.send_all(b"x")
            stream.close()

        gate.serve(serve)
        await gate.ended(gate.call(call))
        await gate.idle()

    play(scenario, settings(publication("names"), filters=[installation(Names, "names")]))
    ((local, remote),) = at_client
    assert Names.seen["client"] == local
    assert Names.seen["client side"] == remote == ENTRY
    assert Names.seen["server"] == SERVER
    assert [Names.seen["server side"]] == at_server
    assert Names.seen["session"].host == CLIENT.host
    assert at_server[0].host != CLIENT.host
