"""A gate that judges messages, and real servers and clients of WebSocket on its two sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import aiohttp.web
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions

from tests.kernel.test_gate_process import GateProcess
from tests.ports import free_port

from .entry_parts import PATIENCE_S, tool
from .sample_parts import is_listening, wait_until

JUDGE = '''
from sluicegate.filterapi import (
    DROP, FORWARD, CloseWith, MessageKind, Needs, Refuse, ReplaceEvent, Rewrite, ServerSentEvent,
    WebFilter,
)


class Judge(WebFilter):
    """Refuses, drops and rewrites what says so."""

    name = "judge"
    needs = Needs(messages=True, events=True)

    def on_message(self, exchange, message):
        if message.text == "refuse me":
            return CloseWith("not allowed", 4001)
        if message.text == "raise":
            raise KeyError("lost")
        if message.text == "drop me":
            return DROP
        return Rewrite(b"rewritten") if message.text == "rewrite me" else FORWARD

    def on_event(self, exchange, event):
        if event.data == "drop me":
            return DROP
        if event.data == "rewrite me":
            return ReplaceEvent(ServerSentEvent("rewritten", event.event, event.id))
        return FORWARD
'''

NODE_SERVER = """
const http = require('http'), zlib = require('zlib'), { WebSocketServer } = require('ws');
const events = ['data: one\\n\\n', 'event: add\\nid: 7\\ndata: rewrite me\\n\\n',
                'data: drop me\\n\\n', 'data: last\\n\\n'];
const server = http.createServer((request, response) => {
  if (!request.url.startsWith('/events')) {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>a page</title>');
    return;
  }
  const coding = request.url.split('-')[1];
  response.setHeader('Content-Type', 'text/event-stream');
  if (coding) response.setHeader('Content-Encoding', coding);
  const packer = coding === 'br' ? zlib.createBrotliCompress()
    : coding === 'gzip' ? zlib.createGzip() : null;
  if (packer) packer.pipe(response);
  const out = packer || response;
  let at = 0;
  // Each is sent when the one before it has had its time, as a feed does; the stream stays open.
  const next = () => {
    if (at === events.length) return;
    out.write(events[at++]);
    if (packer) packer.flush(() => setTimeout(next, 50)); else setTimeout(next, 50);
  };
  next();
});
new WebSocketServer({ server, perMessageDeflate: { threshold: 0 }, maxPayload: 1 << 24 })
  .on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('close', (code, reason) => console.log(JSON.stringify([code, String(reason)])));
  });
server.listen(+process.argv[1], '127.0.0.1');
"""

NODE_CLIENT = """
const WebSocket = require('ws'), crypto = require('crypto');
const [url, text] = process.argv.slice(1), script = JSON.parse(text), got = [];
const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0 }, maxPayload: 1 << 24 });
let at = 0;
const next = () => {
  if (at === script.length) return socket.close(4000, 'enough');
  const one = script[at++];
  if (one.repeat) socket.send('long '.repeat(one.repeat));
  else if (one.binary) socket.send(crypto.randomBytes(one.binary));
  else if (one.ping) { socket.ping(one.ping); return; }
  else socket.send(one.text);
  if (one.silent) next();
};
socket.on('open', next);
socket.on('pong', (data) => { got.push(['pong', String(data)]); next(); });
socket.on('message', (data, isBinary) => {
  got.push(isBinary ? ['binary', data.length] : ['text', String(data).slice(0, 40), data.length]);
  next();
});
socket.on('close', (code, reason) => {
  console.log(JSON.stringify({ got, code, reason: String(reason),
                               extensions: socket.extensions || '' }));
});
socket.on('error', (error) => console.log(JSON.stringify({ error: String(error) })));
"""


class JudgingGate(GateProcess):
    """A gate that publishes a web server, whose messages it judges."""

    filters = '"judge"'

    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        super().write_main(
            '[[filter]]\nname = "judge"\nuse = "judge.py:Judge"\n'
            '[[filter]]\nname = "data_loss"\nuse = "data_loss"\n' + more
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write('http = true\nupgrades = ["websocket"]\n')
            policy.write(f"filters = [{self.filters}]\n")

    @property
    def port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])


@contextlib.contextmanager
def judging(
    folder: pathlib.Path, server_port: int, filters: str = '"judge"'
) -> Iterator[JudgingGate]:
    """Run a gate before a server."""
    folder.mkdir()
    kind = type("Gate", (JudgingGate,), {"filters": filters})
    gate = kind(folder, server_port)
    with gate.running():
        yield gate


@contextlib.contextmanager
def node_server() -> Iterator[int]:
    """Run Node's ``ws``, and a server of events, on loopback."""
    port = free_port()
    with subprocess.Popen(
        [tool("node"), "-e", NODE_SERVER, str(port)], stdout=subprocess.DEVNULL, env=NODE
    ) as server:
        try:
            wait_until(lambda: is_listening(port), "node listens")
            yield port
        finally:
            server.kill()


