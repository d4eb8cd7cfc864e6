"""The connector: announced ports, in pieces, and the secondary connections that come of them."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.connector import Connector, ConnectorSettings, PortLines
from sluicegate.filterapi import SocketAddress, StreamFilter
from tests.flows.gate_kit import CLIENT, ENTRY, SERVER, Gate, play, sends, what_comes
from tests.samples.sample_kit import SEEDS, cut_up, exchange, notes, plan_with

DATA_PORT = SERVER.with_port(50_000)


def edited(*pieces: bytes) -> bytes:
    lines = PortLines(b"DATA PORT ", lambda port: port + 1)
    return b"".join(map(lines.feed, pieces)) + lines.finish()


@pytest.mark.parametrize(
    ("stream", "passes_as"),
    [
        (b"DATA PORT 5000\r\n", b"DATA PORT 5001\r\n"),
        (b"hello\nDATA PORT 5000\nDATA PORT 9\nbye", b"hello\nDATA PORT 5001\nDATA PORT 10\nbye"),
        (b"DATA PORT 00099\n", b"DATA PORT 100\n"),
        (b"see DATA PORT 5000\n", b"see DATA PORT 5000\n"),
        (b"DATA PORT 5000 now\n", b"DATA PORT 5000 now\n"),
        (b"DATA PORT 123456\n", b"DATA PORT 123456\n"),
        (b"DATA PORT x\n", b"DATA PORT x\n"),
        (b"DATA PORT \n", b"DATA PORT \n"),
        (b"DATA PORT 5000\r\r\n", b"DATA PORT 5000\r\r\n"),
        (b"DATA PORT 5000", b"DATA PORT 5000"),
    ],
)
def test_only_whole_lines_that_announce_are_edited(stream, passes_as):
    assert edited(stream) == passes_as


def test_prompt_is_not_held():
    lines = PortLines(b"DATA PORT ", lambda port: port)
    assert lines.feed(b"login: ") == b"login: "
    assert lines.feed(b"DATA PORT 5000\n") == b"DATA PORT 5000\n"
    assert lines.feed(b"DATA P") == b""
    assert lines.feed(b"RINT") == b"DATA PRINT"


lines = st.sampled_from(
    [b"DATA PORT 5000", b"DATA PORT ", b"7", b"\r\n", b"\n", b"DATA", b" ", b"x"]
)


@given(st.data(), st.lists(lines).map(b"".join))
def test_every_cut_edits_the_same(data, stream):
    assert edited(*data.draw(cut_up(stream))) == edited(stream)


def connector() -> partial[StreamFilter]:
    values = {"server_announces": "DATA PORT ", "client_announces": "LISTENING ON "}
    return partial(Connector, ConnectorSettings.model_validate(values))


async def announces_data(stream) -> bytes:
    """The server of a protocol whose data comes on a port of its own."""
    await stream.send_all(b"hello\r\nDATA PORT 50000\r\n")
    return await what_comes(stream)


async def fetches_data(gate: Gate, stream) -> bytes:
    """Its client."""
    await stream.receive_until(b"DATA PORT ")
    line = await stream.receive_until(b"\r\n")
    data = await gate.peers.connect(ENTRY.with_port(int(line)), CLIENT)
    got = await data.receive_all()
    data.close()
    stream.end_stream()
    await what_comes(stream)
    return got


@pytest.mark.parametrize("seed", SEEDS)
def test_client_reaches_the_announced_port_through_the_gate(seed):
    async def scenario(gate: Gate) -> None:
        gate.serve(announces_data)
        gate.serve(sends(b"the data"), address=DATA_PORT)
        assert await gate.ended(gate.call(lambda stream: fetches_data(gate, stream))) == [
            b"the data"
        ]
        await gate.idle()

    gate = play(scenario, plan_with(connector()), seed=seed)
    assert [record.reason for record in gate.decisions] == ["published", "expected"]
    ((message, facts),) = notes(gate)
    assert (message, facts["port"]) == ("port announced", 50_000)


def test_server_reaches_the_announced_port_of_its_client():
    async def scenario(gate: Gate) -> None:
        async def server(stream) -> bytes:
            await stream.receive_until(b"ON ")
            line = await stream.receive_until(b"\r\n")
            back = await gate.peers.connect(stream.remote.with_port(int(line)), SERVER)
            await back.send_all(b"pushed")
            back.close()
            return await what_comes(stream)

        async def client(stream) -> bytes:
            listener = gate.peers.listen(stream.local.with_port(40_000))
            await stream.send_all(b"LISTENING ON 40000\r\n")
            back = await listener.accept()
            got = await back.receive_all()
            back.close()
            stream.end_stream()
            await what_comes(stream)
            return got

        gate.serve(server)
        assert await gate.ended(gate.call(client)) == [b"pushed"]
        await gate.idle()

    gate = play(scenario, plan_with(connector()))
    assert [record.reason for record in gate.decisions] == ["published", "expected"]


def test_nobody_else_may_use_the_announced_port():
    stranger = SocketAddress.parse("10.1.1.99:0")

    async def scenario(gate: Gate) -> None:
        async def client(stream) -> bytes:
            await stream.receive_until(b"PORT ")
            line = await stream.receive_until(b"\r\n")
            other = await gate.peers.connect(ENTRY.with_port(int(line)), stranger)
            got = await what_comes(other)
            stream.end_stream()
            await what_comes(stream)
            return got

        gate.serve(announces_data)
        gate.serve(sends(b"the data"), address=DATA_PORT)
        assert await gate.ended(gate.call(client)) == [b"<104>"]
        await gate.idle()

    play(scenario, plan_with(connector()))


@pytest.mark.parametrize("port", [0, 22, 1023, 65536, 99999])
def test_port_that_no_data_connection_has_ends_the_connection(port):
    done = exchange(connector(), b"", b"DATA PORT %d\r\n" % port)
    outcome, reason = done.outcome
    assert outcome == "refused"
    assert reason.startswith(f"what the server announced cannot be had: port {port}")
    assert done.at_client == b"<104>"


def test_more_announcements_than_the_gate_allows_end_the_connection():
    done = exchange(connector(), b"", b"DATA PORT 5000\r\n" * 100)
    assert done.outcome[0] == "refused"
    assert "expected_connections_per_session_max" in done.outcome[1]


def test_secondary_connection_is_not_read_along():
    async def scenario(gate: Gate) -> None:
        gate.serve(announces_data)
        gate.serve(sends(b"DATA PORT 22\r\n"), address=DATA_PORT)
        assert await gate.ended(gate.call(lambda stream: fetches_data(gate, stream))) == [
            b"DATA PORT 22\r\n"
        ]
        await gate.idle()

    play(scenario, plan_with(connector()))
