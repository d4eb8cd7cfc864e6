"""`python -m benchmarks`: measures every target of speed and memory, and says which are met.

`make bench` comes here.  With `probe` it measures any relay command against haproxy instead.
"""

import argparse
import contextlib
import signal
import sys
from pathlib import Path
from typing import NoReturn

from benchmarks import backend, idle, packages, probe, spool, traffic
from benchmarks.load import Load
from benchmarks.processes import Bench, BenchmarkError
from benchmarks.results import Result, print_result, print_table, write_json

PAIRS = 15
SPOOL = "spool"
NAMES = (*(case.name for case in traffic.CASES), *(case.name for case in idle.CASES), SPOOL)


def main() -> int:
    """Parses the command line, runs what it names, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help=f"of {NAMES}"
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"default: {PAIRS}")
    parser.add_argument(
        "--quick", action="store_true", help="2 short pairs each: only a smoke test"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument(
        "--spool-dir",
        type=Path,
        default=Path("/var/tmp"),
        help="on a real disk (default: /var/tmp)",
    )
    commands = parser.add_subparsers(dest="command")
    probe.add_arguments(commands.add_parser("probe", help="any relay command against haproxy"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        packages.install_missing()
        return probe.main(arguments) if arguments.command else run(arguments)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    """Measures the named cases; 1 when a target is missed."""
    names = arguments.only or NAMES
    pairs, scale = (2, 0.2) if arguments.quick else (arguments.pairs, 1.0)
    results: list[Result] = []
    with Bench(arguments.spool_dir) as bench, contextlib.ExitStack() as stack:
        load = Load(bench)
        web = stack.enter_context(backend.nginx(bench))
        for case in traffic.CASES:
            if case.name in names:
                results.append(traffic.measure(bench, load, web, case, pairs, scale))
                print_result(results[-1])
        for rest in idle.CASES:
            if rest.name in names:
                repeats, idle_s = (1, 2.0) if arguments.quick else (3, idle.IDLE_S)
                results += idle.measure(bench, load, web, rest, repeats, idle_s)
                print_result(results[-2])
        if SPOOL in names:
            size = int(spool.OBJECT_BYTES * (0.125 if arguments.quick else 1.0))
            results += spool.measure(bench, load, pairs, size)
    print()
    print_table(results)
    if arguments.json:
        write_json(results, arguments.json)
    return 0 if all(result.is_met for result in results) else 1


def stop(signal_number: int, frame: object) -> NoReturn:
    """Ends the run as Ctrl-C does, so that every process of it is ended."""
    del signal_number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
