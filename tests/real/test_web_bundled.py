"""The bundled web filters and the refusal page between real clients (curl, Chromium) and nginx."""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from .dns_parts import dnsmasq_server
from .entry_parts import curl as run_curl
from .test_entry_gate import ProxyGate
from .web_parts import HOST, RANDOM, TEXT, chromium, nginx

pytestmark = pytest.mark.real

FILTERS = """
[[filter]]
name = "http_filter"

[[filter]]
name = "header_rewriting"

[[filter]]
name = "size_limit"
"""
SETTINGS = """filters = ["http_filter", "header_rewriting", "size_limit"]

[rule.settings.http_filter]
methods_denied = ["DELETE"]
extensions_denied = [".zip"]
executables = "windows"
server_header = "gate"
signatures = [{ name = "traversal", place = "url", text = "..%2f" }]

[rule.settings.header_rewriting]
rules = [
    { on = "response", action = "remove", name = "ETag" },
    { on = "response", action = "set", name = "X-Seen-By", value = "${client}" },
]

[rule.settings.size_limit]
response_body_bytes_max = 4_000_000
"""


class FilteringGate(ProxyGate):
    """A gate whose web rule has the bundled web filters."""

    def write_main(self, more: str = "") -> None:
        super().write_main(FILTERS + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write(SETTINGS)

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.server_port}/{path}"

    def curl(self, path: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        proxy = f"http://127.0.0.1:{self.port}"
        return run_curl("--noproxy", "", "--proxy", proxy, "--path-as-is", *more, self.url(path))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilteringGate]:
    folder = tmp_path_factory.mktemp("filtered")
    with nginx(folder) as web_port, dnsmasq_server(folder) as dns_port:
        made = FilteringGate(folder / "gate", web_port, dns_port, "off")
        with made.running():
            yield made


def test_what_the_filters_let_arrives_with_its_headers_put_right(gate: FilteringGate) -> None:
    found = gate.curl("random.bin", "--include")
    head, _, body = found.stdout.partition(b"\r\n\r\n")
    assert body == RANDOM
    assert b"\r\nServer: gate" in head
    assert b"\r\nX-Seen-By: 127.0.0.1" in head
    assert b"\r\nETag:" not in head
    packed = gate.curl("text.txt", "--compressed")
    assert packed.stdout == TEXT


REFUSED = {
    "a method": (("text.txt", "--request", "DELETE"), "the method is not allowed"),
    "an extension": (("big.zip",), "extension"),
    "a signature": (("a/..%2fb",), "traversal"),
    "an executable": (("setup.exe",), "executable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_filters_refuse_curl_is_told_as_a_problem(gate: FilteringGate, name: str) -> None:
    arguments, words = REFUSED[name]
    found = gate.curl(*arguments, "--include")
    head, _, body = found.stdout.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/problem+json" in head, found.stdout[:500]
    problem: dict[str, Any] = json.loads(body)
    assert words in problem["reason"]
    assert problem["rule"] == "web"
    assert b"MZ" not in body


def test_a_refused_client_of_the_browser_kind_reads_why(
    gate: FilteringGate, tmp_path: pathlib.Path
) -> None:
    """The page is whole, says reason, rule and record, reflects nothing, and runs nothing."""

    async def look() -> dict[str, Any]:
        async with chromium(tmp_path, gate.port) as browser:
            await browser.call("Page.navigate", url=gate.url("big.zip?<b>secret</b>"))
            await browser.until("document.title.startsWith('403')")
            return {
                "text": await browser.evaluate("document.body.innerText"),
                "html": await browser.evaluate("document.documentElement.outerHTML"),
                "scripts": await browser.evaluate("document.scripts.length"),
                "style": await browser.evaluate(
                    "getComputedStyle(document.querySelector('h1')).borderLeftStyle"
                ),
            }

    seen = asyncio.run(look())
    assert "extension" in seen["text"]
    assert "web" in seen["text"]
    assert seen["scripts"] == 0
    assert "secret" not in seen["html"]
    (record,) = gate.recorded("request", lambda one: one["request"] in seen["text"])
    assert record["url"].endswith("/big.zip")


def test_a_page_that_passes_the_filters_is_shown(
    gate: FilteringGate, tmp_path: pathlib.Path
) -> None:
    async def look() -> str:
        async with chromium(tmp_path, gate.port) as browser:
            await browser.call("Page.navigate", url=gate.url("text.txt"))
            await browser.until("document.body && document.body.innerText.includes('line 49999')")
            length = await browser.evaluate("document.body.innerText.length")
            return str(length)

    assert int(asyncio.run(look())) > len(TEXT) - 100
