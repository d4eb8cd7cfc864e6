"""A gate that holds what passes its web proxy, nginx behind it, and a browser before it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import pathlib
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.ports import free_port

from .dns_parts import dnsmasq_server
from .entry_parts import curl as run_curl
from .entry_parts import tool
from .sample_parts import is_listening, wait_until
from .test_entry_gate import ProxyGate

HOST = "web.names.test"
RANDOM = random.Random(5).randbytes(3 << 20)
TEXT = b"".join(b"line %d of some text that packs well\n" % n for n in range(50_000))
EXE = b"MZ" + RANDOM[:500_000]

JUDGE = '''
import asyncio
import re

from sluicegate.filterapi import ContentFilter, Refuse, Release


class Judge(ContentFilter):
    """Refuses what begins with MZ; thinks of what is called slow for some seconds."""

    name = "judge"

    async def inspect(self, transfer):
        slow = re.search(r"slow-(\\d+)", transfer.offer.name)
        if slow:
            await asyncio.sleep(float(slow[1]))
        return Refuse("executable") if transfer.head.startswith(b"MZ") else Release()
'''

NGINX = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
daemon off;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    gzip on;
    gzip_types text/plain;
    gzip_min_length 100;
    gzip_proxied any;
    types {{
        text/html html; text/plain txt; video/mp4 mp4;
        application/zip zip; application/octet-stream bin exe;
    }}
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        location /packed/ {{ gzip off; add_header Content-Encoding gzip; }}
        location /limited/ {{ alias {folder}/www/; limit_rate 1m; }}
        location /up/ {{ dav_methods PUT; }}
    }}
}}
"""


class HoldingGate(ProxyGate):
    """A gate whose web rule holds everything."""

    held = ""

    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        super().write_main('[[filter]]\nname = "judge"\nuse = "judge.py:Judge"\n' + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write('filters = ["judge"]\n')
            if self.held:
                policy.write(f"held = {self.held}\n")

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.server_port}/{path}"

    def curl(self, path: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        proxy = f"http://127.0.0.1:{self.port}"
        return run_curl("--noproxy", "", "--proxy", proxy, *more, self.url(path))


@contextlib.contextmanager
def nginx(folder: pathlib.Path) -> Iterator[int]:
    """Run nginx on loopback with a few files."""
    www = folder / "www"
    (www / "packed").mkdir(parents=True)
    (www / "up").mkdir()
    (www / "text.txt").write_bytes(TEXT)
    (www / "random.bin").write_bytes(RANDOM)
    (www / "setup.exe").write_bytes(EXE)
    (www / "packed" / "setup.txt").write_bytes(gzip.compress(EXE))
    (www / "big.zip").write_bytes(RANDOM)
    (www / "bad.zip").write_bytes(EXE)
    for seconds in ("2", "14"):
        (www / f"slow-{seconds}.zip").write_bytes(RANDOM[:100_000])
    port = free_port()
    config = folder / "nginx.conf"
    # The folder is this user's alone.
    user = "user root root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    command = [tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: is_listening(port), "nginx listens")
            yield port
        finally:
            server.terminate()


@contextlib.contextmanager
def holding(folder: pathlib.Path, held: str = "") -> Iterator[HoldingGate]:
    """Run a gate with nginx behind it."""
    with nginx(folder) as web_port, dnsmasq_server(folder) as dns_port:
        kind = type("Gate", (HoldingGate,), {"held": held})
        gate = kind(folder / "gate", web_port, dns_port, "off")
        with gate.running():
            yield gate


# -- a browser -------------------------------------------------------------------------------------


class Browser:
    """Chromium without a window, spoken to by its own protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method, and return what it says."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send_json(message)
        while True:
            answer = json.loads((await self._socket.receive(timeout=60)).data)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def until(self, expression: str, within_s: float = 60.0) -> Any:
        """Wait until an expression is true in the page, and return it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            found = await self.evaluate(expression)
            if found:
                return found
            page = await self.evaluate("document.documentElement.outerHTML")
            assert loop.time() < deadline, f"{expression} does not come true in {page}"
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def chromium(folder: pathlib.Path, proxy_port: int) -> Any:
    """Run Chromium behind a proxy; what it downloads is put into ``folder / "downloads"``."""
    port = free_port()
    (folder / "downloads").mkdir()
    process = subprocess.Popen(
        [
            tool("chromium"),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
            f"--user-data-dir={folder / 'profile'}",
            f"--proxy-server=http://127.0.0.1:{proxy_port}",
            f"--remote-debugging-port={port}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(folder)},
    )
    try:
        wait_until(lambda: is_listening(port), "chromium listens")
        async with aiohttp.ClientSession(trust_env=False) as session:
            address = await _address_of_page(session, port)
            async with session.ws_connect(address, max_msg_size=0) as socket:
                browser = Browser(socket)
                downloads = str(folder / "downloads")
                await browser.call(
                    "Page.setDownloadBehavior", behavior="allow", downloadPath=downloads
                )
                yield browser
    finally:
        process.kill()
        process.wait()


async def _address_of_page(session: aiohttp.ClientSession, port: int) -> str:
    """Wait for the browser's page: it listens before it has one."""
    async with asyncio.timeout(60):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                for one in await answer.json():
                    if one["type"] == "page":
                        return str(one["webSocketDebuggerUrl"])
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HoldingGate]:
    with holding(tmp_path_factory.mktemp("held")) as gate:
        yield gate
