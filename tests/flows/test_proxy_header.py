"""The PROXY protocol in a whole gate: who is believed, who is refused, what servers are told."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ListenerSettings
from sluicegate.policy import SendProxyProtocol
from sluicegate.protocols.proxy_protocol import (
    ProxyHeader,
    ProxyHeaderParser,
    ProxyTransport,
    encode_proxy_local,
    encode_proxy_v1,
    encode_proxy_v2,
)

from .entry_kit import (
    MODES,
    RULES,
    WEB,
    Ask,
    Names,
    proxy_settings,
    read_reply,
    says_hello,
)
from .gate_kit import ENTRY, Gate, echoes, play, publication, sends, settings

PEER = SocketAddress.parse("10.7.7.7:0")
STRANGER = SocketAddress.parse("10.8.8.8:0")
ANNOUNCED = SocketAddress.parse("10.1.2.3:4567")
TARGET = SocketAddress.parse("192.0.2.1:21")
V1 = encode_proxy_v1(ANNOUNCED, TARGET)
V2 = encode_proxy_v2(ANNOUNCED, TARGET)


def with_peers(*publications, peers=("10.7.7.7/32",), **more):
    networks = tuple(ipaddress.ip_network(one) for one in peers)
    return settings(
        *(publications or (publication(),)),
        listeners=[ListenerSettings("web", ENTRY, networks)],
        **more,
    )


def one_client(
    data: bytes, *, source=PEER, plan=None, server=echoes, pieces=None
) -> tuple[Gate, bytes]:
    """Let one peer send something; return the gate and what the peer got."""
    answers: list[bytes] = []

    async def peer(stream):
        for piece in (pieces or [])[:-1]:
            await stream.send_all(piece)
            await gate_of[0].until(lambda: stream.socket.peer is None or not _arrived(stream))
        return await sends(pieces[-1] if pieces else data)(stream)

    gate_of: list[Gate] = []

    async def scenario(gate: Gate) -> None:
        gate_of.append(gate)
        gate.serve(server)
        answers.extend(await gate.ended(gate.call(peer, source=source)))
        await gate.idle()

    return play(scenario, plan or with_peers()), answers[0]


def _arrived(stream) -> bool:
    incoming = stream.socket.peer.incoming
    return bool(incoming is not None and incoming.arrived)


@pytest.mark.parametrize("header", [V1, V2])
def test_announced_client_is_the_one_that_policy_judges_and_records_name_both(header):
    plan = with_peers(publication(clients=["10.1.2.0/24"]))

    gate, answer = one_client(header + b"hello", plan=plan)

    assert answer == b"hello"
    [decision] = gate.decisions
    [end] = gate.ends
    for record in (decision, end):
        assert record.client == str(ANNOUNCED)
        assert record.peer.startswith("10.7.7.7:")
    assert end.bytes_to_server == len(b"hello")


def test_announced_client_that_no_rule_names_is_refused_and_both_are_named():
    gate, answer = one_client(V2, plan=with_peers(publication(clients=["10.7.7.0/24"])))

    assert answer == b"<104>"
    [decision] = gate.decisions
    assert (decision.verdict, decision.reason) == ("denied", "client-not-listed")
    assert decision.client == str(ANNOUNCED)
    assert decision.peer.startswith("10.7.7.7:")


@pytest.mark.parametrize("data", [V1 + b"hello", V2 + b"hello", b"hello", b""])
def test_peer_that_nobody_named_is_refused_whatever_it_sends(data):
    gate, answer = one_client(data, source=STRANGER)

    assert answer.endswith((b"<104>", b"<32>"))
    [decision] = gate.decisions
    assert (decision.verdict, decision.reason) == ("denied", "proxy peer not named")
    assert decision.client.startswith("10.8.8.8:")


@pytest.mark.parametrize("header", [V1, V2])
def test_header_split_anywhere_is_the_same_header(header):
    for cut in range(1, len(header)):
        gate, answer = one_client(b"", pieces=[header[:cut], header[cut:] + b"hello"])
        assert answer == b"hello"
        assert gate.ends[0].client == str(ANNOUNCED)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not begin with its signature"),
        (b"", "the peer ended the stream"),
        (V1[:-1], "the peer ended the stream"),
        (b"PROXY UNKNOWN\r\nhello", "does not say who the client is"),
        (V2[:13] + b"\x00\x00\x00hello", "does not say who the client is"),
        (encode_proxy_v1(SocketAddress("127.0.0.1", 9), TARGET), "not the address of a client"),
        (encode_proxy_v2(SocketAddress("::1", 9), TARGET), "not the address of a client"),
        (b"PROXY TCP6 ::ffff:127.0.0.1 ::1 9 21\r\n", "not the address of a client"),
        (encode_proxy_v1(ANNOUNCED.with_port(0), TARGET), "port 0"),
        (
            encode_proxy_v2(ANNOUNCED, TARGET, transport=ProxyTransport.DATAGRAM),
            "the client came by datagrams",
        ),
        (V2[:14] + b"\xff\xff" + bytes(16), "longer than"),
        (V2[:13] + b"\x77" + V2[14:], "unknown family"),
    ],
)  # fmt: skip
def test_named_peer_without_a_usable_header_is_refused(data, reason):
    gate, answer = one_client(data)

    assert answer.endswith((b"<104>", b"<32>"))
    [decision] = gate.decisions
    assert decision.verdict == "denied"
    assert reason in decision.reason
    assert decision.client.startswith("10.7.7.7:")


def test_peer_speaking_for_itself_is_judged_by_its_own_address():
    local = encode_proxy_local()

    gate, answer = one_client(local + b"check")
    refused, reset = one_client(local, plan=with_peers(publication(clients=["10.1.0.0/16"])))

    assert answer == b"check"
    assert gate.ends[0].client.startswith("10.7.7.7:")
    assert gate.ends[0].peer == ""
    assert reset == b"<104>"
    assert refused.decisions[0].reason == "client-not-listed"


@pytest.mark.parametrize("drip", [b"", V1])
def test_header_that_does_not_come_in_time_ends_the_connection_however_it_drips(drip):
    took: list[float] = []

    async def scenario(gate: Gate) -> None:
        streams = []

        async def listens(stream):
            streams.append(stream)
            return await sends(b"", end=False)(stream)

        task = gate.call(listens, source=PEER)
        await gate.until(lambda: len(gate.service.proxy_headers))
        began = gate.clock.monotonic()
        rest = list(drip)
        while not task.is_done:
            if rest and not streams[0].socket.is_reset:
                streams[0].socket.send(bytes([rest.pop(0)]))
            await asyncio.sleep(0.25)
        took.append(gate.clock.monotonic() - began)
        assert await gate.ended(task) == [b"<104>"]

    gate = play(scenario, with_peers(), proxy_header_timeout_s=3.0)

    assert [record.reason for record in gate.decisions] == ["proxy header: not in time"]
    assert 3.0 <= took[0] < 6.0


def test_peers_whose_headers_are_awaited_count_as_connections():
    async def waits(stream):
        return await sends(b"", end=False)(stream)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        waiting = [gate.call(waits, source=PEER) for _ in range(3)]
        await gate.ended(*waiting)

    gate = play(scenario, with_peers(), connections_max=2)

    reasons = sorted(record.reason for record in gate.decisions)
    assert reasons.count("limit connections_max") == 1


def test_end_of_the_service_turns_away_whoever_has_not_finished_its_header():
    async def begins(stream):
        return await sends(V1[:10], end=False)(stream)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(begins, source=PEER)
        await gate.until(lambda: len(gate.service.proxy_headers))

    gate = play(scenario, with_peers())

    assert [record.reason for record in gate.decisions] == ["service stopping"]


def test_reload_takes_a_peers_right_to_announce():
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(V1 + b"one"), source=PEER)) == [b"one"]
        await gate.service.apply(with_peers(peers=["10.7.7.8/32"]))
        [answer] = await gate.ended(gate.call(sends(V1 + b"two"), source=PEER))
        assert answer.endswith((b"<104>", b"<32>"))

    gate = play(scenario, with_peers())

    assert gate.decisions[-1].reason == "proxy peer not named"


@pytest.mark.parametrize(
    ("kind", "version"), [(SendProxyProtocol.V1, 1), (SendProxyProtocol.V2, 2)]
)
@pytest.mark.parametrize("is_announced", [True, False])
def test_server_is_told_of_the_client_before_its_first_byte(kind, version, is_announced):
    plan_for = with_peers if is_announced else settings
    plan = plan_for(dataclasses.replace(publication(), send_proxy_protocol=kind))
    told: list[bytes] = []

    async def server(stream):
        while piece := await stream.receive():
            told.append(piece)
        stream.close()

    gate, _ = one_client((V2 if is_announced else b"") + b"hello", plan=plan, server=server)

    parser = ProxyHeaderParser()
    parser.receive_data(b"".join(told))
    header = parser.next_event()
    assert isinstance(header, ProxyHeader)
    assert header.version == version
    assert parser.take_early_data() == b"hello"
    assert str(header.source) == gate.ends[0].client
    assert header.target == (TARGET if is_announced else ENTRY)
    assert gate.ends[0].bytes_to_server == len(b"hello")


def test_policy_that_tells_servers_has_another_hash():
    plain = settings(publication()).policy.hash
    kinds = [
        settings(dataclasses.replace(publication(), send_proxy_protocol=kind)).policy.hash
        for kind in SendProxyProtocol
    ]

    assert len({plain, *kinds}) == 3


# -- a proxy listener behind peers ---------------------------------------------------------------


def proxy_plan(clients: str = "10.1.2.0/24"):
    plan = proxy_settings(RULES.replace('"10.0.0.0/8", "fd00::/8"', f'"{clients}"'))
    [listener] = plan.listeners
    peers = (ipaddress.ip_network("10.7.7.7/32"),)
    return dataclasses.replace(plan, listeners=(dataclasses.replace(listener, proxy_peers=peers),))


def ask_behind_peer(mode: EntryMode, *, source=PEER, plan=None):
    """Let a peer announce a client that asks for a server; return the gate and the reply."""
    ask = Ask(mode, WEB.host)
    replies: list[Any] = []

    async def client(stream):
        await stream.send_all(V2 + ask.wire())
        reply = await read_reply(stream, ask)
        if reply.is_granted:
            reply.tunnelled = await says_hello(stream)
        stream.close()
        return reply

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        replies.extend(await gate.ended(gate.call(client, source=source)))
        await gate.idle()

    return play(scenario, plan or proxy_plan(), exchange=Names()), replies[0]


@pytest.mark.parametrize("mode", MODES)
def test_announced_client_names_its_destination_in_every_entry_mode(mode):
    gate, reply = ask_behind_peer(mode)

    assert (reply.code, reply.tunnelled) == (0, b"hello")
    for record in (*gate.decisions, *gate.ends):
        assert record.client == str(ANNOUNCED)
        assert record.peer.startswith("10.7.7.7:")


@pytest.mark.parametrize("mode", MODES)
def test_rule_of_a_proxy_is_for_the_announced_client_and_not_for_its_peer(mode):
    gate, reply = ask_behind_peer(mode, plan=proxy_plan("10.7.7.0/24"))

    assert isinstance(reply, ConnectionResetError)
    [decision] = gate.decisions
    assert (decision.verdict, decision.client) == ("denied", str(ANNOUNCED))
    assert decision.peer.startswith("10.7.7.7:")


@pytest.mark.parametrize("mode", MODES)
def test_unnamed_peer_of_a_proxy_is_refused_before_its_request_is_read(mode):
    gate, _ = ask_behind_peer(mode, source=STRANGER)

    assert [record.reason for record in gate.decisions] == ["proxy peer not named"]
    assert gate.ends == []
