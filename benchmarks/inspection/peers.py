"""How those are run that open TLS: sluicegate, squid with ssl-bump, mitmproxy.

All verify the server, mint for the name that the client asks for, sign with a P-256 key, and keep
leaves; none caches content. Squid is Debian's ``squid-openssl``, unpacked beside the installed one.
"""

import contextlib
import dataclasses
import subprocess
from collections.abc import Generator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.inspection.origin import NAME, Origin
from benchmarks.processes import RELAY_CORE, Bench, BenchmarkError, free_port
from benchmarks.relays import FILTERS, FLOOD_COUNTED, PROGRAM, Relay
from sluicegate.app.authority_config import AuthoritySettings
from sluicegate.app.authority_store import AuthorityStore
from sluicegate.clock import SystemClock


@dataclasses.dataclass(frozen=True)
class Inspector:
    """A running relay that opens TLS, and what its clients need to know."""

    relay: Relay
    authority: Path
    """Whom clients trust."""
    target: str
    """What they ask for a tunnel to; without a host, the name."""


def make_authority(directory: Path) -> Path:
    """Makes an authority in a folder; returns the folder with ``ca.pem`` and ``ca.key``."""
    settings = AuthoritySettings(directory / "ca")
    store = AuthorityStore(settings, SystemClock(), (0, 0))
    store.make(ec.generate_private_key(ec.SECP256R1()), "bench", 90, None)
    return settings.folder


@contextlib.contextmanager
def sluicegate(
    bench: Bench,
    origin: Origin,
    name_server: int,
    *,
    mode: str = "inspect",
    backend: str = "io_uring",
    has_filter: bool = False,
    shares_servers: bool = True,
    has_store: bool = False,
) -> Generator[Inspector]:
    """Runs sluicegate as a proxy with one rule.

    By default its clients, which are one client with many connections, share those to the server.
    It writes its log; the store that it makes of it is to be asked for.
    """
    directory = bench.make_directory("sluicegate")
    folder = make_authority(directory)
    port = free_port()
    tls = f'ports = [{origin.port}], mode = "{mode}"' if mode != "off" else '"off"'
    (directory / "sluicegate.toml").write_text(
        f'[service]\nstate_dir = "{directory}"\nbackend = "{backend}"\n'
        f'[log]\npath = "{directory}/records.jsonl"\n'
        f'store = "{"sqlite" if has_store else "none"}"\n'
        f'[spool]\ndir = "{bench.disk_directory("spool")}"\n[ca]\ndir = "{folder}"\n'
        f'[tls]\nauthorities = ["{origin.authority}"]\n'
        f"share_servers = {str(shares_servers).lower()}\n"
        f'[resolver]\nservers = ["127.0.0.1:{name_server}"]\n'
        f'[[listener]]\nname = "proxy"\naddress = "127.0.0.1:{port}"\nentry = "proxy"\n'
        + (f'[[filter]]\nname = "mark"\nuse = "{FILTERS}:Mark"\n' if has_filter else "")
    )
    (directory / "policy.toml").write_text(
        "\n".join(FLOOD_COUNTED)
        + '\n[[rule]]\nname = "all"\naction = "allow"\nclients = ["127.0.0.0/8"]\n'
        f'to = ["{NAME}", "*.{NAME}", "127.0.0.1"]\nprotocols = ["tcp:{origin.port}"]\n'
        + (f"tls = {{ {tls} }}\n" if mode != "off" else f"tls = {tls}\n")
        + ('filters = ["mark"]\n' if has_filter else "")
    )
    command = [*PROGRAM, "run", "--config", str(directory / "sluicegate.toml")]
    with bench.running("sluicegate", command, core=RELAY_CORE, port=port) as running:
        relay = Relay(running, port, directory)
        # Spliced, clients see the server's own certificate.
        seen = folder / "ca.pem" if mode == "inspect" else origin.authority
        yield Inspector(relay, seen, f":{origin.port}")


