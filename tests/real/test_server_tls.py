"""Real servers that have to prove who they are: nginx and ``openssl s_server``, good and bad.

The clients are curl, which ask a gate for ``https`` URLs, and for what it publishes.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains import Certified, intermediate, make, resigned, root, rsa_key, rsa_root
from tests.ports import free_port

from .dns_parts import dnsmasq_server
from .entry_parts import curl, tool
from .sample_parts import is_listening, wait_until
from .test_entry_gate import ProxyGate

HOST = "web.names.test"
PAGE = b"a page of a server that proved who it is\n" * 1000
REVOKED = root().issue("revoked", [HOST])

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log info;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
SERVER = """
server {{
  listen 127.0.0.1:{port} ssl;
  root {folder}/www;
  ssl_certificate {folder}/{name}.pem;
  ssl_certificate_key {folder}/{name}.key;
  ssl_protocols {versions};
  ssl_ciphers DEFAULT@SECLEVEL=0;
  {more}
}}
"""


def write(folder: pathlib.Path, name: str, shown: Certified, sent: str | None = None) -> None:
    (folder / f"{name}.pem").write_text(shown.sent if sent is None else sent)
    (folder / f"{name}.key").touch(0o600)
    (folder / f"{name}.key").write_text(shown.key_pem)


class TlsServers:
    """One nginx with a server for each case."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self._servers = ""
        (folder / "www").mkdir()
        (folder / "www" / "page").write_bytes(PAGE)

    def add(
        self,
        name: str,
        shown: Certified,
        *,
        sent: str | None = None,
        staple: bytes = b"",
        more: str = "",
        versions: str = "TLSv1.2 TLSv1.3",
    ) -> None:
        write(self.folder, name, shown, sent)
        if staple:
            (self.folder / f"{name}.ocsp").write_bytes(staple)
            more += f"ssl_stapling on; ssl_stapling_file {self.folder}/{name}.ocsp;"
        port = self.ports[name] = free_port()
        self._servers += SERVER.format(
            folder=self.folder, name=name, port=port, more=more, versions=versions
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, servers=self._servers))
        command = [tool("nginx"), "-e", "stderr", "-p", str(self.folder), "-c", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            try:
                first = next(iter(self.ports.values()))
                wait_until(lambda: is_listening(first), "nginx listens")
                yield
            finally:
                server.terminate()


GOOD: dict[str, Callable[[TlsServers, str], None]] = {
    "plain": lambda s, n: s.add(n, root().issue("server", [HOST])),
    "intermediate": lambda s, n: s.add(n, intermediate().issue("server", [HOST])),
    "wildcard": lambda s, n: s.add(n, root().issue("server", ["*.names.test"])),
    "rsa": lambda s, n: s.add(n, rsa_root().issue("server", [HOST], key=rsa_key(2048))),
    "tls 1.2": lambda s, n: s.add(n, root().issue("server", [HOST]), versions="TLSv1.2"),
    "stapled": lambda s, n: stapled(s, n, ocsp.OCSPCertStatus.GOOD),
}
BAD: dict[str, tuple[Callable[[TlsServers, str], None], str]] = {
    "expired": (
        lambda s, n: s.add(n, root().issue("server", [HOST], days=(-9, -1))),
        "server-certificate-expired",
    ),
    "not yet": (
        lambda s, n: s.add(n, root().issue("server", [HOST], days=(1, 9))),
        "server-certificate-not-yet",
    ),
    "wrong host": (
        lambda s, n: s.add(n, root().issue("server", ["other.names.test"])),
        "server-certificate-wrong-host",
    ),
    "common name": (
        lambda s, n: s.add(n, root().issue(HOST, None)),
        "server-certificate-wrong-host",
    ),
    "self-signed": (lambda s, n: s.add(n, make(HOST, [HOST])), "server-certificate-self-signed"),
    "untrusted": (
        lambda s, n: s.add(n, root("other").issue("server", [HOST])),
        "server-certificate-untrusted",
    ),
    "no intermediate": (
        lambda s, n: s.add(n, shown := intermediate().issue("server", [HOST]), sent=shown.pem),
        "server-certificate-untrusted",
    ),
    "purpose": (
        lambda s, n: s.add(
            n, root().issue("server", [HOST], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        ),
        "server-certificate-purpose",
    ),
    "short key": (
        lambda s, n: s.add(n, rsa_root().issue("server", [HOST], key=rsa_key(1024))),
        "server-certificate-weak-key",
    ),
    "sha1": (
        lambda s, n: s.add(
            n,
            resigned(rsa_root().issue("server", [HOST]), hashes.SHA1()),
        ),
        "server-certificate-weak-signature",
    ),
    "revoked": (lambda s, n: s.add(n, REVOKED), "server-certificate-revoked"),
    "must staple": (
        lambda s, n: s.add(n, root().issue("server", [HOST], must_staple=True)),
        "server-staple-missing",
    ),
    "revoked staple": (
        lambda s, n: stapled(s, n, ocsp.OCSPCertStatus.REVOKED),
        "server-certificate-revoked",
    ),
    "old staple": (
        lambda s, n: stapled(s, n, ocsp.OCSPCertStatus.GOOD, days=(-30, -20)),
        "server-staple-stale",
    ),
    "another's staple": (
        lambda s, n: s.add(
            n,
            root().issue("server", [HOST]),
            staple=root().answer(root().issue("x", ["x.test"])),
        ),
        "server-staple-invalid",
    ),
    "old": (
        lambda s, n: s.add(n, root().issue("server", [HOST]), versions="TLSv1 TLSv1.1"),
        "server-tls-version",
    ),
    "refuses us": (
        lambda s, n: s.add(
            n,
            root().issue("server", [HOST]),
            versions="TLSv1.2",
            more="ssl_reject_handshake on;",
        ),
        "server-tls-alert",
    ),
}


def stapled(
    servers: TlsServers,
    name: str,
    status: ocsp.OCSPCertStatus,
    days: tuple[int, int] = (-1, 3),
) -> None:
    shown = root().issue("server", [HOST], must_staple=True)
    servers.add(name, shown, staple=root().answer(shown, status, days=days))


class TlsGate(ProxyGate):
    """A gate that asks servers inside TLS, and publishes one of them."""

    published_port = front_port = 0

    def write_main(self, more: str = "") -> None:
        (self.folder / "ca.pem").write_text(root().pem + rsa_root().pem)
        (self.folder / "ca.crl").write_text(root().revocations(REVOKED))
        ours = root().issue("gate", ["gate.test"], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        write(self.folder, "own", ours)
        super().write_main(
            '[tls]\nauthorities = ["ca.pem"]\ncrl = ["ca.crl"]\nkey_log = "keys.log"\n'
            "[[tls.client_certificate]]\n"
            f'to = ["{HOST}"]\ncertificate = "own.pem"\nkey = "own.key"\n'
            f'[[listener]]\nname = "front"\naddress = "127.0.0.1:{self.front_port}"\n'
        )
        text = self.config.read_text()
        protocols = 'entry = "proxy"\nprotocols = ["http", "http-connect"]\n'
        self.config.write_text(text.replace('entry = "proxy"\n', protocols, 1))

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        (self.folder / "policy.toml").write_text(
            '[[rule]]\nname = "web"\naction = "allow"\nlistener = "echo"\n'
            f'clients = ["{clients}"]\nto = ["*.names.test", "127.0.0.1"]\n'
            'protocols = ["tcp:1024-65535"]\n'
            '[[publish]]\nname = "front"\nlistener = "front"\nhttp = true\n'
            f'clients = ["{clients}"]\nserver = "127.0.0.1:{self.published_port}"\n'
            f'server_tls = "{HOST}"\n'
        )

    def fetch(self, port: int, path: str = "page", host: str = HOST) -> tuple[int, bytes, str]:
        """Return the status, the body, and the reason in the record."""
        where = f"{host}:{port}"

        def is_of_it(record: dict[str, str]) -> bool:
            return record["url"].startswith(f"https://{where}/")

        before = sum(map(is_of_it, self.records("request")))
        done = curl(
            "--noproxy", "", "--proxy", f"http://127.0.0.1:{self.port}",
            "--request-target", f"https://{where}/{path}",
            "--header", f"Host: {where}", "--write-out", "\n%{http_code}",
            f"http://{where}/{path}",
        )  # fmt: skip
        body, _, status = done.stdout.rpartition(b"\n")
        record = self.recorded("request", is_of_it, before + 1)[-1]
        return int(status or 0), body, record.get("ended") or record["reason"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServers]:
    folder = tmp_path_factory.mktemp("servers")
    made = TlsServers(folder)
    for name, add in GOOD.items():
        add(made, name.replace(" ", "-"))
    for name, (add, _) in BAD.items():
        add(made, name.replace(" ", "-"))
    (folder / "ca.pem").write_text(root().pem)
    for version in ("TLSv1.2", "TLSv1.3"):
        made.add(
            f"mutual-{version}",
            root().issue("server", [HOST]),
            versions=version,
            more=f"ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;",
        )
    with made.running():
        yield made


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, servers: TlsServers) -> Iterator[TlsGate]:
    folder = tmp_path_factory.mktemp("gate")
    with dnsmasq_server(folder) as dns_port:
        kind = type(
            "Gate",
            (TlsGate,),
            {"published_port": servers.ports["plain"], "front_port": free_port()},
        )
        gate: TlsGate = kind(folder / "gate", servers.ports["plain"], dns_port, "off")
        with gate.running():
            yield gate


@pytest.mark.parametrize("name", list(GOOD))
def test_a_good_server_is_asked(gate: TlsGate, servers: TlsServers, name: str) -> None:
    port = servers.ports[name.replace(" ", "-")]
    for _ in range(2):
        assert gate.fetch(port)[:2] == (200, PAGE)


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_server_is_refused_before_it_is_asked_anything(
    gate: TlsGate, servers: TlsServers, name: str
) -> None:
    port = servers.ports[name.replace(" ", "-")]
    status, _, reason = gate.fetch(port, f"page?{name.replace(' ', '-')}")
    assert (status, reason.partition(":")[0]) == (502, BAD[name][1])
    assert f"?{name.replace(' ', '-')} " not in (servers.folder / "access.log").read_text()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_server_that_wants_a_certificate_gets_ours_if_it_is_for_it(
    gate: TlsGate, servers: TlsServers, version: str
) -> None:
    port = servers.ports[f"mutual-{version}"]
    assert gate.fetch(port)[:2] == (200, PAGE)
    status, _, _ = gate.fetch(port, host="127.0.0.1")
    # Its certificate is not for an address, so nothing is shown to it.
    assert status == 502


def test_a_published_server_is_asked_inside_tls(gate: TlsGate) -> None:
    done = curl("--noproxy", "*", f"http://127.0.0.1:{gate.front_port}/page")
    assert done.stdout == PAGE


def test_the_log_of_keys_is_there_for_its_owner_and_status_warns_of_it(gate: TlsGate) -> None:
    gate.fetch(gate.server_port)
    (log,) = gate.folder.rglob("keys.log")
    assert log.stat().st_mode & 0o777 == 0o600
    line = re.compile(r"^SERVER_TRAFFIC_SECRET_0 [0-9a-f]{64} [0-9a-f]+$", re.MULTILINE)
    wait_until(lambda: line.search(log.read_text()), "the keys are not there")
    assert any("logs the keys" in one for one in gate.status()["warnings"])


# -- what nginx does not do ------------------------------------------------------------------------


@contextlib.contextmanager
def s_server(folder: pathlib.Path, shown: Certified, *options: str) -> Iterator[int]:
    port = free_port()
    write(folder, "s_server", shown)
    command = [
        tool("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet",
        "-cert", str(folder / "s_server.pem"), "-key", str(folder / "s_server.key"), *options,
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_until(lambda: is_listening(port), "s_server listens")
            yield port
        finally:
            server.terminate()


LOW = "@SECLEVEL=0"
ODD: list[tuple[str, Sequence[str], str]] = [
    ("TLS 1.0 alone", ["-tls1", "-cipher", f"ALL:{LOW}"], "server-tls-version"),
    ("TLS 1.1 alone", ["-tls1_1", "-cipher", f"ALL:{LOW}"], "server-tls-version"),
    ("NULL", ["-tls1_2", "-cipher", f"eNULL:{LOW}"], "server-tls-alert"),
    ("anonymous", ["-tls1_2", "-cipher", f"aNULL:{LOW}"], "server-tls-alert"),
    ("no forward secrecy", ["-tls1_2", "-cipher", f"kRSA:{LOW}"], "server-tls-alert"),
    ("CBC with SHA-1", ["-tls1_2", "-cipher", f"ECDHE+AES128+SHA1:{LOW}"], "server-tls-alert"),
    ("TLS 1.2", ["-tls1_2"], "200"),
    ("TLS 1.3", ["-tls1_3"], "200"),
    ("would like a certificate", ["-verify", "1"], "200"),
]


@pytest.mark.parametrize(
    ("options", "wanted"), [one[1:] for one in ODD], ids=[one[0] for one in ODD]
)
def test_what_servers_of_openssl_speak(
    gate: TlsGate, tmp_path: pathlib.Path, options: Sequence[str], wanted: str
) -> None:
    shown = rsa_root().issue("server", [HOST], key=rsa_key(2048))
    with s_server(tmp_path, shown, *options) as port:
        status, _, reason = gate.fetch(port, "")
    assert wanted in {str(status), reason.partition(":")[0]}


ANSWERS: list[tuple[str, Callable[[Certified], bytes], str]] = [
    ("good", lambda c: root().answer(c), "200"),
    ("garbage", lambda _: b"\x30\x03\x0a\x01\x00x", "server-staple-invalid"),
    (
        "of a server's own key",
        lambda c: root().answer(c, signer=c),
        "server-staple-invalid",
    ),
    (
        "revoked",
        lambda c: root().answer(c, ocsp.OCSPCertStatus.REVOKED),
        "server-certificate-revoked",
    ),
]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("make_answer", "wanted"), [one[1:] for one in ANSWERS], ids=[one[0] for one in ANSWERS]
)
def test_what_servers_of_openssl_staple(
    gate: TlsGate,
    tmp_path: pathlib.Path,
    make_answer: Callable[[Certified], bytes],
    wanted: str,
    version: str,
) -> None:
    shown = root().issue("server", [HOST], must_staple=True)
    answer = tmp_path / "answer.der"
    answer.write_bytes(make_answer(shown))
    with s_server(tmp_path, shown, version, "-status_file", str(answer)) as port:
        status, _, reason = gate.fetch(port, "")
    assert wanted in {str(status), reason.partition(":")[0]}
