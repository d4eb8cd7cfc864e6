"""The targets of the TLS proxy listener: CPU time against haproxy, which only takes TLS off.

The load speaks in clear to a haproxy on its own core that puts TLS on, so both relays see the same
TLS client. Sluicegate takes TLS off and serves SOCKS inside; the peer takes TLS off and forwards to
one server: it has less to do, and is what an operator would put in front of a proxy without TLS.
"""

import contextlib
import dataclasses
import datetime as dt
import functools
import statistics
from collections.abc import Generator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks import relays
from benchmarks.load import BULK, CONNECTIONS, REQUESTS, Load, Pattern
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import LOAD_CORE, RELAY_CORE, Bench, free_port
from benchmarks.relays import Published, Relay
from benchmarks.results import Result, Target

HAPROXY_CFG = """\
global
  nbthread 1
  maxconn 4096
defaults
  mode tcp
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
listen web
  bind 127.0.0.1:{port} backlog 4096{bind}
  server backend 127.0.0.1:{server}{dial}
"""
PUTS_ON = " ssl verify none no-ssl-reuse sni str(bench.invalid)"
"""Each connection is a whole handshake: nothing is resumed."""


@dataclasses.dataclass(frozen=True)
class TlsCase:
    """One target: a pattern through TLS and SOCKS 5, against haproxy that takes TLS off."""

    name: str
    pattern: Pattern
    at_most: float

    @property
    def target(self) -> Target:
        """The row of the table of targets."""
        what = f"CPU per {self.pattern.unit}: SOCKS 5 inside TLS / haproxy taking TLS off"
        return Target(self.name, what, self.at_most)


CASES = (
    TlsCase("tls-conn", CONNECTIONS, 1.5),
    TlsCase("tls-rr", REQUESTS, 1.6),
    TlsCase("tls-bulk", BULK, 1.0),
)


def measure(
    bench: Bench, load: Load, web: int, case: TlsCase, pairs: int, scale: float
) -> list[Result]:
    """Measures one case in interleaved pairs, with fresh relays every few pairs."""
    certificate, key = issue(bench.make_directory("tls"))
    through = ("--through", "socks5", "--target", str(web))
    socks = dataclasses.replace(case.pattern, arguments=case.pattern.arguments + through)
    taken = Pairs()
    for count in rounds(pairs):
        published = [Published("proxy", web, is_proxy=True, tls=(certificate, key))]
        with (
            relays.sluicegate(bench, published) as gate,
            haproxy(bench, web, certificate, key) as peer,
            tls_client(bench, gate) as ours,
            tls_client(bench, peer) as theirs,
        ):
            for relay, pattern in ((ours, socks), (theirs, case.pattern)):
                load.warm_up(relay.port, pattern)
            cost = load.cpu_s_per_unit
            taken.extend(
                count,
                functools.partial(cost, ours, socks, scale),
                functools.partial(cost, theirs, case.pattern, scale),
            )
    factor, unit = case.pattern.display
    ours_cost, peer_cost = (statistics.median(one) * factor for one in (taken.ours, taken.theirs))
    return [Result(case.target, taken.ratio(), ours_cost, peer_cost, unit, pairs)]


@contextlib.contextmanager
def haproxy(bench: Bench, server: int, certificate: Path, key: Path) -> Generator[Relay]:
    """Runs the haproxy that takes TLS off, on the core of relays."""
    directory = bench.make_directory("haproxy-tls")
    both = directory / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    with _haproxy(bench, directory, server, bind=f" ssl crt {both}", core=RELAY_CORE) as relay:
        yield relay


@contextlib.contextmanager
def tls_client(bench: Bench, relay: Relay) -> Generator[Relay]:
    """Puts TLS on in front of a relay; its CPU time is nobody's, its core is the load's."""
    directory = bench.make_directory("haproxy-client")
    with _haproxy(bench, directory, relay.port, dial=PUTS_ON, core=LOAD_CORE) as front:
        yield dataclasses.replace(relay, port=front.port)


@contextlib.contextmanager
def _haproxy(
    bench: Bench, directory: Path, server: int, *, core: int, bind: str = "", dial: str = ""
) -> Generator[Relay]:
    port = free_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(HAPROXY_CFG.format(port=port, server=server, bind=bind, dial=dial))
    command = ["haproxy", "-db", "-f", str(configuration)]
    with bench.running("haproxy", command, core=core, port=port) as running:
        yield Relay(running, port, directory)


def issue(directory: Path) -> tuple[Path, Path]:
    """Makes a certificate that nobody verifies, and its key (ECDSA P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench.invalid")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=60))
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / "gate.pem", directory / "gate.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path
