"""`python -m benchmarks.web`: a request through the web proxy, against squid and mitmproxy.

`make bench-web` comes here. The load keeps 64 connections, each request asks for 200 bytes, and no
two requests are alike; the figure is CPU time of the proxy per request, in interleaved pairs with
fresh processes every few pairs. The exit status is 1 when a target is missed.
"""

import argparse
import contextlib
import functools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import backend, packages, relays
from benchmarks.load import Load, Pattern
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import Bench, BenchmarkError
from benchmarks.relays import Relay
from benchmarks.results import Result, Target, print_result, print_table, write_json
from benchmarks.traffic import Split
from benchmarks.web import held, peers

PAIRS = 15
HELD_PAIRS = 5
BULK_UNITS = 20
UNITS, WARM_UP = 20_000, 3_000
MITMPROXY_SHARE = 0.1
"""What it is asked for, of the requests that others are: it is that much slower."""

SQUID = Target("web-squid", "CPU per request through the web proxy / squid", 1.0)
MITMPROXY = Target("web-mitmproxy", "the same / mitmproxy", 0.1)
FILTER_SQUID = Target("web-filter-squid", "the same with one filter on heads / squid alone", 1.25)
FILTER_MITMPROXY = Target("web-filter-mitmproxy", "the same / mitmproxy with such an addon", 0.1)
BULK_SQUID = Target("web-bulk-squid", "CPU per GB of bodies that nobody looks at / squid", 0.25)
ADDON = Path(__file__).with_name("mark_addon.py")
PARTS = ("squid", "bulk", "mitmproxy", "filter-squid", "filter-mitmproxy", "held", "held-200")


def pattern_of(web: int, *extra: str) -> Pattern:
    """The load: small requests on kept connections, each with another URL."""
    arguments = ("--path", "/small", "--site", f"127.0.0.1:{web}", "--vary", "--connections", "64")
    return Pattern("web", "request", (*arguments, *extra), UNITS, WARM_UP)


def bulk_of(web: int) -> Pattern:
    """The load: bodies of 100 MB, on kept connections."""
    arguments = ("--path", "/large", "--site", f"127.0.0.1:{web}", "--connections", "2")
    return Pattern("web-bulk", "GB", arguments, BULK_UNITS, 2, bytes_per_unit=100_000_000)


def compare(
    load: Load,
    pattern: Pattern,
    target: Target,
    ours: Callable[[], contextlib.AbstractContextManager[Relay]],
    peer: Callable[[], contextlib.AbstractContextManager[Relay]],
    pairs: int,
    *,
    peer_scale: float = 1.0,
) -> Result:
    """Measures one target in interleaved pairs."""
    taken, ours_split, peer_split = Pairs(), Split(), Split()
    for count in rounds(pairs):
        with contextlib.ExitStack() as stack:
            first, second = stack.enter_context(ours()), stack.enter_context(peer())
            for relay in (first, second):
                load.warm_up(relay.port, pattern)
            cost = functools.partial(load.cpu_s_per_unit, pattern=pattern)
            with ours_split.over(first), peer_split.over(second):
                taken.extend(
                    count,
                    functools.partial(cost, first, scale=1.0),
                    functools.partial(cost, second, scale=peer_scale),
                )
    factor, unit = pattern.display
    cost_ours = statistics.median(taken.ours) * factor
    cost_peer = statistics.median(taken.theirs) * factor
    note = f"{ours_split.text(cost_ours)}; peer {peer_split.text(cost_peer)} {unit}"
    return Result(target, taken.ratio(), cost_ours, cost_peer, unit, pairs, note)


def main() -> int:
    """Parses the command line, measures, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"default: {PAIRS}")
    parser.add_argument("--backend", default="io_uring", choices=("io_uring", "epoll"))
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--spool-dir", type=Path, default=Path("/var/tmp"))
    arguments = parser.parse_args()
    try:
        packages.install_missing()
        results = run(arguments)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        write_json(results, arguments.json)
    return 0 if all(result.is_met for result in results) else 1


def run(arguments: argparse.Namespace) -> list[Result]:
    """Measures what was asked for."""
    results: list[Result] = []
    with Bench(arguments.spool_dir) as bench, backend.nginx(bench) as web:
        load, pattern = Load(bench), pattern_of(web)
        results += compare_requests(arguments, bench, load, pattern, web)
        if arguments.only in {None, "held"}:
            results += held.measure(bench, load, HELD_PAIRS, arguments.backend)
        if arguments.only in {None, "held-200"}:
            results += held.measure_parallel(bench, arguments.backend)
    print_table(results)
    return results


def compare_requests(
    arguments: argparse.Namespace, bench: Bench, load: Load, pattern: Pattern, web: int
) -> list[Result]:
    """Measures requests without filters and with one, beside squid and mitmproxy."""
    published = [relays.Published("proxy", web, is_proxy=True)]
    filtered = [relays.Published("proxy", web, ("mark",), is_proxy=True)]
    ours, marking = (
        functools.partial(relays.sluicegate, bench, one, backend=arguments.backend)
        for one in (published, filtered)
    )
    squid = functools.partial(peers.squid, bench)
    results: list[Result] = []
    for part, target, way in (("squid", SQUID, ours), ("filter-squid", FILTER_SQUID, marking)):
        if arguments.only in {None, part}:
            results.append(compare(load, pattern, target, way, squid, arguments.pairs))
            print_result(results[-1])
    if arguments.only in {None, "bulk"}:
        pairs = max(arguments.pairs // 3, 2)
        results.append(compare(load, bulk_of(web), BULK_SQUID, ours, squid, pairs))
        print_result(results[-1])
    slow_parts = (
        ("mitmproxy", MITMPROXY, ours, ()),
        ("filter-mitmproxy", FILTER_MITMPROXY, marking, ("-s", str(ADDON))),
    )
    program: Path | None = None
    for part, target, way, options in slow_parts:
        if arguments.only in {None, part}:
            program = program or peers.install_mitmproxy(bench)
            slow = functools.partial(peers.mitmproxy, bench, program, *options)
            pairs = max(arguments.pairs // 3, 2)
            found = compare(load, pattern, target, way, slow, pairs, peer_scale=MITMPROXY_SHARE)
            results.append(found)
            print_result(found)
    return results


if __name__ == "__main__":
    sys.exit(main())
