"""Real clients meet our leaves: OpenSSL, GnuTLS, NSS's store in Chromium, Node, and Python."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sluicegate.clock import SystemClock
from sluicegate.tls.authority import Authority
from sluicegate.tls.authority_certificate import self_signed, vouched_for
from sluicegate.tls.engine import TlsBroken, TlsEnded, TlsEngine
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.leaf_source import LeafContext
from sluicegate.tls.name_constraints import constraints_on
from sluicegate.tls.server_fault import ServerFault
from sluicegate.tls.signed_leaves import SignedLeaves
from tests.unit.leaf_kit import Answers, LocalMinter, identity
from tests.unit.server_tls_kit import taken

pytestmark = pytest.mark.either_driver

HOST = "www.example.org"
PAGE = "a page from behind a leaf"
CLOCK = SystemClock()
KEYS = LeafKeys(has_rsa=True)


def authority(name: str, constraints: x509.NameConstraints | None = None) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority([self_signed(key, name, CLOCK.wall(), 365, constraints)], key)


TRUSTED, UNTRUSTED = authority("trusted"), authority("untrusted")


def context(by: Authority = TRUSTED, host: str = HOST, **options: object) -> LeafContext:
    minter = LocalMinter(by, UNTRUSTED, CLOCK)  # type: ignore[arg-type]
    leaves, answers = SignedLeaves(minter, KEYS, CLOCK), Answers()
    leaves.leaf_for(identity(host, now=CLOCK.wall(), **options), answers)  # type: ignore[arg-type]
    return answers.context


def serve(client: socket.socket, engine: TlsEngine) -> None:
    """Answer one request, for whoever gets through the handshake."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PAGE)}\r\nConnection: close\r\n\r\n{PAGE}"
    is_shaken, request, view = False, b"", bytearray(16384)
    with client, contextlib.suppress(TlsBroken, TlsEnded, ConnectionError):
        while b"\r\n\r\n" not in request and (data := client.recv(65536)):
            engine.feed(data)
            try:
                is_shaken = is_shaken or engine.shake_hands()
            finally:
                client.sendall(taken(engine))
            while is_shaken and (count := engine.read_into(memoryview(view))):
                request += view[:count]
        if request:
            engine.write(answer.encode())
            engine.say_goodbye()
            client.sendall(taken(engine))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass


@contextlib.contextmanager
def server(leaf: LeafContext) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client, leaf.engine()), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def run(*command: str, **environment: str) -> str:
    """Return what a client says, and shows."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=90, stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )  # fmt: skip
    return done.stdout + done.stderr


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: tools/setup test", pytrace=False)
    return found


def curl(port: int, ca: pathlib.Path, host: str) -> str:
    to = f"{host}:{port}:127.0.0.1"
    return run(
        program("curl"), "-sS", "--cacert", str(ca), "--resolve", to, f"https://{host}:{port}/"
    )


def openssl(port: int, ca: pathlib.Path, host: str) -> str:
    return subprocess.run(
        [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", host,
         "-CAfile", str(ca), "-no-CApath", "-verify_hostname", host, "-verify_return_error",
         "-x509_strict", "-purpose", "sslserver", "-quiet"],
        input="GET / HTTP/1.1\r\nHost: x\r\n\r\n", capture_output=True, text=True, check=False,
        timeout=60,
    ).stdout  # fmt: skip


def gnutls(port: int, ca: pathlib.Path, host: str) -> str:
    said = run(
        program("gnutls-cli"), "--x509cafile", str(ca), "--port", str(port),
        "--sni-hostname", host, "--verify-hostname", host, "127.0.0.1",
    )  # fmt: skip
    # It ends with its input: that it has got so far says what it thinks of the certificate.
    return PAGE if "- Handshake was completed" in said else said


NODE = """
const https = require("https"), fs = require("fs");
const [port, ca, servername] = process.argv.slice(1);
https.get({ host: "127.0.0.1", port, servername, ca: fs.readFileSync(ca),
            headers: { host: servername } },
          (answer) => answer.on("data", (data) => console.log(String(data))))
     .on("error", (error) => console.log(error.code));
