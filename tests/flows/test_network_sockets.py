"""Network sockets of a session: by its client's rules, on its record, and over with it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import BadContext, LimitExceeded, OperationPending, TransportError
from sluicegate.filterapi import EntryMode
from sluicegate.policy import FloodBounds
from tests.flows.entry_kit import RULES, WEB, Ask, Names, asks, proxy_settings, says_hello
from tests.flows.gate_kit import Gate, echoes, installation, play, publication, settings
from tests.flows.model_kit import Telling

BINDS = '\n[[rule]]\nname = "back"\nto = ["93.184.216.0/24"]\nprotocols = ["bind"]\n'
NAMED = RULES + 'filters = ["f"]\n'
HERE = SocketAddress.parse("10.0.0.1:0")
PEER = SocketAddress.parse("93.184.216.77:0")
STRANGER = SocketAddress.parse("93.184.216.78:0")
UNRULED = SocketAddress.parse("198.51.100.9:0")
ANYBODY = AddressFilter.everybody()


def run(
    scenario: Callable[[Gate, Any], Awaitable[None]], policy: str = NAMED, **limits: Any
) -> Gate:
    """Have a client come by SOCKS and go, then do as ``scenario`` says with its session."""
    telling = Telling()

    async def whole(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        ask = Ask(EntryMode.SOCKS5, "www.example")
        await gate.ended(gate.call(asks(ask, says_hello)))
        await gate.until(lambda: gate.ends)
        await scenario(gate, telling.sessions[0].session)

    names = Names().put("www.example", WEB.host).put("inside.example", "10.2.2.2")
    plan = proxy_settings(policy, filters=[installation(telling, "f")])
    return play(whole, plan, exchange=names, **limits)


async def whole_of(socket: Any) -> bytes:
    received = bytearray()
    while len(window := await socket.receive()):
        received += bytes(window)
    return bytes(received)


def test_socket_connects_as_its_client_and_is_recorded_as_its_session() -> None:
    seen: list[Any] = []

    async def scenario(gate: Gate, session: Any) -> None:
        seen.append(session)
        socket = session.create_network_socket()
        await socket.connect("WWW.example", 443)
        assert socket.peer_address() == WEB
        assert socket.local_address().port
        await socket.send(b"hello")
        socket.shutdown()
        assert await whole_of(socket) == b"hello"
        socket.close()
        await gate.until(lambda: len(gate.ends) == 2)

    gate = run(scenario)
    end, decision = gate.ends[1], gate.decisions[1]
    assert (end.session, end.entry, end.rule) == (seen[0].id, "private", "web")
    assert (decision.verdict, decision.listener) == ("allowed", "proxy")
    assert (end.server, end.bytes_to_server, end.bytes_to_client) == (str(WEB), 5, 5)


@pytest.mark.parametrize(
    ("host", "port", "is_allowed"),
    [
        ("www.example", 443, True),
        (WEB.host, 443, True),
        ("www.example", 80, False),
        ("10.2.2.2", 443, False),
        ("127.1", 443, False),
        ("169.254.169.254", 443, False),
        ("", 443, False),
    ],
)
def test_access_is_checked_by_the_rules_of_the_client_and_nothing_is_asked(
    host: str, port: int, is_allowed: bool
) -> None:
    async def scenario(gate: Gate, session: Any) -> None:
        assert session.host_access_check(host, port) is is_allowed
        if not is_allowed:
            with pytest.raises(TransportError) as raised:
                await session.create_network_socket().connect(host, port)
            assert raised.value.error == errno.EACCES or host == "10.2.2.2"

    gate = run(scenario)
    assert [one.verdict for one in gate.decisions] == ["allowed", "denied"][: 2 - is_allowed]


def test_client_of_a_published_port_reaches_nothing_by_itself() -> None:
    telling = Telling()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(says_hello)
        await gate.until(lambda: telling.sessions)
        session: Any = telling.sessions[0].session
        assert not session.host_access_check(WEB.host, 443)
        with pytest.raises(TransportError):
            await session.create_network_socket().connect(WEB.host, 443)

    play(scenario, settings(publication("f"), filters=[installation(telling, "f")]))


def test_name_that_leads_inside_is_refused_at_the_lookup() -> None:
    async def scenario(gate: Gate, session: Any) -> None:
        assert session.host_access_check("inside.example", 443), "its addresses are not known"
        with pytest.raises(TransportError) as raised:
            await session.create_network_socket().connect("inside.example", 443)
        assert raised.value.error == errno.EHOSTUNREACH

    assert [one.verdict for one in run(scenario).decisions] == ["allowed", "denied"]


async def peers_that_come(gate: Gate, socket: Any, *sources: SocketAddress) -> list[Any]:
    """Let peers connect, one after the other, and wait for each."""
    came: list[Any] = []
    for source in sources:
        peer = gate.call(echoes, address=socket.local_address(), source=source, name="peer")
        came.extend(await gate.ended(peer))
    return came


@pytest.mark.parametrize("others", [(), (STRANGER, UNRULED)], ids=["alone", "behind others"])
def test_only_a_peer_that_is_expected_and_allowed_by_a_rule_is_accepted(others: Any) -> None:
    async def scenario(gate: Gate, session: Any) -> None:
        socket = session.create_network_socket()
        socket.listen(HERE, peers=AddressFilter.only(PEER.host, UNRULED.host))
        accepting = asyncio.ensure_future(socket.accept())
        await asyncio.sleep(0)
        with pytest.raises(OperationPending):
            await socket.accept()
        assert await peers_that_come(gate, socket, *others) == [-1 for _ in others]
        peer = gate.call(echoes, address=socket.local_address(), source=PEER, name="peer")
        accepted = await accepting
        assert accepted.peer_address().host == PEER.host
        await accepted.send(b"hello")
        accepted.shutdown()
        assert await whole_of(accepted) == b"hello"
        accepted.close()
        await gate.ended(peer)
        socket.close()
        await gate.until(lambda: len(gate.ends) == 2)

    gate = run(scenario, NAMED + BINDS)
    denied = [one for one in gate.decisions if one.verdict == "denied"]
    assert [one.target.split(":")[0] for one in denied] == [one.host for one in others]
    assert (gate.decisions[-1].verdict, gate.decisions[-1].rule) == ("allowed", "back")
    assert (gate.ends[1].rule, gate.ends[1].server.split(":")[0]) == ("back", PEER.host)


def test_nobody_gets_in_without_a_rule_for_binds() -> None:
    async def scenario(gate: Gate, session: Any) -> None:
        socket = session.create_network_socket()
        socket.listen(HERE, peers=ANYBODY)
        accepting = asyncio.ensure_future(socket.accept())
        await asyncio.sleep(0)
        assert await peers_that_come(gate, socket, PEER) == [-1]
        socket.close()
        with pytest.raises(TransportError) as raised:
            await accepting
        assert raised.value.error == errno.ECANCELED

    assert [one.verdict for one in run(scenario).decisions] == ["allowed", "denied"]


def test_socket_is_used_for_one_thing_and_says_so() -> None:
    async def scenario(gate: Gate, session: Any) -> None:
        socket = session.create_network_socket()
        for early in (socket.local_address, socket.peer_address, socket.shutdown):
            with pytest.raises(BadContext):
                early()
        with pytest.raises(BadContext):
            await socket.accept()
        socket.close()
        with pytest.raises(TransportError):
            await socket.connect("www.example", 80)
        await socket.connect("www.example", 443)
        with pytest.raises(BadContext):
            socket.listen(HERE, peers=ANYBODY)
        with pytest.raises(BadContext):
            await socket.connect("www.example", 443)
        socket.close(abortive=True)

    run(scenario)


def test_sockets_count_among_the_connections_of_the_client() -> None:
    async def scenario(gate: Gate, session: Any) -> None:
        socket = session.create_network_socket()
        await socket.connect(WEB.host, 443)
        with pytest.raises(LimitExceeded):
            await session.create_network_socket().connect(WEB.host, 443)
        with pytest.raises(LimitExceeded):
            session.create_network_socket().listen(HERE, peers=ANYBODY)
        socket.close()

    run(scenario, flood=FloodBounds(connections_max=1))


def test_session_with_a_socket_is_not_idle_and_ends_it_when_the_gate_stops() -> None:
    sessions: list[Any] = []

    async def scenario(gate: Gate, session: Any) -> None:
        sessions.append(session)
        await session.create_network_socket().connect(WEB.host, 443)
        await asyncio.sleep(2 * gate.service.limits.session_idle_s)
        assert gate.service.session_count == 1

    gate = run(scenario)
    assert [(one.outcome, one.reason) for one in gate.ends[1:]] == [
        ("failed", "aborted by a filter")
    ]


def test_killed_session_loses_its_sockets_and_an_ended_one_makes_no_more() -> None:
    sessions: list[Any] = []

    async def scenario(gate: Gate, session: Any) -> None:
        sessions.append(session)
        socket = session.create_network_socket()
        await socket.connect(WEB.host, 443)
        assert gate.service.kill(session.id, "by the operator")
        await gate.until(lambda: len(gate.ends) == 2)
        with pytest.raises(BadContext):
            await socket.connect(WEB.host, 443)
        gate.service.forget_session(session)
        with pytest.raises(BadContext):
            await session.create_network_socket().connect(WEB.host, 443)

    run(scenario)
