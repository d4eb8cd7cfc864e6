"""How each relay is run: haproxy in its three settings, sluicegate, or any command.

The only file that knows command lines and configuration of relays.  All forward one port to the backend, as plain
TCP, without logging on the peer's side.
"""

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator

from benchmarks.processes import RELAY_CORE, Bench, Running, free_port

HAPROXY_CFG = """\
global
  nbthread 1
  maxconn 8000
  stats socket {directory}/stats.sock
{global_extra}
defaults
  mode tcp
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
listen web
  bind 127.0.0.1:{port} backlog 4096
{listen_extra}
  server backend 127.0.0.1:{backend}
"""


@dataclasses.dataclass(frozen=True)
class Relay:
    """A running relay and the port to send the load to."""

    running: Running
    port: int


@contextlib.contextmanager
def haproxy(bench: Bench, backend: int, *, splice: bool = False) -> Iterator[Relay]:
    """Runs haproxy in TCP mode on one thread; with `splice`, made to splice in both directions."""
    directory = bench.make_directory("haproxy")
    port = free_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(
        HAPROXY_CFG.format(
            directory=directory,
            port=port,
            backend=backend,
            global_extra="  maxpipes 200" if splice else "",
            listen_extra="  option splice-request\n  option splice-response" if splice else "",
        )
    )
    command = ["haproxy", "-db", "-f", str(configuration)]
    with bench.running("haproxy", command, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port)


@contextlib.contextmanager
def any_command(bench: Bench, command: str, port: int, backend: int) -> Iterator[Relay]:
    """Runs any relay; `{port}` and `{backend}` in its command line are filled in."""
    words = shlex.split(command.format(port=port, backend=backend))
    with bench.running("relay", words, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port)
