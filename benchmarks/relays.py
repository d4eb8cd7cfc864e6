"""How each relay is run: haproxy in its settings, sluicegate, the C spool, or any command.

The only file that knows command lines and configuration of relays.  All forward published ports to
servers on this machine; the peer writes no log, sluicegate writes its records as it always does.
"""

import contextlib
import dataclasses
import json
import shlex
import socket
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

from benchmarks.processes import (
    RELAY_CORE,
    Bench,
    BenchmarkError,
    Running,
    descriptor_limit,
    free_port,
)

FILTERS = Path(__file__).with_name("filters.py")
FILTER_CLASSES = {
    "look": "Look",
    "relay": "RelayInPython",
    "object": "StreamAsObject",
    "reply": "ReplyAsObject",
    "hold": "Hold",
    "hold-all": "HoldAll",
    "mark": "Mark",
}

APART = "-apart"
"""Behind a filter's name: in a process of its own."""

HAPROXY_CFG = """\
global
  nbthread 1
  maxconn {connections_max}
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
  server backend 127.0.0.1:{server}
"""


@dataclasses.dataclass(frozen=True)
class Relay:
    """A running relay and the port to send the load to; `directory` holds what it keeps."""

    running: Running
    port: int
    directory: Path
    other_ports: dict[str, int] = dataclasses.field(default_factory=dict[str, int])


@dataclasses.dataclass(frozen=True)
class Published:
    """A port that sluicegate publishes: the server behind it and the filters on its connections."""

    name: str
    server: int
    filters: tuple[str, ...] = ()
    is_proxy: bool = False
    """Whether clients name the server, by SOCKS or CONNECT; policy lets them name this one."""
    is_udp: bool = False
    tls: tuple[Path, Path] | None = None
    """Certificate and key of a proxy listener whose clients speak TLS."""
    hellos: str = ""
    """What the rule wants of ClientHellos, as keys of `tls`; empty: they are not looked at."""


PROGRAM = (str(Path(sys.executable).with_name("sluicegate")),)


@dataclasses.dataclass(frozen=True)
class Way:
    """How sluicegate is started: by which program, with which options, on which cores."""

    program: tuple[str, ...] = PROGRAM
    options: tuple[str, ...] = ()
    cores: int | str = RELAY_CORE
    counts_floods: bool = True
    """Whether it counts what clients do; no benchmark comes near its bounds."""


FLOOD_COUNTED = (
    "[flood]",
    "rule_udp_sessions_per_minute = 1_000_000",
    "[[flood.exception]]",
    'clients = ["127.0.0.0/8"]',
    "connects_per_minute = 1_000_000",
    "connections_max = 1_000_000",
    "half_open_max = 1_000_000",
    "requests_per_minute = 1_000_000",
    "udp_sessions_max = 1_000_000",
)
"""One client address is all the load of a benchmark."""

FLOOD_DISABLED = ("[flood]", "enabled = false")

ONE_WORKER = Way()
"""As it starts by itself on one core."""


@contextlib.contextmanager
def haproxy(bench: Bench, server: int, *, splice: bool = False) -> Generator[Relay]:
    """Runs haproxy in TCP mode on one thread; with `splice`, made to splice in both directions."""
    directory = bench.make_directory("haproxy")
    port = free_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(
        HAPROXY_CFG.format(
            directory=directory,
            port=port,
            server=server,
            connections_max=(descriptor_limit() - 600) // 2,
            global_extra="  maxpipes 200" if splice else "",
            listen_extra="  option splice-request\n  option splice-response" if splice else "",
        )
    )
    command = ["haproxy", "-db", "-f", str(configuration)]
    with bench.running("haproxy", command, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port, directory)


NGINX_STREAM = """\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
stream {{
  server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{web}; }}
  server {{ listen 127.0.0.1:{port} udp; proxy_pass 127.0.0.1:{server}; proxy_timeout 120s; }}
}}
"""


@contextlib.contextmanager
def nginx_stream(bench: Bench, web: int, server: int) -> Generator[Relay]:
    """Runs nginx as a relay of datagrams, one worker; its TCP port only says that it is there."""
    directory = bench.make_directory("nginx-stream")
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX_STREAM.format(directory=directory, port=port, web=web, server=server)
    )
    command = ["nginx", "-p", str(directory), "-c", str(configuration)]
    with bench.running("nginx", command, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port, directory)


