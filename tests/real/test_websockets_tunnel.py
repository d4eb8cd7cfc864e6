"""Real clients that ask for a tunnel for ``ws://`` and ``http://``, under a filter of messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions
from typing_extensions import override

from .dns_parts import dnsmasq_server
from .entry_parts import curl
from .sample_parts import wait_until
from .test_entry_gate import ProxyGate
from .test_websockets import SOCKET
from .web_parts import HOST, chromium
from .websocket_parts import JUDGE, node_server, run_node

SAID = ["hello", "drop me", "rewrite me", "refuse me"]

NODE_TALK = """
const WebSocket = require('ws'), http = require('http');
const [proxy, host, text] = process.argv.slice(1), said = JSON.parse(text), got = [];
const asked = http.request({ port: +proxy, method: 'CONNECT', path: host, headers: { host } });
asked.on('connect', (answer, tunnel) => {
  if (answer.statusCode !== 200) return console.log(JSON.stringify({ status: answer.statusCode }));
  const agent = new http.Agent();
  agent.createConnection = () => tunnel;
  const socket = new WebSocket(`ws://${host}/chat`, { agent });
  socket.on('open', () => said.forEach((one) => socket.send(one)));
  socket.on('message', (data) => got.push(String(data)));
  socket.on('close', (code, reason) =>
    console.log(JSON.stringify({ got, code, reason: String(reason) })));
});
asked.end();
"""


class JudgingProxy(ProxyGate):
    """A proxy whose rule has a filter of messages."""

    filters = '"judge"'

    @override
    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        super().write_main(f'[[filter]]\nname = "judge"\nuse = "judge.py:Judge"\n{more}')

    @override
    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write(f'upgrades = ["websocket"]\nfilters = [{self.filters}]\n')

    @property
    def site(self) -> str:
        return f"{HOST}:{self.server_port}"


@contextlib.contextmanager
def judging(folder: pathlib.Path, filters: str) -> Iterator[JudgingProxy]:
    with node_server() as port, dnsmasq_server(folder) as dns_port:
        kind = type("Gate", (JudgingProxy,), {"filters": filters})
        gate = kind(folder / "gate", port, dns_port, "off")
        with gate.running():
            yield gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgingProxy]:
    with judging(tmp_path_factory.mktemp("judged"), '"judge"') as gate:
        yield gate


def node_talks(gate: JudgingProxy, script: str = NODE_TALK) -> dict[str, Any]:
    return run_node(script, str(gate.port), gate.site, json.dumps(SAID))


def python_talks(gate: JudgingProxy) -> dict[str, Any]:
    async def play() -> dict[str, Any]:
        got: list[str | bytes] = []
        socket = await websockets.asyncio.client.connect(
            f"ws://{gate.site}/chat", proxy=f"http://127.0.0.1:{gate.port}"
        )
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            for one in SAID:
                await socket.send(one)
            while True:
                got.append(await asyncio.wait_for(socket.recv(), 30))
        return {"got": got, "code": socket.close_code, "reason": socket.close_reason}

    return asyncio.run(play())


CLIENTS = {"node": node_talks, "python": python_talks}


def talks(gate: JudgingProxy) -> list[dict[str, Any]]:
    return [one for one in gate.records("request") if one["status"] == 101]


@pytest.mark.parametrize("client", CLIENTS)
def test_messages_in_a_tunnel_are_dropped_rewritten_and_refused(
    gate: JudgingProxy, client: str
) -> None:
    before = len(talks(gate))
    found = CLIENTS[client](gate)
    # What the server sends back may come behind the close.
    assert found["got"] == ["hello", "rewritten"][: len(found["got"])]
    assert (found["code"], found["reason"]) == (4001, "not allowed")
    wait_until(lambda: len(talks(gate)) > before, "it is recorded")
    record = talks(gate)[-1]
    assert (record["outcome"], record["ended"]) == ("refused", "not allowed")
    assert (record["entry"], record["url"]) == ("http-connect", f"http://{gate.site}/chat")


def test_chromium_asks_for_its_websocket_by_a_tunnel(
    gate: JudgingProxy, tmp_path: pathlib.Path
) -> None:
    async def run() -> None:
        async with chromium(tmp_path, gate.port) as browser:
            await browser.call("Page.navigate", url=f"http://{gate.site}/")
            await browser.until("document.title == 'a page'")
            await browser.evaluate(SOCKET)
            over = json.loads(await browser.until("window.over"))
            assert over == [4001, "not allowed", ["hello", "é ☃ 😀", 70_000, "rewritten"]]
            assert await browser.evaluate("socket.extensions") == "permessage-deflate"

    before = len(talks(gate))
    asyncio.run(run())
    wait_until(lambda: len(talks(gate)) > before, "it is recorded")
    talk = talks(gate)[-1]
    assert talk["entry"] == "http-connect", "a browser sends no whole URL for a WebSocket"
    assert talk["facts"]["messages_to_server"] >= 4


@pytest.mark.parametrize(
    "proxy", ["--proxytunnel --proxy http", "--proxy socks5h"], ids=["connect", "socks"]
)
def test_curl_gets_pages_in_a_tunnel(gate: JudgingProxy, proxy: str) -> None:
    where = f"{proxy}://127.0.0.1:{gate.port}".split()
    url = f"http://{gate.site}/{'socks' if 'socks' in proxy else 'connect'}"
    done = curl("--noproxy", "", *where, url, url)
    assert done.stdout.count(b"a page") == 2

    def asked() -> list[dict[str, Any]]:
        return [one for one in gate.records("request") if one["url"] == url]

    wait_until(lambda: len(asked()) == 2, "both are recorded")
    first, second = asked()
    assert first["connection"] == second["connection"]
    assert first["entry"] == ("socks5" if "socks" in proxy else "http-connect")


def test_curl_is_shown_why_another_host_is_not_served_in_its_tunnel(gate: JudgingProxy) -> None:
    where = f"--proxytunnel --proxy http://127.0.0.1:{gate.port} -H Host:other.names.test".split()
    done = curl("--noproxy", "", *where, "--write-out", "%{http_code}", f"http://{gate.site}/")
    assert done.stdout.endswith(b"421")


def test_what_is_no_http_is_refused_in_a_tunnel(gate: JudgingProxy) -> None:
    where = f"--proxytunnel --proxy http://127.0.0.1:{gate.port}".split()
    done = curl("--noproxy", "", *where, f"https://{gate.site}/")
    assert b"alert access denied" in done.stderr.lower().replace(b"tlsv1 ", b"")
    wait_until(
        lambda: any(
            (one["outcome"], one["reason"]) == ("refused", "rule-has-filters-of-messages")
            for one in gate.records("connection")
        ),
        "it is recorded",
    )


def test_without_a_filter_of_messages_the_tunnel_is_bytes(tmp_path: pathlib.Path) -> None:
    leaves = "{ got.push(String(data)); if (got.length === said.length) socket.close(4000); }"
    script = NODE_TALK.replace("got.push(String(data))", leaves)
    with judging(tmp_path, "") as gate:
        assert node_talks(gate, script) == {"got": SAID, "code": 4000, "reason": ""}
        wait_until(lambda: bool(gate.records("connection")), "it is recorded")
        assert gate.records("request") == []
