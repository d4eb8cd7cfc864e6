"""`python -m benchmarks probe`: any relay command against haproxy, for tuning.

Not part of the targets: it takes a command line, interleaves it with haproxy, and prints costs per unit.
"""

import argparse
import contextlib
import shutil
import statistics

from benchmarks import backend, relays
from benchmarks.load import PATTERNS, Load, Pattern, Sample
from benchmarks.processes import Bench, free_port
from benchmarks.ratios import median_ratio

Pair = tuple[Sample, Sample]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the probe."""
    parser.add_argument(
        "--relay-cmd",
        help="command of the relay, e.g. 'python relay.py {port} {backend}'; default: haproxy again",
    )
    parser.add_argument("--port", type=int, help="port the relay listens on (default: any free)")
    parser.add_argument("--only", choices=[*PATTERNS], action="append", help="default: all three")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the units of a run")
    parser.add_argument("--splice", action="store_true", help="haproxy with splice forced")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints one line per pattern."""
    with Bench() as bench, contextlib.ExitStack() as stack:
        web = stack.enter_context(backend.nginx(bench))
        peer = stack.enter_context(relays.haproxy(bench, web, splice=arguments.splice))
        port = arguments.port or free_port()
        if arguments.relay_cmd:
            ours = stack.enter_context(relays.any_command(bench, arguments.relay_cmd, port, web))
        else:
            ours = stack.enter_context(relays.haproxy(bench, web, splice=arguments.splice))
        load = Load(bench)
        for name in arguments.only or PATTERNS:
            pattern = PATTERNS[name]
            pairs = measure(load, (ours, peer), pattern, arguments.pairs, arguments.scale)
            print_line(pattern, pairs)
        shutil.copyfile(ours.running.output, "/tmp/sluicegate-probe.log")
    return 0


def measure(
    load: Load, pair: tuple[relays.Relay, relays.Relay], pattern: Pattern, pairs: int, scale: float
) -> list[Pair]:
    """Runs the pattern through both relays in turn, the first alternating."""
    for relay in pair:
        load.warm_up(relay.port, pattern)
    results: list[Pair] = []
    for index in range(pairs):
        taken: dict[int, Sample] = {}
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            relay = pair[which]
            taken[which] = load.sample(relay.running, relay.port, pattern, scale)
        results.append((taken[0], taken[1]))
    return results


def print_line(pattern: Pattern, pairs: list[Pair]) -> None:
    """One line: both costs, their ratio, and what the client saw of ours."""
    ours = [a.cpu_s_per_unit for a, _ in pairs]
    theirs = [b.cpu_s_per_unit for _, b in pairs]
    ratio = median_ratio(ours, theirs)
    factor, unit = (1.0, "s/GB") if pattern.bytes_per_unit else (1e6, f"us/{pattern.unit}")
    report = pairs[-1][0].report
    print(
        f"{pattern.name:5} relay {statistics.median(ours) * factor:8.3f}  haproxy "
        f"{statistics.median(theirs) * factor:8.3f} {unit:14} ratio {ratio.median:.3f} "
        f"[{ratio.low:.3f}, {ratio.high:.3f}]  last run of the relay: {report.units} in "
        f"{report.elapsed_s:.2f} s, p50 {report.p50_us} us, p99 {report.p99_us} us",
        flush=True,
    )
