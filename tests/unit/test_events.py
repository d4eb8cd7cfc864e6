"""Events: what each carries, what it may be answered, and how long it is valid."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    AddressLookup,
    Allow,
    CallbackDataFilter,
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectionTerminating,
    ConnectRequested,
    Deny,
    Emulate,
    EntryMode,
    Event,
    Events,
    EventVerdict,
    ListenRequested,
    NameLookup,
    Pass,
    TcpBindRequested,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.gate.dispatch import dispatch
from sluicegate.gate.settings import OnFailure
from tests.unit.gate_parts import Answers, Connection, Service, step_of

ADDRESS = SocketAddress.parse("192.0.2.1:80")
IP = ipaddress.ip_address("192.0.2.1")


class Peer:
    address = ADDRESS


MAKES: dict[type[Event], Callable[[Any], Event]] = {
    ConnectRequested: lambda c: ConnectRequested(c, ADDRESS),
    UdpDestination: lambda c: UdpDestination(c, Peer()),
    TcpBindRequested: lambda c: TcpBindRequested(c, ADDRESS, c),
    UdpBindRequested: lambda c: UdpBindRequested(c, ADDRESS),
    ListenRequested: lambda c: ListenRequested(c, ADDRESS, c),
    ConnectionAccepted: lambda c: ConnectionAccepted(c, ADDRESS, is_secondary=False),
    NameLookup: lambda c: NameLookup(c.session, c.entry_mode, "example.com"),
    AddressLookup: lambda c: AddressLookup(c.session, c.entry_mode, IP),
    ConnectionTerminating: ConnectionTerminating,
}
EVERY = frozenset(MAKES)


class Playing(CallbackDataFilter):
    """Plays a server, or nothing: it counts how often it is detached."""

    detached = 0

    def set_sockets(self, *args: Any) -> None:
        raise AssertionError("not in these tests")

    def detach(self) -> None:
        self.detached += 1


def ask(
    kind: type[Event], *answers: Any, refusal: str = "", on_failure: OnFailure = OnFailure.DENY
) -> tuple[EventVerdict, Service]:
    """Dispatch an event of a kind to filters with these answers."""
    service = Service()
    verdicts: list[EventVerdict] = []
    steps = [
        step_of(Answers(lambda _, a=answer: a, Events(EVERY)), f"f{number}", on_failure)  # type: ignore[misc]
        for number, answer in enumerate(answers)
    ]
    connection: Any = Connection(service, *steps)
    event = MAKES[kind](connection)

    async def main() -> None:
        dispatch(service, connection, event, verdicts.append, refusal)  # type: ignore[arg-type]

    asyncio.run(main())
    with pytest.raises(BadContext):
        event.check_open()
    (verdict,) = verdicts
    return verdict, service


@pytest.mark.parametrize("kind", MAKES, ids=lambda kind: kind.__name__)
def test_event_says_whose_it_is_and_how_the_client_came(kind: type[Event]) -> None:
    connection: Any = Connection(Service())
    connection.entry_mode = EntryMode.SOCKS5
    event = MAKES[kind](connection)
    assert event.session is connection.session
    assert event.source is EntryMode.SOCKS5
    assert event.source.is_explicit
    assert not EntryMode.PUBLISHED.is_explicit


def test_lookup_outside_a_connection_has_none() -> None:
    connection: Any = Connection(Service())
    event = NameLookup(connection.session, EntryMode.PRIVATE, "example.com")
    with pytest.raises(BadContext, match="about no connection"):
        _ = event.connection
    with pytest.raises(BadContext, match="about no connection"):
        event.attach_data_filter(Playing())
    inside = NameLookup(connection.session, EntryMode.SOCKS5, "x.org", (IP,), connection)
    assert (inside.connection, inside.is_before, inside.addresses) == (connection, False, (IP,))


def test_udp_destination_names_its_peer() -> None:
    connection: Any = Connection(Service())
    assert UdpDestination(connection, Peer()).address == ADDRESS


# -- answers ---------------------------------------------------------------------------------------

TAKEN: dict[type[Event], set[str]] = {
    ConnectRequested: {"Pass", "Allow", "Deny"},
    UdpDestination: {"Pass", "Allow", "Deny"},
    TcpBindRequested: {"Pass", "Allow", "Deny", "Emulate"},
    UdpBindRequested: {"Pass", "Allow", "Deny"},
    ListenRequested: {"Pass"},
    ConnectionAccepted: {"Pass", "Allow", "Deny"},
    NameLookup: {"Pass", "Allow", "Deny"},
    AddressLookup: {"Pass", "Allow", "Deny"},
}


@pytest.mark.parametrize("kind", TAKEN, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("answer", [Pass(), Allow(), Deny("no"), Emulate()], ids=repr)
def test_an_answer_that_an_event_does_not_take_is_a_failure_of_the_filter(
    kind: type[Event], answer: EventVerdict
) -> None:
    verdict, service = ask(kind, answer)
    if type(answer).__name__ in TAKEN[kind]:
        assert (verdict, service.failures) == (answer, [])
    else:
        assert verdict == Deny("filter failure: f0")
        ((name, cause),) = service.failures
        assert name == "f0"
        assert "which takes" in cause or "emulates a server with None" in cause


def test_listen_cannot_be_refused() -> None:
    verdict, service = ask(ListenRequested, Deny("no"), on_failure=OnFailure.BYPASS)
    assert verdict == Pass()
    assert len(service.failures) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_deny_beats_emulation_and_detaches_who_would_have_played(order: int) -> None:
    playing = Playing()
    answers: list[Any] = [Emulate(playing), Deny("no")]
    verdict, service = ask(ConnectRequested, *answers[::order])
    assert (verdict, service.failures) == (Deny("no"), [])
    # Nobody is asked after a deny.
    assert playing.detached == (1 if order == 1 else 0)


def test_emulation_that_does_not_fit_is_let_go() -> None:
    playing = Playing()
    verdict, service = ask(TcpBindRequested, Emulate(playing))
    assert verdict == Deny("filter failure: f0")
    assert "give it to bind.emulate_connection" in service.failures[0][1]
    assert playing.detached == 1


@pytest.mark.parametrize("order", [1, -1])
def test_emulation_goes_before_allow_and_pass(order: int) -> None:
    emulation = Emulate()
    for other in (Allow(), Pass()):
        verdict, _ = ask(TcpBindRequested, *[emulation, other][::order])
        assert verdict is emulation


def test_second_emulator_is_refused_by_the_name_of_the_first() -> None:
    first, second = Playing(), Playing()
    verdict, service = ask(ConnectRequested, Emulate(first), Emulate(second))
    assert verdict == Deny("filter failure: f1")
    ((name, cause),) = service.failures
    assert name == "f1"
    assert "emulates what filter f0 emulates already" in cause
    assert (first.detached, second.detached) == (1, 1)


def test_second_emulator_that_is_bypassed_leaves_the_first_one_playing() -> None:
    first, second = Emulate(Playing()), Playing()
    verdict, _ = ask(ConnectRequested, first, Emulate(second), on_failure=OnFailure.BYPASS)
    assert verdict is first
    assert second.detached == 1


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([], Deny("not listed")),
        ([Pass()], Deny("not listed")),
        ([Allow()], Allow()),
        ([Pass(), Allow()], Allow()),
        ([Allow(), Deny("no")], Deny("no")),
        ([Emulate()], Deny("not listed")),
    ],
)
def test_allow_overrides_the_built_in_check_and_nothing_else_does(
    answers: list[Any], verdict: EventVerdict
) -> None:
    assert ask(TcpBindRequested, *answers, refusal="not listed")[0] == verdict


def test_allow_of_one_filter_lets_another_emulate_what_the_built_in_check_refuses() -> None:
    emulation = Emulate()
    verdict, _ = ask(TcpBindRequested, emulation, Allow(), refusal="not listed")
    assert verdict is emulation


# -- answers to lookups ----------------------------------------------------------------------------


def test_name_lookup_takes_a_result_while_it_is_open() -> None:
    connection: Any = Connection(Service())
    event = NameLookup(connection.session, EntryMode.SOCKS5, "example.com")
    assert (event.is_before, event.addresses, event.result) == (True, (), None)
    event.set_result([IP])
    assert event.result == (IP,)
    with pytest.raises(ValueError, match="at least one address"):
        event.set_result([])
    event.close()
    with pytest.raises(BadContext):
        event.set_result([IP])


def test_address_lookup_takes_a_result_while_it_is_open() -> None:
    connection: Any = Connection(Service())
    event = AddressLookup(connection.session, EntryMode.SOCKS5, IP, ("a.example",))
    assert (event.is_before, event.names, event.result) == (False, ("a.example",), None)
    event.set_result(["b.example"])
    assert event.result == ("b.example",)
    with pytest.raises(ValueError, match="at least one name"):
        event.set_result([])
    event.close()
    with pytest.raises(BadContext):
        event.set_result(["c.example"])


# -- registration ----------------------------------------------------------------------------------


def test_established_cannot_be_registered_for() -> None:
    with pytest.raises(ValueError, match="cannot be registered for"):
        Events.of(ConnectionEstablished)


@pytest.mark.parametrize("kind", MAKES, ids=lambda kind: kind.__name__)
def test_registration_is_by_type_source_and_generation(kind: type[Event]) -> None:
    connection: Any = Connection(Service())
    event = MAKES[kind](connection)
    assert Events.of(kind).has(event)
    assert not Events(EVERY - {kind}).has(event)
    assert Events.of(kind, sources=frozenset({EntryMode.PUBLISHED})).has(event)
    assert not Events.of(kind, sources=frozenset({EntryMode.SOCKS5})).has(event)
    event.is_secondary = True
    assert not Events.of(kind).has(event)
    assert Events.of(kind, secondary=True).has(event)
