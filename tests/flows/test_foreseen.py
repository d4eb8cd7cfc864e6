"""Secondary connections of proxy clients: asked of the proxy, by who was told, as often as said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.errors import TransportError
from sluicegate.filterapi import (
    FORWARD,
    ConnectRequested,
    Deny,
    EntryMode,
    Events,
    Pass,
    Side,
    StreamFilter,
    StreamVerdict,
    Window,
)
from sluicegate.policy import FloodBounds
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import MODES, WEB, Ask, Names, Reply, asks, proxy_settings, says_hello
from tests.flows.gate_kit import Gate, echoes, installation, play
from tests.flows.model_kit import Telling

pytestmark = pytest.mark.parametrize("mode", MODES)

RULES = """
[[rule]]
name = "not-that"
action = "deny"
to = ["93.184.216.66"]
protocols = ["tcp:1-65535"]

[[rule]]
name = "web"
to = ["*"]
protocols = ["tcp:443"]
filters = ["f"]
"""
DATA = WEB.with_port(2021)
REFUSED = SocketAddress.parse("93.184.216.66:2021")
INSIDE = SocketAddress.parse("10.2.3.4:2021")
OTHER = SocketAddress.parse("10.0.0.77:0")
ALL = Events.of(ConnectRequested, secondary=True)


class Counts(StreamFilter):
    """Notes what passes it."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        self.seen.append(bytes(window))
        return FORWARD


Scene = Callable[[Gate, Any, Callable[..., Awaitable[Reply]]], Awaitable[None]]


def run(
    mode: EntryMode, scene: Scene, answer: Callable[[Any], Any] = lambda event: Pass(), **more: Any
) -> tuple[Gate, Telling]:
    """Open a primary connection to ``www.example``, then do as ``scene`` says with its event."""
    telling = Telling(answer, ALL)

    async def whole(gate: Gate) -> None:
        for address in (WEB, DATA):
            gate.serve(echoes, address=address)

        async def waits(stream: PeerStream) -> bytes:
            return await stream.receive_all()

        async def ask(host: str, port: int, source: SocketAddress | None = None) -> Reply:
            options: dict[str, Any] = {} if source is None else {"source": source}
            call = gate.call(asks(Ask(mode, host, port), says_hello), name="data", **options)
            (reply,) = await gate.ended(call)
            assert isinstance(reply, Reply), reply
            return reply

        gate.call(asks(Ask(mode, "www.example"), waits), name="primary")
        await gate.until(lambda: telling.seen and telling.seen[0].connection.state.name == "OPEN")
        await scene(gate, telling.seen[0].connection, ask)

    plan = proxy_settings(RULES, filters=[installation(telling, "f")])
    names = Names().put("www.example", WEB.host).put("other.example", "93.184.216.99")
    return play(whole, plan, exchange=names, **more), telling


@pytest.mark.parametrize("where", ["the gate's address", "the name", "the server's address"])
def test_client_gets_there_by_the_proxy_once_through_the_filter_that_was_set(
    mode: EntryMode, where: str
) -> None:
    counts: list[Counts] = []

    def make(connection: Any) -> Counts:
        counts.append(Counts())
        return counts[-1]

    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        action = primary.session.allow_future_connect(primary, DATA)
        primary.session.set_data_filter_factory(action, make)
        named = {"the name": "www.example", "the server's address": WEB.host}
        host = named.get(where, action.address.host)
        assert (await ask(host, action.address.port)).tunnelled == b"hello"
        assert not action.is_pending
        assert not (await ask(host, action.address.port)).is_granted

    gate, telling = run(mode, scene)
    assert b"".join(counts[0].seen) == b"hellohello"
    assert [event.is_secondary for event in telling.seen] == [False, True]
    second = gate.ends[0]
    assert (second.server, second.outcome, second.primary) == (
        str(DATA),
        "released",
        telling.seen[0].connection.id,
    )
    assert (gate.decisions[1].reason, gate.decisions[1].entry) == ("expected", mode.value)


def test_nobody_else_gets_there_and_no_other_host(mode: EntryMode) -> None:
    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        action = primary.session.allow_future_connect(primary, DATA)
        port = action.address.port
        assert not (await ask(action.address.host, port, OTHER)).is_granted
        assert not (await ask("other.example", port)).is_granted
        assert not (await ask(action.address.host, port + 1)).is_granted
        assert not (await ask("127.1", port)).is_granted
        assert action.is_pending
        assert (await ask(action.address.host, port)).tunnelled == b"hello"

    gate, _ = run(mode, scene)
    assert [one.verdict for one in gate.decisions].count("denied") == 4


def test_action_that_has_lapsed_or_was_cancelled_lets_nobody_in(mode: EntryMode) -> None:
    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        action = primary.session.allow_future_connect(primary, DATA, timeout_s=5)
        await asyncio.sleep(6)
        assert not (await ask(action.address.host, action.address.port)).is_granted
        action = primary.session.allow_future_connect(primary, DATA)
        action.cancel()
        assert not (await ask(action.address.host, action.address.port)).is_granted
        assert gate.service.entries.foreseen.by_port == {}

    run(mode, scene)


def test_action_for_many_lets_many_in(mode: EntryMode) -> None:
    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        gate.serve(echoes, echoes, address=DATA.with_port(2022))
        action = primary.session.allow_future_connect(
            primary, DATA.with_port(2022), allow_multiple=True
        )
        for _ in range(2):
            assert (await ask("www.example", action.address.port)).tunnelled == b"hello"
        assert action.is_pending

    run(mode, scene)


@pytest.mark.parametrize("target", [REFUSED, INSIDE], ids=["another rule", "inside"])
def test_what_the_rule_would_not_reach_cannot_be_expected(
    mode: EntryMode, target: SocketAddress
) -> None:
    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        with pytest.raises(TransportError):
            primary.session.allow_future_connect(primary, target)
        with pytest.raises(TransportError):
            primary.session.redirect_connections(primary, [DATA, target])

    run(mode, scene)


def test_filter_may_refuse_it_when_it_comes(mode: EntryMode) -> None:
    def answer(event: Any) -> Any:
        return Deny("not now") if event.is_secondary else Pass()

    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        action = primary.session.allow_future_connect(primary, DATA)
        assert not (await ask("www.example", action.address.port)).is_granted

    gate, _ = run(mode, scene, answer)
    assert ("denied", "not now") in [(one.verdict, one.reason) for one in gate.decisions]


def test_limit_of_the_client_counts(mode: EntryMode) -> None:
    async def scene(gate: Gate, primary: Any, ask: Any) -> None:
        action = primary.session.allow_future_connect(primary, DATA)
        assert not (await ask("www.example", action.address.port)).is_granted
        assert action.is_pending

    run(mode, scene, flood=FloodBounds(connections_max=1))
