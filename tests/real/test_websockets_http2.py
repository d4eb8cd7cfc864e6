"""Real ends of WebSockets on streams of HTTP/2 (RFC 8441): Chromium, Node's ``http2``, ``h2``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import ssl
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions

from tests.chains import root
from tests.pki import authority
from tests.ports import free_port

from .dns_parts import dnsmasq_server
from .entry_parts import PATIENCE_S, tool
from .sample_parts import is_listening, wait_until
from .test_http2_gate import VerifyingGate
from .test_opening_gate import OpeningGate
from .test_websockets import SOCKET
from .web_parts import chromium
from .websocket_parts import (
    JUDGE,
    NODE,
    JudgingGate,
    aiohttp_server,
    node_server,
    python_server,
    run_node,
)

TALK = """
const http2 = require('http2'), fs = require('fs'), WebSocket = require('ws');
const [port, ca, host, scheme, authority, more] = process.argv.slice(1);
const client = http2.connect(`https://127.0.0.1:${port}`,
                             { ca: fs.readFileSync(ca), servername: host });
client.on('error', (error) => { console.error(error); process.exit(1); });
const found = { talks: [] };

function page() {
  return new Promise((resolve) => {
    const stream = client.request({ ':scheme': scheme, ':authority': authority, ':path': '/' });
    let text = '';
    stream.on('data', (piece) => { text += piece; });
    stream.on('close', () => resolve(text));
  });
}

function talk(said) {
  return new Promise((resolve) => {
    const stream = client.request({
      ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': scheme,
      ':authority': authority, ':path': '/chat', 'sec-websocket-version': '13',
    });
    const got = [];
    stream.on('error', () => {});
    stream.on('response', (head) => {
      if (head[':status'] !== 200) { resolve({ status: head[':status'] }); stream.close(); return; }
      const socket = new WebSocket(null, undefined, {});
      socket._isServer = false;
      socket.on('message', (data, isBinary) => {
        got.push(isBinary ? data.length : String(data).slice(0, 40));
        if (said.length) next(); else socket.close(4000, 'enough');
      });
      socket.on('close', (code, reason) =>
        resolve({ status: 200, got, code, reason: `${reason}` }));
      const next = () => {
        const one = said.shift();
        socket.send(typeof one === 'number' ? Buffer.alloc(one) : one);
      };
      stream.setNoDelay = () => {};
      socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 1 << 24 });
      next();
    });
  });
}

