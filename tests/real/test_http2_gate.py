"""Real clients and servers of HTTP/2: Node and Chromium at an HTTPS proxy, nginx behind it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chains import root
from tests.flows.tls_kit import NAME
from tests.ports import free_port

from .dns_parts import dnsmasq_server
from .entry_parts import PATIENCE_S, tool
from .sample_parts import WebServer, is_listening, wait_until
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

    connections = {record["connection"] for record in gate.recorded("request", count=14)}
    assert len(connections) == 1


def test_chromium_browses_by_http_2(gate: TlsGate, tmp_path: pathlib.Path) -> None:
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
    gate.recorded("request", lambda one: one["url"].endswith("/page.html"))


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


NGINX = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
daemon off;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        keepalive_requests 40;
        root {folder}/www;
    }}
}}
"""

ASKS = """
const http2 = require('node:http2');
const fs = require('node:fs');
const [port, ca, site] = process.argv.slice(2);
const client = http2.connect(`https://127.0.0.1:${port}`, {ca: fs.readFileSync(ca)});
client.on('error', (error) => { console.error(error); process.exit(1); });

function get(path) {
  return new Promise((resolve) => {
    const head = {':method': 'GET', ':scheme': 'https', ':authority': site, ':path': path};
    const stream = client.request(head);
    const found = {status: 0, size: 0, reset: 0};
    stream.on('response', (headers) => { found.status = headers[':status']; });
    stream.on('data', (piece) => { found.size += piece.length; });
    stream.on('error', () => {});
    stream.on('close', () => { found.reset = stream.rstCode; resolve(found); });
  });
}

(async () => {
  const found = [await get('/large')];
  for (let round = 0; round < 10; round++) {
    found.push(...await Promise.all(Array.from({length: 10}, () => get('/large'))));
  }
  console.log(JSON.stringify(found));
  client.close();
})();
"""


@pytest.fixture
def nginx(tmp_path: pathlib.Path) -> Iterator[Any]:
    """A server that leaves (GOAWAY) behind every fortieth request."""
    folder = tmp_path / "nginx"
    (folder / "www").mkdir(parents=True)
    (folder / "www" / "large").write_bytes(bytes(200_000))
    issued = root().issue(names=["web.names.test"])
    (folder / "server.pem").write_text(issued.sent)
    (folder / "server.key").write_text(issued.key_pem)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(user=user, folder=folder, port=port))
    running = subprocess.Popen([tool("nginx"), "-c", folder / "nginx.conf", "-p", folder])
    try:
        wait_until(lambda: is_listening(port), "nginx listens")
        yield SimpleNamespace(port=port, log=folder / "access.log")
    finally:
        running.terminate()
        running.wait(PATIENCE_S)


class VerifyingGate(TlsGate):
    """Believes the tests' own authority."""

    def write_main(self, more: str = "") -> None:
        (self.folder / "ca.pem").write_text(root().pem)
        super().write_main(f'[tls]\nauthorities = ["ca.pem"]\n{more}')


def test_nginx_is_asked_on_streams_of_few_connections_and_may_leave(
    nginx: Any, tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "asks.js"
    script.write_text(ASKS)
    with dnsmasq_server(tmp_path) as dns_port:
        gate = VerifyingGate(tmp_path / "gate", nginx.port, dns_port, "off")
        try:
            gate.start()
            site = f"web.names.test:{nginx.port}"
            ca = gate.folder / "proxy-ca.pem"
            done = subprocess.run(
                [tool("node"), str(script), str(gate.port), str(ca), site],
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
        finally:
            gate.close()
    assert not done.returncode, done.stderr.decode()
    found = json.loads(done.stdout)
    assert len(found) == 101
    assert {(one["status"], one["size"], one["reset"]) for one in found} == {(200, 200_000, 0)}

    def lines() -> list[str]:
        return nginx.log.read_text().splitlines()

    # It writes down what it was asked behind its answer.
    wait_until(lambda: len(lines()) >= 101, "requests are missing in its log")
    assert len(lines()) == 101
    assert all("HTTP/2.0" in line for line in lines())