"""


def node(port: int, ca: pathlib.Path, host: str) -> str:
    return run(program("node"), "-e", NODE, str(port), str(ca), host)


def python(port: int, ca: pathlib.Path, host: str) -> str:
    client = ssl.create_default_context(cafile=str(ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    raw = socket.create_connection(("127.0.0.1", port))
    try:
        with client.wrap_socket(raw, server_hostname=host) as wrapped:
            wrapped.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return wrapped.makefile("rb").read().decode()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def chromium(port: int, ca: pathlib.Path, host: str) -> str:
    home = ca.parent / "home"
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = program("certutil")
    run(certutil, "-d", f"sql:{store}", "-N", "--empty-password")
    for number, one in enumerate(x509.load_pem_x509_certificates(ca.read_bytes())):
        part = home / f"{number}.pem"
        part.write_bytes(one.public_bytes(serialization.Encoding.PEM))
        run(certutil, "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", f"ca{number}", "-i", str(part))
    command = (
        program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        f"--user-data-dir={home}/profile", f"--host-resolver-rules=MAP {host} 127.0.0.1",
        "--dump-dom", f"https://{host}:{port}/",
    )  # fmt: skip
    said = ""
    # It opens the store beside its first request, which may be the faster one.
    for _ in range(3):
        said = run(*command, HOME=str(home))
        if PAGE in said:
            break
    return said


CLIENTS: dict[str, Callable[[int, pathlib.Path, str], str]] = {
    "curl": curl,
    "openssl": openssl,
    "gnutls": gnutls,
    "node": node,
    "python": python,
    "chromium": chromium,
}
clients = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


def file_of(folder: pathlib.Path, *authorities: Authority) -> pathlib.Path:
    path = folder / "ca.pem"
    path.write_bytes(
        b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in authorities)
    )
    return path


@clients
@pytest.mark.parametrize("key_type", ["ec-secp256r1", "rsa-2048"])
def test_client_that_trusts_the_authority_takes_a_leaf(
    client: Callable[..., str], key_type: str, tmp_path: pathlib.Path
) -> None:
    with server(context(key_type=key_type)) as port:
        assert PAGE in client(port, file_of(tmp_path, TRUSTED), HOST)


@clients
def test_leaf_that_lives_as_long_as_it_may_is_taken(
    client: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    with server(context(days=(-300, 300))) as port:
        assert PAGE in client(port, file_of(tmp_path, TRUSTED), HOST)


@clients
def test_leaf_of_the_untrusted_authority_is_refused(
    client: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    with server(context(fault=ServerFault.SELF_SIGNED)) as port:
        assert PAGE not in client(port, file_of(tmp_path, TRUSTED), HOST)


@clients
def test_leaf_for_one_host_is_refused_for_another(
    client: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    with server(context()) as port:
        assert PAGE not in client(port, file_of(tmp_path, TRUSTED), "mail.example.org")


def successor(of: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Authority:
    own = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(own, "successor", CLOCK.wall(), 365)
    return Authority([certificate, vouched_for(certificate, of, key)], own)


@clients
@pytest.mark.parametrize("knows", ["predecessor", "successor"])
def test_leaf_of_a_successor_is_taken_by_who_knows_either(
    client: Callable[..., str], knows: str, tmp_path: pathlib.Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    before = Authority([self_signed(key, "predecessor", CLOCK.wall(), 365)], key)
    after = successor(before.certificate, key)
    known = before if knows == "predecessor" else after
    with server(context(after)) as port:
        assert PAGE in client(port, file_of(tmp_path, known), HOST)


@clients
@pytest.mark.parametrize(("permitted", "is_taken"), [("example.org", True), ("example.net", False)])
def test_clients_hold_the_authority_to_its_constraints(
    client: Callable[..., str], permitted: str, *, is_taken: bool, tmp_path: pathlib.Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = CLOCK.wall()
    bound = Authority([self_signed(key, "ca", now, 365, constraints_on([permitted], []))], key)
    # Whoever had its key could sign without asking us.
    unbound = Authority([self_signed(key, "ca", now, 365)], key)
    with server(context(unbound)) as port:
        assert (PAGE in client(port, file_of(tmp_path, bound), HOST)) is is_taken