client.once('remoteSettings', async (settings) => {
  found.announced = settings.enableConnectProtocol;
  found.page = await page();
  if (settings.enableConnectProtocol) {
    const all = ['hello', 70000, 'rewrite me', 1000000, 'last'];
    found.talks.push(...await Promise.all([talk([...all]), talk([...all]), talk([...all])]));
    found.talks.push(await talk(['hello', 'refuse me']));
  }
  found.again = await page();
  console.log(JSON.stringify(found));
  client.close();
});
"""

SWITCHES = """
const http2 = require('http2'), fs = require('fs'), WebSocket = require('ws');
const [port, folder] = process.argv.slice(1);
const server = http2.createSecureServer({
  key: fs.readFileSync(`${folder}/server.key`), cert: fs.readFileSync(`${folder}/server.pem`),
  settings: { enableConnectProtocol: true }, allowHTTP1: false,
});
server.on('stream', (stream, head) => {
  stream.on('error', () => {});
  if (head[':method'] !== 'CONNECT') {
    stream.respond({ ':status': 200, 'content-type': 'text/html' });
    stream.end('<!doctype html><title>a page</title>');
    return;
  }
  stream.respond({ ':status': 200 });
  const socket = new WebSocket(null, undefined, {});
  stream.setNoDelay = () => {};
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 1 << 24 });
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.listen(+port, '127.0.0.1');
"""

ALL = {"status": 200, "got": ["hello", 70000, "rewritten", 1000000, "last"], "code": 4000}
REFUSED = {"status": 200, "got": ["hello"], "code": 4001, "reason": "not allowed"}


class Published(JudgingGate):
    """Judges the messages of a server that it publishes inside TLS."""

    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        certificates = self.folder / "certificates"
        certificates.mkdir(exist_ok=True)
        authority("proxy").server("localhost").write(certificates, "localhost")
        (self.folder / "ca.pem").write_text(authority("proxy").pem)
        super().write_main(f'[listener.tls]\nfolder = "certificates"\n{more}')


@contextlib.contextmanager
def publishing(folder: pathlib.Path, server_port: int, filters: str) -> Iterator[Published]:
    folder.mkdir()
    gate = type("Gate", (Published,), {"filters": filters})(folder, server_port)
    with gate.running():
        yield gate


def node_talks(
    port: int, ca: pathlib.Path, host: str, *where: str, script: str = TALK
) -> dict[str, Any]:
    return run_node(script, str(port), str(ca), host, *where)


@pytest.mark.parametrize(
    ("server", "code"),
    [(node_server, 4000), (python_server, 4000), (aiohttp_server, 1000)],  # (which has its own)
)
def test_node_talks_on_streams_with_servers_of_http_1(
    tmp_path: pathlib.Path, server: Any, code: int
) -> None:
    with server() as port, publishing(tmp_path / "gate", port, '"judge"') as gate:
        where = "https", f"localhost:{gate.port}"
        found = node_talks(gate.port, gate.folder / "ca.pem", "localhost", *where)
        records = gate.recorded("request", count=6)
    assert found["announced"] is True
    heard = ALL | {"reason": "", "code": code}
    assert [one | {"reason": ""} for one in found["talks"][:3]] == [heard] * 3
    assert found["talks"][3] == REFUSED
    assert len({one["connection"] for one in records}) == 1
    talks = [one for one in records if one["status"] == 101]
    assert sorted(one["outcome"] for one in talks) == [
        "refused",
        "released",
        "released",
        "released",
    ]


def test_without_a_filter_of_messages_streams_are_tunnels(tmp_path: pathlib.Path) -> None:
    with node_server() as port, publishing(tmp_path / "gate", port, "") as gate:
        where = "https", f"localhost:{gate.port}"
        found = node_talks(gate.port, gate.folder / "ca.pem", "localhost", *where)
    got = ["hello", 70000, "rewrite me", 1000000, "last"]
    assert [one["got"] for one in found["talks"][:3]] == [got] * 3
    assert found["talks"][3]["got"] == ["hello", "refuse me"]
    assert "a page" in found["again"]


def test_chromium_asks_for_its_websocket_on_the_connection_of_its_page(
    tmp_path: pathlib.Path,
) -> None:
    async def run(gate: Published) -> None:
        async with chromium(tmp_path, 9) as browser:
            await browser.call("Security.setIgnoreCertificateErrors", ignore=True)
            await browser.call("Page.navigate", url=f"https://localhost:{gate.port}/")
            await browser.until("document.title == 'a page'")
            await browser.evaluate(SOCKET.replace("ws://", "wss://"))
            over = json.loads(await browser.until("window.over"))
            assert over == [4001, "not allowed", ["hello", "é ☃ 😀", 70_000, "rewritten"]]
            assert await browser.evaluate("socket.extensions") == "permessage-deflate"

    with node_server() as port, publishing(tmp_path / "gate", port, '"judge"') as gate:
        asyncio.run(run(gate))
        (talk,) = gate.recorded("request", lambda one: one["status"] == 101)
        page, *_ = gate.recorded(
            "request", lambda one: one["url"].endswith("/") and one["status"] == 200
        )
        assert talk["connection"] == page["connection"], "by RFC 8441"
        assert talk["facts"]["messages_to_server"] >= 4


class Verifying(VerifyingGate):
    """An HTTPS proxy that judges messages, and believes the tests' own authority."""

    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        super().write_main(f'[[filter]]\nname = "judge"\nuse = "judge.py:Judge"\n{more}')

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write('upgrades = ["websocket"]\nfilters = ["judge"]\n')


