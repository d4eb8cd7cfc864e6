"""`python -m benchmarks probe`: any relay command against haproxy, for tuning.

Not part of the targets: it takes a command line, interleaves it with haproxy, and prints costs per
unit.  Without a command it measures haproxy against itself, which must come out as 1.0 within the
interval.
"""

import argparse
import contextlib
import statistics
from pathlib import Path

from benchmarks import backend, relays
from benchmarks.load import PATTERNS, Load, Pattern
from benchmarks.pairs import Pairs
from benchmarks.processes import Bench, free_port


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the probe."""
    parser.add_argument(
        "--relay-cmd", help="e.g. 'python relay.py {port} {backend}'; default: haproxy again"
    )
    parser.add_argument("--port", type=int, help="port the relay listens on (default: any free)")
    parser.add_argument("--only", choices=[*PATTERNS], action="append", help="default: all three")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the units of a run")
    parser.add_argument("--splice", action="store_true", help="haproxy with splice forced")
    parser.add_argument("--output", type=Path, help="where to put what the relay printed")


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
        try:
            for name in arguments.only or PATTERNS:
                probe(load, ours, peer, PATTERNS[name], arguments)
        finally:
            if arguments.output:
                arguments.output.write_text(ours.running.output.read_text(errors="replace"))
    return 0


def probe(
    load: Load,
    ours: relays.Relay,
    peer: relays.Relay,
    pattern: Pattern,
    arguments: argparse.Namespace,
) -> None:
    """Measures one pattern and prints its line: both costs, and their ratio."""
    for relay in (ours, peer):
        load.warm_up(relay.port, pattern)
    taken = Pairs()
    taken.extend(
        arguments.pairs,
        lambda: load.cpu_s_per_unit(ours, pattern, arguments.scale),
        lambda: load.cpu_s_per_unit(peer, pattern, arguments.scale),
    )
    factor, unit = pattern.display
    ratio = taken.ratio()
    print(
        f"{pattern.name:5} relay {statistics.median(taken.ours) * factor:8.3f}  haproxy "
        f"{statistics.median(taken.theirs) * factor:8.3f} {unit:14} "
        f"ratio {ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]",
        flush=True,
    )
