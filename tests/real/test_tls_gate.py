"""Real clients that speak TLS to a proxy listener: curl, openssl, Python; also hostile ones."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.flows.tls_kit import NAME, client_context
from tests.pki import Issued, authority, principal

from .dns_parts import dnsmasq_server
from .entry_parts import PATIENCE_S, curl, tool
from .sample_parts import WebServer
from .test_entry_gate import PAGE, ProxyGate

CLIENTS = authority("clients")


class TlsGate(ProxyGate):
    """A gate whose proxy speaks TLS."""

    tls_keys = ""
    group = "staff"

    def write_main(self, more: str = "") -> None:
        self.write_certificate()
        super().write_main(more)
        text = self.config.read_text()
        table = f'tls = {{ certificate = "gate.pem", key = "gate.key"{self.tls_keys} }}\n'
        self.config.write_text(text.replace("[resolver]", f"{table}[resolver]", 1))

    def write_certificate(self) -> None:
        authority("proxy").server(NAME, "127.0.0.1").write(self.folder, "gate")
        (self.folder / "clients.pem").write_text(CLIENTS.pem)
        (self.folder / "proxy-ca.pem").write_text(authority("proxy").pem)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        policy = self.folder / "policy.toml"
        text = policy.read_text()
        if self.tls_keys and "users" not in text:
            policy.write_text(text.replace("to = [", f'users = ["group:{self.group}"]\nto = [', 1))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "page").write_bytes(PAGE)
    (folder / "large").write_bytes(bytes(range(256)) * 65536)
    server = WebServer(folder)
    yield server
    server.close()


@contextlib.contextmanager
def running(
    folder: pathlib.Path, web: WebServer, tls_keys: str = "", authenticate: str = "off"
) -> Iterator[TlsGate]:
    with dnsmasq_server(folder) as dns_port:
        kind = type("Gate", (TlsGate,), {"tls_keys": tls_keys})
        if 'groups_from = "ou"' in tls_keys:
            kind.group = "builders"
        gate = kind(folder / "gate", web.port, dns_port, authenticate)
        with gate.running():
            yield gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Iterator[TlsGate]:
    with running(tmp_path_factory.mktemp("open"), web) as gate:
        yield gate


CERTIFIED = ', client_ca = "clients.pem", client_certificates = "required"'


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Iterator[TlsGate]:
    """Clients show certificates whose common name is a user of the file."""
    with running(tmp_path_factory.mktemp("certified"), web, CERTIFIED) as gate:
        yield gate


def fetch(
    gate: TlsGate, *more: str, page: str = "page", client: Issued | None = None
) -> subprocess.CompletedProcess[bytes]:
    options = ["--noproxy", "", "--proxytunnel", "--proxy", f"https://127.0.0.1:{gate.port}"]
    options += ["--proxy-cacert", str(gate.folder / "proxy-ca.pem")]
    if client is not None:
        certificate, key = client.write(gate.folder, "client")
        options += ["--proxy-cert", str(certificate), "--proxy-key", str(key)]
    return curl(*options, *more, f"http://web.names.test:{gate.server_port}/{page}")


def expect_decision(gate: TlsGate, action: Callable[[], object], **wanted: str) -> dict[str, str]:
    """Wait for the record that says this, and return it; those of earlier clients may come late."""

    def says_this(record: dict[str, str]) -> bool:
        return all(text in record.get(key, "") for key, text in wanted.items())

    before = sum(map(says_this, gate.records("decision")))
    action()
    return gate.recorded("decision", says_this, before + 1)[-1]


# -- curl ------------------------------------------------------------------------------------------


def test_curl_reaches_a_server_through_tls(gate: TlsGate) -> None:
    done = fetch(gate)
    assert (done.stdout, done.stderr) == (PAGE, b"")


def test_curl_fetches_much_through_tls_and_gets_every_byte(gate: TlsGate) -> None:
    done = fetch(gate, page="large")
    assert done.stdout == bytes(range(256)) * 65536


def test_curl_sends_much_through_tls(gate: TlsGate, tmp_path: pathlib.Path) -> None:
    """The server keeps what is put there."""
    large = tmp_path / "upload"
    large.write_bytes(bytes(range(256)) * 32768)
    done = fetch(gate, "--upload-file", str(large), page="upload")
    assert done.returncode == 0, done.stderr
    assert fetch(gate, page="upload").stdout == large.read_bytes()


def test_curl_that_trusts_another_authority_says_so(gate: TlsGate) -> None:
    def ask() -> None:
        proxy = ["--proxytunnel", "--proxy", f"https://127.0.0.1:{gate.port}"]
        trust = ["--proxy-cacert", str(gate.folder / "clients.pem")]
        done = curl("--noproxy", "", *proxy, *trust, f"http://web.names.test:{gate.server_port}/")
        assert done.returncode == 60

    expect_decision(gate, ask, reason="tls-failed: tlsv1 alert unknown ca")


def test_a_user_proves_who_it_is_by_a_password_inside_tls(
    tmp_path: pathlib.Path, web: WebServer
) -> None:
    with running(tmp_path, web, authenticate="required") as gate:
        assert fetch(gate, "--proxy-user", "ann:open sesame").stdout == PAGE
        assert fetch(gate, "--proxy-user", "ann:wrong").returncode == 56
        assert fetch(gate).returncode == 56
        written = (gate.folder / "state" / "records.jsonl").read_text()
        assert "sesame" not in written
        assert "Basic" not in written


# -- certificates ----------------------------------------------------------------------------------


def test_a_certificate_makes_the_session_its_users(certified: TlsGate) -> None:
    record = expect_decision(
        certified, lambda: fetch(certified, client=CLIENTS.client("ann")), verdict="allowed"
    )
    assert (record["user"], record["rule"]) == ("ann", "web")


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_shows_none_is_refused_in_tls_and_recorded(
    certified: TlsGate, maximum: ssl.TLSVersion
) -> None:
    def ask() -> None:
        with (
            pytest.raises(ssl.SSLError, match=r"(?i)certificate.required|handshake.failure"),
            contextlib.closing(connected(certified, client_context(maximum=maximum))) as one,
        ):
            one.recv(1)

    expect_decision(certified, ask, reason="tls-failed: peer did not return a certificate")
    done = fetch(certified)
    assert done.returncode in {35, 56}
    assert b"alert" in done.stderr


BAD_CLIENTS = [
    (
        lambda: authority("another").client("ann"),
        "certificate: unable to get issuer certificate locally",
    ),
    (lambda: CLIENTS.client("ann", days=(-9, -1)), "certificate: certificate has expired"),
    (lambda: CLIENTS.client("ann", days=(1, 9)), "certificate: certificate not yet valid"),
    (
        lambda: CLIENTS.client("ann", usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "certificate: invalid purpose",
    ),
    (lambda: CLIENTS.client("nobody"), "certificate-refused: there is no user nobody"),
    (lambda: CLIENTS.client(""), "certificate-refused: the certificate has no name as cn"),
    (lambda: CLIENTS.client("Ann"), "certificate-refused: there is no user Ann"),
    (lambda: CLIENTS.client("ann\x00.evil"), "certificate-refused: 'ann\\x00.evil' is not a name"),
    (lambda: CLIENTS.client("a n n"), "certificate-refused: 'a n n' is not a name"),
]


@pytest.mark.parametrize(("make", "reason"), BAD_CLIENTS)
def test_a_certificate_that_names_nobody_who_may_come_lets_nobody_in(
    certified: TlsGate, make: Callable[[], Issued], reason: str
) -> None:
    client = make()
    expect_decision(
        certified, lambda: fetch(certified, client=client), verdict="denied", reason=reason
    )


@dataclasses.dataclass
class Naming:
    keys: str
    client: Issued
    user: str


NAMINGS = [
    Naming(
        ', user_from = "email", user_suffix = "@example.org"',
        CLIENTS.client("x", general=[x509.RFC822Name("ann@example.org")]), "ann",
    ),
    Naming(
        ', user_from = "upn", user_suffix = "@corp.example"',
        CLIENTS.client("x", general=[principal("ann@corp.example")]), "ann",
    ),
    Naming(
        ', user_from = "uri", user_prefix = "spiffe://example.org/user/"',
        CLIENTS.client(
            "x", general=[x509.UniformResourceIdentifier("spiffe://example.org/user/ann")]
        ), "ann",
    ),
    Naming(', groups_from = "ou"', CLIENTS.client("zoe", units=["builders"]), "zoe"),
]  # fmt: skip


@pytest.mark.parametrize("naming", NAMINGS, ids=["email", "upn", "uri", "ou"])
def test_the_name_may_stand_elsewhere_in_the_certificate(
    tmp_path: pathlib.Path, web: WebServer, naming: Naming
) -> None:
    with running(tmp_path, web, CERTIFIED + naming.keys) as gate:
        expect_decision(
            gate,
            lambda: fetch(gate, client=naming.client),
            verdict="allowed",
            user=naming.user,
        )
        expect_decision(gate, lambda: fetch(gate, client=CLIENTS.client("bob")), verdict="denied")


def test_a_revoked_certificate_is_refused_and_a_reload_takes_the_list_over(
    tmp_path: pathlib.Path, web: WebServer
) -> None:
    ann, other = CLIENTS.client("ann"), CLIENTS.client("ann")
    lists = tmp_path / "crl.pem"
    lists.write_text(CLIENTS.revocations())
    with running(tmp_path, web, f'{CERTIFIED}, client_crl = "{lists}"') as gate:
        assert fetch(gate, client=ann).stdout == PAGE
        lists.write_text(CLIENTS.revocations(ann))
        assert gate.ask("reload").returncode == 0
        expect_decision(
            gate,
            lambda: fetch(gate, client=ann),
            reason="tls-failed: certificate: certificate revoked",
        )
        assert fetch(gate, client=other).stdout == PAGE


def test_optional_certificates_make_users_of_those_who_show_one(
    tmp_path: pathlib.Path, web: WebServer
) -> None:
    keys = ', client_ca = "clients.pem", client_certificates = "optional"'
    with running(tmp_path, web, keys) as gate:
        assert fetch(gate, client=CLIENTS.client("ann")).stdout == PAGE
        expect_decision(gate, lambda: fetch(gate), verdict="denied", reason="user-needed")


def test_a_reload_takes_a_new_certificate_over_and_drops_no_connection(gate: TlsGate) -> None:
    def shown() -> bytes:
        with contextlib.closing(connected(gate)) as client:
            return client.getpeercert(binary_form=True) or b""

    before = shown()
    with contextlib.closing(connected(gate)) as old:
        ask_for(old, gate)
        gate.write_certificate()
        assert gate.ask("reload").returncode == 0
        assert shown() != before
        old.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        assert PAGE in received(old)
    key = gate.folder / "gate.key"
    key.chmod(0o644)
    refused = gate.ask("reload")
    key.chmod(0o600)
    assert refused.returncode != 0
    assert "everybody can read the private key" in refused.stderr


# -- Python and openssl ----------------------------------------------------------------------------


def connected(gate: TlsGate, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", gate.port), PATIENCE_S)
    return (context or client_context()).wrap_socket(plain, server_hostname=NAME)


def ask_for(client: socket.socket, gate: TlsGate) -> None:
    target = f"127.0.0.1:{gate.server_port}"
    client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert b" 200 " in client.recv(4096)


def received(client: socket.socket) -> bytes:
    parts = []
    while data := client.recv(65536):
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(gate: TlsGate, maximum: ssl.TLSVersion) -> None:
    context = client_context(maximum=maximum)
    with contextlib.closing(connected(gate, context)) as first:
        ask_for(first, gate)
        session = first.session
    plain = socket.create_connection(("127.0.0.1", gate.port), PATIENCE_S)
    again = context.wrap_socket(plain, server_hostname=NAME, session=session)
    with contextlib.closing(again):
        ask_for(again, gate)
        assert again.session_reused


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (["h2", "http/1.1"], "h2"),
        (["http/1.1", "h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["spdy/3", "http/1.1"], "http/1.1"),
        (["spdy/3"], None),
    ],
)
def test_version_of_http_is_agreed_on_and_nothing_else(
    gate: TlsGate, offered: list[str], agreed: str | None
) -> None:
    context = client_context()
    context.set_alpn_protocols(offered)
    with contextlib.closing(connected(gate, context)) as client:
        assert client.selected_alpn_protocol() == agreed


def s_client(gate: TlsGate, *more: str, send: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{gate.port}", *more]
    return subprocess.run(
        command, input=send, capture_output=True, check=False, timeout=2 * PATIENCE_S
    )


HOSTILE = [
    (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), "unsupported protocol"),
    (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "unsupported protocol"),
    (("-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"), "no shared cipher"),
    (("-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"), "no shared cipher"),
]


@pytest.mark.parametrize(("options", "reason"), HOSTILE)
def test_old_versions_and_weak_ciphers_are_refused(
    gate: TlsGate, options: tuple[str, ...], reason: str
) -> None:
    expect_decision(gate, lambda: s_client(gate, *options), reason=f"tls-failed: {reason}")


def test_renegotiation_is_refused(gate: TlsGate) -> None:
    done = s_client(gate, "-tls1_2", send=b"R\n")
    assert b"no renegotiation" in done.stderr or b"alert" in done.stderr


def raw(gate: TlsGate, *pieces: bytes) -> bytes:
    """Send bytes that are no TLS, or not all of it; return what comes back."""
    with socket.create_connection(("127.0.0.1", gate.port), PATIENCE_S) as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        try:
            return received(client)
        except ConnectionResetError:
            return b"reset"


GARBAGE = [
    (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "https proxy request"),
    (b"GET / HTTP/1.1\r\n\r\n", "http request"),
    (b"\x05\x01\x00", ""),
    (b"SSH-2.0-x\r\n", "wrong version number"),
    (b"\x16\x03\x01\xff\xff" + bytes(70000), ""),
    (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", ""),
    (b"\x17\x03\x03\x00\x10" + bytes(16), ""),
    (b"\x16\x03\x01\x02\x00\x01\x00", "cut off"),
    (bytes(4096), ""),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), GARBAGE)
def test_what_is_no_tls_is_refused_without_a_byte_of_ours_in_clear(
    gate: TlsGate, data: bytes, reason: str
) -> None:
    answers: list[bytes] = []
    expect_decision(gate, lambda: answers.append(raw(gate, data)), reason=f"tls-failed: {reason}")
    # An alert, or nothing.
    assert answers[0] in {b"", b"reset"} or answers[0][0] == 0x15


def test_a_client_that_only_looks_whether_the_port_is_open_is_no_failure(gate: TlsGate) -> None:
    expect_decision(gate, lambda: raw(gate), reason="client-left")
