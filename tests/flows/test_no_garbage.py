"""Connections that have ended leave no circles: memory is free at once, not when somebody looks.

The collector looks seldom in a gate (``app.machine``), and what waits for it looks like a leak.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import pathlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.filterapi import (
    FORWARD,
    ConnectRequested,
    DataFilter,
    DatagramFilter,
    Emulate,
    Events,
    Pass,
    StreamFilter,
)
from sluicegate.gate.settings import ListenerSettings
from tests.flows.ftp_kit import GateThread, clean, elf, pyftpdlib_server
from tests.flows.gate_kit import (
    ENTRY,
    SERVER,
    Gate,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
)
from tests.flows.model_kit import PlayingEcho, Telling
from tests.flows.opening_kit import NAME, Met, Talk, get, meets, open_tls, requests

DATA = bytes(range(256)) * 400
#: More than a small slot, and than half of a bulky one.


class Garbage:
    """What only the collector would have freed, of the gate's own types."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()


@contextlib.contextmanager
def collecting() -> Iterator[Garbage]:
    found = Garbage()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        for one in gc.garbage:
            module = type(one).__module__
            if module.startswith("sluicegate.") and not module.startswith("sluicegate.testing"):
                found.kinds[f"{module}.{type(one).__qualname__}"] += 1
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


class Looks(StreamFilter):
    def on_data(self, side: Any, window: Any) -> Any:
        return FORWARD


class Copies(DataFilter):
    async def run(self, client: Any, server: Any, connection: Any) -> None:
        async def copy(source: Any, sink: Any) -> None:
            while window := await source.receive():
                await sink.send(window)
            sink.shutdown()

        await asyncio.gather(copy(client, server), copy(server, client))


class Whole(DatagramFilter):
    def on_datagram(self, side: Any, peer: Any, data: Any) -> Any:
        return FORWARD


class Passes(DataFilter):
    """Passes datagrams on until its connection has ended."""

    async def run(self, client: Any, server: Any, connection: Any) -> None:
        while True:
            await server.send(await client.receive())
            await client.send(await server.receive())


async def visit_streams(gate: Gate) -> None:
    for _ in range(3):
        await gate.ended(gate.call(sends(DATA)))
    await gate.idle()


async def answer_datagrams(gate: Gate) -> None:
    server = gate.peers.bind_datagrams(SERVER)
    while True:
        _, sender = await server.receive()
        server.send(b"back", sender)


async def visit_datagrams(gate: Gate) -> None:
    came: list[bytes] = []

    async def ask(port: int) -> None:
        client = gate.peers.bind_datagrams(SocketAddress("10.1.1.1", port))
        client.send(b"hello", ENTRY)
        came.append((await client.receive())[0])

    first = next(PORTS)
    ports = range(first, first + 3)
    for port in ports:
        gate.peers.spawn("client", ask(port))
    await gate.until(lambda: len(came) == len(ports))
    await gate.idle()


PORTS = itertools.count(4000, 10)


def emulates() -> Telling:
    return Telling(
        lambda event: Emulate(PlayingEcho()) if isinstance(event, ConnectRequested) else Pass(),
        Events.of(ConnectRequested),
    )


Visits = Callable[[Gate], Coroutine[Any, Any, None]]
KINDS: dict[str, tuple[Visits, Any]] = {
    "plain": (visit_streams, None),
    "stream filter": (visit_streams, Looks),
    "data filter": (visit_streams, Copies),
    "emulated": (visit_streams, emulates),
    "datagrams": (visit_datagrams, None),
    "datagram filter": (visit_datagrams, Whole),
    "data filter of datagrams": (visit_datagrams, Passes),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ended_connections_leave_nothing_to_the_collector(kind: str) -> None:
    visits, make = KINDS[kind]
    filters = []
    if make is not None:
        filters = [installation(emulates() if make is emulates else make, "f")]
    is_udp = visits is visit_datagrams
    plan = settings(
        publication(*[one.name for one in filters]),
        filters=filters,
        listeners=(ListenerSettings("web", ENTRY, is_udp=is_udp),),
    )
    found: list[Garbage] = []

    async def scenario(gate: Gate) -> None:
        if is_udp:
            gate.peers.spawn("server", answer_datagrams(gate))
        else:
            gate.serve(echoes)
        await visits(gate)  # so that pools are filled
        with collecting() as garbage:
            await visits(gate)
            await asyncio.sleep(1.0)
        found.append(garbage)

    gate = play(scenario, plan, udp_idle_timeout_s=20.0)
    assert found[0].kinds == {}
    assert len(gate.ends) == 6


def test_ended_ftp_sessions_leave_nothing_to_the_collector(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "small.bin").write_bytes(clean(3_000))
    (folder / "large.bin").write_bytes(clean())
    (folder / "tool").write_bytes(elf())

    def visit(gate: GateThread) -> None:
        with gate.client().login() as client:
            assert client.fetch("small.bin")[0] == clean(3_000)
            assert client.fetch("large.bin")[0] == clean()
            assert client.fetch("tool")[0] == b""
            assert client.store("stored.bin", clean()).startswith("226")
            assert client.ask("QUIT").startswith("221")
        gate.wait_idle()

    with pyftpdlib_server(folder) as port, GateThread(tmp_path / "g", port, backend_name) as gate:
        visit(gate)
        with collecting() as found:
            visit(gate)
        assert found.kinds == {}


OPENINGS: dict[str, Talk] = {
    "web": requests(get("/a"), get("/b")),
    "web, closed by its answer": requests(get("/", NAME, "Connection: close")),
    "refused inside": requests(get("/", "other.example")),
    "without a request": requests(),
}


@pytest.mark.parametrize("kind", OPENINGS)
def test_ended_connections_whose_tls_was_opened_leave_nothing_to_the_collector(kind: str) -> None:
    found: list[Garbage] = []

    async def visit(gate: Gate) -> None:
        before = len(gate.ends)
        await gate.ended(gate.call(meets(OPENINGS[kind], met=Met())))
        await gate.until(lambda: len(gate.ends) > before)
        await asyncio.sleep(1.0)

    async def come_again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        await visit(gate)  # so that what is shared by all is there
        with collecting() as garbage:
            await visit(gate)
        found.append(garbage)

    opened = open_tls(get("/"), during=come_again)
    assert found[0].kinds == {}
    assert len(opened.gate.ends) == 3
