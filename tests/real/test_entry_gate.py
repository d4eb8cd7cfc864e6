"""Real clients through a proxy listener of a real gate, with real DNS behind it."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import pathlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from python_socks import ProxyError, ProxyType
from python_socks.sync import Proxy

from sluicegate.identity import HashCost, User, UserFile, hash_password
from tests.kernel.test_gate_process import GateProcess

from .dns_parts import dnsmasq_server, tool, unbound_server
from .entry_parts import curl, ncat, proxychains
from .sample_parts import WebServer

PAGE = b"the page\n"


class ProxyGate(GateProcess):
    """A gate with one proxy listener."""

    def __init__(
        self, folder: pathlib.Path, web_port: int, dns_port: int, authenticate: str
    ) -> None:
        self.dns_port = dns_port
        self.authenticate = authenticate
        folder.mkdir()
        UserFile(folder / "users.toml").add(
            User("ann", hash_password(b"open sesame", HashCost(7168, 1, 1)), ("staff",))
        )
        super().__init__(folder, web_port)

    def write_main(self, more: str = "") -> None:
        super().write_main(
            f'entry = "proxy"\nauthenticate = "{self.authenticate}"\n'
            f'[resolver]\nservers = ["127.0.0.1:{self.dns_port}"]\n{more}'
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        common = f'listener = "echo"\nclients = ["{clients}"]\n'
        users = 'users = ["group:staff"]\n' if self.authenticate == "required" else ""
        (self.folder / "policy.toml").write_text(
            f'[[rule]]\nname = "web"\naction = "allow"\n{common}{users}'
            'to = ["web.names.test", "*.names.test", "127.0.0.1"]\n'
            f'protocols = ["tcp:{self.server_port}", "tcp:{self.dns_port}"]\n'
        )

    @functools.cached_property
    def port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "page").write_bytes(PAGE)
    (folder / "index.html").write_bytes(PAGE)
    server = WebServer(folder)
    yield server
    server.close()


@contextlib.contextmanager
def running(
    folder: pathlib.Path, web: WebServer, dns_port: int, authenticate: str = "off"
) -> Iterator[ProxyGate]:
    gate = ProxyGate(folder / "gate", web.port, dns_port, authenticate)
    with gate.running():
        yield gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Iterator[ProxyGate]:
    folder = tmp_path_factory.mktemp("open")
    with dnsmasq_server(folder) as dns_port, running(folder, web, dns_port) as gate:
        yield gate


@pytest.fixture(scope="module")
def closed_gate(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Iterator[ProxyGate]:
    folder = tmp_path_factory.mktemp("closed")
    with (
        unbound_server(folder) as dns_port,
        running(folder, web, dns_port, "required") as gate,
    ):
        yield gate


CURL = {
    "socks5": ["--proxy", "socks5://127.0.0.1:{}"],
    "socks5h": ["--proxy", "socks5h://127.0.0.1:{}"],
    "socks4": ["--proxy", "socks4://127.0.0.1:{}"],
    "socks4a": ["--proxy", "socks4a://127.0.0.1:{}"],
    "connect": ["--proxytunnel", "--proxy", "http://127.0.0.1:{}"],
}
BY_NAME = ["socks5h", "socks4a", "connect"]


def fetch(gate: ProxyGate, how: str, url: str, *more: str) -> subprocess.CompletedProcess[bytes]:
    options = [option.format(gate.port) for option in CURL[how]]
    return curl("--noproxy", "", *options, *more, url)


@pytest.mark.parametrize("how", CURL)
def test_curl_reaches_an_address_that_a_rule_names(gate: ProxyGate, how: str) -> None:
    done = fetch(gate, how, f"http://127.0.0.1:{gate.server_port}/page")
    assert (done.stdout, done.stderr) == (PAGE, b"")


@pytest.mark.parametrize("how", BY_NAME)
def test_curl_reaches_a_name_that_the_gate_looks_up(gate: ProxyGate, how: str) -> None:
    done = fetch(gate, how, f"http://web.names.test:{gate.server_port}/page")
    assert (done.stdout, done.stderr) == (PAGE, b"")


@pytest.mark.parametrize("how", BY_NAME)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("other.test", "no-rule"),
        ("private.names.test", "address-denied"),
        ("mapped.names.test", "address-denied"),
        ("metadata-behind.names.test", "address-denied"),
        ("mixed.names.test", "addresses-mixed"),
        ("nothing.names.test", "dns-no-such-name"),
    ],
)
def test_curl_is_refused_with_a_record_that_says_why(
    gate: ProxyGate, how: str, name: str, reason: str
) -> None:
    done = fetch(gate, how, f"http://{name}:{gate.server_port}/page", "--verbose")
    assert done.returncode != 0
    assert decision_about(gate, name)["reason"].startswith(reason)
    if how == "connect" and reason != "dns-no-such-name":
        assert b"403 Forbidden" in done.stderr


def decision_about(gate: ProxyGate, name: str) -> dict[str, Any]:
    """Return the last decision about a name; it is written within a moment."""
    return gate.recorded("decision", lambda one: one["target"].startswith(name))[-1]


@pytest.mark.parametrize("how", ["socks5h", "connect"])
@pytest.mark.parametrize(
    ("password", "is_let_in"), [("open sesame", True), ("open says me", False)]
)
def test_curl_proves_who_it_is(
    closed_gate: ProxyGate, how: str, password: str, is_let_in: bool
) -> None:
    url = f"http://127.0.0.1:{closed_gate.server_port}/page"
    done = fetch(closed_gate, how, url, "--proxy-user", f"ann:{password}")
    assert (done.stdout == PAGE) is is_let_in
    assert password not in (closed_gate.folder / "state" / "records.jsonl").read_text()


@pytest.mark.parametrize("how", CURL)
def test_curl_without_credentials_is_refused_where_they_are_required(
    closed_gate: ProxyGate, how: str
) -> None:
    done = fetch(closed_gate, how, f"http://127.0.0.1:{closed_gate.server_port}/page")
    assert (done.stdout, done.returncode == 0) == (b"", False)


@pytest.mark.parametrize("kind", ["socks4", "socks5", "http"])
def test_proxychains_carries_programs_through_the_gate(
    gate: ProxyGate, tmp_path: pathlib.Path, kind: str
) -> None:
    command = [tool("curl"), "-sS", "--noproxy", "*", "--max-time", "60"]
    url = f"http://web.names.test:{gate.server_port}/page"
    done = proxychains(tmp_path, kind, gate.port, *command, url)
    assert done.stdout == PAGE, done.stderr


def test_dig_asks_over_socks(gate: ProxyGate, tmp_path: pathlib.Path) -> None:
    command = [tool("dig"), "+tcp", "+short", "+time=60", "-p", str(gate.dns_port)]
    done = proxychains(tmp_path, "socks5", gate.port, *command, "@127.0.0.1", "v4.names.test")
    assert b"93.184.216.35" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["socks4", "socks5", "http"])
def test_ncat_speaks_through_the_gate(gate: ProxyGate, kind: str) -> None:
    where = ["--proxy", f"127.0.0.1:{gate.port}", "--proxy-type", kind]
    done = ncat(*where, "127.0.0.1", str(gate.server_port))
    assert done.stdout.endswith(PAGE), done.stderr


@pytest.mark.parametrize("kind", [ProxyType.SOCKS4, ProxyType.SOCKS5, ProxyType.HTTP])
def test_python_socks_reaches_a_name_and_is_told_what_is_refused(
    gate: ProxyGate, kind: ProxyType
) -> None:
    proxy = Proxy(kind, "127.0.0.1", gate.port, rdns=True)
    with proxy.connect("web.names.test", gate.server_port, timeout=60) as stream:
        stream.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        answer = b""
        while data := stream.recv(4096):
            answer += data
    assert answer.endswith(PAGE)
    with pytest.raises(ProxyError):
        proxy.connect("other.test", gate.server_port, timeout=60)


def test_python_socks_proves_who_it_is(closed_gate: ProxyGate) -> None:
    port = closed_gate.port
    good = Proxy(ProxyType.SOCKS5, "127.0.0.1", port, "ann", "open sesame", rdns=True)
    good.connect("127.0.0.1", closed_gate.server_port, timeout=60).close()
    bad = Proxy(ProxyType.SOCKS5, "127.0.0.1", port, "ann", "open says me", rdns=True)
    with pytest.raises(ProxyError):
        bad.connect("127.0.0.1", closed_gate.server_port, timeout=60)


def test_http_client_makes_a_tunnel(closed_gate: ProxyGate) -> None:
    token = base64.b64encode(b"ann:open sesame").decode()
    connection = http.client.HTTPConnection("127.0.0.1", closed_gate.port, timeout=60)
    connection.set_tunnel(
        "127.0.0.1", closed_gate.server_port, {"Proxy-Authorization": f"Basic {token}"}
    )
    connection.request("GET", "/page")
    assert connection.getresponse().read() == PAGE
    connection.close()


def test_workers_serve_a_proxy_and_take_a_reload(tmp_path: pathlib.Path, web: WebServer) -> None:
    class ManyGate(ProxyGate):
        mode = ("--workers", "2")

    with dnsmasq_server(tmp_path) as dns_port:
        gate = ManyGate(tmp_path / "gate", web.port, dns_port, "off")
        try:
            gate.start()
            url = f"http://web.names.test:{web.port}/page"
            assert fetch(gate, "socks5h", url).stdout == PAGE
            private = f"http://private.names.test:{web.port}/page"
            refused = fetch(gate, "connect", private, "--verbose")
            assert b"403 Forbidden" in refused.stderr
            policy = gate.folder / "policy.toml"
            policy.write_text(policy.read_text().replace('"web.names.test", "*.names.test", ', ""))
            assert gate.ask("reload").returncode == 0
            assert fetch(gate, "socks5h", url).stdout == b""
            assert gate.end(signal.SIGTERM) == 0
        finally:
            gate.close()
