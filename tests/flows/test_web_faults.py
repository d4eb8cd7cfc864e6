"""The web proxy under short reads, short sends, resets, starved buffers and delays, by seed."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, play
from tests.flows.web_kit import OTHER, SITE, Message, get, read_message, reply, web_settings


def body_of(path: str) -> bytes:
    """A body that only this path has, of a size that it chooses."""
    seed = hashlib.sha256(path.encode()).digest()
    size = [0, 1, 200, 4096, 5000, 70_000, 400_000][seed[0] % 7]
    return random.Random(seed).randbytes(size)


def answer_to(request: Message) -> bytes:
    path = request.line.split(" ")[1]
    body, kind = body_of(path), len(path) % 3
    if kind == 0:
        return reply(body)
    if kind == 1:
        wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for start in range(0, len(body), 3000):
            piece = body[start : start + 3000]
            wire += b"%x\r\n%b\r\n" % (len(piece), piece)
        return wire + b"0\r\n\r\n"
    return reply(hashlib.sha256(request.body).digest())


async def serve(stream: PeerStream) -> None:
    try:
        while (request := await read_message(stream)) is not None:
            if not request.whole:
                break
            await stream.send_all(answer_to(request))
    except OSError:
        return
    stream.close()


def client_of(name: str, count: int) -> Callable[[PeerStream], Coroutine[Any, Any, int]]:
    """Ask for paths of one's own; every answer that looks whole has to be right."""
    chooser = random.Random(name)

    async def peer(stream: PeerStream) -> int:
        right = 0
        try:
            for number in range(count):
                path = f"/{name}/{number}" + "x" * chooser.randrange(3)
                host = chooser.choice(["site.example", "other.example"])
                upload = chooser.randbytes(chooser.choice([0, 10, 9000, 120_000]))
                method = "POST" if upload else "GET"
                length = (f"Content-Length: {len(upload)}",) if upload else ()
                await stream.send_all(get(path, host, *length, method=method) + upload)
                answer = await read_message(stream, is_response=True)
                if answer is None or not answer.whole:
                    return right
                if answer.status != 200:
                    assert answer.status in {408, 502, 503, 504}, answer.head
                    continue
                wanted = body_of(path)
                if len(path) % 3 == 2:
                    wanted = hashlib.sha256(upload).digest()
                assert answer.body == wanted, (path, len(answer.body), len(wanted))
                right += 1
        except OSError:
            return right
        stream.close()
        return right

    return peer


BENIGN = FaultPlan(
    delay=0.05,
    socket_buffer_bytes=(2048, 20_000),
    cut=0.3,
    partial_send=0.3,
    short_receive=0.3,
    multishot_end=0.2,
    late_result=0.1,
)
"""What a busy machine and a slow network do, and what nobody may notice."""

HARMFUL = dataclasses.replace(BENIGN, reset=0.002, connect_refused=0.05, connect_timeout=0.02)


def run(seed: int, faults: FaultPlan, **limits: int) -> int:
    right: list[int] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(serve, address=SITE)
        gate.serve(serve, address=OTHER)
        clients = [
            gate.call(client_of(f"{seed}-{one}", 8), source=SocketAddress(f"10.1.1.{one}", 0))
            for one in range(1, 7)
        ]
        for result in await gate.ended(*clients, within_s=600):
            # A client whose own connect failed has asked for nothing.
            assert isinstance(result, int | ConnectionError | TimeoutError), result
            right.append(result if isinstance(result, int) else 0)
        await gate.idle()

    names = Names().put("site.example", "93.184.216.34").put("other.example", "93.184.216.35")
    play(scenario, web_settings(), seed=seed, faults=faults, exchange=names, **limits)
    return sum(right)


@pytest.mark.parametrize("seed", range(6))
def test_without_faults_every_answer_is_right(seed: int) -> None:
    assert run(seed, FaultPlan()) == 48


@pytest.mark.parametrize("seed", range(20))
def test_whatever_delays_and_cuts_every_answer_is_right(seed: int) -> None:
    assert run(seed, BENIGN) == 48


@pytest.mark.parametrize("seed", range(20))
def test_whatever_breaks_what_looks_whole_is_right(seed: int) -> None:
    assert run(seed, HARMFUL, connect_timeout_s=2) > 0


@pytest.mark.parametrize("seed", range(10))
def test_few_buffers_only_make_it_slower(seed: int) -> None:
    right = run(seed, BENIGN, interactive_buffers_max=8, bulk_buffers_max=1, client_buffers_max=2)
    assert right == 48