def haproxy_spliced_share(relay: Relay) -> float:
    """The part of all bytes that this haproxy has sent by splice, from its own counters."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(relay.directory / "stats.sock"))
        control.sendall(b"show info\n")
        lines = control.makefile().read().splitlines()
    info = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    # The first name is how haproxy spells it.
    spliced = info.get("TotalSplicdedBytesOut") or info.get("TotalSplicedBytesOut")
    if spliced is None:
        raise BenchmarkError("this haproxy does not say how much it spliced")
    return int(spliced) / max(int(info["TotalBytesOut"]), 1)


@contextlib.contextmanager
def sluicegate(
    bench: Bench,
    published: Sequence[Published],
    *,
    backend: str = "io_uring",
    spool: Path | None = None,
    way: Way = ONE_WORKER,
) -> Generator[Relay]:
    """Runs sluicegate as `way` says; the first published port is `port`."""
    directory = bench.make_directory("sluicegate")
    ports = {entry.name: free_port() for entry in published}
    main = [
        "[service]",
        f'state_dir = "{directory}"',
        f'backend = "{backend}"',
        "[log]",
        f'path = "{directory}/records.jsonl"',
        "[spool]",
        f'dir = "{spool or bench.disk_directory("spool")}"',
    ]
    policy = list(FLOOD_COUNTED if way.counts_floods else FLOOD_DISABLED)
    for entry in published:
        main += [
            "[[listener]]",
            f'name = "{entry.name}"',
            f'address = "127.0.0.1:{ports[entry.name]}"',
            *(['entry = "proxy"'] if entry.is_proxy else []),
            *(['transport = "udp"'] if entry.is_udp else []),
        ]
        if entry.tls is not None:
            certificate, key = entry.tls
            main += ["[listener.tls]", f'certificate = "{certificate}"', f'key = "{key}"']
        if entry.is_proxy:
            policy += [
                "[[rule]]",
                f'name = "{entry.name}"',
                'action = "allow"',
                f'listener = "{entry.name}"',
                'clients = ["127.0.0.0/8"]',
                'to = ["127.0.0.1"]',
                f'protocols = ["tcp:{entry.server}"]',
                f"filters = {json.dumps(entry.filters)}",
                *(
                    [f"tls = {{ ports = [{entry.server}], {entry.hellos} }}"]
                    if entry.hellos
                    else []
                ),
            ]
            continue
        policy += [
            "[[publish]]",
            f'name = "{entry.name}"',
            f'listener = "{entry.name}"',
            f'server = "127.0.0.1:{entry.server}"',
            'clients = ["127.0.0.0/8"]',
            f"filters = {json.dumps(entry.filters)}",
        ]
    for name in sorted({name for entry in published for name in entry.filters}):
        kind = FILTER_CLASSES[name.removesuffix(APART)]
        main += ["[[filter]]", f'name = "{name}"', f'use = "{FILTERS}:{kind}"']
        main += ['isolation = "process"'] if name.endswith(APART) else []
    (directory / "sluicegate.toml").write_text("\n".join(main) + "\n")
    (directory / "policy.toml").write_text("\n".join(policy) + "\n")
    command = [*way.program, "run", "--config", str(directory / "sluicegate.toml"), *way.options]
    # They are opened in this order: when the last one accepts, all do.
    last = [ports[entry.name] for entry in published if not entry.is_udp][-1]
    with bench.running("sluicegate", command, core=way.cores, port=last) as running:
        yield Relay(running, ports[published[0].name], directory, ports)


@contextlib.contextmanager
def spool_baseline(bench: Bench, program: Path, server: int, spool: Path) -> Generator[Relay]:
    """Runs the C program that spools with blocking calls."""
    port = free_port()
    command = [str(program), str(port), str(server), str(spool)]
    with bench.running("spool_baseline", command, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port, spool)


@contextlib.contextmanager
def any_command(bench: Bench, command: str, port: int, server: int) -> Generator[Relay]:
    """Runs any relay; `{port}` and `{backend}` in its command line are filled in."""
    words = shlex.split(command.format(port=port, backend=server))
    with bench.running("relay", words, core=RELAY_CORE, port=port) as running:
        yield Relay(running, port, bench.directory)
