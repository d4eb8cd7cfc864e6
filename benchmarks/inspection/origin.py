"""Where inspected requests go: nginx with TLS, and a name server that knows its names.

Both are on the load's core. The certificate is for ``bench.test`` and everything directly below it.
"""

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import socket
import threading
from collections.abc import Generator
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.processes import LOAD_CORE, Bench, free_port
from sluicegate.tls.authority_certificate import self_signed

NAME = "bench.test"
LARGE_BYTES = 100_000_000

NGINX = """\
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    ssl_certificate {directory}/origin.pem;
    ssl_certificate_key {directory}/origin.key;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    location = /small {{ return 200 "{small}"; }}
    location = /large {{ alias {large}; }}
  }}
}}
"""


@dataclasses.dataclass(frozen=True)
class Origin:
    """A running server."""

    port: int
    authority: Path
    """Who vouches for it, as PEM."""


@contextlib.contextmanager
def nginx(bench: Bench) -> Generator[Origin]:
    """Runs it with ``/small`` (200 bytes) and ``/large`` (100 MB); nothing is resumed."""
    directory = bench.make_directory("origin")
    bench.directory.chmod(0o755)
    directory.chmod(0o755)
    authority = issue(directory)
    memory = Path("/dev/shm")
    large = bench.make_directory("sluicegate-bench", memory if memory.is_dir() else None) / "large"
    with large.open("wb") as file:
        file.truncate(LARGE_BYTES)
    large.parent.chmod(0o755)
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX.format(directory=directory, port=port, small="x" * 200, large=large)
    )
    command = ["nginx", "-p", str(directory), "-c", str(configuration)]
    with bench.running("nginx", command, core=LOAD_CORE, port=port):
        yield Origin(port, authority)


def issue(directory: Path) -> Path:
    """Makes an authority and the server's certificate; returns the authority's file."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = dt.datetime.now(dt.UTC)
    ca = self_signed(ca_key, "the origin's authority", now.timestamp(), 90)
    names = [
        x509.DNSName(NAME),
        x509.DNSName(f"*.{NAME}"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=60))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (directory / "origin.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "origin.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path = directory / "origin-ca.pem"
    path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return path


@contextlib.contextmanager
def name_server() -> Generator[int]:
    """Answers that every name is here; yields its port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            data, client = sock.recvfrom(4096)
            if not data:
                return
            question = dns.message.from_wire(data)
            reply = dns.message.make_response(question)
            asked = question.question[0]
            if asked.rdtype is dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(asked.name, 3600, "IN", "A", "127.0.0.1"))
            sock.sendto(reply.to_wire(), client)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    port: int = sock.getsockname()[1]
    try:
        yield port
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", port))
        thread.join()
        sock.close()
