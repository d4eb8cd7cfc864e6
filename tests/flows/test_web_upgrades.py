"""Upgrades through the web proxy: only where a rule says so, and nothing passes before the 101."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.gate.settings import ServiceSettings
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names, rules
from tests.flows.gate_kit import SERVER, Gate, installation, play, publication, settings
from tests.flows.web_kit import RULES, SITE, Origin, browse, get, read_message, reply, web_settings
from tests.flows.websocket_kit import Judge, handshake, switched

UPGRADES = RULES + 'upgrades = ["websocket"]\n'
ASK = get("/chat", "site.example", "Connection: Upgrade", "Upgrade: WebSocket")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


origin_saw: list[bytes] = []


async def echoes_upgraded(stream: PeerStream) -> bytes:
    """Be a server that switches, greets, and sends everything back."""
    head = await stream.receive_until(b"\r\n\r\n")
    origin_saw[:] = [head]
    await stream.send_all(SWITCH + b"hi ")
    while piece := await stream.receive():
        await stream.send_all(piece)
    stream.close()
    return head


def client_of(*pieces: bytes) -> Callable[[PeerStream], Coroutine[Any, Any, tuple[bytes, bytes]]]:
    async def peer(stream: PeerStream) -> tuple[bytes, bytes]:
        await stream.send_all(pieces[0])
        head = await stream.receive_until(b"\r\n\r\n")
        for piece in pieces[1:]:
            await stream.send_all(piece)
        stream.end_stream()
        return head, await stream.receive_all()

    return peer


def test_a_rule_that_names_the_protocol_lets_requests_switch_to_it() -> None:
    origin = Origin()
    origin.serve = echoes_upgraded  # type: ignore[method-assign,assignment]
    found = browse(origin=origin, peer=client_of(ASK, b"one ", b"two"), plan=web_settings(UPGRADES))
    head, tunnelled = found.answers
    assert head.startswith(b"HTTP/1.1 101 ")
    assert tunnelled == b"hi one two"
    (record,) = found.gate.requests
    assert (record.status, record.outcome) == (101, "released")
    (end,) = found.gate.ends
    request = len(origin_saw[0])
    assert (end.outcome, end.bytes_to_server) == ("released", request + 7)


def test_what_a_client_sends_before_the_101_waits_for_it() -> None:
    seen: list[bytes] = []

    async def serve(stream: PeerStream) -> None:
        seen.append(await stream.receive_until(b"\r\n\r\n"))
        with pytest.raises(BlockingIOError):
            stream.socket.receive(1)
        await stream.send_all(SWITCH)
        seen.append(await stream.receive_exactly(5))
        stream.close()

    origin = Origin()
    origin.serve = serve  # type: ignore[method-assign]
    early = ASK + b"early"
    found = browse(origin=origin, peer=client_of(early), plan=web_settings(UPGRADES))
    assert found.answers[0].startswith(b"HTTP/1.1 101 ")
    assert seen[1] == b"early"
    assert b"early" not in seen[0]


def test_bytes_behind_an_upgrade_that_is_answered_otherwise_are_the_next_request() -> None:
    origin = Origin([reply(b"no"), reply(b"next")])

    async def peer(stream: PeerStream) -> list[bytes]:
        await stream.send_all(ASK + get("/smuggled", "evil.example"))
        bodies = []
        for _ in range(2):
            answer = await read_message(stream, is_response=True)
            assert answer is not None
            bodies.append(answer.line.encode())
        stream.close()
        return bodies

    found = browse(origin=origin, peer=peer, plan=web_settings(UPGRADES))
    assert [line.split(b" ")[1] for line in found.answers] == [b"200", b"403"]
    assert len(origin.seen) == 1


@pytest.mark.parametrize(
    ("policy", "ask"),
    [
        (RULES, ASK),
        (UPGRADES, get("/", "site.example", "Connection: Upgrade", "Upgrade: h2c")),
        (UPGRADES, get("/", "site.example", "Upgrade: websocket")),
    ],
)
def test_offers_that_no_rule_lets_pass_do_not_reach_the_server(policy: str, ask: bytes) -> None:
    found = browse(ask, plan=web_settings(policy))
    assert found.statuses == [200]
    (seen,) = found.origin.seen
    assert seen.field("Upgrade") is None


@pytest.mark.parametrize("policy", [RULES, UPGRADES])
def test_a_101_that_nobody_asked_for_is_an_error_of_the_server(policy: str) -> None:
    found = browse(get(), origin=Origin([SWITCH]), plan=web_settings(policy))
    assert found.statuses == [502]
    assert found.reasons[0].startswith("server-upgrade-unasked")


def test_a_tunnel_ends_when_its_rule_lets_nothing_switch_any_more() -> None:
    heads: list[bytes] = []

    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(ASK)
        heads.append(await stream.receive_until(b"\r\n\r\n"))
        return await stream.receive_all()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes_upgraded, address=SITE)
        client = gate.call(peer)
        await gate.until(lambda: heads)
        await gate.service.apply(dataclasses.replace(web_settings(UPGRADES), policy=rules(RULES)))
        await gate.ended(client)
        await gate.idle()

    names = Names().put("site.example", "93.184.216.34")
    gate = play(scenario, web_settings(UPGRADES), exchange=names)
    (end,) = gate.ends
    assert end.reason.startswith("revoked: its requests may not switch")


@pytest.mark.parametrize("filters", [(), (Judge(),)])
def test_what_a_published_server_switched_ends_when_nothing_may_switch_any_more(
    filters: tuple[Judge, ...],
) -> None:
    heads: list[bytes] = []
    installed = [installation(one, "judge") for one in filters]
    names = ("judge",) if filters else ()

    def plan(upgrades: tuple[str, ...]) -> ServiceSettings:
        one = dataclasses.replace(publication(*names), is_http=True, upgrades=upgrades)
        return settings(one, filters=installed)

    async def serve(stream: PeerStream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send_all(switched())
        await stream.receive_all()

    async def peer(stream: PeerStream) -> None:
        await stream.send_all(handshake().replace(b"http://site.example", b""))
        heads.append(await stream.receive_until(b"\r\n\r\n"))
        await stream.receive_all()

    async def scenario(gate: Gate) -> None:
        gate.serve(serve, address=SERVER)
        client = gate.call(peer)
        await gate.until(lambda: heads)
        await gate.service.apply(plan(()))
        await gate.ended(client)
        await gate.idle()

    gate = play(scenario, plan(("websocket",)))
    assert heads[0].startswith(b"HTTP/1.1 101")
    (end,), (record,) = gate.ends, gate.requests
    reason = record.ended if filters else end.reason
    assert reason.startswith("revoked: its requests may not switch")
