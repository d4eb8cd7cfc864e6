"""The targets of the spool: 1 GiB held, hashed and sent, in CPU time, memory, and others' latency.

Both relays get the same bare stream from the same server.  The client checks the length of every
transfer, and the hash of the first.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

from benchmarks import backend, relays
from benchmarks.cpu_time import memory, peak_rss_bytes, reset_peak_rss
from benchmarks.load import Load, compile_c, settled_cpu_time_s
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import LOAD_CORE, Bench, BenchmarkError, free_port
from benchmarks.ratios import median_value
from benchmarks.results import Result, Target

OBJECT_BYTES = 1 << 30
RECEIVE_BYTES = 1 << 20
TRANSFER_TIMEOUT_S = 120.0
QUIET_S = 2.0
REQUEST_INTERVAL_US = 1000
RSS_GROWTH_MIB_MAX = 8.0

CPU = Target("spool", "CPU of 1 GiB held, hashed and sent / C with blocking calls", 1.3)
RSS = Target("spool-rss", "growth of resident memory in a transfer", RSS_GROWTH_MIB_MAX, "MiB")
P99 = Target("spool-p99", "p99 of small requests during a transfer / without", 2.0)

Fetch = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the object comes from: its port, size and hash."""

    port: int
    size: int
    sha256: str


@contextlib.contextmanager
def origin(bench: Bench, size: int) -> Generator[Origin]:
    """Runs the server of the object, which lies in memory: its disk is not to be measured."""
    memory_directory = Path("/dev/shm")
    parent = memory_directory if memory_directory.is_dir() else None
    path = bench.make_directory("sluicegate-bench", parent) / "object"
    digest = hashlib.sha256()
    block = bytearray(os.urandom(RECEIVE_BYTES))
    with path.open("wb") as file:
        for index in range(size // RECEIVE_BYTES):
            block[:8] = index.to_bytes(8, "big")
            file.write(block)
            digest.update(block)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.origin", str(port), str(path)]
    with bench.running("origin", command, core=LOAD_CORE, port=port) as started:
        yield Origin(port, path.stat().st_size, digest.hexdigest())
        started.check_alive()


def measure(bench: Bench, load: Load, pairs: int, size: int = OBJECT_BYTES) -> list[Result]:
    """Measures all three targets in interleaved pairs."""
    program = compile_c(bench, Path(__file__).with_name("spool_baseline.c"), "-lcrypto")
    urgent = real_time_prefix()
    costs, delays, growths_mib = Pairs(), Pairs(), list[float]()
    with (
        origin(bench, size) as source,
        backend.nginx(bench, urgent) as web,
    ):
        for count in rounds(pairs):
            spool = bench.disk_directory("spool")
            published = [
                relays.Published("object", source.port, ("object", "hold")),
                relays.Published("web", web),
            ]
            with (
                relays.sluicegate(bench, published, spool=spool) as ours,
                relays.spool_baseline(bench, program, source.port, spool) as peer,
            ):
                through_ours = functools.partial(fetch, ours.port, source)
                through_peer = functools.partial(fetch, peer.port, source)
                through_ours(check_hash=True)
                through_peer(check_hash=True)
                costs.extend(
                    count,
                    functools.partial(cpu_s_per_gib, ours, through_ours, size),
                    functools.partial(cpu_s_per_gib, peer, through_peer, size),
                )
                growths_mib += [rss_growth_mib(ours, through_ours) for _ in range(count)]
                delays.extend(
                    count,
                    functools.partial(p99_us_during, load, ours, urgent, through_ours),
                    functools.partial(p99_us_during, load, ours, urgent, rest),
                )
    return results(costs, delays, growths_mib, pairs)


def results(costs: Pairs, delays: Pairs, growths_mib: list[float], pairs: int) -> list[Result]:
    """The three rows of the table."""
    return [
        Result(
            CPU,
            costs.ratio(),
            statistics.median(costs.ours),
            statistics.median(costs.theirs),
            "s/GiB",
            pairs,
        ),
        Result(
            RSS,
            median_value(growths_mib),
            statistics.median(growths_mib),
            None,
            "MiB",
            pairs,
            f"the largest of {len(growths_mib)} was {max(growths_mib):.2f} MiB",
        ),
        Result(
            P99,
            delays.ratio(),
            statistics.median(delays.ours),
            statistics.median(delays.theirs),
            "us",
            pairs,
            "the peer is the same connection without a transfer",
        ),
    ]


def fetch(port: int, source: Origin, *, check_hash: bool = False) -> None:
    """Fetches the object through a relay, to the end of the stream.

    Raises:
        BenchmarkError: size or hash are not those of the object.
    """
    digest, received = hashlib.sha256(), 0
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    try:
        with socket.create_connection(("127.0.0.1", port), TRANSFER_TIMEOUT_S) as stream:
            while count := stream.recv_into(buffer):
                received += count
                if check_hash:
                    digest.update(buffer[:count])
    except OSError as error:
        raise BenchmarkError(f"the transfer failed after {received} bytes: {error}") from error
    if received != source.size or (check_hash and digest.hexdigest() != source.sha256):
        raise BenchmarkError(f"the object came with {received} bytes of {source.size}, or changed")


def cpu_s_per_gib(relay: relays.Relay, transfer: Fetch, size: int) -> float:
    """What one transfer costs the relay."""
    before_s = settled_cpu_time_s(relay.running)
    transfer()
    return (settled_cpu_time_s(relay.running) - before_s) * (1 << 30) / size


def rss_growth_mib(relay: relays.Relay, transfer: Fetch) -> float:
    """How far the resident memory rises above its level in one transfer."""
    before = memory(relay.running.pid).rss_bytes
    reset_peak_rss(relay.running.pid)
    transfer()
    return max(peak_rss_bytes(relay.running.pid) - before, 0) / (1 << 20)


def p99_us_during(load: Load, relay: relays.Relay, urgent: tuple[str, ...], doing: Fetch) -> float:
    """The p99 of small requests on one connection while something is done."""
    arguments = ["--duration-ms", str(int(TRANSFER_TIMEOUT_S * 1000)), "--connections", "1"]
    arguments += ["--interval-us", str(REQUEST_INTERVAL_US)]
    with load.running(relay.other_ports["web"], *arguments, prefix=urgent) as client:
        doing()
        return float(load.finish(client).p99_us)


def rest() -> None:
    """Does nothing for as long as a transfer would take, about."""
    time.sleep(QUIET_S)


def real_time_prefix() -> tuple[str, ...]:
    """Puts a command before everything else on its core, where we may.

    The client of the small requests and its server share a core with the ends of the transfer.
    Without precedence their delay would be that core's, and not the relay's.
    """
    prefix = ("chrt", "-r", "1")
    done = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    if done.returncode:
        print("benchmarks: no real-time priority here: the p99 includes the load's own core")
        return ()
    return prefix