SQUID_CONF = """\
http_port 127.0.0.1:{port} ssl-bump tls-cert={ca}/both.pem generate-host-certificates=on \
dynamic_cert_mem_cache_size=16MB tls-dh=prime256v1
sslcrtd_program {root}/usr/lib/squid/security_file_certgen -s {directory}/ssl_db -M 16MB
sslcrtd_children 4 startup=1 idle=1
tls_outgoing_options cafile={origin} min-version=1.2
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
pid_filename {directory}/squid.pid
cache_effective_user proxy
coredump_dir {directory}
cache deny all
cache_mem 8 MB
access_log none
cache_store_log none
cache_log {directory}/cache.log
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
max_filedescriptors 16384
icon_directory /usr/share/squid/icons
mime_table /usr/share/squid/mime.conf
error_directory /usr/share/squid/errors/en
acl here src 127.0.0.0/8
http_access allow here
http_access deny all
"""


def unpack_squid(bench: Bench) -> Path:
    """Fetches Debian's squid-openssl and unpacks it; returns the root of its files.

    Raises:
        BenchmarkError: apt cannot have it.
    """
    directory = bench.make_directory("squid-openssl")
    directory.chmod(0o755)
    for command in (
        ["apt-get", "download", "-q", "squid-openssl"],
        ["sh", "-c", "dpkg -x squid-openssl_*.deb ."],
    ):
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"squid-openssl cannot be had:\n{done.stderr[-2000:]}")
    return directory


@contextlib.contextmanager
def squid(bench: Bench, root: Path, origin: Origin) -> Generator[Inspector]:
    """Runs squid-openssl as one process with its helpers, which peeks, verifies, and opens all."""
    directory = bench.make_directory("squid")
    bench.directory.chmod(0o755)
    directory.chmod(0o777)  # it gives up root
    folder = make_authority(directory)
    folder.chmod(0o755)
    both = folder / "both.pem"
    both.write_bytes((folder / "ca.pem").read_bytes() + (folder / "ca.key").read_bytes())
    both.chmod(0o644)
    helper = root / "usr/lib/squid/security_file_certgen"
    made = subprocess.run(
        ["setpriv", "--reuid=proxy", "--regid=proxy", "--clear-groups", str(helper), "-c", "-s",
         str(directory / "ssl_db"), "-M", "16MB"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise BenchmarkError(f"squid's store of certificates cannot be made:\n{made.stderr}")
    port = free_port()
    configuration = directory / "squid.conf"
    configuration.write_text(
        SQUID_CONF.format(
            port=port, directory=directory, ca=folder, root=root, origin=origin.authority
        )
    )
    command = [str(root / "usr/sbin/squid"), "-N", "-f", str(configuration)]
    with bench.running("squid", command, core=RELAY_CORE, port=port) as running:
        # It does not ask our name server: the name in the hello says who the server has to be.
        target = f"127.0.0.1:{origin.port}"
        yield Inspector(Relay(running, port, directory), folder / "ca.pem", target)


@contextlib.contextmanager
def mitmproxy(bench: Bench, program: Path, origin: Origin, *options: str) -> Generator[Inspector]:
    """Runs mitmdump, which asks the server before it answers the client."""
    directory = bench.make_directory("mitmproxy")
    folder = make_authority(directory)
    (directory / "mitmproxy-ca.pem").write_bytes(
        (folder / "ca.key").read_bytes() + (folder / "ca.pem").read_bytes()
    )
    port = free_port()
    command = [
        str(program), "--quiet", "--listen-host", "127.0.0.1", "--listen-port", str(port),
        "--set", f"confdir={directory}", "--set", "connection_strategy=eager",
        "--set", f"ssl_verify_upstream_trusted_ca={origin.authority}", *options,
    ]  # fmt: skip
    with bench.running("mitmproxy", command, core=RELAY_CORE, port=port) as running:
        target = f"127.0.0.1:{origin.port}"
        yield Inspector(Relay(running, port, directory), folder / "ca.pem", target)
