"""SOCKS BIND, in both versions: two answers, one peer, and filters that are asked before."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.filterapi import (
    ConnectionAccepted,
    Deny,
    Emulate,
    EntryMode,
    Events,
    ListenRequested,
    Pass,
    TcpBindRequested,
)
from sluicegate.testing.peers import PeerStream
from tests.flows import entry_kit
from tests.flows.entry_kit import Names, carried, carried_plan, proxy_settings
from tests.flows.gate_kit import Gate, echoes, installation, play
from tests.flows.model_kit import PlayingEcho, Telling

RULES = """
[[rule]]
name = "back"
to = ["*"]
protocols = ["bind"]
"""
PEER = SocketAddress.parse("93.184.216.34:0")
STRANGER = SocketAddress.parse("93.184.216.35:0")
ALL = Events.of(TcpBindRequested, ListenRequested, ConnectionAccepted)

MODES = (EntryMode.SOCKS4, EntryMode.SOCKS5)
each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client ask in clear, and inside TLS; datagrams and peers come as they are."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


def request(mode: EntryMode, host: str = PEER.host) -> bytes:
    packed = ipaddress.IPv4Address(host).packed
    if mode is EntryMode.SOCKS4:
        return b"\4\2\0\0" + packed + b"me\0"
    return b"\5\1\0" + b"\5\2\0\1" + packed + b"\0\0"


async def read(stream: PeerStream, mode: EntryMode) -> tuple[int, SocketAddress]:
    """Read one answer: 0 for granted, and the address in it."""
    if mode is EntryMode.SOCKS4:
        data = await stream.receive_exactly(8)
        code, port, host = data[1] - 90, data[2:4], data[4:8]
    else:
        data = await stream.receive_exactly(10)
        code, host, port = data[1], data[4:8], data[8:10]
    return code, SocketAddress(str(ipaddress.IPv4Address(host)), int.from_bytes(port, "big"))


class Client:
    """A client that binds, and then says hello to who comes."""

    def __init__(self, mode: EntryMode, host: str = PEER.host) -> None:
        self.mode, self.host = mode, host
        self.answers: list[tuple[int, SocketAddress]] = []
        self.received = b""

    async def __call__(self, stream: PeerStream) -> bytes:
        await stream.send_all(request(self.mode, self.host))
        if self.mode is EntryMode.SOCKS5:
            assert await stream.receive_exactly(2) == b"\5\0"
        try:
            while len(self.answers) < 2:
                self.answers.append(await read(stream, self.mode))
                if self.answers[-1][0]:
                    break
            else:
                await stream.send_all(b"hello")
                stream.end_stream()
                self.received = await stream.receive_all()
        except OSError as error:
            self.received = f"<{error.errno}>".encode()
        stream.close()
        return self.received


def visit(
    client: Client,
    *callers: SocketAddress,
    answer: Callable[[Any], Any] | None = None,
    policy: str = RULES,
    then: Callable[[Gate, Telling], Any] | None = None,
    **limits: Any,
) -> tuple[Gate, Telling, list[Any]]:
    """Let a client bind and peers connect, one after the other; what each peer received."""
    telling = Telling(answer or (lambda event: Pass()), ALL)
    came: list[Any] = []

    async def scenario(gate: Gate) -> None:
        task = gate.call(carried(client))
        await gate.until(lambda: client.answers or task.is_done)
        for caller in callers:
            peer = gate.call(echoes, address=client.answers[0][1], source=caller, name="peer")
            came.extend(await gate.ended(peer))
        if then is not None:
            then(gate, telling)
        await gate.ended(task)
        await gate.idle()

    filters = [installation(telling, "f")] if answer is not None else []
    text = policy + ('filters = ["f"]\n' if answer is not None else "")
    gate = play(
        scenario, carried_plan(proxy_settings(text, filters=filters)), exchange=Names(), **limits
    )
    return gate, telling, came


@each_mode
def test_client_is_answered_twice_and_gets_what_the_peer_connects(mode: EntryMode) -> None:
    client = Client(mode)
    gate, _, came = visit(client, PEER)
    (first, at), (second, who) = client.answers
    assert (first, second, client.received, came) == (0, 0, b"hello", [5])
    assert (at.host, who.host) == ("10.0.0.1", PEER.host)
    (decision,), (end,) = gate.decisions, gate.ends
    assert (decision.verdict, decision.rule, decision.entry) == ("allowed", "back", mode.value)
    assert (end.outcome, end.bytes_to_server, end.bytes_to_client) == ("released", 5, 5)
    assert end.server.startswith(f"{PEER.host}:")


@each_mode
def test_stranger_is_turned_away_and_the_announced_peer_still_gets_in(mode: EntryMode) -> None:
    client = Client(mode)
    gate, _, came = visit(client, STRANGER, PEER)
    assert came == [-1, 5]
    assert client.received == b"hello"
    assert len([one for one in gate.decisions if "not the expected peer" in one.reason]) == 1


@each_mode
def test_second_peer_finds_nobody(mode: EntryMode) -> None:
    _, _, came = visit(Client(mode), PEER, PEER)
    assert (came[0], came[1].errno) == (5, errno.ECONNREFUSED)


@each_mode
@pytest.mark.parametrize(
    ("policy", "host", "reason"),
    [
        (RULES.replace('"bind"', '"tcp"'), PEER.host, "no-rule"),
        (RULES, "0.0.0.0", None),
        (RULES, "10.0.0.1", None),
        (RULES, "192.168.1.1", None),
    ],
    ids=["no rule for bind", "anybody", "the gate", "a private address"],
)
def test_bind_needs_a_rule_that_names_its_peer(
    mode: EntryMode, policy: str, host: str, reason: str | None
) -> None:
    client = Client(mode, host)
    gate, _, _ = visit(client, policy=policy)
    assert [code for code, _ in client.answers] == [1 if mode is EntryMode.SOCKS4 else 2]
    assert [one.verdict for one in gate.decisions] == ["denied"]
    assert reason is None or gate.decisions[0].reason == reason


@each_mode
def test_peer_that_does_not_come_is_given_up_and_the_client_told(mode: EntryMode) -> None:
    client = Client(mode)
    gate, _, _ = visit(client, expected_connection_timeout_s=9)
    assert [code for code, _ in client.answers] == [0, 1 if mode is EntryMode.SOCKS4 else 4]
    (end,) = gate.ends
    assert (end.outcome, end.reason) == ("failed", "the announced peer did not come")
    assert 8 < end.duration_s < 11


@each_mode
def test_filters_are_asked_told_and_asked_again(mode: EntryMode) -> None:
    client = Client(mode)
    _, telling, _ = visit(client, PEER, answer=lambda event: Pass())
    assert telling.names() == ["TcpBindRequested", "ListenRequested", "ConnectionAccepted"]
    bound, listens, accepted = telling.seen
    assert (bound.source, bound.is_secondary, bound.address.port) == (mode, False, 0)
    assert listens.address == client.answers[0][1] == accepted.local
    assert accepted.remote == client.answers[1][1]
    assert bound.connection is accepted.connection


@each_mode
@pytest.mark.parametrize("is_late", [False, True])
def test_denied_bind_is_refused_before_anything_listens(mode: EntryMode, is_late: bool) -> None:
    async def later() -> Any:
        await asyncio.sleep(1)
        return Deny("not here")

    client = Client(mode)
    gate, telling, _ = visit(client, answer=lambda event: later() if is_late else Deny("not here"))
    assert [code for code, _ in client.answers] == [1 if mode is EntryMode.SOCKS4 else 2]
    assert [(one.verdict, one.reason) for one in gate.decisions] == [("denied", "not here")]
    assert telling.names() == ["TcpBindRequested"]


@each_mode
def test_denied_peer_is_aborted_and_the_client_told(mode: EntryMode) -> None:
    client = Client(mode)
    gate, _, came = visit(
        client, PEER, answer=lambda e: Deny("no") if isinstance(e, ConnectionAccepted) else Pass()
    )
    assert came == [-1]
    assert [code for code, _ in client.answers] == [0, 1 if mode is EntryMode.SOCKS4 else 2]
    assert [one.reason for one in gate.decisions] == ["no"]


@each_mode
def test_emulated_bind_is_answered_with_its_name_and_played_by_the_filter(mode: EntryMode) -> None:
    name = SocketAddress.parse("10.0.0.1:2121")
    player = PlayingEcho()

    def answer(event: Any) -> Any:
        if isinstance(event, TcpBindRequested):
            event.bind.set_socket_name(name)
            return Emulate()
        return Pass()

    def bring(gate: Gate, telling: Telling) -> None:
        telling.of(TcpBindRequested)[0].bind.emulate_connection(player, PEER.with_port(99))

    client = Client(mode)
    gate, _, _ = visit(client, answer=answer, then=bring)
    assert client.answers == [(0, name), (0, PEER.with_port(99))]
    assert (client.received, player.detached) == (b"hello", 1)
    assert gate.decisions[0].emulated_by == "playing-echo"


@each_mode
def test_bind_may_be_retroactively_allowed_to_another_peer(mode: EntryMode) -> None:
    from sluicegate.address import AddressFilter

    def answer(event: Any) -> Any:
        if isinstance(event, ListenRequested):
            more = AddressFilter.only(STRANGER.host)
            assert event.session.retroactive_allow_bind(event.address, more)
        return Pass()

    client = Client(mode)
    _, _, came = visit(client, STRANGER, answer=answer)
    assert (came, client.received) == ([5], b"hello")


@each_mode
def test_gate_that_stops_ends_clients_that_wait(mode: EntryMode) -> None:
    client = Client(mode)

    async def scenario(gate: Gate) -> None:
        gate.call(carried(client))
        await gate.until(lambda: client.answers)

    gate = play(scenario, carried_plan(proxy_settings(RULES)), exchange=Names())
    assert gate.ends[0].reason == "service stopping"


@each_mode
def test_client_that_goes_while_it_waits_leaves_nothing(mode: EntryMode) -> None:
    async def goes(stream: PeerStream) -> None:
        await stream.send_all(request(mode))
        if mode is EntryMode.SOCKS5:
            await stream.receive_exactly(2)
        await read(stream, mode)
        stream.reset()

    async def scenario(gate: Gate) -> None:
        gate.call(carried(goes))
        await gate.until(lambda: gate.ends)

    gate = play(scenario, carried_plan(proxy_settings(RULES)), exchange=Names())
    assert (gate.ends[0].outcome, gate.ends[0].side) == ("failed", "client")
