"""Servers of the web proxy that are too slow: with an answer, or in taking a request (M3, N1)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, play
from tests.flows.web_kit import RULES, SITE, get, read_message, web_settings

DRIP = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10_000
LIVE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


async def drip(gate: Gate, stream: PeerStream, begin: bytes, piece: bytes) -> None:
    """Answer with a beginning, then a piece every ten seconds."""
    try:
        await read_message(stream)
        await stream.send_all(begin)
        for _ in range(10):
            await gate.peers.sleep(10)
            await stream.send_all(piece)
    except OSError:
        return
    stream.close()


Serve = Callable[[Gate, PeerStream], Coroutine[Any, Any, None]]


def fetch_from(serve: Serve, policy: str = RULES, upload: bytes = b"", **limits: Any) -> Gate:
    async def client(stream: PeerStream) -> bool:
        try:
            if upload:
                head = get("/", "site.example", f"Content-Length: {len(upload)}", method="PUT")
                await stream.send_all(head + upload)
            else:
                await stream.send_all(get())
            answer = await read_message(stream, is_response=True)
        except OSError:
            return False
        stream.close()
        return answer is not None and answer.whole

    async def scenario(gate: Gate) -> None:
        gate.serve(lambda stream: serve(gate, stream), address=SITE)
        await gate.ended(gate.call(client), within_s=900)

    names = Names(site_example=["93.184.216.34"])
    return play(scenario, web_settings(policy), exchange=names, **limits)


SLOWER = RULES + "limits = { window_bytes_min = 10 }\n"
FASTER = RULES + "limits = { window_bytes_min = 1_000_000 }\n"
#: Its pieces, each ten seconds; what the record says.
SLOW_SERVERS = {
    "a body of known length below the rate": (DRIP, b"y" * 10, RULES, False),
    "its rule lets it": (DRIP, b"y" * 10, SLOWER, True),
    "above the rate": (DRIP, b"y" * 9000, RULES, True),
    "its rule asks for more": (DRIP, b"y" * 9000, FASTER, False),
    "a stream": (LIVE, b"1\r\ny\r\n", RULES, True),
}


@pytest.mark.parametrize("name", SLOW_SERVERS)
def test_a_server_has_a_least_rate_for_what_it_said_the_length_of(name: str) -> None:
    begin, piece, policy, is_let = SLOW_SERVERS[name]
    gate = fetch_from(lambda one, stream: drip(one, stream, begin, piece), policy)
    ended = gate.requests[0].ended
    assert ("web_window_bytes_min" not in ended) is is_let, ended
    duration_s = gate.requests[0].duration_ms / 1000
    assert (duration_s > 80) is is_let


def test_a_server_that_does_not_take_the_request_is_given_up() -> None:
    async def serve(gate: Gate, _stream: PeerStream) -> None:
        await gate.peers.sleep(600)

    gate = fetch_from(serve, upload=b"x" * 3_000_000)
    (record,) = gate.requests
    assert record.ended == "server too slow: web_window_bytes_min"
    assert 30 <= record.duration_ms / 1000 <= 61
