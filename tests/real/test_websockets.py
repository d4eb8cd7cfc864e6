"""Real clients and servers of WebSocket and of server-sent events, with a filter between them."""

from __future__ import annotations

import asyncio
import http.client
import json
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from .dns_parts import tool
from .web_parts import chromium
from .websocket_parts import (
    NODE,
    JudgingGate,
    Script,
    judging,
    node_client,
    node_server,
    python_client,
    python_server,
)

SERVERS = {"node": node_server, "python": python_server}
CLIENTS = {"node": node_client, "python": python_client}


@pytest.fixture(scope="module")
def node_port() -> Iterator[int]:
    with node_server() as port:
        yield port


@pytest.fixture(scope="module", params=list(SERVERS))
def gate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JudgingGate]:
    folder = tmp_path_factory.mktemp("judged") / "gate"
    with SERVERS[request.param]() as port, judging(folder, port) as gate:
        yield gate


SAID: Script = [
    {"text": "hello"},
    {"text": "é ☃ 😀"},
    {"text": ""},
    {"binary": 1},
    {"binary": 70_000},
    {"ping": "are you there"},
    {"text": "drop me", "silent": True},
    {"text": "rewrite me"},
    {"repeat": 200_000},
    {"binary": 3_000_000},
]
HEARD = [
    ["text", "hello", 5],
    ["text", "é ☃ 😀", 11],
    ["text", "", 0],
    ["binary", 1],
    ["binary", 70_000],
    ["pong", "are you there"],
    ["text", "rewritten", 9],
    ["text", ("long " * 8), 1_000_000],
    ["binary", 3_000_000],
]


@pytest.mark.parametrize("client", CLIENTS)
def test_messages_of_real_ends_pass_the_filter(gate: JudgingGate, client: str) -> None:
    before = len(gate.records("request"))
    found = CLIENTS[client](f"ws://127.0.0.1:{gate.port}/chat", SAID)
    assert found["got"] == HEARD
    assert found["code"] == 4000
    assert found["extensions"].startswith("permessage-deflate")
    record = gate.recorded("request", count=before + 1)[-1]
    assert (record["status"], record["outcome"]) == (101, "released")
    assert record["facts"] == {"messages_to_server": 10, "messages_to_client": 9}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        ({"text": "refuse me"}, 4001, "not allowed"),
        ({"text": "raise"}, 1011, "filter failure: judge"),
        ({"binary": 5_000_000}, 1009, "websocket-message-too-large"),
    ],
)
def test_what_is_refused_is_closed_with_its_code(
    gate: JudgingGate, client: str, said: dict[str, object], code: int, reason: str
) -> None:
    found = CLIENTS[client](f"ws://127.0.0.1:{gate.port}/chat", [{"text": "hello"}, said])
    assert found["got"] == [["text", "hello", 5]]
    assert (found["code"], found["reason"]) == (code, reason)


def test_secrets_do_not_leave_in_one_message_nor_in_two(
    tmp_path: pathlib.Path, node_port: int
) -> None:
    with judging(tmp_path / "gate", node_port, '"data_loss"') as gate:
        url = f"ws://127.0.0.1:{gate.port}/chat"
        for client in CLIENTS.values():
            found = client(url, [{"text": "hello"}, {"text": "card 4111 1111 1111 1111"}])
            assert (found["got"], found["code"]) == ([["text", "hello", 5]], 1008)
            found = client(url, [{"text": "card 4111 1111"}, {"text": " 1111 1111"}])
            assert (len(found["got"]), found["code"]) == (1, 1008)
        records = gate.recorded("request", count=2 * len(CLIENTS))
        assert len(records) == 2 * len(CLIENTS)
        assert all(one["ended"].startswith("secrets: 1 x ") for one in records)
        assert "4111" not in json.dumps(records)


def events(gate: JudgingGate, path: str, until: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=60)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip, br"})
    response = connection.getresponse()
    assert response.headers["Content-Encoding"] is None
    body = b""
    while until not in body:
        piece = response.read1()
        assert piece, body
        body += piece
    connection.close()
    return body


@pytest.mark.parametrize("path", ["/events", "/events-gzip", "/events-br"])
def test_j6_events_of_node_pass_the_filter_as_they_come(
    tmp_path: pathlib.Path, node_port: int, path: str
) -> None:
    with judging(tmp_path / "gate", node_port) as gate:
        body = events(gate, path, b"last\n\n")
        assert body == b"data: one\n\nevent: add\nid: 7\ndata: rewritten\n\ndata: last\n\n"


SOCKET = """
window.got = [];
window.socket = new WebSocket(`ws://${location.host}/chat`);
const said = ["hello", "é ☃ 😀", new Uint8Array(70000), "rewrite me", "refuse me"];
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send(said.shift());
socket.onmessage = (event) => {
  got.push(typeof event.data === "string" ? event.data : event.data.byteLength);
  socket.send(said.shift());
};
socket.onclose = (event) => { window.over = JSON.stringify([event.code, event.reason, got]); };
0
"""
EVENTS = """
window.heard = [];
for (const path of ["/events", "/events-gzip", "/events-br"]) {
  const source = new EventSource(path), mine = [];
  heard.push(mine);
  const take = (event) => mine.push([event.type, event.data, event.lastEventId]);
  source.onmessage = take;
  source.addEventListener("add", take);
}
0
"""


def test_a_browser_talks_and_listens_through_the_filter(
    tmp_path: pathlib.Path, node_port: int
) -> None:
    async def run(gate: JudgingGate) -> None:
        async with chromium(tmp_path, 9) as browser:
            await browser.call("Page.navigate", url=f"http://127.0.0.1:{gate.port}/")
            await browser.until("document.title == 'a page'")
            await browser.evaluate(SOCKET)
            over = json.loads(await browser.until("window.over"))
            assert over == [4001, "not allowed", ["hello", "é ☃ 😀", 70_000, "rewritten"]]
            assert await browser.evaluate("socket.extensions") == "permessage-deflate"
            await browser.evaluate(EVENTS)
            await browser.until("heard.every((one) => one.length === 3)")
            expected = [
                ["message", "one", ""],
                ["add", "rewritten", "7"],
                ["message", "last", "7"],
            ]
            heard = json.loads(await browser.evaluate("JSON.stringify(heard)"))
            assert heard == [expected] * 3

    with judging(tmp_path / "gate", node_port) as gate:
        asyncio.run(run(gate))


def test_without_a_filter_of_messages_it_is_a_tunnel(
    tmp_path: pathlib.Path, node_port: int
) -> None:
    with judging(tmp_path / "gate", node_port, "") as gate:
        found = node_client(f"ws://127.0.0.1:{gate.port}/", [{"text": "refuse me"}])
        assert found["got"] == [["text", "refuse me", 9]]
        assert found["code"] == 4000


def test_a_gate_that_drains_tells_its_websockets(tmp_path: pathlib.Path, node_port: int) -> None:
    with judging(tmp_path / "gate", node_port) as gate:
        wait = "setTimeout(() => {}, 30000)"
        script = (
            "const WebSocket = require('ws');"
            f"const socket = new WebSocket('ws://127.0.0.1:{gate.port}/');{wait};"
            "socket.on('open', () => console.log('open'));"
            "socket.on('close', (code) => { console.log(code); process.exit(); });"
        )
        with subprocess.Popen(
            [tool("node"), "-e", script], stdout=subprocess.PIPE, env=NODE
        ) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"open\n"
            gate.end()
            assert client.stdout.readline() == b"1001\n"
