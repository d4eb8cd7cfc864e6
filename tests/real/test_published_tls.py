"""Real clients of published servers, inside TLS: curl, openssl, Python; nginx behind the gate."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest

from tests.chains import root
from tests.flows.tls_kit import client_context
from tests.kernel.test_gate_process import EchoServer, GateProcess
from tests.pki import Issued, authority

from .entry_parts import PATIENCE_S, curl, tool
from .sample_parts import WebServer, wait_until
from .test_server_tls import TlsServers

PAGE = b"a page behind the gate\n" * 1000
WWW, SHOP = "www.published.test", "a.shop.published.test"
CLIENTS = authority("clients")


class PublishedGate(GateProcess):
    """A gate with one listener that speaks TLS."""

    tls_keys = ""
    publication = "http = true"

    def write_main(self, more: str = "") -> None:
        self.write_certificates()
        tls = f'folder = "certificates"\n{self.tls_keys}'
        trust = '[tls]\nauthorities = ["root.pem"]\n'
        super().write_main(f"[listener.tls]\n{tls}\n{trust}{more}")

    def write_certificates(self) -> None:
        folder = self.folder / "certificates"
        folder.mkdir(exist_ok=True)
        for name, names in (("www", [WWW]), ("shop", ["*.shop.published.test"])):
            authority("proxy").server(*names).write(folder, name)
        (self.folder / "ca.pem").write_text(authority("proxy").pem)
        (self.folder / "clients.pem").write_text(CLIENTS.pem)
        (self.folder / "root.pem").write_text(root().pem)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write(self.publication + "\n")

    @property
    def port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])

    def fetch(
        self, path: str, *more: str, host: str = WWW, port: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        port = port or self.port
        to = ["--noproxy", "*", "--resolve", f"{host}:{port}:127.0.0.1"]
        trust = ["--cacert", str(self.folder / "ca.pem")]
        return curl(*to, *trust, *more, f"https://{host}:{port}{path}")

    def s_client(self, *more: str, send: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.port}"]
        return subprocess.run(
            [*command, "-CAfile", str(self.folder / "ca.pem"), *more],
            input=send, capture_output=True, check=False, timeout=2 * PATIENCE_S,
        )  # fmt: skip

    def connected(self, name: str = WWW, client: Issued | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        return client_context(client).wrap_socket(plain, server_hostname=name)


@contextlib.contextmanager
def running(
    folder: pathlib.Path, server_port: int, publication: str = "http = true", tls_keys: str = ""
) -> Iterator[PublishedGate]:
    attributes = {"publication": publication, "tls_keys": tls_keys}
    gate = type("Gate", (PublishedGate,), attributes)(folder, server_port)
    with gate.running():
        yield gate


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "page").write_bytes(PAGE)
    server = WebServer(folder)
    yield server
    server.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Iterator[PublishedGate]:
    with running(tmp_path_factory.mktemp("gate"), web.port) as gate:
        yield gate


def expect_last(gate: PublishedGate, kind: str, **wanted: str) -> dict[str, object]:
    """Wait for a record that says this, and return it."""

    def says_this(record: dict[str, object]) -> bool:
        return all(str(record.get(key, "")).startswith(text) for key, text in wanted.items())

    return gate.recorded(kind, says_this)[-1]


# -- curl ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("host", [WWW, SHOP])
def test_curl_fetches_by_every_name_and_version(
    gate: PublishedGate, host: str, version: str
) -> None:
    done = gate.fetch("/page", version, "--write-out", "%{http_version} %{http_code}", host=host)
    number = version.removeprefix("--http").encode()
    assert (done.stdout, done.stderr) == (PAGE + number + b" 200", b"")
    request = expect_last(gate, "request", url=f"https://{host}:{gate.port}/page")
    assert request["verdict"] == "allowed"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_e2_curl_that_asks_for_another_host_inside_is_misdirected(
    gate: PublishedGate, version: str
) -> None:
    done = gate.fetch("/page", version, "--header", f"Host: {SHOP}", "--fail")
    assert done.returncode == 22
    assert b"421" in done.stderr
    assert expect_last(gate, "request", reason="inside-other-host")["verdict"] == "denied"


def test_curl_that_does_not_know_the_authority_says_so(gate: PublishedGate) -> None:
    assert gate.fetch("/page", "--cacert", str(gate.folder / "clients.pem")).returncode == 60
    expect_last(gate, "decision", reason="tls-failed: tlsv1 alert unknown ca")


# -- openssl ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-noservername"], "tls-sni-missing"),
        (["-servername", "evil.test"], "tls-sni-unknown: evil.test"),
        (["-servername", "shop.published.test"], "tls-sni-unknown: shop.published.test"),
        (["-servername", "192.0.2.1"], "tls-sni-address: 192.0.2.1"),
    ],
)
def test_who_names_nothing_that_is_here_gets_an_alert_and_no_certificate(
    gate: PublishedGate, options: list[str], reason: str
) -> None:
    done = gate.s_client(*options)
    assert b"unrecognized name" in done.stderr
    assert b"BEGIN CERTIFICATE" not in done.stdout
    assert expect_last(gate, "decision", reason=reason)["verdict"] == "denied"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "tls-failed: unsupported protocol"),
        (("-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"), "tls-failed: no shared cipher"),
    ],
)
def test_old_versions_and_weak_ciphers_are_refused(
    gate: PublishedGate, options: tuple[str, ...], reason: str
) -> None:
    gate.s_client("-servername", WWW, *options)
    expect_last(gate, "decision", reason=reason)


def test_the_default_certificate_is_for_who_names_nothing(
    tmp_path: pathlib.Path, web: WebServer
) -> None:
    with running(tmp_path, web.port, tls_keys=f'default = "{WWW}"') as gate:
        done = gate.s_client("-noservername", "-verify_hostname", WWW)
        assert b"Verification: OK" in done.stdout
        default = [one["is_default"] for one in gate.status()["certificates"]]
        assert default == [True, False]


# -- client certificates ---------------------------------------------------------------------------


def test_client_certificates_say_who_comes(tmp_path: pathlib.Path, web: WebServer) -> None:
    keys = 'client_certificates = "required"\nclient_ca = "clients.pem"'
    with running(tmp_path, web.port, tls_keys=keys) as gate:
        certificate, key = CLIENTS.client("ann").write(tmp_path, "ann")
        shown = ("--cert", str(certificate), "--key", str(key))
        assert gate.fetch("/page", *shown).stdout == PAGE
        assert expect_last(gate, "request", verdict="allowed")["user"] == "ann"
        assert gate.fetch("/page").returncode in {35, 56}
        expect_last(gate, "decision", reason="tls-failed: peer did not return a certificate")


def test_keys_of_clients_are_logged_where_an_operator_says_so(
    tmp_path: pathlib.Path, web: WebServer
) -> None:
    with running(tmp_path, web.port) as gate:
        text = gate.config.read_text()
        gate.config.write_text(text.replace("[tls]\n", '[tls]\nkey_log = "keys.log"\n'))
        assert gate.ask("reload").returncode == 0
        mine = tmp_path / "mine.log"
        context = client_context()
        context.keylog_filename = str(mine)
        plain = socket.create_connection(("127.0.0.1", gate.port), PATIENCE_S)
        context.wrap_socket(plain, server_hostname=WWW).close()
        wanted = {line for line in mine.read_text().splitlines() if line[:1] != "#"}
        assert wanted
        log = gate.folder / "state" / "keys.log"
        # The gate has the last of them when the client's part of the handshake has come.
        wait_until(lambda: wanted <= set(log.read_text().splitlines()), "the keys are there")


# -- reloads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["--inline", "--workers"])
def test_a_reload_takes_new_certificates_and_drops_no_connection(
    tmp_path: pathlib.Path, mode: str
) -> None:
    server = EchoServer()
    mode_options = ("--inline",) if mode == "--inline" else ("--workers", "2")
    PublishedGate.mode, before_mode = mode_options, PublishedGate.mode
    try:
        with running(tmp_path, server.port, publication="") as gate:
            check_reloads(gate)
    finally:
        PublishedGate.mode = before_mode
        server.close()


def check_reloads(gate: PublishedGate) -> None:
    def shown() -> str:
        done = gate.s_client("-servername", WWW)
        assert b"Verification: OK" in done.stdout
        return done.stdout.decode().split("-----BEGIN CERTIFICATE-----")[1].split("-----")[0]

    with contextlib.closing(gate.connected()) as old:
        assert echoed(old, b"before")
        first, serials = shown(), [one["serial"] for one in gate.status()["certificates"]]
        gate.write_certificates()
        gate.send(signal.SIGHUP)
        wait_until(lambda: gate.status()["reloads"]["done"] == 1, "the reload is done")
        second = shown()
        assert second != first
        assert [one["serial"] for one in gate.status()["certificates"]] != serials
        assert echoed(old, b"after the reload")

        # A pair that does not fit is refused, with its cause, and the old one goes on.
        authority("proxy").server(WWW).write(gate.folder, "other")
        (gate.folder / "certificates" / "www.key").write_bytes(
            (gate.folder / "other.key").read_bytes()
        )
        refused = gate.ask("reload")
        assert refused.returncode != 0
        assert "www.key is another certificate's" in refused.stderr
        assert shown() == second
        assert echoed(old, b"still there")
    assert "EXPIRED" not in gate.ask("status").stdout
    assert f"{WWW}  " in gate.ask("status").stdout


def echoed(client: socket.socket, data: bytes) -> bool:
    client.sendall(data)
    back = b""
    while len(back) < len(data) and (more := client.recv(65536)):
        back += more
    return back == data


# -- servers inside TLS ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServers]:
    servers = TlsServers(tmp_path_factory.mktemp("nginx"))
    servers.add("good", root().issue("good", ["inside.test"]))
    servers.add("other", root().issue("other", ["elsewhere.test"]))
    with servers.running():
        yield servers


@pytest.mark.parametrize("publication", ["http = true\n", ""], ids=["requests", "stream"])
def test_both_sides_are_inside_tls_with_nginx_behind(
    tmp_path: pathlib.Path, nginx: TlsServers, publication: str
) -> None:
    inside = f'{publication}server_tls = "inside.test"'
    with running(tmp_path, nginx.ports["good"], inside) as gate:
        done = gate.fetch("/page", "--http1.1")
        assert (done.returncode, len(done.stdout) > 1000) == (0, True)
        assert expect_last(gate, "connection", tls="own")["sni"] == WWW


def test_a_stream_is_not_sent_to_another_server(tmp_path: pathlib.Path, nginx: TlsServers) -> None:
    with running(tmp_path, nginx.ports["other"], 'server_tls = "inside.test"') as gate:
        assert gate.fetch("/page", "--http1.1").returncode != 0
        expect_last(gate, "connection", reason="server-certificate-wrong-host")
