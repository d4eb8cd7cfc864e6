"""Real clients of TLS through a gate that does not open it: curl, openssl, Python, Node; nginx."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from sluicegate.protocols.tls_hello import ClientHello, HelloReader
from tests.pki import authority
from tests.ports import free_port

from .dns_parts import dnsmasq_server
from .entry_parts import PATIENCE_S, curl
from .sample_parts import is_listening, wait_until
from .test_entry_gate import BY_NAME, CURL, ProxyGate

pytestmark = pytest.mark.either_driver

INSTALL = "apt-get install --yes nginx-light openssl nodejs"
NAME, OTHER = "web.names.test", "ldap.names.test"
"""Both lead to the same server."""

PAGE = b"the page\n"
LARGE = bytes(range(256)) * 4096


T = TypeVar("T")


def program(name: str) -> str:
    for folder in ("/usr/bin", "/usr/sbin", "/usr/local/bin"):
        path = pathlib.Path(folder, name)
        if path.exists():
            return str(path)
    pytest.fail(f"{name} is missing: {INSTALL}", pytrace=False)


class HelloGate(ProxyGate):
    """A proxy whose rules speak of hellos to one port; names are allowed one by one."""

    tls = ""
    more = ""

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        common = f'action = "allow"\nclients = ["{clients}"]\nlistener = "echo"\n'
        common += f'protocols = ["tcp:{self.server_port}"]\n'
        (self.folder / "policy.toml").write_text(
            f'[[rule]]\nname = "web"\n{common}to = ["{NAME}", "127.0.0.1"]\n'
            f"tls = {{ ports = [{self.server_port}]{self.tls} }}\n"
            f"{self.more}"
        )

    def ends_of(self, action: Callable[[], T], count: int = 1) -> tuple[T, list[dict[str, Any]]]:
        """Let clients come and go; return what came of it, with the records of their ends."""
        before = len(self.records("connection"))
        done = action()
        return done, self.recorded("connection", count=before + count)[before:]


@contextlib.contextmanager
def tls_server(folder: pathlib.Path, command: Callable[[int], list[str]]) -> Iterator[int]:
    port = free_port()
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            command(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or is_listening(port), str(command))
            assert process.poll() is None, (folder / "server.log").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("tls")
    authority("servers").server(NAME, OTHER, "127.0.0.1").write(folder, "server")
    (folder / "ca.pem").write_text(authority("servers").pem)
    (folder / "page").write_bytes(PAGE)
    (folder / "large").write_bytes(LARGE)
    return folder


def nginx(folder: pathlib.Path) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;\n"
            "events {}\nhttp {\n"
            f"  log_format names '$ssl_server_name $host'; access_log {folder}/access.log names;\n"
            f"  client_body_temp_path {folder}; proxy_temp_path {folder};\n"
            f"  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};\n"
            f"  server {{ listen 127.0.0.1:{port} ssl http2; root {folder};\n"
            f"    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {folder}/server.pem;\n"
            f"    ssl_certificate_key {folder}/server.key; }}\n"
            "}\n"
        )
        return [program("nginx"), "-c", str(config), "-p", str(folder), "-e", "stderr"]

    return command


@pytest.fixture(scope="module")
def web(folder: pathlib.Path) -> Iterator[int]:
    with tls_server(folder, nginx(folder)) as port:
        yield port


@contextlib.contextmanager
def running(where: pathlib.Path, server: int, tls: str = "", more: str = "") -> Iterator[HelloGate]:
    kind = type("Gate", (HelloGate,), {"tls": tls, "more": more})
    with dnsmasq_server(where) as dns_port:
        gate = kind(where / "gate", server, dns_port, "off")
        with gate.running():
            yield gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, web: int) -> Iterator[HelloGate]:
    with running(tmp_path_factory.mktemp("strict"), web) as gate:
        yield gate


def fetch(
    gate: HelloGate,
    folder: pathlib.Path,
    how: str,
    *more: str,
    host: str = NAME,
    page: str = "page",
    scheme: str = "https",
) -> tuple[subprocess.CompletedProcess[bytes], dict[str, Any]]:
    """Let curl fetch a page; return with it the record of its connection."""
    options = [option.format(gate.port) for option in CURL[how]]
    options += ["--noproxy", "", "--cacert", str(folder / "ca.pem")]
    url = f"{scheme}://{host}:{gate.server_port}/{page}"
    done, (end,) = gate.ends_of(lambda: curl(*options, *more, url))
    return done, end


# -- curl and nginx --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BY_NAME)
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_fetches_by_name(
    gate: HelloGate, folder: pathlib.Path, how: str, version: str
) -> None:
    done, end = fetch(gate, folder, how, version)
    assert (done.stdout, done.stderr) == (PAGE, b"")
    assert end["sni"] == NAME


def test_much_is_spliced_behind_the_handshake(gate: HelloGate, folder: pathlib.Path) -> None:
    done, end = fetch(gate, folder, "connect", page="large")
    assert done.stdout == LARGE
    assert (end["sni"], end["filters"], end["reason"]) == (NAME, ["tls.hello"], "")
    assert end["bytes_spliced"] > len(LARGE) // 2


@pytest.mark.parametrize("how", BY_NAME)
def test_curl_that_names_one_server_and_asks_for_another_is_reset(
    gate: HelloGate, folder: pathlib.Path, how: str
) -> None:
    """E1 and D15: the tunnel is to one name, the hello to the other; one server has both."""
    port = gate.server_port
    trick = f"{OTHER}:{port}:{NAME}:{port}"
    done, end = fetch(gate, folder, how, "--connect-to", trick, host=OTHER)
    assert (done.returncode, done.stdout) == (35, b"")
    assert (end["outcome"], end["reason"]) == ("refused", f"tls-sni-mismatch: {OTHER}")
    assert "bytes_to_server" not in end
    assert OTHER not in (folder / "access.log").read_text()


@pytest.mark.parametrize("how", BY_NAME)
def test_curl_that_speaks_http_on_a_port_of_tls_is_reset(
    gate: HelloGate, folder: pathlib.Path, how: str
) -> None:
    """D3."""
    done, end = fetch(gate, folder, how, scheme="http")
    assert (done.returncode == 0, done.stdout) == (False, b"")
    assert end["reason"] == "tls-not-tls"


@pytest.mark.parametrize("how", ["socks4", "socks5"])
@pytest.mark.parametrize(
    ("name", "reason"), [(NAME, ""), (OTHER, f"tls-sni-not-allowed: {OTHER} no-rule")]
)
def test_curl_that_looks_the_name_up_itself_needs_it_to_be_allowed(
    gate: HelloGate, folder: pathlib.Path, how: str, name: str, reason: str
) -> None:
    """E14: the rules allow one of the names, and both lead to the address."""
    resolve = f"{name}:{gate.server_port}:127.0.0.1"
    done, end = fetch(gate, folder, how, "--resolve", resolve, host=name)
    assert (done.stdout, end["reason"]) == (b"" if reason else PAGE, reason)


@pytest.mark.parametrize("how", CURL)
def test_curl_that_asks_for_an_address_sends_no_name(
    gate: HelloGate, folder: pathlib.Path, how: str
) -> None:
    done, end = fetch(gate, folder, how, host="127.0.0.1")
    assert (done.returncode, end["reason"]) == (35, "tls-sni-missing")


def test_rule_may_let_clients_without_a_name_pass(
    tmp_path: pathlib.Path, folder: pathlib.Path, web: int
) -> None:
    with running(tmp_path, web, ', without_sni = "allow"') as gate:
        for how in ("connect", "socks5"):
            assert fetch(gate, folder, how, host="127.0.0.1")[0].stdout == PAGE


def test_reload_ends_what_the_new_rule_would_not_let_in(
    tmp_path: pathlib.Path, folder: pathlib.Path, web: int
) -> None:
    with running(tmp_path, web, ', sni = "any"') as gate, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tunnel(gate, folder, name)) for name in (NAME, OTHER)]
        for client in clients:
            assert page_of(client) == PAGE
        gate.tls = ""
        gate.write_policy()
        done, (end,) = gate.ends_of(lambda: gate.ask("reload"))
        assert done.returncode == 0
        assert end["reason"] == f"revoked: tls-sni-mismatch: {OTHER} (web)"
        assert page_of(clients[0]) == PAGE


# -- openssl, Python, Node -------------------------------------------------------------------------


MANY = ",".join(["http/1.1"] * 100)
"""Makes a hello that does not fit into one of the client's records."""


