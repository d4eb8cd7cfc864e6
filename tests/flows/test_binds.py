"""What session filters ask for in advance: expected connections, binds, redirections, factories."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import BadContext, LimitExceeded, Side, TransportError
from sluicegate.filterapi import (
    Allow,
    ConnectionAccepted,
    ConnectionEstablished,
    ConnectRequested,
    Deny,
    Emulate,
    Events,
    ListenRequested,
    NameLookup,
    Pass,
    Position,
    TcpBindRequested,
)
from sluicegate.policy import FloodBounds
from tests.flows.chain_filters import Stream, Witness
from tests.flows.gate_kit import (
    CLIENT,
    SERVER,
    Gate,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
)
from tests.flows.model_kit import Playing, PlayingEcho, Telling, echo

ALL = Events.of(
    ConnectRequested, TcpBindRequested, ListenRequested, ConnectionAccepted, secondary=True
)
AT_CLIENT = CLIENT.with_port(5000)
OTHER = SocketAddress.parse("10.9.9.8:9000")
STRANGER = SocketAddress.parse("10.66.0.1:0")
SERVERS = AddressFilter.only(SERVER.host)

Scenario = Callable[[Gate, Any, Telling], Awaitable[None]]


def run(
    scenario: Scenario,
    answer: Callable[[Any], Any] = lambda event: Pass(),
    *others: Telling,
    events: Events = ALL,
    **more: Any,
) -> tuple[Gate, Telling]:
    """Play a scenario with the primary connection that is open, and the filter that was told."""
    telling = Telling(answer, events)
    names = [f"f{number}" for number in range(len(others) + 1)]
    plan = settings(
        publication(*names),
        filters=[
            installation(one, name) for one, name in zip((telling, *others), names, strict=True)
        ],
    )

    async def whole(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: [one for one in gate.service.connections() if one.state == "open"])
        await scenario(gate, telling.seen[0].connection, telling)

    return play(whole, plan, **more), telling


def bind(primary: Any, **more: Any) -> Any:
    return primary.session.bind_for_client(primary, AT_CLIENT, peers=SERVERS, **more)


async def peer_comes(gate: Gate, action: Any, data: bytes = b"hello", host: Any = SERVER) -> Any:
    """Connect as the server does, send, and return what came."""
    (received,) = await gate.ended(
        gate.call(sends(data), address=action.address, source=host.with_port(0), name="peer")
    )
    return received


# -- binds -----------------------------------------------------------------------------------------


def test_bind_for_client_asks_then_tells_then_accepts() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        action = bind(primary)
        assert telling.names()[1:] == ["TcpBindRequested", "ListenRequested"]
        asked, listens = telling.seen[1:]
        assert (asked.connection, asked.address.port) == (primary, 0)
        assert asked.address.host == action.address.host == primary.server_side_address.host
        assert listens.address == action.address
        assert asked.is_secondary
        assert asked.bind is action
        assert await peer_comes(gate, action) == b"hello"
        (accepted,) = telling.of(ConnectionAccepted)
        assert (accepted.remote.host, accepted.local) == (SERVER.host, action.address)
        assert not action.is_pending

    gate, _ = run(scenario)
    assert [one.outcome for one in gate.ends if one.primary] == ["released"]


def test_denied_bind_raises_and_leaves_no_socket() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        before = len(gate.sockets)
        with pytest.raises(TransportError, match="bind denied: not here") as raised:
            bind(primary)
        assert raised.value.error == errno.EACCES
        assert len(gate.sockets) == before
        assert telling.names()[1:] == ["TcpBindRequested"]

    run(scenario, lambda e: Deny("not here") if isinstance(e, TcpBindRequested) else Pass())


def test_filter_that_answers_later_lets_nobody_in_before() -> None:
    gates: list[Gate] = []

    def answer(event: Any) -> Any:
        if not isinstance(event, TcpBindRequested):
            return Pass()

        async def later() -> Any:
            await asyncio.sleep(2)
            return Allow()

        return later()

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gates.append(gate)
        gate.serve(echoes, address=AT_CLIENT)
        action = bind(primary)
        assert action.address.port
        knocking = gate.call(
            sends(b"hello"), address=action.address, source=SERVER.with_port(0), name="peer"
        )
        await asyncio.sleep(1)
        assert telling.of(ConnectionAccepted) == []
        assert await gate.ended(knocking) == [b"hello"]

    run(scenario, answer)


def test_bind_that_is_denied_later_is_over() -> None:
    def answer(event: Any) -> Any:
        async def later() -> Any:
            await asyncio.sleep(1)
            return Deny("no")

        return later() if isinstance(event, TcpBindRequested) else Pass()

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        action = bind(primary)
        await gate.until(lambda: not action.is_pending)
        assert telling.of(ListenRequested) == []

    run(scenario, answer)


def test_listen_cannot_be_refused() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        assert await peer_comes(gate, bind(primary)) == b"hello"

    gate, _ = run(scenario, lambda e: Deny("no") if isinstance(e, ListenRequested) else Pass())
    assert ["ListenRequested, which takes Pass" in one.cause for one in gate.failures] == [True]


def test_accepted_connection_that_is_denied_is_aborted() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        received = await peer_comes(gate, bind(primary))
        assert received == f"<{errno.ECONNRESET}>".encode()

    gate, _ = run(scenario, lambda e: Deny("no") if isinstance(e, ConnectionAccepted) else Pass())
    assert [one.reason for one in gate.decisions if one.primary] == ["no"]


def test_client_address_may_come_later_and_nobody_gets_in_before() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        action = primary.session.bind_for_client(
            primary, AT_CLIENT.with_port(0), peers=SERVERS, allow_multiple=True
        )
        assert await peer_comes(gate, action) == f"<{errno.ECONNRESET}>".encode()
        with pytest.raises(ValueError, match="bounce"):
            action.set_client_address(OTHER)
        action.set_client_address(AT_CLIENT)
        assert await peer_comes(gate, action) == b"hello"

    run(scenario)


def test_peers_of_a_bind_can_be_changed_and_what_is_read_is_a_copy() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        action = bind(primary, allow_multiple=True)
        action.peers.include(ipaddress.ip_network("0.0.0.0/0"))
        assert await peer_comes(gate, action, host=STRANGER) == f"<{errno.ECONNRESET}>".encode()
        action.set_peers(AddressFilter.only(STRANGER.host))
        assert await peer_comes(gate, action, host=STRANGER) == b"hello"
        assert await peer_comes(gate, action) == f"<{errno.ECONNRESET}>".encode()

    gate, _ = run(scenario)
    assert len([one for one in gate.decisions if "not the expected peer" in one.reason]) == 2


def test_bind_may_be_retroactively_allowed_to_others() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        session = primary.session
        with pytest.raises(LookupError, match="use bind_for_client"):
            session.retroactive_allow_bind(AT_CLIENT, SERVERS)
        action = bind(primary, allow_multiple=True)
        anywhere = SocketAddress("0.0.0.0", action.address.port)
        more = AddressFilter.only(STRANGER.host)
        assert not session.retroactive_allow_bind(action.address, SERVERS)
        assert session.retroactive_allow_bind(anywhere, more)
        assert not session.retroactive_allow_bind(anywhere, more)
        assert await peer_comes(gate, action, host=STRANGER) == b"hello"
        assert await peer_comes(gate, action) == b"hello"

    run(scenario)


# -- emulated binds --------------------------------------------------------------------------------

NAME = SocketAddress.parse("10.0.0.1:2121")


def emulate_bind(event: Any) -> Any:
    if isinstance(event, TcpBindRequested):
        event.bind.set_socket_name(NAME)
        return Emulate()
    return Pass()


@pytest.mark.parametrize("make", [lambda: Playing(echo), PlayingEcho], ids=["coroutine", "calls"])
def test_emulated_bind_has_no_socket_and_gets_its_connections_from_the_filter(make: Any) -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        sockets = len(gate.sockets)
        action = bind(primary)
        assert action.address == NAME
        assert len(gate.sockets) == sockets
        tasks = gate.serve(sends(b"to the filter"), address=AT_CLIENT)
        player = make()
        connection = action.emulate_connection(player, OTHER)
        await gate.until(lambda: tasks and tasks[0].is_done)
        assert tasks[0].result() == b"to the filter"
        (accepted,) = telling.of(ConnectionAccepted)
        assert (accepted.remote, accepted.local) == (OTHER, NAME)
        assert accepted.connection is connection
        assert connection.is_emulated
        await gate.until(lambda: player.detached)
        with pytest.raises(BadContext, match="is over"):
            action.emulate_connection(player, OTHER)

    gate, _ = run(scenario, emulate_bind)
    (end,) = [one for one in gate.ends if one.primary]
    assert (end.outcome, end.server, end.client) == ("released", str(OTHER), str(AT_CLIENT))
    assert (end.bytes_to_server, end.bytes_to_client) == (13, 13)


def test_emulated_bind_brings_many_where_many_are_allowed() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        tasks = gate.serve(sends(b"one"), sends(b"two"), address=AT_CLIENT)
        action = bind(primary, allow_multiple=True)
        for local in (None, OTHER):
            action.emulate_connection(PlayingEcho(), OTHER, local)
        await gate.until(lambda: len(tasks) == 2 and all(task.is_done for task in tasks))
        assert sorted(task.result() for task in tasks) == [b"one", b"two"]
        assert [one.local for one in telling.of(ConnectionAccepted)] == [NAME, OTHER]

    run(scenario, emulate_bind)


def test_emulated_bind_without_a_name_is_denied() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        with pytest.raises(TransportError, match="was not given a name"):
            bind(primary)

    run(scenario, lambda e: Emulate() if isinstance(e, TcpBindRequested) else Pass())


def test_name_is_given_while_the_bind_is_judged_and_only_then() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        action = bind(primary)
        with pytest.raises(BadContext, match="told already"):
            action.set_socket_name(NAME)
        with pytest.raises(BadContext, match="no filter emulates it"):
            action.emulate_connection(PlayingEcho(), OTHER)
        expected = primary.session.allow_future_connect(primary, OTHER)
        with pytest.raises(BadContext, match="not a bind"):
            expected.set_socket_name(NAME)

    run(scenario)


def test_connection_to_an_emulated_bind_may_be_denied_and_its_player_is_let_go() -> None:
    def answer(event: Any) -> Any:
        return Deny("no") if isinstance(event, ConnectionAccepted) else emulate_bind(event)

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        player = PlayingEcho()
        bind(primary).emulate_connection(player, OTHER)
        await gate.until(lambda: player.detached)
        assert player.context is None

    gate, _ = run(scenario, answer)
    assert [one.reason for one in gate.decisions if one.primary] == ["no"]


def test_limit_refuses_what_an_emulating_filter_brings() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        player = PlayingEcho()
        action = bind(primary)
        with pytest.raises(TransportError, match="a limit refuses"):
            action.emulate_connection(player, OTHER)
        assert player.detached == 1

    run(scenario, emulate_bind, flood=FloodBounds(connections_max=1))


# -- uses and time-outs ----------------------------------------------------------------------------


async def comes(gate: Gate, action: Any, data: bytes = b"data") -> bytes:
    (received,) = await gate.ended(gate.call(sends(data), address=action.address, name="again"))
    return bytes(received)


def test_expectation_is_used_once_unless_more_are_allowed() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=OTHER)
        once = primary.session.allow_future_connect(primary, OTHER)
        assert await comes(gate, once) == b"data"
        assert not once.is_pending
        many = primary.session.allow_future_connect(primary, OTHER, allow_multiple=True)
        for _ in range(3):
            assert await comes(gate, many) == b"data"
        assert many.is_pending
        many.cancel()
        assert not many.is_pending

    run(scenario)


def test_expectation_lapses_unused_and_each_use_begins_the_time_anew() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=OTHER)
        session = primary.session
        usual = session.allow_future_connect(primary, OTHER)
        short = session.allow_future_connect(primary, OTHER, timeout_s=3, allow_multiple=True)
        await asyncio.sleep(2)
        assert await comes(gate, short) == b"data"
        await asyncio.sleep(2)
        assert short.is_pending
        await asyncio.sleep(2)
        assert not short.is_pending
        assert usual.is_pending
        await asyncio.sleep(60)
        assert not usual.is_pending

    run(scenario)


def test_every_expectation_ends_with_its_primary() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        session = primary.session
        actions = [
            session.allow_future_connect(primary, OTHER, allow_multiple=True, timeout_s=1e6),
            bind(primary),
            *session.redirect_connections(primary, [OTHER, SERVER]),
        ]
        primary.refuse("enough")
        await gate.idle()
        assert [one.is_pending for one in actions] == [False] * 4

    run(scenario)


def test_who_expected_a_connection_is_told_that_it_came_up_and_nobody_else_is() -> None:
    other = Telling(events=ALL)

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=OTHER)
        action = primary.session.allow_future_connect(
            primary, OTHER, session_filter=telling.sessions[0], context="mine"
        )
        assert await comes(gate, action) == b"data"
        (told,) = telling.of(ConnectionEstablished)
        assert (told.context, told.is_secondary) == ("mine", True)
        assert other.of(ConnectionEstablished) == []

    run(scenario, lambda event: Pass(), other)


# -- redirection -----------------------------------------------------------------------------------


def test_redirection_gives_consecutive_ports_each_to_its_target() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        targets = [OTHER, OTHER.with_port(9001), OTHER.with_port(9002)]
        for number, target in enumerate(targets):
            gate.serve(says(b"%d" % number), address=target)
        actions = primary.session.redirect_connections(primary, targets, allow_multiple=True)
        first = actions[0].address
        assert first.host == primary.client_side_address.host
        assert [one.address.port - first.port for one in actions] == [0, 1, 2]
        for number, action in enumerate(actions):
            assert await comes(gate, action) == b"%d" % number
        actions[1].cancel()
        assert [one.is_pending for one in actions] == [True, False, True]

    run(scenario)


def says(data: bytes) -> Any:
    async def peer(stream: Any) -> None:
        await stream.send_all(data)
        await stream.receive_all()
        stream.close()

    return peer


def test_redirection_takes_the_first_run_of_ports_that_is_free() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        here = primary.client_side_address
        taken = gate.peers.listen(here.with_port(2002))
        session = primary.session
        actions = session.redirect_connections(primary, [OTHER, SERVER], ports=range(2001, 2010))
        assert [one.address.port for one in actions] == [2003, 2004]
        with pytest.raises(LimitExceeded):
            session.redirect_connections(primary, [OTHER, SERVER], ports=range(2001, 2005))
        with pytest.raises(ValueError, match="at least one target"):
            session.redirect_connections(primary, [])
        taken.close()

    run(scenario)


def test_redirection_counts_against_the_clients_expectations() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        session = primary.session
        with pytest.raises(LimitExceeded):
            session.redirect_connections(primary, [OTHER] * 4)
        assert len(session.redirect_connections(primary, [OTHER] * 3)) == 3

    run(scenario, expected_connections_per_session_max=3)


# -- factories by event ----------------------------------------------------------------------------


def test_factory_attaches_to_events_that_the_filter_did_not_register_for() -> None:
    witnesses: list[Witness] = []

    def make(connection: Any) -> Any:
        witnesses.append(Witness())
        return Stream(witnesses[-1])

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        session = primary.session
        once = session.set_data_filter_factory(ConnectRequested, make, position=Position.EXTERNAL)
        never = session.set_data_filter_factory(ConnectRequested, make, address=OTHER)
        for _ in range(2):
            assert await gate.ended(gate.call(sends(b"again"))) == [b"again"]
        assert (once.is_pending, never.is_pending, never.address) == (False, True, OTHER)
        many = session.set_data_filter_factory(
            ConnectRequested, make, address=SERVER, allow_multiple=True
        )
        for _ in range(2):
            assert await gate.ended(gate.call(sends(b"again"))) == [b"again"]
        many.cancel()
        assert await gate.ended(gate.call(sends(b"again"))) == [b"again"]

    events = Events.of(ConnectRequested)
    gate, _ = run(scenario, events=events)
    assert [bytes(one.seen[Side.CLIENT]) for one in witnesses] == [b"again"] * 3
    assert len([one for one in gate.ends if one.filters == ("stream",)]) == 3


def test_factory_for_accepted_connections_is_by_the_bound_address() -> None:
    witness = Witness()

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        gate.serve(echoes, address=AT_CLIENT)
        action = bind(primary)
        primary.session.set_data_filter_factory(
            ConnectionAccepted, lambda _: Stream(witness), address=action.address
        )
        assert await peer_comes(gate, action) == b"hello"
        assert witness.seen[Side.SERVER] == b"hello"

    run(scenario)


def test_factory_runs_for_a_rule_without_any_filter() -> None:
    witness = Witness()
    first = Telling()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: first.seen)
        session = first.seen[0].session
        session.set_data_filter_factory(ConnectRequested, lambda _: Stream(witness))
        bare = settings(publication(), filters=[])
        await gate.service.apply(bare)
        assert await gate.ended(gate.call(sends(b"plain"))) == [b"plain"]
        assert witness.seen[Side.CLIENT] == b"plain"

    play(scenario, settings(publication("f"), filters=[installation(first, "f")]))


def test_factory_ends_with_its_time_and_with_its_session() -> None:
    made: list[Any] = []

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        session = primary.session
        short = session.set_data_filter_factory(ConnectRequested, made.append, timeout_s=2)
        long = session.set_data_filter_factory(ConnectRequested, made.append, address=OTHER)
        await asyncio.sleep(3)
        assert (short.is_pending, long.is_pending) == (False, True)
        primary.refuse("enough")
        await gate.until(lambda: not gate.service.session_count, within_s=10_000)
        assert not long.is_pending

    run(scenario, session_idle_s=30)
    assert made == []


def test_factory_that_fails_ends_its_connection() -> None:
    def fail(connection: Any) -> Any:
        raise ValueError("boom")

    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        primary.session.set_data_filter_factory(ConnectRequested, fail)
        (received,) = await gate.ended(gate.call(sends(b"y", end=False)))
        assert received == f"<{errno.ECONNRESET}>".encode()

    gate, _ = run(scenario)
    assert ["boom" in one.cause for one in gate.failures] == [True]


def test_factories_are_bounded_and_for_events_that_have_a_chain() -> None:
    async def scenario(gate: Gate, primary: Any, telling: Telling) -> None:
        session = primary.session
        with pytest.raises(ValueError, match="no connection of its own"):
            session.set_data_filter_factory(NameLookup, lambda _: Stream())
        for _ in range(2):
            session.set_data_filter_factory(ConnectRequested, lambda _: Stream(), address=OTHER)
        with pytest.raises(LimitExceeded):
            session.set_data_filter_factory(ConnectRequested, lambda _: Stream(), address=OTHER)

    run(scenario, expected_connections_per_session_max=2)


# -- filters for one session -----------------------------------------------------------------------


def test_filter_is_attached_to_a_session_whose_rule_does_not_name_it() -> None:
    named, unnamed = Telling(), Telling()
    plan = settings(
        publication("named"), filters=[installation(named, "named"), installation(unnamed, "more")]
    )

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: named.seen)
        session = named.seen[0].session
        for _ in range(2):
            session.attach_filter("more")
            session.attach_filter("named")
        assert (len(named.sessions), len(unnamed.sessions), unnamed.seen) == (1, 1, [])
        await gate.ended(gate.call(sends(b"again")))
        other = SocketAddress.parse("10.1.1.77:0")
        await gate.ended(gate.call(sends(b"other"), source=other))
        assert (len(named.seen), len(unnamed.seen)) == (3, 1)
        with pytest.raises(LookupError, match="is installed as 'nobody'"):
            session.attach_filter("nobody")

    play(scenario, plan)
    assert [one.detached for one in unnamed.sessions] == [1]
