"""How the other web proxies are run: squid in its settings, mitmproxy in an environment of its own.

Both cache nothing and write no log, sluicegate writes its records as it always does.
"""

import contextlib
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from benchmarks.processes import RELAY_CORE, Bench, BenchmarkError, free_port
from benchmarks.relays import Relay

SQUID_CONF = """\
http_port 127.0.0.1:{port}
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
acl here src 127.0.0.0/8
http_access allow here
http_access deny all
"""

MITMPROXY = "mitmproxy>=11,<13"


@contextlib.contextmanager
def squid(bench: Bench) -> Generator[Relay]:
    """Runs Debian's squid as one process that keeps connections on both sides (its default)."""
    directory = bench.make_directory("squid")
    bench.directory.chmod(0o755)
    directory.chmod(0o777)  # it gives up root
    port = free_port()
    configuration = directory / "squid.conf"
    configuration.write_text(SQUID_CONF.format(port=port, directory=directory))
    command = ["squid", "-N", "-f", str(configuration)]
    with bench.running("squid", command, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port, directory)


def install_mitmproxy(bench: Bench) -> Path:
    """Installs mitmproxy from PyPI into an environment of its own, and returns its command.

    Raises:
        BenchmarkError: it cannot be installed here.
    """
    directory = bench.make_directory("mitmproxy-environment")
    for command in (
        [sys.executable, "-m", "venv", str(directory)],
        [str(directory / "bin" / "pip"), "install", "-q", MITMPROXY],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"mitmproxy cannot be installed:\n{done.stderr[-2000:]}")
    return directory / "bin" / "mitmdump"


@contextlib.contextmanager
def mitmproxy(bench: Bench, program: Path, *options: str) -> Generator[Relay]:
    """Runs mitmdump as a quiet forward proxy."""
    directory = bench.make_directory("mitmproxy")
    port = free_port()
    command = [
        str(program),
        "--quiet",
        "--listen-host",
        "127.0.0.1",
        "--listen-port",
        str(port),
        "--set",
        f"confdir={directory}",
        *options,
    ]
    with bench.running("mitmproxy", command, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port, directory)
