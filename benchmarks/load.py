"""Runs the load generator (`load.c`, compiled at first use) and measures what a unit of work costs the relay.

The three traffic patterns of the targets are here, so that every case and the probe use the same.  The
invariant: a run in which any request failed raises, and never becomes a sample.
"""

import dataclasses
import json
import subprocess
import time
from pathlib import Path

from benchmarks.cpu_time import cpu_time_s
from benchmarks.processes import LOAD_CORE, Bench, BenchmarkError, Running

LOAD_TIMEOUT_S = 180.0
SETTLE_STEP_S = 0.02
SETTLE_TIMEOUT_S = 2.0


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A traffic pattern: what one client does, and what one unit of it is."""

    name: str
    unit: str
    arguments: tuple[str, ...]
    count: int
    warm_up: int
    bytes_per_unit: int = 0


CONNECTIONS = Pattern(
    "conn", "connection", ("--path", "/small", "--connections", "32", "--close"), 10_000, 2_000
)
REQUESTS = Pattern("rr", "request", ("--path", "/small", "--connections", "64"), 60_000, 5_000)
BULK = Pattern(
    "bulk", "GB", ("--path", "/large", "--connections", "2"), 20, 4, bytes_per_unit=100_000_000
)
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


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measured run: CPU time of the relay per unit, in seconds, and what the client saw."""

    cpu_s_per_unit: float
    report: LoadReport


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

    def sample(self, relay: Running, port: int, pattern: Pattern, scale: float = 1.0) -> Sample:
        """Measures one run of a pattern through a relay that is already warm."""
        units = max(int(pattern.count * scale), 1)
        before_s = settled_cpu_time_s(relay)
        report = self.run(port, "--units", str(units), *pattern.arguments)
        used_s = settled_cpu_time_s(relay) - before_s
        amount = report.units * (pattern.bytes_per_unit / 1e9 if pattern.bytes_per_unit else 1.0)
        return Sample(used_s / amount, report)


def settled_cpu_time_s(relay: Running) -> float:
    """The relay's CPU time once it has stopped growing: the work left by the last request is counted."""
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