def s_client(
    gate: HelloGate, folder: pathlib.Path, *more: str
) -> subprocess.CompletedProcess[bytes]:
    where = ["-proxy", f"127.0.0.1:{gate.port}", "-connect", f"{NAME}:{gate.server_port}"]
    command = [program("openssl"), "s_client", *where, "-CAfile", str(folder / "ca.pem"), *more]

    def run() -> bytes:
        request = b"GET /page HTTP/1.0\r\n\r\n"
        done = subprocess.run(
            command, input=request, capture_output=True, check=False, timeout=PATIENCE_S
        )
        return done.stdout

    said, (end,) = gate.ends_of(run)
    # A server that is told good-bye while it closes resets: that is its own way to end.
    return said, str(end["reason"]).removeprefix("server ECONNRESET")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["-servername", NAME], ""),
        (["-servername", NAME.upper()], ""),
        (["-servername", OTHER], f"tls-sni-mismatch: {OTHER}"),
        (["-noservername"], "tls-sni-missing"),
        (["-servername", "127.0.0.1"], "tls-sni-address: 127.0.0.1"),
        (["-servername", f"{NAME}."], "tls-sni-form: final dot"),
        (["-servername", NAME, "-tls1_2"], ""),
        (["-servername", NAME, "-groups", "P-384:X25519"], ""),
        (["-servername", NAME, "-max_send_frag", "512", "-alpn", MANY], ""),
    ],
)
def test_openssl_is_held_to_its_servername(
    gate: HelloGate, folder: pathlib.Path, more: list[str], reason: str
) -> None:
    said, ended = s_client(gate, folder, "-quiet", "-ign_eof", *more)
    assert (ended, PAGE in said) == (reason, not reason)


