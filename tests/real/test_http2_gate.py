"""Real clients of HTTP/2 at an HTTPS proxy: Node and Chromium, with requests and with tunnels."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.flows.tls_kit import NAME

from .entry_parts import PATIENCE_S, tool
from .sample_parts import WebServer, wait_until
from .test_entry_gate import PAGE
from .test_tls_gate import TlsGate, running

NODE = """
const http2 = require('node:http2');
const fs = require('node:fs');
const [port, ca, site, origin] = process.argv.slice(2);
const client = http2.connect(`https://127.0.0.1:${port}`, {ca: fs.readFileSync(ca)});
client.on('error', (error) => { console.error(error); process.exit(1); });

function ask(head, body) {
  return new Promise((resolve) => {
    const stream = client.request(head, {endStream: body === undefined});
    const found = {status: 0, size: 0, text: '', reset: 0};
    stream.on('response', (headers) => { found.status = headers[':status']; });
    stream.on('data', (piece) => {
      found.size += piece.length;
      if (found.text.length < 4000) found.text += piece.toString('latin1');
    });
    stream.on('error', () => {});
    stream.on('close', () => { found.reset = stream.rstCode; resolve(found); });
    if (body !== undefined) stream.end(body);
  });
}

function get(path, authority = `${site}:${origin}`) {
  return ask({':method': 'GET', ':scheme': 'http', ':authority': authority, ':path': path});
}

(async () => {
  const found = {};
  found.page = await get('/page');
  found.many = await Promise.all(Array.from({length: 12}, () => get('/large')));
  found.denied = await get('/', '169.254.169.254');
  const connect = {':method': 'CONNECT', ':authority': `${site}:${origin}`};
  const asked = `GET /page HTTP/1.1\\r\\nHost: ${site}\\r\\nConnection: close\\r\\n\\r\\n`;
  found.tunnel = await ask(connect, asked);
  found.blocked = await ask({':method': 'CONNECT', ':authority': `${site}:22`}, '');
  console.log(JSON.stringify(found));
  client.close();
})();
"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "page").write_bytes(PAGE)
    (folder / "large").write_bytes(bytes(range(256)) * 4096)
    (folder / "page.html").write_text("<title>hello</title><p>from behind the gate")
    server = WebServer(folder)
    yield server
    server.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Iterator[TlsGate]:
    with running(tmp_path_factory.mktemp("open"), web) as gate:
        yield gate


def test_node_has_requests_and_tunnels_on_one_connection(
    gate: TlsGate, tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "client.js"
    script.write_text(NODE)
    ca = gate.folder / "proxy-ca.pem"
    arguments = [str(gate.port), str(ca), "web.names.test", str(gate.server_port)]
    done = subprocess.run(
        [tool("node"), str(script), *arguments],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert not done.returncode, done.stderr.decode()
    found = json.loads(done.stdout)

    assert (found["page"]["status"], found["page"]["text"].encode()) == (200, PAGE)
    assert {(one["status"], one["size"], one["reset"]) for one in found["many"]} == {
        (200, 1 << 20, 0)
    }
    assert found["denied"]["status"] == 403
    assert found["tunnel"]["status"] == 200
    assert PAGE.decode("latin-1") in found["tunnel"]["text"]
    assert found["blocked"]["status"] == 403

    wait_until(lambda: len(gate.records("request")) >= 14, "the records")
    connections = {record["connection"] for record in gate.records("request")}
    assert len(connections) == 1


def test_chromium_browses_by_http_2(gate: TlsGate, tmp_path: pathlib.Path) -> None:
    before = len(gate.records("request"))
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            tool("chromium"),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--ignore-certificate-errors",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--proxy-server=https://127.0.0.1:{gate.port}",
            "--proxy-bypass-list=<-loopback>",
            f"--log-net-log={log}",
            "--dump-dom",
            f"http://web.names.test:{gate.server_port}/page.html",
        ],
        capture_output=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )
    assert b"from behind the gate" in done.stdout, done.stderr.decode()[-2000:]
    assert b"HTTP2_SESSION" in log.read_bytes()
    wait_until(lambda: len(gate.records("request")) > before, "a record")


def test_openssl_agrees_on_what_it_offers(gate: TlsGate) -> None:
    for offered, taken in (("h2", b"h2"), ("http/1.1,h2", b"h2"), ("http/1.1", b"http/1.1")):
        done = subprocess.run(
            [
                tool("openssl"),
                "s_client",
                "-connect",
                f"127.0.0.1:{gate.port}",
                "-servername",
                NAME,
                "-alpn",
                offered,
            ],
            input=b"",
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert b"ALPN protocol: " + taken in done.stdout
