"""`python -m benchmarks`: measures every target of speed and memory, and says which are met.

`make bench` comes here.  With `probe` it measures any relay command against haproxy instead.
"""

import argparse
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from benchmarks import (
    backend,
    datagrams,
    idle,
    own,
    packages,
    probe,
    revocation,
    spool,
    tls,
    traffic,
)
from benchmarks.load import Load
from benchmarks.processes import Bench, BenchmarkError
from benchmarks.results import Result, print_result, print_table, write_json

PAIRS = 15
LOAD_AVERAGE_MAX = 0.5
SPOOL = "spool"
TABLES = (traffic.CASES, own.CASES, tls.CASES, idle.CASES)
NAMES = (*(case.name for table in TABLES for case in table), datagrams.NAME, revocation.NAME, SPOOL)


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
    """Measures the named cases; 1 when a target is missed, 2 when one could not be measured."""
    warn_of_others()
    results: list[Result] = []
    failures: list[str] = []
    with Bench(arguments.spool_dir) as bench, contextlib.ExitStack() as stack:
        web = stack.enter_context(backend.nginx(bench))
        cases = measurements(bench, Load(bench), web, arguments)
        for name in arguments.only or NAMES:
            try:
                measured = cases[name]()
            except BenchmarkError as error:
                # The others are still worth their minutes.
                failures.append(f"{name} could not be measured: {error}")
                print(failures[-1], flush=True)
                continue
            for result in measured:
                print_result(result)
            results += measured
    print()
    print_table(results)
    for failure in failures:
        print(failure.splitlines()[0])
    if arguments.json:
        write_json(results, arguments.json)
    if failures:
        return 2
    return 0 if all(result.is_met for result in results) else 1


def measurements(
    bench: Bench, load: Load, web: int, arguments: argparse.Namespace
) -> dict[str, Callable[[], list[Result]]]:
    """What each name of a case stands for."""
    pairs, scale = (2, 0.2) if arguments.quick else (arguments.pairs, 1.0)
    repeats, idle_s = (1, 2.0) if arguments.quick else (idle.REPEATS, idle.IDLE_S)
    size = spool.OBJECT_BYTES // 8 if arguments.quick else spool.OBJECT_BYTES
    cases: dict[str, Callable[[], list[Result]]] = {
        case.name: functools.partial(traffic.measure, bench, load, web, case, pairs, scale)
        for case in traffic.CASES
    }
    for part in own.CASES:
        cases[part.name] = functools.partial(own.measure, bench, load, web, part, pairs, scale)
    for secret in tls.CASES:
        cases[secret.name] = functools.partial(tls.measure, bench, load, web, secret, pairs, scale)
    for case in idle.CASES:
        cases[case.name] = functools.partial(idle.measure, bench, load, web, case, repeats, idle_s)
    cases[datagrams.NAME] = functools.partial(datagrams.measure, bench, load, web, pairs, scale)
    cases[revocation.NAME] = functools.partial(revocation.measure, bench, load, web, repeats)
    cases[SPOOL] = functools.partial(spool.measure, bench, load, pairs, size)
    return cases


def warn_of_others() -> None:
    """Says so when something else uses the machine: the figures would be its, too."""
    busy = os.getloadavg()[0]
    if busy > LOAD_AVERAGE_MAX:
        print(f"benchmarks: the load average is {busy:.2f}: figures will vary, intervals widen")


def stop(signal_number: int, frame: object) -> NoReturn:
    """Ends the run as Ctrl-C does, so that every process of it is ended."""
    del signal_number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