class Renamed(ssl.SSLContext):
    """A client's context that asks for another server than its user does."""

    name: str

    def wrap_socket(self, sock: socket.socket, *_: Any, **__: Any) -> ssl.SSLSocket:  # type: ignore[override]
        return super().wrap_socket(sock, server_hostname=self.name)


@contextlib.contextmanager
def tunnel(gate: HelloGate, folder: pathlib.Path, name: str) -> Iterator[Any]:
    context = Renamed(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "ca.pem")
    context.name = name
    client = http.client.HTTPSConnection(
        "127.0.0.1", gate.port, timeout=PATIENCE_S, context=context
    )
    client.set_tunnel(NAME, gate.server_port)
    with contextlib.closing(client):
        client.connect()
        yield client


def page_of(client: Any) -> bytes:
    client.request("GET", "/page")
    return bytes(client.getresponse().read())


@pytest.mark.parametrize(("name", "passes"), [(NAME, True), (OTHER, False)])
def test_python_is_held_to_its_server_hostname(
    gate: HelloGate, folder: pathlib.Path, name: str, passes: bool
) -> None:
    def run() -> bytes:
        with contextlib.suppress(ConnectionResetError), tunnel(gate, folder, name) as client:
            return page_of(client)
        return b""

    page, (end,) = gate.ends_of(run)
    assert page == (PAGE if passes else b"")
    assert end["reason"] == ("" if passes else f"tls-sni-mismatch: {OTHER}")


