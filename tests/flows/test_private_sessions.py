"""Private sessions: what a filter connects to in a client's name, by its rules, on its record."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, LimitExceeded, TransportError
from sluicegate.filterapi import User
from sluicegate.policy import FloodBounds
from tests.flows.entry_kit import RULES, WEB, Names, proxy_settings
from tests.flows.gate_kit import Gate, echoes, installation, play
from tests.flows.model_kit import Telling

CLIENT = SocketAddress.parse("10.7.7.7:0")
ANN = User("ann", ("staff",), "application")
STAFF = RULES + 'users = ["group:staff"]\n'


def run(
    scenario: Callable[[Gate, Any], Awaitable[None]], policy: str = RULES, **limits: Any
) -> Gate:
    telling = Telling()

    async def whole(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        await scenario(gate, telling.firewall)

    plan = proxy_settings(policy, filters=[installation(telling, "f")])
    names = Names().put("www.example", WEB.host).put("inside.example", "10.2.2.2")
    return play(whole, plan, exchange=names, **limits)


async def says(socket: Any, data: bytes) -> bytes:
    await socket.send(data)
    socket.shutdown()
    received = bytearray()
    while len(window := await socket.receive()):
        received += bytes(window)
    socket.close()
    return bytes(received)


@pytest.mark.parametrize("host", ["www.example", "WWW.Example.", WEB.host])
def test_connection_is_made_and_recorded_in_the_users_name(host: str) -> None:
    sessions: list[Any] = []

    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy", user=ANN)
        sessions.append(session)
        assert session.can_reach(host, 443)
        assert await says(await session.connect(host, 443), b"hello") == b"hello"
        await gate.until(lambda: gate.ends)

    gate = run(scenario, STAFF)
    (decision,), (end,) = gate.decisions, gate.ends
    assert (decision.verdict, decision.rule, decision.user) == ("allowed", "web", "ann")
    assert (decision.session, decision.entry) == (sessions[0].id, "private")
    assert (end.session, end.user, end.client) == (sessions[0].id, "ann", str(CLIENT))
    assert (end.server, end.outcome) == (str(WEB), "released")
    assert (end.bytes_to_server, end.bytes_to_client) == (5, 5)
    assert sessions[0].client_address == CLIENT


@pytest.mark.parametrize(
    ("host", "port", "user", "error"),
    [
        ("www.example", 80, ANN, errno.EACCES),
        ("www.example", 443, None, errno.EACCES),
        ("10.2.2.2", 443, ANN, errno.EACCES),
        ("inside.example", 443, ANN, errno.EHOSTUNREACH),
        ("nowhere.example", 443, ANN, errno.EHOSTUNREACH),
        ("127.1", 443, ANN, errno.EACCES),
    ],
    ids=["port", "nobody", "private address", "private name", "no such name", "no host"],
)
def test_what_the_rules_refuse_is_refused_and_recorded(
    host: str, port: int, user: User | None, error: int
) -> None:
    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy", user=user)
        with pytest.raises(TransportError) as raised:
            await session.connect(host, port)
        assert raised.value.error == error
        if error == errno.EACCES:
            assert not session.can_reach(host, port)

    gate = run(scenario, STAFF)
    assert [one.verdict for one in gate.decisions] == ["denied"]
    assert gate.ends == []


def test_listener_without_rules_lets_nobody_through() -> None:
    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="elsewhere")
        assert not session.can_reach(WEB.host, 443)
        with pytest.raises(TransportError):
            await session.connect(WEB.host, 443)

    run(scenario)


def test_server_that_refuses_is_recorded_as_a_failure() -> None:
    other = "93.184.216.99"

    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy")
        with pytest.raises(TransportError) as raised:
            await session.connect(other, 443)
        assert raised.value.error == errno.ECONNREFUSED

    gate = run(scenario)
    assert [one.outcome for one in gate.ends] == ["failed"]


def test_connections_of_a_private_session_are_bounded() -> None:
    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy")
        first = await session.connect(WEB.host, 443)
        with pytest.raises(LimitExceeded):
            await session.connect(WEB.host, 443)
        first.close()
        await gate.until(lambda: gate.ends)
        (await session.connect(WEB.host, 443)).close()

    run(scenario, flood=FloodBounds(connections_max=1))


def test_session_that_is_closed_ends_its_connections_and_makes_no_more() -> None:
    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy")
        await session.connect(WEB.host, 443)
        session.close()
        session.close()
        await gate.until(lambda: gate.ends)
        with pytest.raises(BadContext):
            await session.connect(WEB.host, 443)

    gate = run(scenario)
    assert [(one.outcome, one.reason) for one in gate.ends] == [("failed", "aborted by a filter")]


def test_attempt_that_is_given_up_is_recorded() -> None:
    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy")
        attempt = asyncio.ensure_future(session.connect(WEB.host, 443))
        await asyncio.sleep(0)
        assert [one.verdict for one in gate.decisions] == ["allowed"]
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt

    gate = run(scenario)
    assert [(one.outcome, one.reason) for one in gate.ends] == [("failed", "given up")]


def test_gate_that_stops_ends_private_sessions() -> None:
    async def scenario(gate: Gate, firewall: Any) -> None:
        session = firewall.create_private_session(CLIENT, listener="proxy")
        await session.connect(WEB.host, 443)

    gate = run(scenario)
    assert len(gate.ends) == 1