@contextlib.contextmanager
def python_server() -> Iterator[int]:
    """Run Python's ``websockets`` on loopback."""
    port, loop = free_port(), asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def echo(socket: Any) -> None:
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            async for message in socket:
                await socket.send(message)

    async def serve() -> None:
        async with websockets.asyncio.server.serve(echo, "127.0.0.1", port, max_size=1 << 24):
            await stopped.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        wait_until(lambda: is_listening(port), "websockets listens")
        yield port
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def aiohttp_server() -> Iterator[int]:
    """Run aiohttp on loopback: a page, and a WebSocket that sends everything back."""
    port, loop = free_port(), asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def page(_request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="<!doctype html><title>a page</title>")

    async def echo(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse(max_msg_size=1 << 24)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    async def serve() -> None:
        application = aiohttp.web.Application()
        application.add_routes([aiohttp.web.get("/", page), aiohttp.web.get("/chat", echo)])
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", port).start()
        await stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        wait_until(lambda: is_listening(port), "aiohttp listens")
        yield port
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


#: Where Debian has its modules; a Node from elsewhere does not look there.
NODE = os.environ | {"NODE_PATH": "/usr/share/nodejs"}
Script = list[dict[str, Any]]


def node_client(url: str, script: Script) -> dict[str, Any]:
    """Play a script with Node's ``ws``."""
    return run_node(NODE_CLIENT, url, json.dumps(script))


def run_node(program: str, *arguments: str) -> dict[str, Any]:
    """Run a program with Node; return what it prints."""
    command = [tool("node"), "-e", program, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False, env=NODE)
    assert not done.returncode, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def python_client(url: str, script: Script) -> dict[str, Any]:
    """Play a script with Python's ``websockets``."""

    async def play() -> dict[str, Any]:
        got: list[list[Any]] = []
        socket = await websockets.asyncio.client.connect(url, proxy=None, max_size=1 << 24)
        try:
            for one in script:
                if "ping" in one:
                    await asyncio.wait_for(await socket.ping(one["ping"]), 60)
                    got.append(["pong", one["ping"]])
                    continue
                await socket.send(_said(one))
                if one.get("silent"):
                    continue
                message = await asyncio.wait_for(socket.recv(), 60)
                if isinstance(message, str):
                    got.append(["text", message[:40], len(message.encode())])
                else:
                    got.append(["binary", len(message)])
            await socket.close(4000, "enough")
        except websockets.exceptions.ConnectionClosed:
            pass
        extensions = [one.name for one in socket.protocol.extensions]
        return {
            "got": got,
            "code": socket.close_code,
            "reason": socket.close_reason,
            "extensions": ",".join(extensions),
        }

    return asyncio.run(play())


def _said(one: dict[str, Any]) -> str | bytes:
    if "repeat" in one:
        return "long " * one["repeat"]
    return os.urandom(one["binary"]) if "binary" in one else str(one["text"])