NODE = """
const [proxy, host, port, name, ca] = process.argv.slice(1);
const http = require('http'), tls = require('tls'), fs = require('fs');
const path = `${host}:${port}`, headers = {host: path};
const asked = http.request({host: '127.0.0.1', port: proxy, method: 'CONNECT', path, headers});
asked.on('connect', (_, socket) => {
  const secure = tls.connect({socket, servername: name, ca: fs.readFileSync(ca)}, () =>
    secure.write('GET /page HTTP/1.0\\r\\n\\r\\n'));
  secure.on('data', (data) => process.stdout.write(data));
  secure.on('error', (error) => { console.error(error.code); process.exit(9); });
}).end();
"""


@pytest.mark.parametrize(("name", "passes"), [(NAME, True), (OTHER, False)])
def test_node_is_held_to_its_servername(
    gate: HelloGate, folder: pathlib.Path, name: str, passes: bool
) -> None:
    arguments = [str(gate.port), NAME, str(gate.server_port), name, str(folder / "ca.pem")]
    command = [program("node"), "-e", NODE, "--", *arguments]
    done, (end,) = gate.ends_of(
        lambda: subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S)
    )
    assert end["reason"].startswith("tls-sni-mismatch") is not passes, end
    assert (PAGE in done.stdout) is passes, done.stderr
    assert (done.returncode == 0) is passes


# -- a server that asks again ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "passes"), [(NAME, True), (OTHER, False)])
def test_second_hello_of_real_peers_passes(
    tmp_path: pathlib.Path, folder: pathlib.Path, name: str, passes: bool
) -> None:
    """The server takes a group that the client has sent no key for: HelloRetryRequest."""

    def command(port: int) -> list[str]:
        keys = ["-cert", "server.pem", "-key", "server.key", "-groups", "P-384", "-tls1_3"]
        return [
            program("openssl"),
            "s_server",
            "-accept",
            f"127.0.0.1:{port}",
            *keys,
            "-WWW",
            "-trace",
        ]

    with tls_server(folder, command) as port, running(tmp_path, port) as gate:
        more = ["-groups", "X25519:P-384", "-servername", name, "-quiet", "-ign_eof"]
        said, reason = s_client(gate, folder, *more)
        assert reason == ("" if passes else f"tls-sni-mismatch: {OTHER}")
        assert (PAGE in said) is passes

        def has_asked_again() -> bool:
            log = (folder / "server.log").read_text(errors="replace")
            return "HelloRetryRequest" in log or log.count("ClientHello") >= 2

        if passes:
            wait_until(has_asked_again, "the server has asked for no second hello")
        assert has_asked_again() is passes


# -- what real clients send ------------------------------------------------------------------------


def heard(client: Callable[[int], list[str]]) -> ClientHello:
    """Return the hello that a client sends to whoever listens."""
    reader = HelloReader()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        command = client(listener.getsockname()[1])
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(PATIENCE_S)
                    while (hello := reader.read(peer.recv(7))) is None:
                        assert threading.active_count() < 100
            finally:
                process.kill()
    return hello


NODE_HELLO = """
const [port, servername] = process.argv.slice(1);
require('tls').connect({port, servername, ALPNProtocols: ['http/1.1']});
"""

CLIENTS: dict[str, tuple[Callable[[int], list[str]], tuple[bytes, ...]]] = {
    "curl": (
        lambda port: [program("curl"), "-sk", "--resolve", f"{NAME}:{port}:127.0.0.1",
                      "--noproxy", "*", f"https://{NAME}:{port}/"],
        (b"h2", b"http/1.1"),
    ),
    "openssl": (
        lambda port: [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}",
                      "-servername", NAME, "-alpn", "h2"],
        (b"h2",),
    ),
    "node": (
        lambda port: [program("node"), "-e", NODE_HELLO, "--", str(port), NAME],
        (b"http/1.1",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIENTS)
def test_hellos_of_real_clients_are_read_as_they_were_meant(name: str) -> None:
    client, protocols = CLIENTS[name]
    hello = heard(client)

    assert (hello.server_name, hello.alpn) == (NAME, protocols)
    assert {0x0304, 0x0303} <= set(hello.versions)
    assert hello.ech is None
    assert hello.key_shares
