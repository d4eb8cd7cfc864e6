"""A real clamd over HTTP: its test files reach nobody, whichever way they go."""

from __future__ import annotations

import http.client
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .clamd_parts import TEST_FILES, Clamd, running_clamd
from .dns_parts import dnsmasq_server
from .web_parts import TEXT, HoldingGate, nginx

pytestmark = pytest.mark.either_driver

MAIN = """
[[scanner]]
name = "clamd"
kind = "clamd"
socket = "{socket}"

[[filter]]
name = "antivirus"
[filter.settings]
scanners = ["clamd"]
"""


class ClamdGate(HoldingGate):
    """A gate whose web rule has everything shown to a clamd."""

    clamd: Clamd

    def write_main(self, more: str = "") -> None:
        super().write_main(MAIN.format(socket=self.clamd.socket) + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        path = self.folder / "policy.toml"
        path.write_text(path.read_text().replace('["judge"]', '["antivirus"]'))

    def answer(self, method: str, path: str, body: bytes | None = None) -> int:
        """Return what becomes of a request."""
        proxy = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            proxy.request(method, self.url(path), body)
            return proxy.getresponse().status
        finally:
            proxy.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClamdGate]:
    folder = tmp_path_factory.mktemp("clamd-web")
    with (
        running_clamd(folder / "clamd") as clamd,
        nginx(folder) as web_port,
        dnsmasq_server(folder) as dns_port,
    ):
        for path in TEST_FILES.iterdir():
            shutil.copy(path, folder / "www" / path.name)
        kind = type("Gate", (ClamdGate,), {"clamd": clamd})
        one = kind(folder / "gate", web_port, dns_port, "off")
        with one.running():
            yield one


NAMES = sorted(path.name for path in TEST_FILES.iterdir()) if TEST_FILES.is_dir() else []


def test_no_test_file_is_downloaded(gate: ClamdGate) -> None:
    """L5."""
    with ThreadPoolExecutor(4) as threads:
        found = dict(
            zip(NAMES, threads.map(lambda name: gate.answer("GET", name), NAMES), strict=True)
        )
    assert len(found) > 30
    assert set(found.values()) == {403}, found


def test_no_test_file_is_uploaded(gate: ClamdGate) -> None:
    """L5, L6: in requests."""

    def put(name: str) -> int:
        return gate.answer("PUT", f"up/{name}", (TEST_FILES / name).read_bytes())

    with ThreadPoolExecutor(4) as threads:
        found = dict(zip(NAMES, threads.map(put, NAMES), strict=True))
    assert set(found.values()) == {403}, found
    assert gate.answer("PUT", "up/fine.txt", TEXT) == 201
    assert gate.answer("GET", "up/fine.txt") == 200
