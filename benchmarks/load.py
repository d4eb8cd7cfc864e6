"""Runs the load generator (`load.c`, compiled at the start) and measures what a relay spends on it.

The three traffic patterns of the targets are here, so that every case and the probe use the same.
The invariant: a run in which any request failed raises, and never becomes a sample.
"""

import contextlib
import dataclasses
import json
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.cpu_time import cpu_time_s
from benchmarks.processes import LOAD_CORE, Bench, BenchmarkError, Running, end_group
from benchmarks.relays import Relay

LOAD_TIMEOUT_S = 180.0
SETTLE_STEP_S = 0.4
"""Longer than followers of the log wait for more of it: what they do of a load is counted."""
SETTLE_TIMEOUT_S = 4.0


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A traffic pattern: what one client does, and what one unit of it is."""

    name: str
    unit: str
    arguments: tuple[str, ...]
    count: int
    warm_up: int
    bytes_per_unit: int = 0

    @property
    def display(self) -> tuple[float, str]:
        """What a cost in seconds is multiplied with for people, and the unit it then has."""
        return (1.0, "s/GB") if self.bytes_per_unit else (1e6, f"us/{self.unit}")

    def amount(self, units: int) -> float:
        """What a cost is divided by: the requests, or the gigabytes in them."""
        return units * self.bytes_per_unit / 1e9 if self.bytes_per_unit else float(units)


CONNECTIONS = Pattern(
    "conn", "connection", ("--path", "/small", "--connections", "32", "--close"), 10_000, 2_000
)
REQUESTS = Pattern("rr", "request", ("--path", "/small", "--connections", "64"), 60_000, 5_000)
BULK = Pattern(
    "bulk", "GB", ("--path", "/large", "--connections", "2"), 20, 4, bytes_per_unit=100_000_000
)
DATAGRAMS = Pattern("udp", "datagram", ("--udp", "--connections", "64"), 60_000, 5_000)
PATTERNS = {pattern.name: pattern for pattern in (CONNECTIONS, REQUESTS, BULK)}


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What the load generator prints."""

    units: int
    failed: int
    bytes: int
    elapsed_s: float
    p50_us: int
    p99_us: int
    max_us: int


class Load:
    """The compiled load generator."""

    def __init__(self, bench: Bench) -> None:
        self.program = compile_c(bench, Path(__file__).with_name("load.c"))

    def command(self, port: int, *arguments: str) -> list[str]:
        """The command line of a load on a relay's port, pinned to the load's core."""
        return ["taskset", "-c", str(LOAD_CORE), str(self.program), "--port", str(port), *arguments]

    def run(self, port: int, *arguments: str) -> LoadReport:
        """Runs one load to its end.

        Raises:
            BenchmarkError: a request failed, or the load did not end in time.
        """
        try:
            done = subprocess.run(
                self.command(port, *arguments),
                capture_output=True,
                text=True,
                timeout=LOAD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"the load took longer than {LOAD_TIMEOUT_S} s") from error
        if done.returncode:
            raise BenchmarkError(f"requests failed:\n{done.stderr}{done.stdout}")
        return LoadReport(**json.loads(done.stdout))

    def warm_up(self, relay_port: int, pattern: Pattern) -> None:
        """Lets a new relay fill its pools and caches before it is measured."""
        self.run(relay_port, "--units", str(pattern.warm_up), *pattern.arguments)

    def cpu_s_per_unit(self, relay: Relay, pattern: Pattern, scale: float = 1.0) -> float:
        """Measures one run of a pattern through a relay that is already warm."""
        units = max(int(pattern.count * scale), 1)
        before_s = settled_cpu_time_s(relay.running)
        report = self.run(relay.port, "--units", str(units), *pattern.arguments)
        return (settled_cpu_time_s(relay.running) - before_s) / pattern.amount(report.units)

    @contextlib.contextmanager
    def running(
        self, port: int, *arguments: str, prefix: tuple[str, ...] = ()
    ) -> Generator[subprocess.Popen[str]]:
        """Runs a load beside something else; it is ended, if it has not, when the block ends."""
        process = subprocess.Popen(
            [*prefix, *self.command(port, *arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end_group(process)

    def finish(self, process: subprocess.Popen[str]) -> LoadReport:
        """Ends a running load by closing its input or by a signal, and takes its report.

        Raises:
            BenchmarkError: a request failed.
        """
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=LOAD_TIMEOUT_S)
        if process.returncode:
            raise BenchmarkError(f"requests failed: {output}")
        return LoadReport(**json.loads(output.splitlines()[-1]))


def settled_cpu_time_s(relay: Running) -> float:
    """The relay's CPU time once it stands still: work that the last request left is counted."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    relay.check_alive()
    before_s = cpu_time_s(relay.pid)
    while time.monotonic() < deadline:
        time.sleep(SETTLE_STEP_S)
        after_s = cpu_time_s(relay.pid)
        if after_s - before_s < SETTLE_STEP_S / 100:
            return after_s
        before_s = after_s
    return before_s


def compile_c(bench: Bench, source: Path, *libraries: str) -> Path:
    """Compiles a C program of this directory into the bench's temporary one.

    Raises:
        BenchmarkError: the compiler refused it.
    """
    program = bench.directory / source.stem
    done = subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source), *libraries],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"gcc could not compile {source.name}:\n{done.stderr}")
    return program
