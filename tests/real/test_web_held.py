"""Real clients and nginx on the two sides of a gate that holds every object."""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .entry_parts import tool
from .package_parts import MANAGERS, write_repositories
from .sample_parts import wait_until
from .web_parts import EXE, RANDOM, TEXT, HoldingGate, chromium, gate, holding

pytestmark = pytest.mark.real
__all__ = ["gate"]


def transfers(gate: HoldingGate, name: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the records of an object, when there are as many as expected."""
    return gate.recorded("transfer", lambda record: record["name"] == name, count)


def test_what_is_released_arrives_as_nginx_sent_it(gate: HoldingGate) -> None:
    assert gate.curl("random.bin").stdout == RANDOM
    assert gate.curl("text.txt").stdout == TEXT
    packed = gate.curl("text.txt", "--compressed", "--include")
    assert b"Content-Encoding: gzip" in packed.stdout
    assert packed.stdout.partition(b"\r\n\r\n")[2] == TEXT


def test_what_is_refused_is_told_in_words_and_leaves_the_connection_usable(
    gate: HoldingGate,
) -> None:
    proxy = f"http://127.0.0.1:{gate.port}"
    found = gate.curl("setup.exe", "--include")
    assert found.stdout.startswith(b"HTTP/1.1 403 ")
    problem = json.loads(found.stdout.partition(b"\r\n\r\n")[2])
    assert problem["reason"] == "executable"
    both = gate.curl("text.txt", "--verbose", gate.url("setup.exe"))
    assert b"MZ" not in both.stdout
    assert both.stderr.count(b"Connected to 127.0.0.1") == 1, proxy


def test_a_packed_executable_is_found_in_what_a_browser_would_see(gate: HoldingGate) -> None:
    for more in ([], ["--compressed"]):
        found = gate.curl("packed/setup.txt", *more, "--write-out", "%{http_code}", "-o", "-")
        assert found.stdout.endswith(b"403")


def test_a_download_is_resumed(gate: HoldingGate, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "random.bin"
    file.write_bytes(RANDOM[:1_000_000])
    found = gate.curl("random.bin", "--continue-at", "-", "--output", str(file))
    assert found.returncode == 0, found.stderr
    assert file.read_bytes() == RANDOM


def test_wget_resumes_too(gate: HoldingGate, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "random.bin"
    file.write_bytes(RANDOM[:2_000_000])
    subprocess.run(
        [tool("wget"), "--quiet", "--continue", gate.url("random.bin")],
        cwd=tmp_path,
        env={"http_proxy": f"http://127.0.0.1:{gate.port}"},
        check=True,
        timeout=60,
    )
    assert file.read_bytes() == RANDOM


def test_an_executable_cannot_be_had_in_slices(gate: HoldingGate) -> None:
    for part in ("0-1", "1-400000", "100-"):
        found = gate.curl("setup.exe", "--range", part, "--include")
        assert found.stdout.startswith(b"HTTP/1.1 403 ")


def test_uploads_are_held_and_their_files_judged(gate: HoldingGate, tmp_path: pathlib.Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.exe"
    good.write_bytes(TEXT)
    bad.write_bytes(EXE)
    stored = gate.curl("up/good.txt", "--upload-file", str(good), "--write-out", "%{http_code}")
    assert stored.stdout.endswith(b"201")
    assert gate.curl("up/good.txt").stdout == TEXT
    refused = gate.curl("up/bad.exe", "--upload-file", str(bad), "--write-out", "%{http_code}")
    assert refused.stdout.endswith(b"403")
    form = gate.curl(
        "up/form", "--form", f"a=@{good}", "--form", f"b=@{bad}", "--write-out", "%{http_code}"
    )
    assert form.stdout.endswith(b"403")
    assert {one["verdict"] for one in transfers(gate, "bad.exe", 2)} == {"refused"}


@pytest.mark.either_driver
def test_python_waits_for_a_verdict_longer_than_its_time_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A trickle of the head keeps a client that gives up after eleven seconds; holding does not."""
    program = (
        "import sys, urllib.request as r; "
        "o = r.build_opener(r.ProxyHandler({'http': sys.argv[1]})); "
        "print(len(o.open(sys.argv[2], timeout=11).read()))"
    )

    def fetch(method: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp(method)
        with holding(folder, f'{{ delivery = [{{ method = "{method}", after_s = 3 }}] }}') as one:
            proxy = f"http://127.0.0.1:{one.port}"
            arguments = [sys.executable, "-c", program, proxy, one.url("slow-14.zip")]
            return subprocess.run(arguments, capture_output=True, text=True, timeout=60)

    with ThreadPoolExecutor() as threads:
        trickled, held = threads.map(fetch, ("trickle", "hold"))
    assert trickled.stdout == "100000\n", trickled.stderr
    assert held.returncode != 0
    assert "timed out" in held.stderr


@pytest.mark.either_driver
def test_package_managers_wait_for_a_verdict_longer_than_their_time_outs(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """pip, apt and npm through a gate whose scanner is slow; where it only holds, two give up."""

    def fetch_all(method: str) -> dict[str, bool]:
        folder = tmp_path_factory.mktemp(method)
        with holding(folder, f'{{ delivery = [{{ method = "{method}", after_s = 3 }}] }}') as one:
            write_repositories(folder / "www", one.url(""))
            proxy = f"http://127.0.0.1:{one.port}"

            def fetch(name: str) -> bool:
                clients_folder = folder / f"of-{name}"
                clients_folder.mkdir()
                return MANAGERS[name](one.url(""), proxy, clients_folder)

            with ThreadPoolExecutor() as threads:
                return dict(zip(MANAGERS, threads.map(fetch, MANAGERS), strict=True))

    with ThreadPoolExecutor() as threads:
        trickled, held = threads.map(fetch_all, ("trickle", "hold"))
    assert trickled == {"pip": True, "apt": True, "npm": True}
    assert held == {"pip": False, "apt": False, "npm": True}


# -- Chromium --------------------------------------------------------------------------------------

PAGED = '{ delivery = [{ method = "progress-page", content_types = [".zip", "application/zip"], '
PAGED += "after_s = 0.3 }] }"


@pytest.mark.either_driver
def test_a_person_sees_how_far_a_download_is_and_fetches_it(tmp_path: pathlib.Path) -> None:
    async def run(one: HoldingGate) -> None:
        async with chromium(tmp_path, one.port) as browser:
            await browser.call("Page.navigate", url=one.url("limited/big.zip"))
            await browser.until("document.title == 'Your download is being inspected'")
            width = "document.getElementById('bar').getBoundingClientRect().width"
            first = await browser.until(width)
            await browser.until(f"{width} > {first} + 20")
            await browser.until("!!document.getElementById('download')")
            shown = "getComputedStyle(document.getElementById('waiting')).display"
            assert await browser.evaluate(shown) == "none"
            assert await browser.evaluate("document.scripts.length") == 0
            await browser.evaluate("document.getElementById('download').click()")
            file = tmp_path / "downloads" / "big.zip"
            await asyncio.to_thread(
                wait_until, lambda: file.exists() and file.stat().st_size == len(RANDOM), "it came"
            )
            assert file.read_bytes() == RANDOM

    with holding(tmp_path, PAGED) as one:
        asyncio.run(run(one))
        (record,) = transfers(one, "big.zip")
        assert record["verdict"] == "released"


def test_a_person_is_told_that_a_download_was_stopped(tmp_path: pathlib.Path) -> None:
    async def run(one: HoldingGate) -> None:
        async with chromium(tmp_path, one.port) as browser:
            await browser.call("Page.navigate", url=one.url("limited/bad.zip"))
            await browser.until("!!document.querySelector('h1.bad')")
            text = await browser.evaluate("document.getElementById('over').innerText")
            assert "executable" in text
            assert await browser.evaluate("!document.getElementById('download')")

    with holding(tmp_path, PAGED) as one:
        asyncio.run(run(one))
        assert list((tmp_path / "downloads").iterdir()) == []
        (record,) = transfers(one, "bad.zip")
        assert (record["verdict"], record.get("bytes_delivered", 0)) == ("refused", 0)