@pytest.fixture
def switching(tmp_path: pathlib.Path) -> Iterator[Any]:
    """A server of HTTP/2 alone, whose streams may switch."""
    folder = tmp_path / "node"
    folder.mkdir()
    issued = root().issue(names=["web.names.test"])
    (folder / "server.pem").write_text(issued.sent)
    (folder / "server.key").write_text(issued.key_pem)
    port = free_port()
    command = [tool("node"), "-e", SWITCHES, str(port), str(folder)]
    with subprocess.Popen(command, env=NODE) as server:
        try:
            wait_until(lambda: is_listening(port), "node listens")
            yield SimpleNamespace(port=port)
        finally:
            server.kill()


def test_a_server_of_http_2_is_asked_on_streams(switching: Any, tmp_path: pathlib.Path) -> None:
    with dnsmasq_server(tmp_path) as dns_port:
        gate = Verifying(tmp_path / "gate", switching.port, dns_port, "off")
        try:
            gate.start()
            ca = gate.folder / "proxy-ca.pem"
            site = f"web.names.test:{switching.port}"
            found = node_talks(gate.port, ca, "gate.example", "https", site)
        finally:
            gate.close()
    assert found["announced"] is True
    assert "a page" in found["page"]
    assert [one | {"reason": ""} for one in found["talks"][:3]] == [ALL | {"reason": ""}] * 3
    assert found["talks"][3] == REFUSED


def test_the_first_thing_that_a_server_of_http_2_is_asked_for_may_be_a_websocket(
    switching: Any, tmp_path: pathlib.Path
) -> None:
    asks_no_page = TALK.replace("  found.page = await page();\n", "")
    with dnsmasq_server(tmp_path) as dns_port:
        gate = Verifying(tmp_path / "gate", switching.port, dns_port, "off")
        try:
            gate.start()
            ca = gate.folder / "proxy-ca.pem"
            where = "https", f"web.names.test:{switching.port}"
            found = node_talks(gate.port, ca, "gate.example", *where, script=asks_no_page)
        finally:
            gate.close()
    assert "page" not in found
    assert [one | {"reason": ""} for one in found["talks"][:3]] == [ALL | {"reason": ""}] * 3
    assert found["talks"][3] == REFUSED


class Opening(OpeningGate):
    """Opens TLS, and judges the messages inside."""

    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        super().write_main(f'[[filter]]\nname = "judge"\nuse = "judge.py:Judge"\n{more}')

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        port = self.ports["alone"]
        (self.folder / "policy.toml").write_text(
            '[[rule]]\nname = "opened"\naction = "allow"\nlistener = "echo"\n'
            f'clients = ["{clients}"]\n'
            f'to = ["*.names.test", "127.0.0.1"]\nprotocols = ["tcp:{port}"]\nfilters = ["judge"]\n'
            f'upgrades = ["websocket"]\ntls = {{ mode = "inspect", ports = [{port}] }}\n'
        )


def test_python_has_the_websocket_of_a_server_of_http_2_alone_inside_opened_tls(
    switching: Any, tmp_path: pathlib.Path
) -> None:
    async def talk(gate: Opening) -> tuple[list[str | bytes], int | None]:
        context = ssl.create_default_context(cafile=str(gate.ca))
        context.set_alpn_protocols(["http/1.1"])
        got: list[str | bytes] = []
        async with websockets.asyncio.client.connect(
            f"wss://web.names.test:{switching.port}/chat",
            proxy=f"http://127.0.0.1:{gate.port}",
            ssl=context,
        ) as socket:
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                for one in ("hello", "rewrite me", "refuse me"):
                    await socket.send(one)
                    got.append(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        return got, socket.close_code

    with dnsmasq_server(tmp_path) as dns_port:
        servers = SimpleNamespace(ports={"alone": switching.port})
        gate = Opening(tmp_path / "gate", servers, dns_port)  # type: ignore[arg-type]
        try:
            gate.start()
            assert asyncio.run(talk(gate)) == (["hello", "rewritten"], 4001)
            wait_until(lambda: bool(gate.records("request")), "it is recorded")
            (record,) = gate.records("request")
        finally:
            gate.close()
    assert (record["status"], record["ended"]) == (101, "not allowed")
    assert record["url"] == f"https://web.names.test:{switching.port}/chat"
